"""What the unsubscribe page takes: how large, how slow and how often."""

from collections.abc import AsyncIterator

import anyio
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from pydantic import BaseModel, ConfigDict, Field


class TooLarge(Exception):
    """A request has more than is read."""


class TooSlow(Exception):
    """A request's body took too long."""


class PageLimits(BaseModel):
    """Limits of the unsubscribe page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: int = Field(default=10_000, gt=0, title="Body", description="Largest body of a request, in bytes.")
    body_seconds: float = Field(
        default=10, gt=0, title="Body time", description="How long a body may take, in seconds."
    )
    visits_a_minute: int = Field(
        default=60,
        gt=0,
        title="Visits",
        description="Requests per minute and address that do not unsubscribe: pages, and links without a valid"
        " signature. Providers send many people's clicks from few addresses, so clicks are not counted.",
    )
    clicks_a_minute: int = Field(
        default=10, gt=0, title="Clicks", description="Clicks a minute on one link; further ones change nothing."
    )


class Rates:
    """Counts requests a minute."""

    def __init__(self, limits: PageLimits) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._visits = RateLimitItemPerMinute(limits.visits_a_minute)
        self._clicks = RateLimitItemPerMinute(limits.clicks_a_minute)

    def allows_visit(self, client: str) -> bool:
        """Whether an address may ask once more."""
        return self._limiter.hit(self._visits, "visit", client)

    def allows_click(self, signature: str) -> bool:
        """Whether a link may be used once more."""
        return self._limiter.hit(self._clicks, "click", signature)


async def bounded_body(chunks: AsyncIterator[bytes], limits: PageLimits) -> bytes:
    """The body of a request. Errors: `TooLarge`, `TooSlow`."""
    body = bytearray()
    try:
        with anyio.fail_after(limits.body_seconds):
            async for chunk in chunks:
                body += chunk
                if len(body) > limits.body_bytes:
                    raise TooLarge
    except TimeoutError:
        raise TooSlow from None
    return bytes(body)
