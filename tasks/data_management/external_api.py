"""External API: calls a partner's REST endpoint once for the whole campaign and makes a table of its answer."""

from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ParamSpec, cast
from uuid import NAMESPACE_URL, uuid5

import polars as pl
from prefect import State, Task, get_run_logger
from prefect.cache_policies import CachePolicy
from prefect.client.schemas import TaskRun
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency, rate_limit
from prefect.context import TaskRunContext
from prefect.results import ResultStore, get_result_store
from prefect.transactions import IsolationLevel

from tasks.endpoint.answer.reader import Answer, read_answer
from tasks.endpoint.endpoint import Endpoint, fetch, request_key
from tasks.errors import (
    ApiError,
    AuthorizationServerUnreachable,
    CampaignError,
    ColumnTaken,
    ConfigurationError,
    LimitNotFree,
    TokenNotFetched,
)
from tasks.http.accounts import credentials_of
from tasks.http.network import public_url
from tasks.runs.locks import SystemLocks
from tasks.runs.log import Logger
from tasks.runs.results import ARROW, ReadableResults, last_result
from tasks.settings import Settings
from tasks.tables.transitions import Transitions

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
    """What differs from the sample that the mapping was made from: kind, column, action, detail."""
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


@dataclass
class SameRequest(CachePolicy):
    """Cache policy: the same request to the same endpoint, read by the same mapping, in any run."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> str | None:
        """Key of the call, or None when the request cannot be built: the task itself then says why."""
        try:
            return request_key(inputs["inbound"], inputs["endpoint"])
        except CampaignError:
            return None


def one_call_at_a_time() -> CachePolicy:
    """The cache of calls, in which runs that need the same answer at one moment wait for the one that calls."""
    policy: CachePolicy = ReadableResults(policy=SameRequest())
    policy.lock_manager = SystemLocks()
    policy.isolation_level = IsolationLevel.SERIALIZABLE
    return policy


def a_retry_can_mend(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: only failures that pass, and never sooner than the partner's Retry-After."""
    error = state.data
    if not isinstance(error, ApiError) or not error.retryable:
        return False
    delays = task.retry_delay_seconds
    attempt = task_run.run_count
    if attempt > task.retries or not isinstance(delays, list) or not delays:
        return True
    following = min(attempt, len(delays)) - 1
    # The task is a copy made for this one call (ExternalApiTask), so its delays are the call's own.
    delays[following] = max(delays[following], error.retry_after or 0.0)
    _log_retry(get_run_logger(), error, round(delays[following] * 1000), attempt)
    return True


def _log_retry(logger: Logger, error: ApiError, milliseconds: int, attempt: int) -> None:
    if isinstance(error, TokenNotFetched | AuthorizationServerUnreachable):
        logger.warning(
            "Failed to fetch the OAuth access token using the specified external account on attempt %d,"
            " retrying in %d ms.",
            attempt,
            milliseconds,
        )
    else:
        logger.warning(
            "Retrying API URL '%s' due to %s in %d ms, attempt %d.",
            error.facts.get("url"),
            error,
            milliseconds,
            attempt + 1,
        )


class ExternalApiTask(Task[P, Content]):
    """A Prefect task that takes its retries, their delays and its cache expiry from the endpoint of each call.

    A call that failed for good gives the last good answer or the transition `failure`, as its endpoint says: the
    task run is a failed one then, and the flow goes on. `submit` gives a future, and `settled` what it came to.
    Options set by `with_options` come first: what it returns is a plain task.
    """

    def _for_endpoint(self, endpoint: Endpoint) -> Task[P, Content]:
        return self.with_options(**endpoint.execution_options())

    def __call__(self, inbound: pl.DataFrame | None, endpoint: Endpoint, **options: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Run the task with the endpoint's execution options."""
        if options.get("return_state"):
            return self._for_endpoint(endpoint)(inbound, endpoint, **options)
        state = self._for_endpoint(endpoint)(inbound, endpoint, **{**options, "return_state": True})
        return self.settled(state, inbound, endpoint)

    def submit(self, inbound: Any, endpoint: Endpoint, **options: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Submit the task to the flow's task runner with the endpoint's execution options."""
        return self._for_endpoint(endpoint).submit(inbound, endpoint, **options)

    def settled(self, state: State[Content], inbound: pl.DataFrame | None, endpoint: Endpoint) -> Content:
        """What a call came to: its tables, else its last good answer, else its failure as a transition.

        Errors: what the call failed with, where the endpoint allows neither.
        """
        error = None if state.is_completed() else state.result(raise_on_failure=False)
        if not isinstance(error, ApiError):
            return state.result()
        now = datetime.now(UTC)
        stale = self._last_good(inbound, endpoint, now) if error.of_partner else None
        failure = failure_of(error, endpoint, now)
        if stale is not None:
            return _loudly(stale, failure, error, now)
        if endpoint.on_failure == "transition":
            get_run_logger().warning("The call of '%s' failed; the run goes on: %s", endpoint.name, error)
            nothing = without_content(endpoint, now if endpoint.stale_if_error else None)
            return Content(**{**nothing.tables(), "failure": failure})
        raise error

    def _last_good(self, inbound: pl.DataFrame | None, endpoint: Endpoint, now: datetime) -> Content | None:
        if not endpoint.stale_if_error:
            return None
        store = cast("ResultStore", get_result_store().update_for_task(self, _sync=True))  # type: ignore[call-arg]
        kept = last_result(store, request_key(inbound, endpoint))
        if not isinstance(kept, Content) or FETCHED_AT not in kept.standard.columns:
            return None
        oldest = kept.standard[FETCHED_AT].min()
        if not isinstance(oldest, datetime) or now - oldest > endpoint.stale_if_error:
            return None
        return kept


def _loudly(stale: Content, failure: pl.DataFrame, error: ApiError, now: datetime) -> Content:
    fetched_at = stale.standard[FETCHED_AT].min()
    age = str(now - fetched_at).partition(".")[0] if isinstance(fetched_at, datetime) else "unknown"
    detail = f"the last good answer is used, {age} old: {error}"
    get_run_logger().warning("STALE CONTENT: the call of '%s' failed; %s", failure.item(0, "endpoint"), detail)
    finding = pl.DataFrame(
        {"kind": ["stale"], "column": [None], "action": ["warn"], "detail": [detail]}, schema=stale.findings.schema
    )
    return Content(**{**stale.tables(), "findings": pl.concat([stale.findings, finding]), "failure": failure})


def _external_api(inbound: pl.DataFrame | None, endpoint: Endpoint) -> Content:
    """Send the inbound rows to a partner's REST endpoint and read the table it answers with.

    In: the inbound transition, or None to send parameters only; the endpoint with its limits and mappings.
    Rows of an empty inbound transition need no content: the partner is then not called.
    Out: `standard`, one row per element of the answer's array; `rejects`, `replaced`, `findings`, `failure`.
    Cached across runs by endpoint, mappings and inbound rows, until the endpoint's `cache_expiry`.
    Errors: `ApiError` and its kinds; those that can pass (no connection, timeouts, 408, 425, 429, 5xx, a 401 for a
    fresh token) are retried first. Source: Adobe Campaign Standard, External API activity.
    """
    logger = get_run_logger()
    if not endpoint.url:
        raise ConfigurationError(
            setting=f"CAMPAIGN_{endpoint.name.upper()}__URL",
            reason="the endpoint has no address; give the partner's, or run `make demo` for the sandbox's",
        )
    fetched_at = datetime.now(UTC) if endpoint.stale_if_error else None
    if inbound is not None and inbound.is_empty():
        logger.info("No inbound rows: '%s' is not called.", endpoint.name)
        return without_content(endpoint, fetched_at)
    try:
        return content_of(_called(inbound, endpoint, logger), fetched_at)
    except ApiError as error:
        error.facts["attempts"] = _this_run().run_count
        raise


def _called(inbound: pl.DataFrame | None, endpoint: Endpoint, logger: Logger) -> Answer:
    url = public_url(endpoint.url)
    for name, (own, documented) in endpoint.raised_limits().items():
        logger.warning("Endpoint '%s' raises its own limit: %s %s, not %s.", endpoint.name, name, own, documented)
    allowed_hosts = Settings.load().network.allowed_hosts
    with ExitStack() as held:
        _take_places(endpoint, held)
        credentials = credentials_of(endpoint.account, allowed_hosts, logger)
        logger.info("Invoking API URL '%s'.", url)
        fetched = fetch(inbound, endpoint, allowed_hosts, credentials, _call_id(inbound, endpoint))
    answer = fetched.answer
    logger.info("Transferring content from '%s' (%s / %s).", url, fetched.bytes, endpoint.max_response_bytes)
    logger.info(
        "%d rows sent, %d rows of '%s' received, %d rejected.",
        0 if inbound is None else inbound.height,
        answer.standard.height,
        endpoint.name,
        answer.rejects.height,
    )
    for finding in answer.findings.iter_rows(named=True):
        logger.warning("The answer of '%s' has changed: %s", endpoint.name, finding["detail"])
    return answer


def _this_run() -> TaskRun:
    context = TaskRunContext.get()
    if context is None:
        raise RuntimeError("There is no task run.")
    return context.task_run


def _call_id(inbound: pl.DataFrame | None, endpoint: Endpoint) -> str:
    """One identifier for all attempts at this call, those of a flow run that is retried included."""
    run = _this_run()
    return str(uuid5(NAMESPACE_URL, f"{run.flow_run_id or run.id}/{request_key(inbound, endpoint)}"))


def _take_places(endpoint: Endpoint, held: ExitStack) -> None:
    """Take a place of the endpoint's rate limit, and one of its concurrency limit until `held` ends.

    Errors: `LimitNotFree`.
    """
    url, wait = public_url(endpoint.url), endpoint.limit_wait_seconds
    limit = endpoint.rate_limit
    try:
        if limit:
            rate_limit(limit, timeout_seconds=wait, strict=True)
        limit = endpoint.concurrency_limit
        if limit:
            held.enter_context(concurrency(limit, timeout_seconds=wait, strict=True))
    except TimeoutError:
        reason = f"had no place for {wait:g} seconds"
        raise LimitNotFree(url=url, limit=limit, reason=reason, retryable=True) from None
    except ConcurrencySlotAcquisitionError:
        raise LimitNotFree(url=url, limit=limit, reason="does not exist, or is no such limit") from None


external_api = ExternalApiTask(
    _external_api,
    name="External API",
    task_run_name="External API {endpoint.name}",
    cache_policy=one_call_at_a_time(),
    result_serializer=ARROW,
    retry_condition_fn=a_retry_can_mend,
)
