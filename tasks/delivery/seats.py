"""Connections at one time: over all parts, runs and machines that have the same journal.

A seat is the right to one connection. How many this sender may have is asked of the journal again and again while
it has some or waits for some; when others wait too, seats are due back, and are given back between two messages.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import anyio

from tasks.delivery.journal.deadlines import SILENCE_SECONDS
from tasks.delivery.journal.seats import Ask
from tasks.errors import CampaignError
from tasks.runs.log import run_logger

LOOK_SECONDS = 0.5
"""How often the journal is asked."""
LEAST_SECONDS = 0.02
"""So long after an answer it is asked again, at the earliest."""
LEAVING_SECONDS = 1.0

Share = Callable[[Mapping[str, Ask]], Mapping[str, int]]
"""`SharedSeats.share`."""


class NoSeat(Exception):
    """All connections were other senders' for longer than is waited."""


@dataclass(eq=False)
class Seat:
    """The right to one connection."""

    room: "Room"
    is_idle: bool = False
    """Whether its connection has nothing to do: it is the first that is given to others."""
    is_recalled: bool = False

    @property
    def is_due_back(self) -> bool:
        """Whether to close its connection before the next message: others wait, or the lease is over."""
        return self.is_recalled or not self.room.seats.are_certain()

    def give_back(self) -> None:
        """The connection is closed."""
        self.room.give_back(self)


class Room:
    """The seats of one account that this sender has."""

    def __init__(self, seats: "Seats", account: str, most: int) -> None:
        self.seats = seats
        self.account = account
        self.held: list[Seat] = []
        self.queue: deque[asyncio.Future[Seat]] = deque()
        self.granted = most
        self.since = 0.0
        """When it last had a seat, or began to wait for one."""
        self.is_said = False
        self._most = most
        self._peak = 0

    @property
    def wanted(self) -> int:
        """How many seats are needed now."""
        return min(self._most, sum(not seat.is_idle for seat in self.held) + len(self.queue))

    def ask(self) -> Ask:
        """What the journal is asked: for as many as were needed at one time since the last time."""
        ask = Ask(self._most, len(self.held), max(self._peak, self.wanted))
        self._peak = self.wanted
        return ask

    def has_free(self) -> bool:
        """Whether a seat is free at once."""
        return not self.queue and len(self.held) < self.granted and self.seats.may_take()

    def want(self) -> None:
        """Have the journal asked for one more."""
        self._peak = min(self._most, max(self._peak, self.wanted + 1))
        if self.granted < self._most:
            self.seats.stir()

    def try_take(self) -> Seat | None:
        """A seat, where one is free at once."""
        self._peak = min(self._most, max(self._peak, self.wanted + 1))
        if not self.has_free():
            return None
        seat = Seat(self)
        self.held.append(seat)
        return seat

    async def take(self) -> Seat:
        """A seat, as soon as one is free. Errors: `NoSeat`, `JournalUnavailable`."""
        if (seat := self.try_take()) is not None:
            return seat
        if not self.queue:
            self.since, self.is_said = self.seats.time(), False
            self.seats.stir()
        waiting: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()
        self.queue.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                waiting.result().give_back()
            raise

    def give_back(self, seat: Seat) -> None:
        """Free a seat, for the next here or for others."""
        self.held.remove(seat)
        self.serve()
        self.seats.changed()
        if len(self.held) >= self.granted:  # it was one too many: others wait
            self.seats.stir()

    def grant(self, seats: int) -> None:
        """Take note of how many there may be; recall what is more, the idle ones first."""
        self.granted = seats
        surplus = len(self.held) - seats
        for place, seat in enumerate(sorted(self.held, key=lambda seat: not seat.is_idle)):
            seat.is_recalled = place < surplus
        self.serve()

    def serve(self) -> None:
        """Give free seats to those who wait."""
        while self.queue and len(self.held) < self.granted and self.seats.may_take():
            waiting = self.queue.popleft()
            if not waiting.done():
                self.held.append(Seat(self))
                waiting.set_result(self.held[-1])

    def refuse(self, error: Exception) -> None:
        """No one here waits any more."""
        while self.queue:
            waiting = self.queue.popleft()
            if not waiting.done():
                waiting.set_exception(error)


class Seats:
    """The seats of one sender. Without a journal (`begin`) it is the only sender."""

    def __init__(self, server: str, patience_seconds: float, changed: Callable[[], None] = lambda: None) -> None:
        self._server = server
        """As logs have it."""
        self._patience = patience_seconds
        self.changed = changed
        """Called when seats were granted or recalled."""
        self._rooms: dict[str, Room] = {}
        self._stirred = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._share: Share | None = None
        self._asking: asyncio.Future[Mapping[str, int]] | None = None
        self._certain_until = 0.0

    def room(self, account: str, most: int) -> Room:
        """The seats of an account, which has so many."""
        if account not in self._rooms:
            self._rooms[account] = Room(self, account, most)
            if self._share is not None:
                self._rooms[account].granted = 0
        return self._rooms[account]

    @staticmethod
    def time() -> float:
        """Of the loop."""
        return time.monotonic()  # what the loop's clock is, without asking which loop

    def stir(self) -> None:
        """Have the journal asked at once."""
        self._stirred.set()

    def are_certain(self) -> bool:
        """Whether what was granted still holds: a sender that was frozen may have lost it."""
        return self._share is None or self.time() < self._certain_until

    def may_take(self) -> bool:
        """Whether a seat can be taken of those that were granted: not while others may be given them."""
        return self._asking is None and self.are_certain()

    def begin(self, share: Share, lease_seconds: float) -> None:
        """From now on the journal says how many there are."""
        self._share = share
        for room in self._rooms.values():
            room.granted = 0
        self._keeping = asyncio.create_task(self._keep(share, lease_seconds))

    async def end(self) -> None:
        """Give everything back: no connection is open any more."""
        if self._keeping is None or self._share is None:
            return
        self._keeping.cancel()
        with anyio.move_on_after(LEAVING_SECONDS, shield=True), suppress(CampaignError):
            # What is being asked is asked to the end, whoever waits for it: it would come after the goodbye.
            await asyncio.wait([self._keeping])
            if self._asking is not None:
                await asyncio.wait([self._asking])
            await asyncio.to_thread(self._share, {})
        self._keeping = None

    def close(self, reason: str) -> None:
        """No more waiting."""
        for room in self._rooms.values():
            room.refuse(NoSeat(reason))

    async def _keep(self, share: Share, lease_seconds: float) -> None:
        while True:
            self._stirred.clear()
            await self._asked(share, lease_seconds)
            self.changed()
            is_of_use = any(room.held or room.queue for room in self._rooms.values())
            await asyncio.sleep(LEAST_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), LOOK_SECONDS if is_of_use else None)

    async def _asked(self, share: Share, lease_seconds: float) -> None:
        asks = {account: ask for account, room in self._rooms.items() if any((ask := room.ask())[1:])}
        begun = self.time()
        self._asking = asyncio.ensure_future(asyncio.to_thread(share, asks))
        try:
            granted = await asyncio.shield(self._asking)
            self._certain_until = begun + lease_seconds
        except CampaignError as error:
            for room in self._rooms.values():
                room.refuse(error)
            self._asking = None
            return
        self._asking = None
        for room in list(self._rooms.values()):
            room.grant(granted.get(room.account, 0))
            self._wait(room)

    def _wait(self, room: Room) -> None:
        """Say that seats are waited for, and that they were waited for long enough."""
        if room.held or not room.queue:
            room.since, room.is_said = self.time(), False
            return
        waited = self.time() - room.since
        if waited >= self._patience:
            room.refuse(NoSeat(f"all connections to it were other runs' for {waited:.0f} seconds"))
        elif waited >= SILENCE_SECONDS and not room.is_said:
            room.is_said = True
            run_logger().info(
                "All connections to %s are other runs': one is waited for, %d seconds at most.",
                self._server,
                self._patience,
            )
