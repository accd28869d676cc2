"""How many connections to each account every sender may have, so that together they have no more than the account.

A sender's row says how many it holds and how many it needs. It holds for a lease by the database's clock, and is
renewed while there are connections: the seats of a sender that is frozen are free again after that, and those of
one that is certainly dead at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import sqlalchemy as sa

from tasks.delivery.journal.database import Database
from tasks.delivery.journal.tables import SEATS, SENDERS

TURN_SECONDS = 5
"""Where there are more senders than seats, they take turns of so many seconds."""


class Ask(NamedTuple):
    """What a sender has, and needs, of one account."""

    most: int
    """Seats that the account has."""
    held: int
    wanted: int


def shares(wanted: Sequence[int], most: int) -> list[int]:
    """Of so many seats, how many each gets: what it wants, or as many as the others."""
    given = [0] * len(wanted)
    while most > 0 and (short := [place for place, want in enumerate(wanted) if given[place] < want]):
        for place in short[:most]:
            given[place] += 1
        most -= len(short)
    return given


def granted(ask: Ask, me: str, others: Mapping[str, tuple[int, int]], turn: int) -> int:
    """How many seats a sender may have. `others`: what each of them holds and wants; `turn`: whose turn it is."""
    wants = {name: wanted for name, (_, wanted) in others.items()} | {me: ask.wanted}
    order = sorted(name for name, wanted in wants.items() if wanted)
    if len(order) > ask.most:
        begin = turn * ask.most % len(order)
        order = order[begin:] + order[:begin]
    given = dict(zip(order, shares([wants[name] for name in order], ask.most), strict=True))
    spare = ask.most - sum(given.values())
    free = ask.most - sum(held for held, _ in others.values())
    allowed = min(given.get(me, 0) + spare, max(ask.held, ask.wanted))
    return max(0, min(allowed, max(free, ask.held)))  # nobody loses what is its share to who has too many


@dataclass(frozen=True)
class SharedSeats:
    """The seats of a journal, as one sender asks for them."""

    database: Database
    sender: str
    is_gone: Callable[[sa.Connection, str], bool]
    """Whether a sender that has entered is certainly dead."""

    def share(self, asks: Mapping[str, Ask]) -> dict[str, int]:
        """Say what this sender has and needs, by account; gives how many seats it may have from now on.

        Those that it holds above that are its own until it says that they are not. What is not named is given back.
        Errors: `JournalUnavailable`.
        """

        def work(database: sa.Connection) -> dict[str, int]:
            mine = SEATS.c.sender == self.sender
            # First of all: on SQLite it is what takes the lock, before anything is read.
            database.execute(sa.delete(SEATS).where(mine, SEATS.c.account.not_in(list(asks))))
            return {account: self._share(database, account, asks[account]) for account in sorted(asks)}

        return self.database.write(work)

    def take_away(self, sender: str) -> None:
        """Free what a sender that is certainly dead held. Errors: `JournalUnavailable`."""
        statement = sa.delete(SEATS).where(SEATS.c.sender == sender)
        self.database.write(lambda database: database.execute(statement))

    def _share(self, database: sa.Connection, account: str, ask: Ask) -> int:
        if not self.database.is_sqlite:
            database.execute(sa.select(sa.func.pg_advisory_xact_lock(_lock_of(account))))
        here = SEATS.c.account == account
        database.execute(sa.delete(SEATS).where(here, SEATS.c.expires_at <= self.database.moment()))
        columns = (SEATS.c.sender, SEATS.c.held, SEATS.c.wanted)
        found = database.execute(sa.select(*columns).where(here, SEATS.c.sender != self.sender))
        others = {sender: (held, wanted) for sender, held, wanted in found}
        if max(ask.held, ask.wanted) + sum(held for held, _ in others.values()) > ask.most:
            for gone in self._gone(database, list(others)):
                del others[gone]
                database.execute(sa.delete(SEATS).where(SEATS.c.sender == gone))
        seats = granted(ask, self.sender, others, self._turn(database))
        insert = self.database.insert(SEATS).values(
            account=account,
            sender=self.sender,
            held=max(ask.held, seats),
            wanted=ask.wanted,
            expires_at=self.database.moment(self.database.settings.lease_seconds),
        )
        changed = {name: insert.excluded[name] for name in ("held", "wanted", "expires_at")}
        key = [SEATS.c.account, SEATS.c.sender]
        database.execute(insert.on_conflict_do_update(index_elements=key, set_=changed))
        return seats

    def _gone(self, database: sa.Connection, senders: list[str]) -> list[str]:
        """Those that died: whoever leaves in peace says so before it gives its lock back."""
        entered = sa.select(SENDERS.c.sender).where(
            SENDERS.c.sender.in_(senders), SENDERS.c.expires_at > self.database.moment()
        )
        return [sender for sender in database.execute(entered).scalars() if self.is_gone(database, sender)]

    def _turn(self, database: sa.Connection) -> int:
        if self.database.is_sqlite:
            return int(self.database.now().timestamp() // TURN_SECONDS)
        now = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        return int(database.execute(sa.select(now)).scalar_one() // TURN_SECONDS)


def _lock_of(account: str) -> int:
    return int.from_bytes(sha256(f"seats of {account}".encode()).digest()[:8], "big", signed=True)
