"""How many connections an account has at one time, over all parts, runs and machines that have the same journal.

A seat is a lock that ends with whoever holds it: the system's beside a journal that is a file, PostgreSQL's else.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.exc import DBAPIError

from tasks.delivery.journal.database import Database
from tasks.delivery.journal.deadlines import SILENCE_SECONDS
from tasks.runs.log import run_logger

ASKED_EVERY_SECONDS = 0.2


@dataclass
class Seats:
    """The seats of one sender."""

    database: Database
    _held: dict[int, FileLock | None] = field(default_factory=dict)
    """By the seat's number; with the lock of a file, where it is one."""
    _session: sa.Connection | None = None
    _asking: threading.Lock = field(default_factory=threading.Lock)

    @asynccontextmanager
    async def seat(self, account: str, seats: int) -> AsyncIterator[None]:
        """One connection of so many. Waits for it, and says so. Errors: `JournalUnavailable`."""
        waited = 0.0
        while (seat := await asyncio.to_thread(self._taken, account, seats)) is None:
            await asyncio.sleep(ASKED_EVERY_SECONDS)
            waited += ASKED_EVERY_SECONDS
            if waited - ASKED_EVERY_SECONDS < SILENCE_SECONDS <= waited:
                run_logger().info("All %d connections to %s are other senders': one is waited for.", seats, account)
        try:
            yield
        finally:
            self._give_back(seat)

    def _taken(self, account: str, seats: int) -> int | None:
        with self._asking:
            numbers = [self._number(account, place) for place in range(seats)]
            free = [number for number in numbers if number not in self._held]
            return next((number for number in free if self._take(number)), None)

    @staticmethod
    def _number(account: str, place: int) -> int:
        return int.from_bytes(sha256(f"seat {place} of {account}".encode()).digest()[:8], "big", signed=True)

    def _take(self, number: int) -> bool:
        if not self.database.is_sqlite:
            taken = self.database.patiently(lambda: self._asked(sa.func.pg_try_advisory_lock(number)))
            if taken:
                self._held[number] = None
            return taken
        folder = Path(f"{self.database.engine.url.database}.departures")
        folder.mkdir(exist_ok=True, mode=0o700)
        lock = FileLock(folder / f"seat-{number:x}", mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._held[number] = lock
        return True

    def _give_back(self, number: int) -> None:
        with self._asking:
            lock = self._held.pop(number)
            if lock is not None:
                lock.release()
            elif self._session is not None:
                try:
                    self._asked(sa.func.pg_advisory_unlock(number))
                except DBAPIError:
                    self.close()  # the session is gone, and its seats with it

    def _asked(self, function: sa.ColumnElement[bool]) -> bool:
        session = self._session = self._session or self.database.engine.connect()
        try:
            with self.database.limited(session), session.begin():
                return bool(session.execute(sa.select(function)).scalar())
        except DBAPIError:
            self.close()
            raise

    def close(self) -> None:
        """End the session, and give its seats back."""
        if self._session is not None:
            self._session.invalidate()
            self._session.close()
            self._session = None
