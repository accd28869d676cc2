"""Who must not be contacted: addresses in quarantine, opt-outs and complaints."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import polars as pl
import sqlalchemy as sa

from tasks.delivery.journal.database import Database, document, given_rows, storable
from tasks.delivery.journal.keys import address_hash, address_hashes
from tasks.delivery.journal.tables import SUPPRESSIONS

LOOKED_UP_AT_ONCE = 10_000
SCHEMA = {
    "number": pl.Int64(),
    "kind": pl.String(),
    "channel": pl.String(),
    "address": pl.String(),
    "profile_id": pl.String(),
    "reason": pl.String(),
    "source": pl.String(),
    "count": pl.Int64(),
    "needed": pl.Int64(),
    "first_at": pl.Datetime("us", "UTC"),
    "last_at": pl.Datetime("us", "UTC"),
    "expires_at": pl.Datetime("us", "UTC"),
    "released_at": pl.Datetime("us", "UTC"),
    "released_by": pl.String(),
    "released_why": pl.String(),
}


class Kind(StrEnum):
    """Why somebody must not be contacted."""

    QUARANTINE = "quarantine"
    """The address does not work."""
    OPT_OUT = "opt-out"
    """The person wants no more."""
    COMPLAINT = "complaint"
    """The person called a message spam."""


class Sighting(NamedTuple):
    """One event that speaks against writing to somebody: to the address, the profile, or both."""

    kind: Kind
    channel: str
    """Empty: every channel."""
    reason: str
    source: str
    """Who says so: 'smtp', 'one-click', 'bounce', a provider's name."""
    address: str = ""
    profile_id: str = ""
    at: datetime | None = None
    """When it happened; None: now. The same event told twice counts once."""
    expires_at: datetime | None = None
    """Until when it holds; None: until it is released."""
    needed: int = 1
    """From how many such events on it holds."""


@dataclass(frozen=True)
class Suppressions:
    """The suppressions of a journal."""

    database: Database

    def add(self, sightings: Iterable[Sighting]) -> None:
        """Write events down. After a release, events are counted from zero again. Errors: `JournalUnavailable`."""
        rows = [self._row(one) for one in sightings]
        if not rows:
            return
        insert = self.database.insert(SUPPRESSIONS)
        new, known = insert.excluded, SUPPRESSIONS.c
        is_newer = new.last_at > known.last_at
        was_over = sa.or_(
            sa.and_(known.released_at.is_not(None), new.last_at > known.released_at),
            sa.and_(known.expires_at.is_not(None), new.last_at > known.expires_at),
        )
        statement = insert.on_conflict_do_update(
            index_elements=[known.address, known.profile_id, known.kind, known.channel],
            set_={
                "count": sa.case((was_over, 1), (is_newer, known.count + 1), else_=known.count),
                "first_at": sa.case((new.last_at < known.first_at, new.last_at), else_=known.first_at),
                "last_at": sa.case((is_newer, new.last_at), else_=known.last_at),
                "released_at": sa.case((was_over, sa.null()), else_=known.released_at),
                # What holds for ever, or at the first event, is not weakened by what does not.
                "expires_at": sa.case(
                    (was_over, new.expires_at),
                    (sa.or_(known.expires_at.is_(None), new.expires_at.is_(None)), sa.null()),
                    (new.expires_at > known.expires_at, new.expires_at),
                    else_=known.expires_at,
                ),
                "needed": sa.case(
                    (was_over, new.needed), (new.needed < known.needed, new.needed), else_=known.needed
                ),
                **{name: sa.case((is_newer, new[name]), else_=known[name]) for name in ("reason", "source")},
            },
        )
        self.database.write(lambda database: database.execute(statement, rows))

    def _row(self, one: Sighting) -> dict[str, Any]:
        at = one.at or self.database.now()
        return {
            "kind": str(one.kind),
            "channel": one.channel,
            "address": self.hashed(one.address) if one.address else "",
            # A dead address says nothing against the profile, which may get another.
            "profile_id": "" if one.address and one.kind is Kind.QUARANTINE else one.profile_id,
            "reason": storable(one.reason),
            "source": one.source,
            "count": 1,
            "needed": one.needed,
            "first_at": at,
            "last_at": at,
            "expires_at": one.expires_at,
        }

    def reasons(self, messages: pl.DataFrame, channel: str) -> pl.Series:
        """Why the person of each message must not be contacted, as `reason`; null where nothing is against it.

        In: profile_id, email (the address over the channel, whatever the channel is); empty or null where there is
        none. Errors: `JournalUnavailable`.
        """
        found = dict[int, str]()
        if self._has_any():
            statement = _of_statement(self.database.is_sqlite)
            given = {"given_channel": channel, "given_now": self.database.now()}
            for some in self._asked(messages).iter_slices(LOOKED_UP_AT_ONCE):
                asked = {**document(some), **given}
                rows = self.database.read(
                    lambda database, asked=asked: database.execute(statement, asked).all()  # type: ignore[misc]
                )
                for place, kind, reason in rows:
                    found.setdefault(int(place), f"{kind}: {reason}" if reason else kind)
        reasons = pl.Series("reason", [None], pl.String()).new_from_index(0, messages.height)
        return reasons.scatter(list(found), list(found.values())) if found else reasons

    def _asked(self, messages: pl.DataFrame) -> pl.DataFrame:
        """What the journal is asked of each person: key (its place), address (hashed), profile_id."""
        return messages.select(
            pl.int_range(pl.len()).cast(pl.String()).alias("key"),
            pl.when(pl.col("email") != "")
            .then(pl.col("email").map_batches(self._hashed_each, return_dtype=pl.String()))
            .otherwise(pl.lit("-"))
            .alias("address"),
            pl.when(pl.col("profile_id") != "").then("profile_id").otherwise(pl.lit("\x1f")).alias("profile_id"),
        )

    def _hashed_each(self, addresses: pl.Series) -> pl.Series:
        return address_hashes(addresses, self.database.identity.key)

    def _has_any(self) -> bool:
        statement = sa.select(SUPPRESSIONS.c.number).limit(1)
        return self.database.read(lambda database: database.execute(statement).first()) is not None

    def release(  # who, what and why
        self,
        *,
        by: str,
        why: str,
        address: str = "",
        profile_id: str = "",
        kind: Kind | None = None,
        channel: str = "",
    ) -> int:
        """Let an address or a profile be written to again; gives how many suppressions ended.

        `channel` and `kind` narrow it down; a suppression of all channels is ended for all.
        Errors: `JournalUnavailable`, `ValueError` where neither address nor profile is given.
        """
        if not address and not profile_id:
            raise ValueError("give an address or a profile")
        known = SUPPRESSIONS.c
        now = self.database.now()
        conditions = [
            _holds(now),
            *([known.address == self.hashed(address)] if address else []),
            *([of_profile(profile_id)] if profile_id else []),
            *([known.kind == str(kind)] if kind else []),
            *([known.channel.in_((channel, ""))] if channel else []),
        ]
        statement = (
            sa.update(SUPPRESSIONS)
            .values(released_at=now, released_by=storable(by), released_why=storable(why))
            .where(*conditions)
        )
        return self.database.write(lambda database: int(database.execute(statement).rowcount))

    def entries(self, *, holding: bool = False) -> pl.DataFrame:
        """All suppressions, or only those that hold now: the columns of `SCHEMA`, times in UTC."""
        statement = sa.select(*(SUPPRESSIONS.c[name] for name in SCHEMA)).order_by(SUPPRESSIONS.c.number)
        if holding:
            statement = statement.where(_holds(self.database.now()))
        rows: list[Any] = self.database.read(
            lambda database: [tuple(row) for row in database.execute(statement)], at_leisure=True
        )
        return pl.DataFrame(rows, schema=SCHEMA, orient="row")

    def hashed(self, address: str) -> str:
        """An address as it is kept."""
        return address_hash(address, self.database.identity.key)


def _holds(now: Any) -> sa.ColumnElement[bool]:  # noqa: ANN401  # a moment, or a parameter that will be one
    known = SUPPRESSIONS.c
    return sa.and_(
        known.released_at.is_(None),
        sa.or_(known.expires_at.is_(None), known.expires_at > now),
        known.count >= known.needed,
    )


def of_profile(profile_id: sa.ColumnElement[str] | str) -> sa.ColumnElement[bool]:
    """Whether a suppression is of a profile, as the index has it: of those that have one."""
    known = SUPPRESSIONS.c
    return sa.and_(known.profile_id != sa.text("''"), known.profile_id == profile_id)


@cache
def _of_statement(is_sqlite: bool) -> sa.CompoundSelect[Any]:
    known = SUPPRESSIONS.c
    rows = given_rows(is_sqlite, {"key": sa.Text, "address": sa.Text, "profile_id": sa.Text})
    now = sa.bindparam("given_now", type_=known.last_at.type)
    here = sa.and_(_holds(now), known.channel.in_((sa.bindparam("given_channel", type_=sa.Text), "")))

    def those(of_person: sa.ColumnElement[bool]) -> sa.Select[Any]:
        if is_sqlite:
            wanted = sa.select(rows.c.key, known.kind, known.reason)
            return wanted.join_from(rows, SUPPRESSIONS, of_person).where(here)
        # Looked up person by person: PostgreSQL would read all of them, for each person where it has no statistics.
        found = sa.select(known.kind, known.reason).where(of_person, here).offset(0).lateral()
        return sa.select(rows.c.key, found.c.kind, found.c.reason).join_from(rows, found, sa.true())

    return sa.union_all(those(known.address == rows.c.address), those(of_profile(rows.c.profile_id)))
