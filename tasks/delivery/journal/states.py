"""The states of a message, the events that change them, and nothing else: no I/O, no clock.

               claim             taken
    (nothing) ──────▶ CLAIMED ──────────▶ SENT
                       │ │ │ ▲   refused
              postponed│ │ │ └──┐ ─────▶ REFUSED
                       ▼ │ └────┼──────────┘
                DEFERRED ┼──────┘claim
                         │ lost, expired
                         └──────────────▶ UNKNOWN

On request, unknown and refused messages are claimed again. Refused ones are deferred when it turns out that the
sender of all messages was refused.

A message is claimed before its first byte leaves. When a claim's sender is gone, it is unknown whether
the server took the message: it is unknown. A sender that was thought gone, and learns the truth after all, may
still say it.
"""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """What is known of a message."""

    CLAIMED = "claimed"
    """A sender has it, and may be sending it now."""
    SENT = "sent"
    """The server took it."""
    REFUSED = "refused"
    """The server will never take it."""
    DEFERRED = "deferred"
    """The server did not take it, and may take it later."""
    UNKNOWN = "unknown"
    """It may have been taken: the answer was not read."""
    SUPPRESSED = "suppressed"
    """Its receiver must not be contacted. Only of a run: such a message is never claimed."""


class Event(StrEnum):
    """What happens to a message."""

    CLAIM = "claim"
    """A sender wants it."""
    TAKEN = "taken"
    """The server took it."""
    REFUSED = "refused"
    """The server refused it for good."""
    POSTPONED = "postponed"
    """It is certain that the server did not take it; it may later."""
    LOST = "lost"
    """The connection broke when the server may have taken it."""
    EXPIRED = "expired"
    """Its sender has not been seen for longer than the lease."""
    RECONSIDERED = "reconsidered"
    """It was the sender of all messages that was refused, not this message."""


TRANSITIONS: dict[tuple[State | None, Event], State] = {
    (None, Event.CLAIM): State.CLAIMED,
    (State.DEFERRED, Event.CLAIM): State.CLAIMED,
    (State.CLAIMED, Event.TAKEN): State.SENT,
    (State.CLAIMED, Event.REFUSED): State.REFUSED,
    (State.CLAIMED, Event.POSTPONED): State.DEFERRED,
    (State.CLAIMED, Event.LOST): State.UNKNOWN,
    (State.CLAIMED, Event.EXPIRED): State.UNKNOWN,
    (State.REFUSED, Event.RECONSIDERED): State.DEFERRED,
    (State.UNKNOWN, Event.TAKEN): State.SENT,
    (State.UNKNOWN, Event.REFUSED): State.REFUSED,
    (State.UNKNOWN, Event.POSTPONED): State.DEFERRED,
}


class Resend(NamedTuple):
    """Which messages are claimed again although they are settled."""

    unknown: bool = False
    refused: bool = False


NOTHING_AGAIN = Resend()


def next_state(state: State | None, event: Event, resend: Resend = NOTHING_AGAIN) -> State | None:
    """The state after an event; None where the event may not happen: a sent message is never claimed again."""
    again = {State.UNKNOWN: resend.unknown, State.REFUSED: resend.refused}
    if event is Event.CLAIM and state is not None and again.get(state):
        return State.CLAIMED
    return TRANSITIONS.get((state, event))


def states_before(event: Event, resend: Resend = NOTHING_AGAIN) -> tuple[State, ...]:
    """The states of a known message in which an event may happen."""
    return tuple(state for state in State if next_state(state, event, resend) is not None)


AFTER: dict[Event, State] = {event: after for (_, event), after in TRANSITIONS.items()}


def state_after(event: Event) -> State:
    """The state that an event leads to, wherever it may happen."""
    return AFTER[event]
