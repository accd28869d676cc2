"""The pools of a journal: filled, counted, and told to the shop's till."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import sqlalchemy as sa

from tasks.delivery.journal.codes import NOBODYS, ON_ITS_WAY, CodeState, note_used, waits_for_a_message
from tasks.delivery.journal.database import Database, document, given_rows
from tasks.delivery.journal.tables import CODES, POOLS, SENDS
from tasks.errors import ColumnsUnexpected, PoolUnknown
from tasks.pools.codes import CODE, KINDS, Coming, Refused, Seal, column, columns_of, coming
from tasks.send import Send
from tasks.tables.transitions import nearest, quoted

AT_ONCE = 5_000
"""Codes that come in, or are told, by one statement."""
NOTED_AT_ONCE = 50_000
REFUSED = {"row": pl.Int64(), "reason": pl.String()}
GIVEN = {
    "campaign": pl.String(),
    "business_date": pl.Date(),
    "channel": pl.String(),
    "profile_id": pl.String(),
    "message_key": pl.String(),
    "state": pl.String(),
    "changed_at": pl.Datetime("us", "UTC"),
}
"""Whom a code went to, and when."""


@dataclass(frozen=True)
class Pool:
    """A pool."""

    number: int
    name: str
    columns: dict[str, str]
    """Kinds of the columns beside the code."""
    low: int
    """From which stock on somebody is told."""
    batches: int
    """How many batches were asked for and kept."""


@dataclass(frozen=True)
class Filled:
    """What became of codes that came."""

    added: int
    known: int
    """Codes that the pool had already, or that came twice."""
    refused: pl.DataFrame
    """row, reason."""


@dataclass(frozen=True)
class Pools:
    """The pools of a journal."""

    database: Database
    _known: dict[str, Pool] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The pools' names."""
        statement = sa.select(POOLS.c.name).order_by(POOLS.c.name)
        return self.database.read(lambda connection: list(connection.execute(statement).scalars()))

    def find(self, name: str) -> Pool | None:
        """A pool as it is now; None where there is none."""
        statement = sa.select(POOLS).where(POOLS.c.name == name)
        row = self.database.read(lambda connection: connection.execute(statement).first())
        if row is None:
            return None
        return Pool(int(row.number), row.name, json.loads(row.columns), row.low, row.batches)

    def pool(self, name: str) -> Pool:
        """A pool. Errors: `PoolUnknown`."""
        if name not in self._known:
            found = self.find(name)
            if found is None:
                present = self.names()
                cure = f" {nearest([name], present)}".rstrip()
                raise PoolUnknown(pool=name, present=quoted(present), cure=cure)
            self._known[name] = found
        return self._known[name]

    def seal(self, pool: Pool) -> Seal:
        """What closes and opens a pool's codes."""
        return Seal(self.database.identity.key, pool.name)

    def begun(self, name: str, columns: Mapping[str, str], low: int) -> Pool:
        """The pool, made where there is none. Errors: `ColumnsUnexpected` for other columns than it has."""
        values = {
            "name": name,
            "columns": json.dumps(columns),
            "low": low,
            "batches": 0,
            "created_at": self.database.now(),
        }
        insert = self.database.insert(POOLS).values(values)
        statement = insert.on_conflict_do_update(index_elements=[POOLS.c.name], set_={"low": low})
        self.database.write(lambda connection: connection.execute(statement))
        found = self.find(name)
        assert found is not None, "it was written just now"  # noqa: S101
        if found.columns != dict(columns):
            raise ColumnsUnexpected(
                where=f"The table of codes for the pool '{name}'",
                columns=quoted(f"{column}: {kind}" for column, kind in columns.items()),
                known=quoted(f"{column}: {kind}" for column, kind in found.columns.items()),
            )
        return found

    def fill(self, name: str, table: pl.DataFrame, *, low: int = 0, batch: int | None = None) -> Filled:
        """Put codes into a pool. A code that it has, or ever had, is known and stays what it is.

        In: code; perhaps expires_at (a date or moment), and further columns, the same each time. `batch`: which of
        the batches that were asked for it is; the pool then counts it, once. Errors: `ColumnsMissing`,
        `ColumnTypesDiffer`, `ColumnsUnexpected`, `JournalUnavailable`.
        """
        columns = columns_of(table)
        pool = self.begun(name, columns, low)
        seal, added, refused, rows = self.seal(pool), 0, list[Refused](), list[Coming]()
        for one in coming(table, columns, seal):
            if isinstance(one, Refused):
                refused.append(one)
                continue
            rows.append(one)
            if len(rows) == AT_ONCE:
                added += self._add(pool, rows)
                rows = []
        added += self._add(pool, rows)
        if batch is not None:
            counted = (
                sa.update(POOLS)
                .values(batches=batch + 1)
                .where(POOLS.c.number == pool.number, POOLS.c.batches == batch)
            )
            self.database.write(lambda connection: connection.execute(counted))
        known = table.height - len(refused) - added
        return Filled(added, known, pl.DataFrame(refused, schema=REFUSED, orient="row"))

    def _add(self, pool: Pool, codes: list[Coming]) -> int:
        if not codes:
            return 0
        now = self.database.now()
        rows = [
            {
                "pool": pool.number,
                **one._asdict(),
                "state": str(CodeState.FREE),
                "profile_id": "",
                "reserved_by": "",
                "changed_at": now,
            }
            for one in {one.digest: one for one in codes}.values()
        ]
        before = sa.select(sa.func.count()).where(CODES.c.pool == pool.number, CODES.c.digest.in_(_digests(self)))
        given = document({"digest": row["digest"]} for row in rows)
        insert = self.database.insert(CODES).on_conflict_do_nothing()

        def work(connection: sa.Connection) -> int:
            known = int(connection.execute(before, given).scalar_one())
            connection.execute(insert, rows)
            return int(connection.execute(before, given).scalar_one()) - known

        return self.database.write(work)

    def stock(self, pool: Pool) -> dict[CodeState, int]:
        """How many codes are in each state. Errors: `JournalUnavailable`."""
        self._note_used(pool)
        statement = (
            sa.select(CODES.c.state, sa.func.count()).where(CODES.c.pool == pool.number).group_by(CODES.c.state)
        )
        rows = self.database.read(lambda connection: connection.execute(statement).all(), at_leisure=True)
        return dict.fromkeys(CodeState, 0) | {CodeState(state): int(count) for state, count in rows}

    def _note_used(self, pool: Pool) -> None:
        """Call the codes used whose messages were taken, some at a time, so that no sender waits long."""
        of_pool = CODES.c.pool == pool.number
        newest = sa.select(sa.func.max(CODES.c.number))
        last = self.database.read(lambda connection: connection.execute(newest).scalar()) or 0
        for begin in range(1, last + 1, NOTED_AT_ONCE):
            some = sa.and_(of_pool, CODES.c.number.between(begin, begin + NOTED_AT_ONCE - 1))
            self.database.write(lambda connection, some=some: note_used(connection, some), at_leisure=True)  # type: ignore[misc]

    def free(self, pool: Pool, until: datetime) -> int:
        """How many codes are free and hold beyond a moment."""
        statement = (
            sa.select(sa.func.count())
            .select_from(CODES)
            .where(CODES.c.pool == pool.number, CODES.c.state == CodeState.FREE, CODES.c.expires_at > until)
        )
        return int(
            self.database.read(lambda connection: connection.execute(statement).scalar_one(), at_leisure=True)
        )

    def of_send(self, pool: Pool, send: Send) -> int:
        """How many codes belong to messages of a send, over any channel."""
        statement = (
            sa.select(sa.func.count())
            .select_from(CODES)
            .join(SENDS, SENDS.c.number == CODES.c.send)
            .where(
                CODES.c.pool == pool.number,
                SENDS.c.campaign == send.campaign,
                SENDS.c.business_date == send.business_date,
                CODES.c.key.is_not(None),
            )
        )
        return int(
            self.database.read(lambda connection: connection.execute(statement).scalar_one(), at_leisure=True)
        )

    def expire(self, pool: Pool) -> None:
        """Call free codes whose day has come expired."""
        now = self.database.now()
        statement = (
            sa.update(CODES)
            .values(state=CodeState.EXPIRED, changed_at=now)
            .where(CODES.c.pool == pool.number, CODES.c.state == sa.text("'free'"), CODES.c.expires_at <= now)
        )
        self.database.write(lambda connection: connection.execute(statement), at_leisure=True)

    def reclaim(self, pool: Pool) -> int:
        """Give back codes that nobody has sent for as long as the lease of codes; gives how many.

        A message that was put off keeps its code, for the run that tries it again.
        """
        now = self.database.now()
        statement = (
            sa.update(CODES)
            .values(state=CodeState.FREE, changed_at=now, **NOBODYS)
            .where(
                CODES.c.pool == pool.number,
                CODES.c.state == CodeState.RESERVED,
                CODES.c.changed_at < now - timedelta(hours=self.database.settings.code_lease_hours),
                ~waits_for_a_message(),
            )
        )
        return self.database.write(lambda connection: int(connection.execute(statement).rowcount), at_leisure=True)

    def given(self, pool: Pool, *, people: bool, since: datetime | None = None) -> Iterator[pl.DataFrame]:
        """The codes that went out, in tables one after another: code, its columns, and whom each went to.

        One that its message may have brought is among them, with the state `held`. Without `people`: only codes,
        columns and state. One table at least. Errors: `JournalUnavailable`.
        """
        told = [CODES.c.number, CODES.c.digest, CODES.c.sealed, SENDS.c.campaign, SENDS.c.business_date]
        told += [SENDS.c.channel, CODES.c.profile_id, CODES.c.key, CODES.c.state, CODES.c.changed_at]
        went_out = CODES.c.state.in_([CodeState.USED, *ON_ITS_WAY])
        statement = (
            sa.select(*told)
            .join_from(CODES, SENDS, SENDS.c.number == CODES.c.send, isouter=True)
            .where(CODES.c.pool == pool.number, went_out, *([CODES.c.changed_at > since] if since else []))
            .order_by(CODES.c.number)
            .limit(AT_ONCE * 10)
        )
        self._note_used(pool)
        seal, last, is_first = self.seal(pool), 0, True
        while True:
            rows: list[Any] = self.database.read(
                lambda connection, last=last: connection.execute(statement.where(CODES.c.number > last)).all(),  # type: ignore[misc]
                at_leisure=True,
            )
            if rows or is_first:
                yield _told(rows, pool, seal, people=people)
            if not rows:
                return
            last, is_first = rows[-1].number, False


def _digests(pools: Pools) -> sa.Select[Any]:
    rows = given_rows(pools.database.is_sqlite, {"digest": sa.String})
    return sa.select(rows.c.digest)


def _told(rows: list[Any], pool: Pool, seal: Seal, *, people: bool) -> pl.DataFrame:
    opened = column("pool", [seal.opened(row.digest, row.sealed) for row in rows], pool.columns)
    codes = (
        opened.to_frame().unnest("pool")
        if rows
        else pl.DataFrame(schema={CODE: pl.String(), **{name: KINDS[kind] for name, kind in pool.columns.items()}})
    )
    given = pl.DataFrame([tuple(row)[3:] for row in rows], schema=GIVEN, orient="row")
    return codes.hstack(given if people else given.select("state"))
