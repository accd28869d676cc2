"""Places of Prefect's global concurrency and rate limits, waited for in words."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency, rate_limit

from tasks.endpoint.endpoint import Endpoint
from tasks.errors import LimitNotFree
from tasks.http.network import public_url
from tasks.runs.log import Logger

SHORT_WAIT = 2.0
"""Seconds to wait before the wait is logged."""


def take_rate(endpoint: Endpoint, logger: Logger) -> None:
    """Take a place of the endpoint's rate limit, for one request. Errors: `LimitNotFree`."""
    if endpoint.rate_limit:
        take = partial(rate_limit, endpoint.rate_limit, strict=True)
        _waited(endpoint, endpoint.rate_limit, take, logger)


def take_place(endpoint: Endpoint, held: ExitStack, logger: Logger) -> None:
    """Take a place of the endpoint's concurrency limit until `held` ends. Errors: `LimitNotFree`."""
    limit = endpoint.concurrency_limit

    def take(timeout_seconds: float) -> None:
        held.enter_context(concurrency(limit, timeout_seconds=timeout_seconds, strict=True))

    if limit:
        _waited(endpoint, limit, take, logger)


def _waited(endpoint: Endpoint, limit: str, take: Callable[..., None], logger: Logger) -> None:
    """Wait for a place of a limit; a wait longer than a moment is said before it begins."""
    url, wait = public_url(endpoint.url), endpoint.limit_wait_seconds
    try:
        try:
            take(timeout_seconds=min(SHORT_WAIT, wait))
        except TimeoutError:
            if wait <= SHORT_WAIT:
                raise
            logger.info(
                "The Prefect limit '%s' has no place for a call of '%s': waiting for up to %g seconds.",
                limit,
                endpoint.name,
                wait,
            )
            take(timeout_seconds=wait - SHORT_WAIT)
    except TimeoutError:
        reason = f"had no place for {wait:g} seconds"
        raise LimitNotFree(url=url, limit=limit, reason=reason, retryable=True) from None
    except ConcurrencySlotAcquisitionError:
        raise LimitNotFree(url=url, limit=limit, reason="does not exist, or is no such limit") from None
