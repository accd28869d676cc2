"""Retry and backoff, one for all that is called over a network: which failure may pass, and how long to wait.

The delays are tenacity's: full jitter, uniform between nothing and a bound that doubles. A partner's `Retry-After`
is a lower bound of the delay, itself bounded by an option. A Prefect task takes its list of delays from
`backoff_delays`; a loop of its own (a provider, a mail server) asks `backoff_delay`; one request among many is made
by `retrying`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

if TYPE_CHECKING:  # who only fetches need not wait for Prefect
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun


class Backoff(Protocol):
    """How long to wait before a retry; options of a connection."""

    @property
    def backoff_seconds(self) -> float:
        """Bound of the random delay before the first retry, in seconds; doubled for each next."""

    @property
    def backoff_limit_seconds(self) -> float:
        """Bound that the doubling stops at, in seconds."""


def is_retryable(error: BaseException) -> bool:
    """Whether a failure may pass: it says so itself, by an attribute `retryable`."""
    return bool(getattr(error, "retryable", False))


def failed_for_now(task: "Task[Any, Any]", task_run: "TaskRun", state: "State[Any]") -> bool:  # noqa: ARG001  # Prefect's
    """Prefect's retry condition: only failures that may pass."""
    return isinstance(state.data, BaseException) and is_retryable(state.data)


def backoff_delay(retry: int, backoff: Backoff, at_least: float = 0.0) -> float:
    """Seconds to wait before a retry, the first of which is 1; never less than `at_least`."""
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # tenacity's waits read the number alone
    state.attempt_number = max(retry, 1)
    wait = wait_random_exponential(multiplier=backoff.backoff_seconds, max=backoff.backoff_limit_seconds)
    return max(wait(state), at_least)


def backoff_delays(retries: int, backoff: Backoff) -> list[float]:
    """Seconds to wait before each of some retries."""
    return [backoff_delay(retry, backoff) for retry in range(1, retries + 1)]


def retrying(
    retries: int, backoff: Backoff, before_wait: Callable[[BaseException, float, int], None]
) -> AsyncRetrying:
    """tenacity's loop for one request: `async for attempt in retrying(...): with attempt: ...`.

    A failure that is not retryable, and the last one, is raised as it is. `before_wait` is called before each wait
    with the failure, the seconds and the number of the attempt that follows.
    """

    def wait(state: RetryCallState) -> float:
        error = _failure(state)
        return backoff_delay(state.attempt_number, backoff, getattr(error, "retry_after", None) or 0.0)

    def tell(state: RetryCallState) -> None:
        error = _failure(state)
        if error is not None:
            before_wait(error, state.upcoming_sleep, state.attempt_number + 1)

    return AsyncRetrying(
        stop=stop_after_attempt(retries + 1),
        wait=wait,
        retry=retry_if_exception(is_retryable),
        before_sleep=tell,
        reraise=True,
    )


def _failure(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


def retry_after_seconds(header: str | None, now: datetime, limit: float) -> float | None:
    """Seconds that a `Retry-After` header asks to wait, from nothing to `limit`.

    Takes both of its forms, seconds and an HTTP date; None where there is no header or neither form.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), limit)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), limit)
