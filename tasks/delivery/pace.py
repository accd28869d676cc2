"""One rate for one account: over all connections, parts, runs and machines that have the same journal.

Moments to send at are taken from the journal, some at a time; the next sender gets those that follow. A moment
that was not used is lost: a rate saves up no burst.
"""

import asyncio
import time
from collections.abc import Callable
from math import ceil

TAKEN_SECONDS = 0.5
"""For so long moments are taken ahead: the journal is asked about twice a second."""
LATE_SECONDS = 0.1
"""So late a moment is still used."""


class Pace:
    """Lets messages leave at a rate at most. `None`: as they come."""

    def __init__(self, per_second: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.reserve: Callable[[int, float], float] = self._alone
        """Gives how many seconds from now the first of so many moments is, at a rate."""
        self._rate = per_second or 0.0
        self._clock = clock
        self._first = 0.0
        """The next of the moments that were taken, which follow each other at the rate."""
        self._left = 0
        self._next = 0.0
        self._taking = asyncio.Lock()

    def _alone(self, count: int, per_second: float) -> float:
        """Without a journal: the rate of this sender."""
        begin = max(self._next, self._clock())
        self._next = begin + count / per_second
        return begin - self._clock()

    def is_due(self) -> bool:
        """Whether a message may leave at once."""
        if not self._rate:
            return True
        now = self._clock()
        self._forget(now)
        return self._left > 0 and self._first <= now

    def take(self) -> None:
        """Count a message as leaving now, which was due."""
        if self._rate:
            self._left -= 1
            self._first += 1 / self._rate

    def drop(self) -> None:
        """Moments that were taken are of no use: what follows is later."""
        self._left = 0

    async def delay(self) -> float:
        """Seconds until a message is due. Errors: `JournalUnavailable`."""
        if not self._rate:
            return 0.0
        async with self._taking:
            self._forget(self._clock())
            if not self._left:
                count = max(1, int(self._rate * TAKEN_SECONDS))
                self._first = await asyncio.to_thread(self.reserve, count, self._rate) + self._clock()
                self._left = count
        return max(0.0, self._first - self._clock()) if self._left else 0.0

    async def wait(self) -> None:
        """Wait until a message may leave, and count it as leaving. Errors: `JournalUnavailable`."""
        while not self.is_due():
            await asyncio.sleep(await self.delay())
        self.take()

    def _forget(self, now: float) -> None:
        """Let go of moments that are too late."""
        late = now - max(LATE_SECONDS, 1 / self._rate) - self._first
        if late > 0 and self._left:
            passed = min(ceil(late * self._rate), self._left)
            self._left -= passed
            self._first += passed / self._rate
