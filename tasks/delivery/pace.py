"""One rate for one account: over all connections, parts, runs and machines that have the same journal.

Moments to send at are taken from the journal, some at a time; the next sender gets those that follow. A moment
that was not used is lost: a rate saves up no burst.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

TAKEN_SECONDS = 0.5
"""For so long moments are taken ahead: the journal is asked about twice a second."""
MOST_TAKEN = 1_000
LATE_SECONDS = 0.1
"""So late a moment is still used."""


class Pace:
    """Lets messages leave at a rate at most. `None`: as they come."""

    def __init__(self, per_second: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.reserve: Callable[[int, float], float] = self._alone
        """Gives how many seconds from now the first of so many moments is, at a rate."""
        self._rate = per_second or 0.0
        self._clock = clock
        self._moments: deque[float] = deque()
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
        self._forget()
        return bool(self._moments) and self._moments[0] <= self._clock()

    def take(self) -> None:
        """Count a message as leaving now, which was due."""
        if self._rate:
            self._moments.popleft()

    def drop(self) -> None:
        """Moments that were taken are of no use: what follows is later."""
        self._moments.clear()

    async def delay(self) -> float:
        """Seconds until a message is due. Errors: `JournalUnavailable`."""
        if not self._rate:
            return 0.0
        async with self._taking:
            self._forget()
            if not self._moments:
                count = min(max(1, int(self._rate * TAKEN_SECONDS)), MOST_TAKEN)
                begin = await asyncio.to_thread(self.reserve, count, self._rate) + self._clock()
                self._moments.extend(begin + number / self._rate for number in range(count))
        return max(0.0, self._moments[0] - self._clock()) if self._moments else 0.0

    async def wait(self) -> None:
        """Wait until a message may leave, and count it as leaving. Errors: `JournalUnavailable`."""
        while not self.is_due():
            await asyncio.sleep(await self.delay())
        self.take()

    def _forget(self) -> None:
        late = max(LATE_SECONDS, 1 / self._rate)
        while self._moments and self._moments[0] < self._clock() - late:
            self._moments.popleft()
