"""Who receives: the domains of the addresses, what each may be sent, and which of them asks for fewer messages.

Messages to receivers that have something to wait for must not keep others waiting: each of them is a lane of its
own in the delivery, and here each receiver has its own queue, of which those that are ready are served in turn.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import Annotated, Generic, Protocol, TypeVar

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tasks.delivery.dispatch import Rate
from tasks.delivery.journal.paces import Paces
from tasks.delivery.pace import Pace
from tasks.delivery.seats import Room, Seat, Seats
from tasks.errors import CampaignError
from tasks.http.retry import Backoff, backoff_delay
from tasks.messages.address import AROUND, normalized_address
from tasks.runs.log import run_logger

LANE_MESSAGES = 100
"""A receiver of so many messages has a lane of its own, though it has no limits."""
MOST_LANES = 50
GIVEN_UP = 4
"""A receiver that takes nothing after so many pauses is tried again in the next round only."""
WELL = 20
"""So many messages taken after a pause make the next pause as short again as the one before."""
LONGEST_DELAY = 1.0
LANE = "\x00lane"
"""No column of anybody's."""
REST = ""
"""The lane of all receivers that have none."""
OTHERS = "*"
PATTERN = re.compile(r"\*|(?:\*\.)?[^\s@*]+\.[^\s@*]+")


class ReceiverLimits(BaseModel):
    """What a receiving domain may be sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages_per_second: Rate = None
    connections: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        title="Messages at one time",
        description="On their way to it, by all runs with the same journal; empty: as many as the server's.",
    )


def _named(table: Mapping[str, ReceiverLimits]) -> Mapping[str, ReceiverLimits]:
    known: set[str] = set()
    for key in table:
        for pattern in key.lower().split() or [key]:
            if not PATTERN.fullmatch(pattern):
                raise ValueError(f"'{pattern}' is no domain such as gmail.com, *.gmail.com, or * for all others")
            if pattern in known or (pattern == OTHERS and key != OTHERS):
                raise ValueError(f"'{pattern}' stands more than once, or not by itself")
            known.add(pattern)
    return table


ReceiverTable = Annotated[
    dict[str, ReceiverLimits],
    AfterValidator(_named),
    Field(
        title="Receiving domains",
        description=(
            "What domains may be sent, by patterns: {gmail.com googlemail.com: {messages_per_second: 50}}. The"
            " domains of one entry count together; *.example.com is all below example.com; * is each other domain"
            " by itself. Given, it takes the place of the whole table."
        ),
    ),
]

AT_A_TIME = 100.0
SHIPPED: dict[str, ReceiverLimits] = {
    # Connections: KumoMTA's assets/policy-extras/shaping.toml, which has them from the receivers' own pages
    # (support.google.com/mail/answer/81126, sendersupport.olc.protection.outlook.com/pm/Policies,
    # support.apple.com/en-us/102322, spa.xfinity.com/postmaster, messagerie.orange.fr/postmaster.html). Messages a
    # second: its default for every destination; no receiver publishes a number.
    "gmail.com googlemail.com": ReceiverLimits(messages_per_second=AT_A_TIME, connections=5),
    "outlook.com outlook.de outlook.fr hotmail.com hotmail.de hotmail.fr hotmail.co.uk live.com msn.com": (
        ReceiverLimits(messages_per_second=AT_A_TIME, connections=5)
    ),
    "yahoo.com yahoo.de yahoo.fr yahoo.co.uk ymail.com aol.com": ReceiverLimits(messages_per_second=AT_A_TIME),
    "icloud.com me.com mac.com": ReceiverLimits(messages_per_second=AT_A_TIME, connections=10),
    "comcast.net": ReceiverLimits(connections=25),
    "orange.fr wanadoo.fr": ReceiverLimits(connections=3),
}


class Waiting(Protocol):
    """A message in a queue."""

    seat: Seat | None

    @property
    def size(self) -> int:
        """About how large it is."""
        ...

    @property
    def receiver(self) -> str:
        """Who receives it."""
        ...


Parcel = TypeVar("Parcel", bound=Waiting)


class Directory:
    """Which receiver a domain is of, by a table of patterns."""

    def __init__(self, table: Mapping[str, ReceiverLimits]) -> None:
        self._limits: dict[str, ReceiverLimits] = {}
        self._exact: dict[str, str] = {}
        self._below: list[tuple[str, str]] = []
        self._others = table.get(OTHERS)
        for key, limits in table.items():
            name = key.split()[0]
            if name == OTHERS:
                continue
            self._limits[name] = limits
            for pattern in key.split():
                domain = _ascii(pattern.removeprefix("*."))
                if pattern.startswith("*."):
                    self._below.append((f".{domain}", name))
                else:
                    self._exact[domain] = name
        self._below.sort(key=lambda one: -len(one[0]))
        self.of = lru_cache(10_000)(self._of)

    def _of(self, domain: str) -> str:
        """The receiver: the first pattern of the entry that the domain is of, or the domain itself."""
        domain = _ascii(domain)
        if (name := self._exact.get(domain)) is not None:
            return name
        return next((name for below, name in self._below if domain.endswith(below)), domain)

    def of_address(self, address: str) -> str:
        """The receiver of an address."""
        return self.of(address.strip(AROUND).rpartition("@")[2])

    def limits(self, receiver: str) -> ReceiverLimits | None:
        """What a receiver may be sent; None where nothing is said."""
        return self._limits.get(receiver, self._others)

    def is_named(self, receiver: str) -> bool:
        """Whether the table has it by name."""
        return receiver in self._limits

    def with_lanes(self, receivers: pl.Series) -> set[str]:
        """Of the receivers of messages, those whose messages are a lane of their own."""
        counts = receivers.value_counts(sort=True).rows()
        own = [name for name, count in counts if count >= LANE_MESSAGES or self.is_named(name) or len(counts) == 1]
        return set(own[:MOST_LANES])


def _ascii(domain: str) -> str:
    return normalized_address(f"x@{domain}").rpartition("@")[2]


class Receiver(Generic[Parcel]):
    """One receiver's messages in this sender's hands, and when the next may go."""

    def __init__(self, limits: ReceiverLimits | None, room: Room | None, backoff: Backoff) -> None:
        self.queue: deque[Parcel] = deque()
        self.pace = Pace(limits.messages_per_second if limits else None)
        self.room = room
        self.reason = ""
        """Its words, while it is left alone."""
        self._backoff = backoff
        self._until = 0.0
        self._pauses = 0
        self._well = 0

    def is_left_alone(self, now: float) -> bool:
        """Whether it asked for fewer messages a short while ago."""
        return now < self._until

    @property
    def is_slow(self) -> bool:
        """Whether it asked for fewer messages, and has not taken many since."""
        return bool(self._pauses)

    @property
    def takes_nothing(self) -> bool:
        """Whether it went on to ask for fewer messages, and took none."""
        return self._pauses >= GIVEN_UP and not self._well

    def is_ready(self, now: float) -> bool:
        """Whether its next message may begin now."""
        return now >= self._until and self.pace.is_due() and (self.room is None or self.room.has_free())

    def left(self, now: float) -> float:
        """Seconds for which it is left alone."""
        return max(0.0, self._until - now)

    def note_taken(self) -> None:
        """It took a message."""
        if self._pauses:
            self._well += 1
            if self._well % WELL == 0:
                self._pauses -= 1

    def slow_down(self, now: float, reason: str) -> float:
        """It asked for fewer messages; gives for how long it is left alone, 0 where it is already."""
        if self.is_left_alone(now):
            return 0.0
        self._pauses += 1
        self._well = 0
        pause = backoff_delay(self._pauses, self._backoff, at_least=self._backoff.backoff_seconds)
        self._until, self.reason = now + pause, reason
        self.pace.drop()
        return pause


class Queues(Generic[Parcel]):
    """What waits to be sent, by receiver, each served in turn."""

    def __init__(self, directory: Directory, seats: Seats, account: str, backoff: Backoff) -> None:
        self.paces: Paces | None = None
        """The journal's, which all senders share."""
        self._directory = directory
        self._seats = seats
        self._account = account
        self._backoff = backoff
        self._receivers: dict[str, Receiver[Parcel]] = {}
        self._turns: deque[tuple[str, Receiver[Parcel]]] = deque()
        """Those that have something in their queue."""
        self.slow: dict[str, Receiver[Parcel]] = {}
        """Those that are left alone."""
        self._with_lanes: set[str] = set()
        self._telling: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def lanes(self, messages: pl.DataFrame) -> list[pl.DataFrame]:
        """Messages, divided so that none waits for what only another's receiver is to be waited for."""
        if messages.is_empty():
            return [messages]
        domains = messages["email"].str.strip_chars(AROUND).str.split("@").list.last()
        receivers = domains.replace_strict({domain: self._directory.of(domain) for domain in domains.unique()})
        self._with_lanes = self._directory.with_lanes(receivers)
        lane = pl.when(receivers.is_in(list(self._with_lanes))).then(receivers).otherwise(pl.lit(REST))
        return messages.with_columns(lane.alias(LANE)).partition_by(LANE, include_key=False, maintain_order=True)

    def add(self, parcel: Parcel, *, first: bool = False) -> None:
        """Queue a message, at the end or as the next."""
        receiver = self._receiver(parcel.receiver)
        if not receiver.queue:
            self._turns.append((parcel.receiver, receiver))
        (receiver.queue.appendleft if first else receiver.queue.append)(parcel)

    def pop(self, now: float, fits: Callable[[int], bool] = lambda _: True) -> Parcel | None:
        """The next message of a receiver that is ready, with its seat where it needs one; None if none is.

        `fits`: whether a message of a size can be made now.
        """
        for _ in range(len(self._turns)):
            name, receiver = self._turns[0]
            if not receiver.is_ready(now) or not fits(receiver.queue[0].size):
                self._turns.rotate(-1)
                continue
            parcel = receiver.queue.popleft()
            receiver.pace.take()
            if receiver.room is not None:
                parcel.seat = receiver.room.try_take()
            if receiver.queue:
                self._turns.rotate(-1)
                return parcel
            self._turns.popleft()
            if receiver.room is None and not receiver.is_slow:
                del self._receivers[name]  # there may be very many
            return parcel
        return None

    async def delay(self, now: float) -> float:
        """Seconds until one may be ready. Errors: `JournalUnavailable`."""
        delays = [LONGEST_DELAY]
        for _, receiver in list(self._turns):
            if left := receiver.left(now):
                delays.append(left)
            elif receiver.room is not None and not receiver.room.has_free():
                receiver.room.want()
            else:
                delays.append(await receiver.pace.delay())
        return min(delays)

    def drain(self) -> Iterator[Parcel]:
        """Take out all messages."""
        while self._turns:
            _, receiver = self._turns.popleft()
            while receiver.queue:
                yield receiver.queue.popleft()

    def given_up(self, now: float) -> Iterator[tuple[Parcel, str]]:
        """Take out messages that must not keep others waiting, or that nobody waits for, with the reason."""
        for name, receiver in list(self.slow.items()):
            if not receiver.left(now):
                del self.slow[name]
            elif receiver.queue and (name not in self._with_lanes or receiver.takes_nothing):
                self._turns.remove((name, receiver))
                while receiver.queue:
                    yield receiver.queue.popleft(), receiver.reason

    def note_taken(self, name: str) -> None:
        """A receiver took a message."""
        if (receiver := self._receivers.get(name)) is not None:
            receiver.note_taken()

    def slow_down(self, name: str, now: float, reason: str) -> None:
        """A receiver asked for fewer messages: it gets none for a while, from anybody."""
        receiver = self._receiver(name)
        if not (pause := receiver.slow_down(now, reason)):
            return
        self.slow[name] = receiver
        run_logger().info("%s asks for fewer messages: none for %.0f seconds. %s", name, pause, reason)
        limits = self._directory.limits(name)
        if self.paces is not None and limits is not None and limits.messages_per_second:
            telling = asyncio.create_task(self._tell(self.paces, f"{self._account} {name}", pause))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    @staticmethod
    async def _tell(paces: Paces, account: str, pause: float) -> None:
        with suppress(CampaignError):  # a journal that is away for good fails the next window
            await asyncio.to_thread(paces.hold, account, pause)

    def _receiver(self, name: str) -> Receiver[Parcel]:
        if (known := self._receivers.get(name)) is not None:
            return known
        limits = self._directory.limits(name)
        account = f"{self._account} {name}"
        room = self._seats.room(account, limits.connections) if limits and limits.connections else None
        new: Receiver[Parcel] = Receiver(limits, room, self._backoff)
        if self.paces is not None:
            new.pace.reserve = partial(self.paces.reserve, account)
        self._receivers[name] = new
        return new
