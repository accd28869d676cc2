"""What a sender's claimed messages have come to since the journal was last told: for those that come after.

A sender claims some messages ahead, and tells the journal of some answers together. When it is killed, this says
which messages may have left (a key is written down before its message's first byte goes) and what was answered to
which. The sender holds a lock while it lives; a process that gets the lock knows for certain that it is dead.

Beside a journal that is a file, it is a file of each sender, with the system's lock on it. It is not forced to the
disk, so it is believed only while the machine has not been restarted. In PostgreSQL it is a table, written over
the very session that holds the lock: when the server has ended the session, nothing more can be noted over it, and
so nothing more leaves. The table is not forced to the disk either; see `tables.DEPARTURES`.
"""

import asyncio
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tasks.delivery.journal.database import Database, document, given_rows, storable
from tasks.delivery.journal.states import Event, State
from tasks.delivery.journal.tables import DEPARTURES, MESSAGES
from tasks.errors import CampaignError, ConfigurationError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

IN_DOUBT = "its sender was gone before an answer was written down"
EVENTS = frozenset(Event)
ROOM = 1 << 16
"""Bytes by which a file of departures grows."""
END_OF_LINE = ord("\n")
BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str | None:
    """What names the time since the machine was started; None where there is no such name or no lock."""
    if fcntl is None:
        return None
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return None


class ClaimLost(Exception):
    """A message must stay: another sender took it over, while this one was not heard of."""

    def __init__(self) -> None:
        super().__init__("another sender took it over, while this one was not heard of")


class Remains(NamedTuple):
    """What is known of a sender that holds claims."""

    is_alive: bool = False
    """It holds its lock."""
    left: dict[str, tuple[Event, str]] | None = None
    """Of a sender that is dead: what its messages that may have left have come to, by the key's digits; None where
    nobody can say, and the lease decides."""


class Departures(Protocol):
    """Where one sender notes what leaves."""

    def open(self) -> None:
        """Take the lock. Errors: `OSError`, `JournalUnavailable`."""
        ...

    async def begin(self, send: int, digits: str) -> None:
        """A message is about to leave. Errors: `OSError`, `JournalUnavailable`, `ClaimLost`; it must then stay."""
        ...

    def end(self, digits: str, event: Event, answer: str) -> None:
        """A message that had begun to leave was answered. A note that cannot be made leaves it in doubt."""
        ...

    def close(self, *, done: bool) -> None:
        """Give the lock back; with `done`, nothing is in doubt and the notes go."""
        ...


class DeparturesFile:
    """The file of one sender, mapped into memory: the system keeps what is there, however the process ends.

    A note takes no call of the system. Room is taken on the disk before it is written to: a full disk is an error
    then, and not the end of the process.
    """

    def __init__(self, folder: Path, sender: str) -> None:
        self._path = file_of(folder, sender)
        self._boot = boot()
        self._file: int | None = None
        self._notes: mmap.mmap | None = None
        self._size = 0
        """What is noted, in bytes."""

    def open(self) -> None:
        """Make the file and take its lock; nothing, where departures cannot be kept. Errors: `OSError`."""
        if self._boot is not None and self._file is None:
            self._path.parent.mkdir(exist_ok=True, mode=0o700)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._note(self._boot, self._file)

    async def begin(self, send: int, digits: str) -> None:  # noqa: ARG002  # the lock holds for all sends
        """Note it. While the lock is held, no other sender takes a claim over."""
        if self._file is not None:
            self._note(digits, self._file)

    def end(self, digits: str, event: Event, answer: str) -> None:
        """Note it."""
        if self._file is not None:
            one_line = answer if answer.isprintable() else " ".join(answer.splitlines())
            with suppress(OSError):
                self._note(f"{digits} {event} {one_line}", self._file)

    def _note(self, line: str, file: int) -> None:
        """Write a line, and then its end: one without an end was not written whole."""
        noted = line.encode()
        end = self._size + len(noted)
        notes = self._notes
        if notes is None or end >= len(notes):
            notes = self._with_room(end + 1, file)
        notes[self._size : end] = noted
        notes[end] = END_OF_LINE
        self._size = end + 1

    def _with_room(self, size: int, file: int) -> mmap.mmap:
        whole = -(-size // ROOM) * ROOM
        os.posix_fallocate(file, 0, whole)
        self._let_go()
        self._notes = mmap.mmap(file, whole)
        return self._notes

    def _let_go(self) -> None:
        if self._notes is not None:
            self._notes.close()
            self._notes = None

    def close(self, *, done: bool) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._let_go()
            if done:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file, self._size = None, 0


def file_of(folder: Path, sender: str) -> Path:
    """The file of a sender."""
    return folder / sha256(sender.encode()).hexdigest()[:32]


@contextmanager
def remains_in_file(folder: Path, sender: str) -> Iterator[Remains]:
    """What a sender left behind. The file of a dead one goes at the end of the block, which notes what follows."""
    path = file_of(folder, sender)
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        yield Remains()
        return
    try:
        if boot() is None:
            yield Remains()
            return
        if not _locked(file):
            yield Remains(is_alive=True)
            return
        begun, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        believed = begun == boot()
        whole = filter(None, lines[:-1])  # what has no end was not written whole; room that was not used follows it
        yield Remains(left=dict(map(_noted, whole)) if believed else None)
        if believed:
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def is_gone_in_file(folder: Path, sender: str) -> bool:
    """Whether a sender that has entered is certainly dead; what it left behind stays."""
    try:
        file = os.open(file_of(folder, sender), os.O_RDWR)
    except OSError:
        return False
    try:
        return boot() is not None and _locked(file)
    finally:
        os.close(file)


class DeparturesTable:
    """The rows of one sender in PostgreSQL, and the session by which it writes them.

    Messages that begin to leave at one moment are noted together: one round trip for all connections.
    """

    def __init__(self, database: Database, sender: str) -> None:
        self._database = database
        self._sender = sender
        self._session: sa.Connection | None = None
        self._begun: list[tuple[dict[str, Any], asyncio.Future[bool]]] = []
        self._ended: list[dict[str, str]] = []
        self._writing: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Take the lock, and make the row by which the others are believed. Errors: `JournalUnavailable`."""
        row = {"sender": self._sender, "key": "", "event": "", "answer": ""}
        self._written(lambda session: session.execute(sa.insert(DEPARTURES), row))

    async def begin(self, send: int, digits: str) -> None:
        """Note it, where the message is still this sender's."""
        noted = asyncio.get_running_loop().create_future()
        self._begun.append(({"send": send, "key": digits}, noted))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        if not await noted:
            raise ClaimLost

    def end(self, digits: str, event: Event, answer: str) -> None:
        """Note it, with the next that begins."""
        self._ended.append({"key": digits, "event": str(event), "answer": storable(answer)})

    async def _write(self) -> None:
        while self._begun:
            begun, self._begun = self._begun, []
            ended, self._ended = self._ended, []
            try:
                kept = await asyncio.to_thread(self._noted, [row for row, _ in begun], ended)
            except BaseException as error:
                for _, noted in begun:
                    if not noted.done():
                        noted.set_exception(error if isinstance(error, Exception) else ClaimLost())
                if not isinstance(error, Exception):
                    raise
                continue
            for row, noted in begun:
                if not noted.done():
                    noted.set_result(row["key"] in kept)

    def _noted(self, begun: list[dict[str, Any]], ended: list[dict[str, str]]) -> set[str]:
        sender = {"given_sender": self._sender}

        def work(session: sa.Connection) -> set[str]:
            if ended:
                session.execute(sa.insert(DEPARTURES), [{**row, "sender": self._sender} for row in ended])
            return set(session.execute(_begin_statement(), {**document(begun), **sender}).scalars())

        return self._written(work)

    def _written(self, work: Callable[[sa.Connection], T]) -> T:
        def attempt() -> T:
            try:
                session = self._session or self._locked_session()
                with self._database.limited(session), session.begin():
                    return work(session)
            except DBAPIError:
                self._end_session()
                raise

        return self._database.patiently(attempt)

    def _locked_session(self) -> sa.Connection:
        session = self._database.engine.connect()
        try:
            with self._database.limited(session), session.begin():
                # A machine that is gone unexpectedly gives its lock back when the server notices.
                for name, seconds in (("idle", 10), ("interval", 5), ("count", 3)):
                    session.execute(sa.text(f"SET tcp_keepalives_{name} = {seconds}"))
                session.execute(sa.text("SET synchronous_commit = off"))
                session.execute(sa.select(sa.func.pg_advisory_lock(lock_of(self._sender))))
                mine = session.execute(sa.select(sa.func.pg_backend_pid())).scalar()
            self._check_session(session, mine)
        except BaseException:
            session.invalidate()
            session.close()
            raise
        self._session = session
        return session

    def _check_session(self, session: sa.Connection, mine: int | None) -> None:
        """Check that it stays one session: a pool of transactions gives its lock to whoever comes next.

        Errors: `ConfigurationError`.
        """
        with self._database.engine.connect() as other, self._database.limited(other), other.begin():
            other.execute(sa.select(sa.func.pg_backend_pid()))  # which takes a session that the pool has free
            with self._database.limited(session), session.begin():
                now = session.execute(sa.select(sa.func.pg_backend_pid())).scalar()
        if now != mine:
            raise ConfigurationError(
                setting="CAMPAIGN_JOURNAL__URL",
                reason="a pool stands before PostgreSQL that gives every transaction another session (PgBouncer"
                " with pool_mode=transaction), and the journal's locks are a session's; name PostgreSQL itself,"
                " or use pool_mode=session",
            )

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.invalidate()
            self._session.close()
            self._session = None

    def close(self, *, done: bool) -> None:
        """End the session, and the lock with it."""
        if done and self._session is not None:
            mine = sa.delete(DEPARTURES).where(DEPARTURES.c.sender == self._sender)
            with suppress(CampaignError):
                self._written(lambda session: session.execute(mine))
        self._end_session()


def lock_of(sender: str) -> int:
    """The number of a sender's lock in PostgreSQL."""
    return int.from_bytes(sha256(sender.encode()).digest()[:8], "big", signed=True)


@cache
def _begin_statement() -> sa.Insert:
    rows = given_rows(False, {"send": sa.BigInteger, "key": sa.String})
    mine = (
        sa.select(sa.bindparam("given_sender", type_=sa.String), MESSAGES.c.key, sa.literal(""), sa.literal(""))
        .join_from(rows, MESSAGES, sa.and_(MESSAGES.c.send == rows.c.send, MESSAGES.c.key == rows.c.key))
        .where(
            MESSAGES.c.sender == sa.bindparam("given_sender", type_=sa.String), MESSAGES.c.state == State.CLAIMED
        )
    )
    return sa.insert(DEPARTURES).from_select(["sender", "key", "event", "answer"], mine).returning(DEPARTURES.c.key)


@contextmanager
def remains_in_table(database: Database, sender: str) -> Iterator[Remains]:
    """What a sender left behind. The rows of a dead one go at the end of the block, which notes what follows.

    Errors: `JournalUnavailable`.
    """
    lock = lock_of(sender)
    theirs = DEPARTURES.c.sender == sender
    columns = (DEPARTURES.c[name] for name in ("key", "event", "answer"))
    found = sa.select(*columns).where(theirs).order_by(DEPARTURES.c.number)
    with database.patiently(database.engine.connect) as session:
        with database.limited(session):
            is_dead = bool(session.execute(sa.select(sa.func.pg_try_advisory_lock(lock))).scalar())
            rows = session.execute(found).all() if is_dead else []
            session.commit()
        if not is_dead:
            yield Remains(is_alive=True)
            return
        try:
            noted = {
                key: (Event(event), answer) if event else (Event.LOST, IN_DOUBT) for key, event, answer in rows
            }
            yield Remains(left=noted if noted.pop("", None) else None)
            database.write(lambda connection: connection.execute(sa.delete(DEPARTURES).where(theirs)))
        finally:
            session.invalidate()  # the lock ends with the session


def is_gone_in_table(session: sa.Connection, sender: str) -> bool:
    """Whether a sender that has entered is certainly dead; what it left behind stays. Within a transaction."""
    return bool(session.execute(sa.select(sa.func.pg_try_advisory_xact_lock(lock_of(sender)))).scalar())


def _noted(line: str) -> tuple[str, tuple[Event, str]]:
    key, _, rest = line.partition(" ")
    event, _, answer = rest.partition(" ")
    return key, (Event(event), answer) if event in EVENTS else (Event.LOST, IN_DOUBT)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
