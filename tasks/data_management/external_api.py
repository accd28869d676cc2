"""External API: calls a partner's REST endpoint for the whole campaign and makes a table of its answer.

The activity is declared at the end of this file: a cached and retried Prefect task.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, ParamSpec, Protocol, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import anyio.to_thread
import polars as pl
from prefect import State, Task, get_run_logger
from prefect.cache_policies import CachePolicy
from prefect.client.schemas import TaskRun
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency, rate_limit
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.logging import get_logger
from prefect.results import ResultStore, get_result_store
from prefect.transactions import IsolationLevel

from tasks.endpoint.answer.reader import Answer, read_answer
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.fetch import Progress, at_once, fetch
from tasks.endpoint.many import fetch_many
from tasks.errors import (
    ApiError,
    AuthorizationServerUnreachable,
    CampaignError,
    ColumnTaken,
    ConfigurationError,
    LimitNotFree,
    TokenNotFetched,
)
from tasks.http.accounts import account_fingerprint, credentials_of
from tasks.http.network import public_url
from tasks.http.retry import is_retryable
from tasks.runs.keyed_digest import keyed_digest
from tasks.runs.locks import SystemLocks
from tasks.runs.log import Logger
from tasks.runs.results import ARROW, ReadableResults, last_result
from tasks.settings import Settings
from tasks.tables.transitions import Transitions, quoted

P = ParamSpec("P")

FETCHED_AT = "fetched_at"
FAILURE = pl.Schema(
    {
        "endpoint": pl.String(),
        "url": pl.String(),
        "code": pl.String(),
        "error": pl.String(),
        "reason": pl.String(),
        "attempts": pl.Int64(),
        "failed_at": pl.Datetime("us", "UTC"),
    }
)
SHORT_WAIT = 2.0
"""Seconds that are waited without a word."""


class Collected(Protocol):
    """Rows that are not a table yet: an audience, a lazy table."""

    def collect(self) -> pl.DataFrame:
        """The rows as a table."""


Inbound = pl.DataFrame | Collected | None
"""The inbound transition; None sends parameters only."""


@dataclass(frozen=True)
class Content(Transitions):
    """Outbound transitions of External API."""

    standard: pl.DataFrame
    """The answer's rows, with the columns and types of the outbound mapping; and `fetched_at` (UTC) where the
    endpoint allows stale answers."""
    rejects: pl.DataFrame
    """Rejected lines: row, column, reason, value (as it came)."""
    replaced: pl.DataFrame
    """Bad values that were ignored, cut or replaced; columns as in `rejects`."""
    findings: pl.DataFrame
    """What came and whether it was all, and what differs from the sample: kind, column, action, detail."""
    failure: pl.DataFrame
    """One row where the call failed and the run goes on: endpoint, url, code, error, reason, attempts, failed_at
    (UTC)."""


def content_of(answer: Answer, fetched_at: datetime | None = None) -> Content:
    """The transitions of a call that succeeded. Errors: `ColumnTaken` where `fetched_at` is a column already."""
    standard = answer.standard
    if fetched_at is not None:
        if FETCHED_AT in standard.columns:
            raise ColumnTaken(activity="External API", name=FETCHED_AT)
        standard = standard.with_columns(pl.lit(fetched_at, pl.Datetime("us", "UTC")).alias(FETCHED_AT))
    tables = {field.name: getattr(answer, field.name) for field in fields(answer)}
    return Content(**{**tables, "standard": standard, "failure": pl.DataFrame(schema=FAILURE)})


def failure_of(error: ApiError, endpoint: Endpoint, failed_at: datetime) -> pl.DataFrame:
    """The row of the transition `failure`: what failed, and why."""
    row = {
        "endpoint": endpoint.name,
        "url": public_url(endpoint.url),
        "code": error.code,
        "error": type(error).__name__,
        "reason": str(error),
        "attempts": error.facts.get("attempts", 1),
        "failed_at": failed_at,
    }
    return pl.DataFrame([row], schema=FAILURE)


def without_content(endpoint: Endpoint, fetched_at: datetime | None) -> Content:
    """The transitions of a call that brought nothing: the columns and types of the mapping, and no rows."""
    nothing = read_answer([], endpoint.outbound, url=public_url(endpoint.url))
    return content_of(nothing, fetched_at)


class AccountedCall(EndpointCall):
    """A call with the key of its cached answer: all that is sent, the account's credentials included."""

    @cached_property
    def cache_key(self) -> str:
        """The key. Errors: those of a request that cannot be built, and of an account that cannot be used."""
        return self.key(keyed_digest, account_fingerprint(self.endpoint.account))


@dataclass
class SameRequest(CachePolicy):
    """Cache policy: the same request with the same credentials, read by the same mapping, in any run."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> str | None:
        """Key of the call, or None when the request cannot be built: the task itself then says why."""
        try:
            return cast("AccountedCall", inputs["call"]).cache_key
        except CampaignError:
            return None


class LocksThatSaySo(SystemLocks):
    """Locks of calls: who waits for another run's answer says so before it waits for long."""

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Take the lock, waiting for it; False after `acquire_timeout` seconds."""
        if acquire_timeout is not None:
            return super().acquire_lock(key, holder, acquire_timeout, hold_timeout)
        if super().acquire_lock(key, holder, SHORT_WAIT, hold_timeout):
            return True
        get_logger("task_runs").info("Another run makes the same call; its answer is waited for.")
        return super().acquire_lock(key, holder, None, hold_timeout)

    def __reduce__(self) -> tuple[type["LocksThatSaySo"], tuple[()]]:
        return (LocksThatSaySo, ())


def one_call_at_a_time(policy: CachePolicy) -> CachePolicy:
    """A policy by which runs that need the same answer at one moment wait for the one that calls."""
    kept: CachePolicy = ReadableResults(policy=policy)
    kept.lock_manager = LocksThatSaySo()
    kept.isolation_level = IsolationLevel.SERIALIZABLE
    return kept


def is_worth_a_retry(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: only failures that may pass. Says how long is waited before it begins."""
    error, attempt = state.data, task_run.run_count
    if not isinstance(error, ApiError) or not is_retryable(error):
        return False
    delays = task.retry_delay_seconds
    if attempt <= task.retries and isinstance(delays, list) and delays:
        # `_attempt` waits for the rest where the partner asks for more than the task's own delay.
        seconds = max(delays[min(attempt, len(delays)) - 1], error.retry_after or 0.0)
        log_retry(get_run_logger(), error, seconds, attempt + 1)
    return True


def log_retry(logger: Logger, error: BaseException, seconds: float, attempt: int) -> None:
    """Say what failed, how long is waited, and the number of the attempt that follows."""
    facts = error.facts if isinstance(error, CampaignError) else {}
    if isinstance(error, TokenNotFetched | AuthorizationServerUnreachable):
        logger.warning(
            "Failed to fetch the OAuth access token using the specified external account on attempt %d,"
            " retrying in %d ms.",
            attempt - 1,
            round(seconds * 1000),
        )
    else:
        logger.warning(
            "Retrying API URL '%s' due to %s in %d ms, attempt %d.",
            facts.get("url"),
            error,
            round(seconds * 1000),
            attempt,
        )


@dataclass
class Attempts:
    """What attempts at one call leave to the next: the pages that came, and how long the partner asked to wait."""

    progress: Progress = field(default_factory=Progress)
    not_before: float = 0.0


_LEFT: dict[UUID, Attempts] = {}
"""By task run; a retry happens in the process of the attempt before it."""


@contextmanager
def _attempt(context: TaskRunContext) -> Iterator[Attempts]:
    """One attempt of a task run: goes on with what the attempts before it left."""
    run = context.task_run
    attempts = _LEFT.pop(run.id, None) or Attempts()
    time.sleep(max(0.0, attempts.not_before - time.monotonic()))
    try:
        yield attempts
    except ApiError as error:
        error.facts["attempts"] = run.run_count
        if is_retryable(error) and run.run_count <= context.task.retries:
            attempts.not_before = time.monotonic() + (error.retry_after or 0.0)
            _LEFT[run.id] = attempts
        raise


class EndpointTask(Task[[EndpointCall], Content]):
    """A Prefect task that takes its retries, their delays and its cache expiry from the endpoint of each call.

    A call that failed for good gives the last good answer or the transition `failure`, as its endpoint says: the
    task run is a failed one then, and the flow goes on. `submit` gives a future, and `settled` what it came to.
    """

    def __call__(self, inbound: Inbound, endpoint: Endpoint) -> Content:  # type: ignore[override]
        """Run the task with the endpoint's execution options."""
        call = _call_of(inbound, endpoint)
        state = self.with_options(**endpoint.execution_options())(call, return_state=True)
        return self.settled(state, call)

    def submit(self, inbound: Inbound, endpoint: Endpoint) -> PrefectFuture[Content]:  # type: ignore[override]
        """Submit the task to the flow's task runner with the endpoint's execution options."""
        task: Task[[EndpointCall], Content] = self.with_options(**endpoint.execution_options())
        return Task.submit(task, _call_of(inbound, endpoint))

    def settled(self, state: State[Content], call: AccountedCall) -> Content:
        """What a call came to: its tables, else its last good answer, else its failure as a transition.

        Errors: what the call failed with, where the endpoint allows neither.
        """
        error = None if state.is_completed() else state.result(raise_on_failure=False)
        if not isinstance(error, ApiError):
            return _named(state.result(), call.endpoint)
        now, endpoint = datetime.now(UTC), call.endpoint
        stale = self._last_good(call, now) if error.of_partner else None
        failure = failure_of(error, endpoint, now)
        if stale is not None:
            return _named(_loudly(stale, failure, error, now), endpoint)
        if endpoint.on_failure == "transition":
            get_run_logger().warning("The call of '%s' failed; the run goes on: %s", endpoint.name, error)
            nothing = without_content(endpoint, now if endpoint.stale_if_error else None)
            return _named(Content(**{**nothing.tables(), "failure": failure}), endpoint)
        raise error

    def _last_good(self, call: AccountedCall, now: datetime) -> Content | None:
        longest = call.endpoint.stale_if_error
        if not longest:
            return None
        store = cast("ResultStore", get_result_store().update_for_task(self, _sync=True))  # type: ignore[call-arg]
        kept = last_result(store, call.cache_key)
        if not isinstance(kept, Content) or FETCHED_AT not in kept.standard.columns:
            return None
        oldest = kept.standard[FETCHED_AT].min()
        if not isinstance(oldest, datetime) or now - oldest > longest:
            return None
        return kept


def _call_of(inbound: Inbound, endpoint: Endpoint) -> AccountedCall:
    rows = inbound if inbound is None or isinstance(inbound, pl.DataFrame) else inbound.collect()
    return AccountedCall(rows, endpoint)


def _named(content: Content, endpoint: Endpoint) -> Content:
    """The content with the label that the report has for it."""
    object.__setattr__(content, "activity", f"External API {endpoint.name}")
    return content


def _loudly(stale: Content, failure: pl.DataFrame, error: ApiError, now: datetime) -> Content:
    fetched_at = stale.standard[FETCHED_AT].min()
    age = str(now - fetched_at).partition(".")[0] if isinstance(fetched_at, datetime) else "unknown"
    detail = f"the last good answer is used, {age} old: {error}"
    get_run_logger().warning("STALE CONTENT: the call of '%s' failed; %s", failure.item(0, "endpoint"), detail)
    finding = pl.DataFrame(
        {"kind": ["stale"], "column": [None], "action": ["warn"], "detail": [detail]}, schema=stale.findings.schema
    )
    return Content(**{**stale.tables(), "findings": pl.concat([stale.findings, finding]), "failure": failure})


def _called(call: AccountedCall, attempts: Attempts, logger: Logger) -> Answer:
    endpoint, url = call.endpoint, call.url
    for name, (own, documented) in endpoint.raised_limits().items():
        logger.warning("Endpoint '%s' raises its own limit: %s %s, not %s.", endpoint.name, name, own, documented)
    allowed_hosts = Settings.load().network.allowed_hosts
    with ExitStack() as held:
        _take_place(endpoint, held, logger)
        credentials = credentials_of(endpoint.account, allowed_hosts, logger)
        logger.info("Invoking API URL '%s'.", url)
        before_request = (
            partial(anyio.to_thread.run_sync, _take_rate, endpoint, logger) if endpoint.rate_limit else at_once
        )
        if endpoint.calls is not None and call.inbound is not None:
            fetched = fetch_many(
                call,
                endpoint.calls,
                allowed_hosts,
                credentials,
                _call_id(call),
                before_request=before_request,
                before_wait=partial(log_retry, logger),
            )
        else:
            fetched = fetch(call, allowed_hosts, credentials, _call_id(call), attempts.progress, before_request)
    answer = fetched.answer
    logger.info("Transferring content from '%s' (%s / %s).", url, fetched.bytes, endpoint.max_response_bytes)
    _log_answer(logger, call, answer, fetched.rows)
    return answer


def _log_answer(logger: Logger, call: AccountedCall, answer: Answer, rows: int) -> None:
    name, rejected = call.endpoint.name, answer.rejects["row"].n_unique()
    logger.info(
        "%d rows sent, %d rows of '%s' received, %d rejected.",
        0 if call.inbound is None else call.inbound.height,
        answer.standard.height,
        name,
        rejected,
    )
    if rejected:
        first = answer.rejects.row(0, named=True)
        logger.warning(
            "%d of %d rows of '%s' were rejected; the first: row %d, column '%s' %s.",
            rejected,
            rows,
            name,
            first["row"],
            first["column"],
            first["reason"],
        )
    if call.endpoint.outbound.left_out:
        logger.info("Not read of the sample of '%s': %s.", name, quoted(call.endpoint.outbound.left_out))
    for finding in answer.findings.iter_rows(named=True):
        if finding["kind"] == "received":
            logger.info("The answer of '%s': %s.", name, finding["detail"])
        elif finding["kind"] == "more":
            logger.warning("The answer of '%s' is incomplete: %s", name, finding["detail"])
        else:
            logger.warning("The answer of '%s' has changed: %s", name, finding["detail"])


def _context() -> TaskRunContext:
    context = TaskRunContext.get()
    if context is None:
        raise RuntimeError("There is no task run.")
    return context


def _call_id(call: AccountedCall) -> str:
    """One identifier for all attempts at this call, those of a flow run that is retried included."""
    run = _context().task_run
    return str(uuid5(NAMESPACE_URL, f"{run.flow_run_id or run.id}/{call.cache_key}"))


def _take_rate(endpoint: Endpoint, logger: Logger) -> None:
    """Take a place of the endpoint's rate limit, for one request. Errors: `LimitNotFree`."""
    if endpoint.rate_limit:
        take = partial(rate_limit, endpoint.rate_limit, strict=True)
        _waited(endpoint, endpoint.rate_limit, take, logger)


def _take_place(endpoint: Endpoint, held: ExitStack, logger: Logger) -> None:
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


def endpoint_task(**options: Any) -> Callable[[Callable[[EndpointCall], Content]], EndpointTask]:  # noqa: ANN401
    """Prefect's `@task`, for the task of this activity."""
    return lambda work: EndpointTask(work, **options)


@endpoint_task(
    name="External API",
    task_run_name="External API {call.endpoint.name}",
    cache_policy=one_call_at_a_time(SameRequest()),  # for as long as the endpoint's `cache_expiry` says
    result_serializer=ARROW,
    retries=Endpoint.model_fields["retries"].default,  # as often as the endpoint's `retries` say
    retry_condition_fn=is_worth_a_retry,  # with its backoff, and no sooner than the partner's Retry-After
)
def external_api(call: EndpointCall) -> Content:
    """Send the inbound rows to a partner's REST endpoint and read the table it answers with.

    In: `external_api(inbound, endpoint)`: the inbound transition, or None to send parameters only; the endpoint
    with its limits and mappings. Rows of an empty inbound transition need no content: the partner is then not
    called.
    Out: `Content`: `standard`, one row per element of the answer's array; `rejects`, `replaced`, `findings`,
    `failure`. Cached across runs by all that is sent and how it is read, until the endpoint's `cache_expiry`.
    Errors: `ApiError` and its kinds; those that may pass (no connection, timeouts, 408, 425, 429, 5xx, a
    Retry-After, a 401 for a fresh token) are retried first, at the page that failed.
    Source: Adobe Campaign Standard, External API activity.
    """
    logger, endpoint = get_run_logger(), call.endpoint
    if not endpoint.url:
        raise ConfigurationError(
            setting=f"CAMPAIGN_{endpoint.name.upper()}__URL",
            reason="the endpoint has no address; give the partner's, or run `make demo` for the sandbox's",
        )
    if not endpoint.outbound.columns:
        raise ConfigurationError(
            setting=f"CAMPAIGN_{endpoint.name.upper()}__OUTBOUND",
            reason="the outbound mapping reads no column; name columns, or paste a sample",
        )
    fetched_at = datetime.now(UTC) if endpoint.stale_if_error else None
    if call.inbound is not None and call.inbound.is_empty():
        logger.info("No inbound rows: '%s' is not called.", endpoint.name)
        return without_content(endpoint, fetched_at)
    with _attempt(_context()) as attempts:
        return content_of(_called(cast("AccountedCall", call), attempts, logger), fetched_at)
