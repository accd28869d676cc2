"""Code pool: puts codes into a pool, and tells its stock; codes that went out, for the shop's till."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field

from tasks.delivery.journal.storage import open_journal
from tasks.pools.stock import REFUSED, Pools
from tasks.pools.telling import Stock, stock_of, tell
from tasks.runs.audience import Audience
from tasks.runs.results import ARROW
from tasks.runs.shapes import source_activity
from tasks.send import Send
from tasks.settings import Settings
from tasks.tables.transitions import Transitions

POOL_NAME = r"^[a-z0-9][a-z0-9_-]*$"


class CodePoolOptions(BaseModel):
    """Options of the Code pool activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str = Field(
        title="Pool", pattern=POOL_NAME, description="Name: lower-case letters, digits, hyphens and underscores."
    )
    low: int = Field(
        default=0,
        ge=0,
        title="Low stock",
        description="Fewer free codes than this are told: the event campaign.pool.low, a warning, the report.",
    )


@dataclass(frozen=True)
class PoolFilled(Transitions):
    """Outbound transitions of Code pool."""

    standard: pl.DataFrame
    """The stock, one row: pool, added, known (codes that it had already), free, reserved, held, used, expired, low,
    batches."""
    rejects: pl.DataFrame
    """Rows that are no codes: row, reason."""

    @property
    def stock(self) -> Stock:
        """The stock after it was filled."""
        row = self.standard.row(0, named=True)
        return Stock(**{name: row[name] for name in Stock._fields})


def fill(codes: pl.DataFrame | None, options: CodePoolOptions, batch: int | None = None) -> PoolFilled:
    """Put codes into a pool, which is made where there is none. Errors: those of `Pools.fill`."""
    with closing(open_journal(Settings.load().journal)) as journal:
        pools = Pools(journal.database)
        added, known, rejects = 0, 0, pl.DataFrame(schema=REFUSED)
        if codes is not None:
            filled = pools.fill(options.pool, codes, low=options.low, batch=batch)
            added, known, rejects = filled.added, filled.known, filled.refused
        stock = stock_of(pools, options.pool, options.low)
    return PoolFilled(pl.DataFrame([{**stock._asdict(), "added": added, "known": known}]), rejects)


@task(name="Code pool", task_run_name="Code pool {options.pool}", cache_policy=NO_CACHE, result_serializer=ARROW)
def code_pool(
    codes: Audience | pl.DataFrame | None, options: CodePoolOptions, batch: int | None = None
) -> PoolFilled:
    """Put codes into a pool, each once, and tell its stock.

    In: the table of codes, as Load file, Query or External API give it: code, perhaps expires_at (date or moment),
    and any further columns, the same each time; None only tells the stock, of a new pool none. `batch`: the
    number of the batch that was asked for, as the stock had it.
    Out: `PoolFilled`: `standard` (the stock), `rejects` (rows that are no codes). Event where the stock is low:
    `campaign.pool.low`.
    Errors: `ColumnsMissing`, `ColumnTypesDiffer`, `ColumnsUnexpected`, `PoolUnknown`, `JournalUnavailable`.

    Example:
        ```python
        import polars as pl
        from tasks.data_management.code_pool import CodePoolOptions, code_pool

        codes = pl.DataFrame({"code": ["SPRING-7F3K", "SPRING-9QX2"], "value": [5.0, 5.0]})
        filled = code_pool(codes, CodePoolOptions(pool="spring", low=100))
        ```
    """
    logger = get_run_logger()
    table = codes.collect() if isinstance(codes, Audience) else codes
    filled = fill(table, options, batch)
    row = filled.standard.row(0, named=True)
    if table is not None:
        logger.info("Pool '%s': %d codes added, %d known already.", options.pool, row["added"], row["known"])
    if filled.rejects.height:
        first = filled.rejects.row(0, named=True)
        logger.warning(
            "%d rows are no codes; the first: row %d, %s.", filled.rejects.height, first["row"], first["reason"]
        )
    logger.info("Stock: %s.", filled.stock.line)
    tell(filled.stock)
    return filled


def codes_of_send(pool: str, send: Send) -> int:
    """How many of a pool's codes belong to messages of a send. Errors: `JournalUnavailable`."""
    with closing(open_journal(Settings.load().journal)) as journal:
        pools = Pools(journal.database)
        found = pools.find(pool)
        return 0 if found is None else pools.of_send(found, send)


class CodesGivenOptions(BaseModel):
    """Options of the Codes given activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str = Field(title="Pool", pattern=POOL_NAME, description="Name of the pool.")
    people: bool = Field(
        default=False,
        title="People",
        description="Also whom each code went to, and when. Off: only the codes, for a till that needs no more.",
    )
    since: datetime | None = Field(
        default=None, title="Since", description="Only codes that changed after this moment. Left out: all."
    )


@source_activity("Codes given", distinct=lambda options: "code", cache_policy=NO_CACHE)  # noqa: ARG005
def codes_given(options: CodesGivenOptions) -> Iterator[pl.DataFrame]:
    """The codes that went out, for the shop's till.

    Out: code, the pool's further columns, state (used; held, in doubt: perhaps received), and with `people` also
    campaign, business_date, channel, profile_id, message_key, changed_at (UTC).
    Errors: `PoolUnknown`, `JournalUnavailable`.

    Example:
        ```python
        import polars as pl
        from tasks.data_management.code_pool import CodePoolOptions, CodesGivenOptions, code_pool, codes_given

        code_pool(pl.DataFrame({"code": ["SPRING-7F3K"]}), CodePoolOptions(pool="till"))
        given = codes_given(CodesGivenOptions(pool="till", people=True))
        ```
    """
    with closing(open_journal(Settings.load().journal)) as journal:
        pools = Pools(journal.database)
        yield from pools.given(pools.pool(options.pool), people=options.people, since=options.since)
