"""What people are told of pools: their stock, and what will soon be a problem: as lines, as events."""

from datetime import timedelta
from typing import NamedTuple

import sqlalchemy as sa
from prefect.events import emit_event

from tasks.delivery.journal.codes import CodeState
from tasks.delivery.journal.database import Database
from tasks.delivery.journal.tables import CODES, POOLS, SENDS
from tasks.pools.stock import Pools
from tasks.runs.log import run_logger
from tasks.send import Send

LOW = "campaign.pool.low"
ENDING = "campaign.pool.ending"
ENDING_DAYS = 7
"""Free codes that end within so many days are told."""


class Stock(NamedTuple):
    """The stock of a pool."""

    pool: str
    free: int
    reserved: int
    held: int
    """Perhaps received, those in doubt among them."""
    used: int
    expired: int
    ending: int
    """Of the free ones, those that expire within a week."""
    low: int
    batches: int

    @property
    def is_low(self) -> bool:
        """Whether fewer are free than somebody wants to know of."""
        return self.free < self.low

    @property
    def is_new(self) -> bool:
        """Whether no code was ever in it: what columns its codes have is not known yet."""
        return not (self.free or self.reserved or self.held or self.used or self.expired or self.batches)

    @property
    def line(self) -> str:
        """The stock in one line."""
        counts = f"{self.free} free, {self.reserved} reserved, {self.held} held, {self.used} used"
        counts += f", {self.expired} expired"
        low = f"; low: fewer than {self.low} are free" if self.is_low else ""
        ending = f"; {self.ending} of the free ones expire within {ENDING_DAYS} days" if self.ending else ""
        return f"pool '{self.pool}': {counts}{low}{ending}"


def stock_of(pools: Pools, name: str, low: int = 0) -> Stock:
    """The stock of a pool, what has expired counted as that; a pool that is not there has none.

    Errors: `JournalUnavailable`.
    """
    pool = pools.find(name)
    if pool is None:
        return Stock(name, 0, 0, 0, 0, 0, 0, low, 0)
    pools.expire(pool)
    counts = pools.stock(pool)
    free = counts[CodeState.FREE]
    lasting = pools.free(pool, pools.database.now() + timedelta(days=ENDING_DAYS))
    return Stock(
        pool=name,
        free=free,
        reserved=counts[CodeState.RESERVED],
        held=counts[CodeState.HELD] + counts[CodeState.DOUBT],
        used=counts[CodeState.USED],
        expired=counts[CodeState.EXPIRED],
        ending=free - lasting,
        low=pool.low,
        batches=pool.batches,
    )


def tell(stock: Stock) -> None:
    """Say what will soon be a problem: a warning of the log, and an event that an automation can act on."""
    told = {LOW: stock.is_low, ENDING: bool(stock.ending)}
    for event in (name for name, is_so in told.items() if is_so):
        emit_event(
            event=event,
            resource={"prefect.resource.id": f"campaign.pool.{stock.pool}", "prefect.resource.name": stock.pool},
            payload=stock._asdict(),
        )
    if any(told.values()):
        run_logger().warning("%s.", stock.line)


def pools_of_send(database: Database, send: Send) -> list[str]:
    """Names of the pools of which messages of a send have codes."""
    statement = (
        sa.select(POOLS.c.name)
        .distinct()
        .join_from(SENDS, CODES, CODES.c.send == SENDS.c.number)
        .join(POOLS, POOLS.c.number == CODES.c.pool)
        .where(
            SENDS.c.campaign == send.campaign,
            SENDS.c.business_date == send.business_date,
            CODES.c.key.is_not(None),
        )
        .order_by(POOLS.c.name)
    )
    return database.read(lambda connection: list(connection.execute(statement).scalars()), at_leisure=True)
