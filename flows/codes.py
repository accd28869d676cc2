"""A code for each recipient in a campaign of parameters: the pool, and the endpoint that makes codes for it."""

from collections import Counter
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from flows.endpoints import minting_on
from flows.plan import Named
from flows.settings import CampaignSettings
from tasks.data_management.code_pool import CodePoolOptions, code_pool, codes_of_send
from tasks.data_management.external_api import external_api
from tasks.pools.use import PoolUse
from tasks.runs.audience import Audience
from tasks.runs.log import run_logger
from tasks.send import Send
from tasks.tables.transitions import quoted

IN_VAIN = 2
"""Batches without a new code after which no more are asked for. One may be kept already, by a killed run."""


class CodesOfPool(BaseModel):
    """A code for each recipient, from a pool."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Code for each recipient")

    name: str = Field(
        title="Name",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Name in templates: content.<name>.code. What does not show it gives it back.",
    )
    pool: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9_-]*)?$",
        title="Pool",
        description="Name of the pool of codes. Empty: the same as the name.",
    )
    endpoint: Named | Annotated[None, Field(title="None")] = Field(
        default=None,
        title="Endpoint that makes codes",
        description="Asked for batches of codes, as many as the audience needs. Left out: the pool is as it is.",
    )
    batch: int = Field(
        default=500, ge=1, le=50_000, title="Batch", description="How many codes are asked for at one time."
    )
    low: int = Field(
        default=0,
        ge=0,
        title="Low stock",
        description="So many codes are to stay in the pool; fewer are told, as an event and in the report.",
    )
    when_dry: Literal["stop", "reject", "fallback"] = Field(
        default="stop",
        title="When it runs dry",
        description=(
            "stop: nothing is sent where there are too few codes. reject: whoever gets none is rejected. fallback:"
            " their messages show another text."
        ),
    )
    fallback: str = Field(default="", title="Fallback text", description="What is shown without a code.")
    days: int = Field(
        default=0, ge=0, title="Days", description="So many days after it was sent, a code must still hold."
    )

    def use(self, channel: str, *, sample: bool) -> PoolUse:
        """How messages over a channel use the pool; with `sample` they take no code."""
        given = self.model_dump(exclude={"endpoint", "batch", "low"})
        return PoolUse(**given, channel=channel, sample=sample)

    def refill(self, people: Audience, settings: CampaignSettings, send: Send) -> None:
        """Ask for codes until there are enough for these people. Errors: those of the endpoint.

        A new pool gets a batch though nobody needs a code yet: templates are checked with the columns of its codes.
        A batch has a number. One that was asked for and not kept, by a run that was killed, is asked for again: a
        partner that knows it answers with the same codes.
        """
        if self.endpoint is None:
            return
        endpoint = settings.endpoint_on(self.endpoint, send.business_date)
        # Codes lie in the pool and nowhere else.
        endpoint = endpoint.model_copy(update={"cache_expiry": timedelta(0)})
        options = CodePoolOptions(pool=self.pool or self.name, low=self.low)
        stock = code_pool(None, options).stock
        wanted = people.height + self.low - codes_of_send(options.pool, send)
        in_vain = 0
        while (stock.is_new or stock.free < wanted) and in_vain < IN_VAIN:
            before = stock.free
            answer = external_api(None, minting_on(endpoint, options.pool, stock.batches, self.batch))
            stock = code_pool(answer.standard, options, batch=stock.batches).stock
            in_vain = in_vain + 1 if stock.free <= before else 0
        if stock.free < wanted:
            run_logger().warning("'%s' makes no more new codes for the pool '%s'.", endpoint.name, options.pool)


def _named_once(codes: list[CodesOfPool]) -> list[CodesOfPool]:
    repeated = [name for name, times in Counter(each.name for each in codes).items() if times > 1]
    if repeated:
        raise ValueError(f"several codes are named {quoted(repeated)}")
    return codes


Codes = Annotated[list[CodesOfPool], AfterValidator(_named_once)]
