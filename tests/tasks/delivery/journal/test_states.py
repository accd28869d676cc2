"""The whole table of states and events, as a person would expect it to be."""

import pytest

from tasks.delivery.journal.states import Event, Resend, State, next_state, state_after, states_before

CLAIMED, SENT, REFUSED, DEFERRED, UNKNOWN, SUPPRESSED = State
EXPECTED = {
    #                CLAIM    TAKEN  REFUSED  POSTPONED LOST     EXPIRED  RECONSIDERED
    None: (CLAIMED, None, None, None, None, None, None),
    CLAIMED: (None, SENT, REFUSED, DEFERRED, UNKNOWN, UNKNOWN, None),
    SENT: (None, None, None, None, None, None, None),
    REFUSED: (None, None, None, None, None, None, DEFERRED),
    DEFERRED: (CLAIMED, None, None, None, None, None, None),
    UNKNOWN: (None, SENT, REFUSED, DEFERRED, None, None, None),
}
CASES = [(state, event, after) for state, row in EXPECTED.items() for event, after in zip(Event, row, strict=True)]


@pytest.mark.parametrize(("state", "event", "after"), CASES)
def test_every_state_meets_every_event(state: State | None, event: Event, after: State | None) -> None:
    assert next_state(state, event) is after
    asked_to_resend = next_state(state, event, Resend(unknown=True))
    if (state, event) == (UNKNOWN, Event.CLAIM):
        assert asked_to_resend is CLAIMED
    else:
        assert asked_to_resend is after


def test_nothing_leads_away_from_sent_whatever_is_sent_again() -> None:
    for event in Event:
        assert SENT not in states_before(event, Resend(unknown=True, refused=True))
    assert REFUSED not in states_before(Event.CLAIM, Resend(unknown=True))
    assert REFUSED in states_before(Event.CLAIM, Resend(refused=True))


def test_an_event_leads_to_one_state_wherever_it_happens() -> None:
    for event in Event:
        afters = {next_state(state, event, Resend(unknown=True)) for state in (None, *State)} - {None}
        assert afters == {state_after(event)}
