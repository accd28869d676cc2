"""Messages on their way to a mail server: what they are of, and where they stand on a line."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.delivery.blame import Blame
from tasks.delivery.journal.states import Event
from tasks.delivery.journal.storage import Settlement
from tasks.delivery.seats import Seat
from tasks.messages.letter import Letter, Message


@dataclass
class Batch:
    """Messages that are carried together, and what became of them."""

    waiting: int
    done: asyncio.Future[None]
    outcomes: list[Settlement] = field(default_factory=list)

    def settle(self, outcome: Settlement) -> None:
        """Note what became of one message."""
        self.outcomes.append(outcome)
        self.waiting -= 1
        if not self.waiting and not self.done.done():
            self.done.set_result(None)


BYTES_ON_WAY = 32_000_000
"""What is made and not answered yet, unless it is one message: each takes several times its size."""


@dataclass
class Weight:
    """Of all messages that are made and not answered yet."""

    bytes: int = 0

    def has_room(self, size: int) -> bool:
        """Whether a message of about this size can be made now."""
        return not self.bytes or self.bytes + size <= BYTES_ON_WAY


@dataclass(slots=True)
class Parcel:
    """One message on its way. It is made when it is about to leave: with its files, many would fill the memory."""

    letter: Letter
    batch: Batch
    receiver: str
    """Who receives it, as `Directory` names it."""
    tries: int = 0
    seat: Seat | None = None
    """At its receiver, where that has so many only."""
    weight: "Weight | None" = None
    """What its message is counted in, while it is made."""
    bytes: int = 0

    @property
    def size(self) -> int:
        """About what its texts come to."""
        return len(self.letter.content)

    def weigh(self, weight: Weight, size: int) -> None:
        """Count its message, until it is answered or put back."""
        self.weight, self.bytes = weight, size
        weight.bytes += size

    def settle(
        self,
        event: Event,
        answer: str,
        *,
        blame: Blame = Blame.UNCLEAR,
        again: bool = False,
        noted: Callable[[Settlement], None] | None = None,
    ) -> None:
        """Note what became of it; `noted` notes it where it outlives this process, before anybody hears of it."""
        self.leave()
        outcome = Settlement(self.letter.key, event, answer, blame, again)
        if noted is not None:
            noted(outcome)
        self.batch.settle(outcome)

    def leave(self) -> None:
        """It is not on its way any more."""
        if self.weight is not None:
            self.weight.bytes -= self.bytes
            self.weight = None
        if self.seat is not None:
            self.seat.give_back()
            self.seat = None


class Begun(NamedTuple):
    """A message that a line has taken up."""

    parcel: Parcel
    message: Message

    def envelope(self) -> tuple[bytes, bytes, bytes]:
        """The commands that begin it."""
        recipient = self.message.recipient
        utf8 = b" BODY=8BITMIME SMTPUTF8" if recipient.needs_utf8 else b""
        return (
            b"MAIL FROM:<%b>%b\r\n" % (self.message.sender.encode(), utf8),
            b"RCPT TO:<%b>\r\n" % recipient.address.encode(),
            b"DATA\r\n",
        )


@dataclass(slots=True)
class Stand:
    """Where a line stands between two groups of commands."""

    leaving: "Begun | None" = None
    """The message whose envelope was accepted: its content goes next."""
    reset: bytes = b""
    """What ends a transaction that failed."""

    def opening(self) -> list[bytes]:
        """What the next group begins with."""
        if self.leaving:
            message = self.leaving.message
            content = message.content.replace(b"\r\n.", b"\r\n..") if message.has_dots else message.content
            return [content + b".\r\n"]
        return [self.reset] if self.reset else []
