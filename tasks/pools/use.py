"""A campaign's use of pools: the column of its audience, and what is done when a pool runs dry."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import polars as pl
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field

from tasks.delivery.journal.codes import SAMPLE, give_back
from tasks.delivery.journal.database import open_database
from tasks.delivery.journal.sends import Sends
from tasks.errors import ColumnTaken, PoolDry
from tasks.pools.codes import CODE, column, sample_of, struct_of
from tasks.pools.reservation import Given, Reservations
from tasks.pools.stock import Pool, Pools
from tasks.send import Send
from tasks.settings import Settings

NUMBER = pl.Int64()


class PoolUse(BaseModel):
    """A code for each recipient: content.<name>.code, and the pool's further columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        title="Name",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Name in templates: content.<name>.code; each message shows a code of its own.",
    )
    pool: str = Field(default="", title="Pool", description="Name of the pool. Empty: the same as the name.")
    channel: str = Field(
        default="email", title="Channel", description="Channel as message keys have it; the outbox's is email."
    )
    when_dry: Literal["stop", "reject", "fallback"] = Field(
        default="stop",
        title="When it runs dry",
        description=(
            "stop: the run stops before its first message where there are too few codes. reject: whoever gets none"
            " is rejected with the reason. fallback: their messages show another text."
        ),
    )
    fallback: str = Field(
        default="", title="Fallback text", description="What messages show that get no code; for `fallback`."
    )
    days: int = Field(
        default=0, ge=0, title="Days", description="So many days after it was sent, a code must still hold."
    )
    sample: bool = Field(
        default=False,
        title="Sample",
        description="Show a sample and take no code: for proofs and for what is looked at only.",
    )

    @property
    def pool_name(self) -> str:
        """The pool's name."""
        return self.pool or self.name


@dataclass(frozen=True)
class Coded:
    """An audience with its codes."""

    rows: pl.DataFrame
    """With a struct for each pool."""
    keys: dict[str, pl.Series]
    """By the pool's name in templates: message keys, a row each."""
    numbers: dict[str, pl.Series]
    """The same: of each row's code its number, null for none, `SAMPLE` for a sample."""
    reasons: pl.Series
    """Why a row gets no message, as a pool is dry; null otherwise."""


@dataclass(frozen=True)
class PoolsInUse:
    """The pools that a campaign uses, open."""

    uses: Sequence[PoolUse]
    pools: Pools
    send: Send

    @property
    def run(self) -> str:
        """What this run's reservations are known by: the same in every part, and in every try."""
        return str(flow_run.id or "")

    def pool_of(self, use: PoolUse) -> Pool:
        """Its pool. Errors: `PoolUnknown`."""
        return self.pools.pool(use.pool_name)

    def with_samples(self, audience: pl.DataFrame) -> pl.DataFrame:
        """The audience with a sample of each code."""
        samples = [
            pl.Series(use.name, [sample_of(self.pool_of(use).columns)], dtype=struct_of(self.pool_of(use).columns))
            for use in self.uses
        ]
        return audience.with_columns(each.new_from_index(0, audience.height) for each in samples)

    def coded(self, audience: pl.DataFrame, key: str) -> Coded:
        """The audience with the code of each message. In: the column `key` tells profiles apart.

        Errors: `ColumnTaken`, `PoolUnknown`, `PoolDry`, `JournalUnavailable`.
        """
        for use in self.uses:
            if use.name in audience.columns:
                raise ColumnTaken(activity="Personalization", name=use.name)
        rows, keys, numbers = self.with_samples(audience), dict[str, pl.Series](), dict[str, pl.Series]()
        reasons = pl.Series("reason", [None], dtype=pl.String()).new_from_index(0, audience.height)
        people = audience.select(profile_id=pl.col(key).cast(pl.String()))
        for use in self.uses:
            keys[use.name] = self.send.message_keys(use.channel, people)
            if use.sample or not audience.height:
                numbers[use.name] = pl.Series([SAMPLE], dtype=NUMBER).new_from_index(0, audience.height)
                continue
            wanted = dict(zip(keys[use.name], people["profile_id"], strict=True))
            wanted = {one: who for one, who in wanted.items() if one is not None}
            found = self._reserved(use, wanted)
            values, numbers[use.name] = self._column(use, found, keys[use.name])
            rows = rows.with_columns(values)
            if use.when_dry == "reject":
                dry = pl.Series(
                    [one is not None and one not in found for one in keys[use.name]], dtype=pl.Boolean()
                )
                none_left = pl.lit(f"no code is left in the pool '{use.pool_name}'")
                reasons = pl.select(pl.when(dry & reasons.is_null()).then(none_left).otherwise(reasons)).to_series()
        return Coded(rows, keys, numbers, reasons.alias("reason"))

    def _reserved(self, use: PoolUse, wanted: dict[str, str]) -> dict[str, Given | None]:
        pool, until = self.pool_of(use), self.pools.database.now() + timedelta(days=use.days)
        reservations = Reservations(self.pools, pool, self.send, use.channel, self.run)
        self.pools.expire(pool)
        found = reservations.reserve(wanted, until)
        if len(found) < len(wanted) and self.pools.reclaim(pool):
            missing = {key: who for key, who in wanted.items() if key not in found}
            found |= reservations.reserve(missing, until)
        if len(found) < len(wanted) and use.when_dry == "stop":
            number = Sends(self.pools.database).begin(self.send, use.channel)
            give_back(self.pools.database, number, self.run)
            raise PoolDry(
                pool=pool.name,
                missing=len(wanted) - len(found),
                wanted=len(wanted),
                until=f" that holds {use.days} days" if use.days else "",
            )
        return found

    def _column(self, use: PoolUse, found: dict[str, Given | None], keys: pl.Series) -> tuple[pl.Series, pl.Series]:
        """The codes of rows as a column, and their numbers."""
        columns = self.pool_of(use).columns
        otherwise = {CODE: use.fallback} if use.when_dry == "fallback" else None
        values: list[dict[str, Any] | None] = []
        numbers: list[int | None] = []
        for key in keys:
            given = found.get(key)
            if given is not None:
                values.append(dict(given.values))
                numbers.append(given.number)
            elif key in found:  # it was sent without one: nothing is sent again
                values.append({name: str(value) for name, value in sample_of(columns).items() if name == CODE})
                numbers.append(SAMPLE)
            else:
                values.append(otherwise)
                numbers.append(None)
        return column(use.name, values, columns), pl.Series(numbers, dtype=NUMBER)

    def give_back(self, name: str, keys: list[str]) -> None:
        """Give back the codes of messages that will not show them."""
        (use,) = (each for each in self.uses if each.name == name)
        Reservations(self.pools, self.pool_of(use), self.send, use.channel, self.run).release(keys)


@contextmanager
def pools_in_use(uses: Sequence[PoolUse], send: Send) -> Iterator[PoolsInUse]:
    """The pools that a campaign uses, in the journal of the settings. Errors: `JournalUnavailable`."""
    database = open_database(Settings.load().journal)
    try:
        yield PoolsInUse(uses, Pools(database), send)
    finally:
        database.engine.dispose()
