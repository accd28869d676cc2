"""The whole table of states and events, as a person would expect it to be."""

import pytest

from tasks.delivery.journal.states import Event, State, next_state, state_after, states_before

CLAIMED, SENT, REFUSED, DEFERRED, UNKNOWN, SUPPRESSED = State
EXPECTED = {
    #                CLAIM    TAKEN  REFUSED  POSTPONED LOST     EXPIRED
    None: (CLAIMED, None, None, None, None, None),
    CLAIMED: (None, SENT, REFUSED, DEFERRED, UNKNOWN, UNKNOWN),
    SENT: (None, None, None, None, None, None),
    REFUSED: (None, None, None, None, None, None),
    DEFERRED: (CLAIMED, None, None, None, None, None),
    UNKNOWN: (None, SENT, REFUSED, DEFERRED, None, None),
}
CASES = [(state, event, after) for state, row in EXPECTED.items() for event, after in zip(Event, row, strict=True)]


@pytest.mark.parametrize(("state", "event", "after"), CASES)
def test_every_state_meets_every_event(state: State | None, event: Event, after: State | None) -> None:
    assert next_state(state, event) is after
    asked_to_resend = next_state(state, event, resend_unknown=True)
    if (state, event) == (UNKNOWN, Event.CLAIM):
        assert asked_to_resend is CLAIMED
    else:
        assert asked_to_resend is after


def test_nothing_leads_away_from_sent_or_refused_even_when_unknown_messages_are_resent() -> None:
    for event in Event:
        assert not {SENT, REFUSED} & set(states_before(event, resend_unknown=True))


def test_an_event_leads_to_one_state_wherever_it_happens() -> None:
    for event in Event:
        afters = {next_state(state, event, resend_unknown=True) for state in (None, *State)} - {None}
        assert afters == {state_after(event)}
