"""External API: calls a partner's REST endpoint for the whole campaign and makes a table of its answer.

The activity is declared at the end of this file: a cached and retried Prefect task.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, cast

import anyio.to_thread
import polars as pl
from prefect import State, Task, get_run_logger
from prefect.futures import PrefectFuture
from prefect.results import ResultStore, get_result_store

from tasks.data_management._attempts import (
    Attempts,
    attempt,
    call_id,
    is_worth_a_retry,
    log_retry,
    task_run_context,
)
from tasks.data_management._content import (
    FETCHED_AT,
    Content,
    content_of,
    failure_of,
    freshness_table,
    loudly,
    without_content,
)
from tasks.data_management._keeping import (
    AccountedCall,
    SameRequest,
    keep_as_said,
    one_call_at_a_time,
    refresh_in_background,
)
from tasks.data_management._kept_calls import KeptCalls
from tasks.data_management._limits import take_place, take_rate
from tasks.endpoint.answer.reader import Answer
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint, Incremental
from tasks.endpoint.fetch import Fetched, NotModified, at_once, fetch
from tasks.endpoint.incremental import ended_at, put_together
from tasks.endpoint.many import NOTHING_KEPT, fetch_many
from tasks.errors import ApiError, ConfigurationError
from tasks.http.accounts import credentials_of
from tasks.http.breaker import Breaker
from tasks.http.freshness import Freshness
from tasks.runs.log import Logger
from tasks.runs.results import ARROW, last_kept
from tasks.settings import Settings
from tasks.tables.transitions import quoted

__all__ = ["Content", "external_api"]


class Collected(Protocol):
    """Rows that are not a table yet: an audience, a lazy table."""

    def collect(self) -> pl.DataFrame:
        """The rows as a table."""


Inbound = pl.DataFrame | Collected | None
"""The inbound transition; None sends parameters only."""


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
            if state.name == "Cached":
                self._refresh_before_its_end(call)
            return _named(state.result(), call.endpoint)
        now, endpoint = datetime.now(UTC), call.endpoint
        stale = self._last_good(call, now) if error.of_partner else None
        failure = failure_of(error, endpoint, now)
        if stale is not None:
            return _named(loudly(stale, failure, error, now), endpoint)
        if endpoint.on_failure == "transition":
            get_run_logger().warning("The call of '%s' failed; the run goes on: %s", endpoint.name, error)
            nothing = without_content(endpoint, now if endpoint.stale_if_error else None)
            return _named(Content(**{**nothing.tables(), "failure": failure}), endpoint)
        raise error

    def _last_good(self, call: AccountedCall, now: datetime) -> Content | None:
        longest = call.endpoint.stale_if_error
        if not longest:
            return None
        record = last_kept(self._store, call.cache_key)
        kept = None if record is None else record.result
        if not isinstance(kept, Content) or FETCHED_AT not in kept.standard.columns:
            return None
        oldest = kept.standard[FETCHED_AT].min()
        if not isinstance(oldest, datetime) or now - oldest > longest:
            return None
        if kept.kept is not None and kept.kept.must_revalidate and call.endpoint.cache_by == "partner":
            get_run_logger().warning(
                "The last good answer of '%s' is not used: must-revalidate.", call.endpoint.name
            )
            return None
        return kept

    def _refresh_before_its_end(self, call: AccountedCall) -> None:
        early = call.endpoint.refresh_before
        if not early:
            return
        store = self._store
        record = last_kept(store, call.cache_key)
        ends = None if record is None else record.expires_at
        if ends is not None and ends < datetime.now(UTC) + early:
            refresh_in_background(self, call, store)

    @property
    def _store(self) -> ResultStore:
        return cast("ResultStore", get_result_store().update_for_task(self, _sync=True))  # type: ignore[call-arg]


def _call_of(inbound: Inbound, endpoint: Endpoint) -> AccountedCall:
    rows = inbound if inbound is None or isinstance(inbound, pl.DataFrame) else inbound.collect()
    return AccountedCall(rows, endpoint)


def _named(content: Content, endpoint: Endpoint) -> Content:
    """The content with the label that the report has for it."""
    object.__setattr__(content, "activity", f"External API {endpoint.name}")
    return content


def _called(call: AccountedCall, attempts: Attempts, logger: Logger, kept: Freshness | None) -> Fetched:
    endpoint, url = call.endpoint, call.url
    for name, (own, documented) in endpoint.raised_limits().items():
        logger.warning("Endpoint '%s' raises its own limit: %s %s, not %s.", endpoint.name, name, own, documented)
    network = Settings.load().network
    allowed_hosts = network.allowed_hosts
    if network.proxy.get_secret_value():
        logger.info("Calls go through the proxy, which resolves names: addresses of hosts are not checked.")
    with ExitStack() as held:
        held.enter_context(Breaker(endpoint.url, network.breaker).watched(endpoint.retry_after_limit_seconds))
        take_place(endpoint, held, logger)
        credentials = credentials_of(endpoint.account, allowed_hosts, logger)
        logger.info("Invoking API URL '%s'.", url)
        before_request = (
            partial(anyio.to_thread.run_sync, take_rate, endpoint, logger) if endpoint.rate_limit else at_once
        )
        if endpoint.calls is not None and call.inbound is not None:
            fetched = fetch_many(
                call,
                endpoint.calls,
                allowed_hosts,
                credentials,
                call_id(call),
                before_request=before_request,
                before_wait=partial(log_retry, logger),
                store=KeptCalls(call) if endpoint.cache_expiry else NOTHING_KEPT,
            )
        else:
            fetched = fetch(
                call, allowed_hosts, credentials, call_id(call), attempts.progress, before_request, kept
            )
    logger.info("Transferring content from '%s' (%s / %s).", url, fetched.bytes, endpoint.max_response_bytes)
    _log_answer(logger, call, fetched.answer, fetched.rows)
    return fetched


def _kept(call: AccountedCall) -> Content | None:
    """What is kept of an earlier answer, to ask the partner whether it is still right."""
    record = last_kept(get_result_store(), call.cache_key)
    return record.result if record is not None and isinstance(record.result, Content) else None


def _since_the_last(call: AccountedCall, options: Incremental, attempts: Attempts, logger: Logger) -> Answer:
    """What is kept with what is new since. It is kept with the result: a call that fails changes nothing."""
    kept = _kept(call)
    if kept is None:
        return _called(call, attempts, logger, None).answer
    since = ended_at(kept.standard, options)
    answer = _called(call.going_on(since), attempts, logger, None).answer
    whole = put_together(kept.standard, answer.standard, options)
    logger.info("%d rows of '%s' are kept, with those of before.", whole.height, call.endpoint.name)
    return replace(answer, standard=whole)


def _by_partners_word(
    call: AccountedCall, attempts: Attempts, logger: Logger
) -> tuple[Fetched | Content, Freshness]:
    """A call whose answer is kept as the partner says: what came, or what was kept and is still right."""
    kept = _kept(call)
    try:
        fetched = _called(call, attempts, logger, None if kept is None else kept.kept)
    except NotModified as unchanged:
        if kept is None:
            raise
        logger.info("The answer of '%s' is as it was (304).", call.endpoint.name)
        return kept, unchanged.freshness
    return fetched, fetched.freshness


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

    Example:
        ```python
        vouchers = external_api(None, settings.endpoint_on("vouchers", today))
        options = EnrichmentOptions(name="vouchers", on={"zip_code": "zip"})
        enriched = enrichment(audience, vouchers.standard, options)
        ```
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
    context = task_run_context()
    accounted = cast("AccountedCall", call)
    with attempt(context) as attempts:
        if endpoint.incremental is not None:
            return content_of(_since_the_last(accounted, endpoint.incremental, attempts, logger), fetched_at)
        if endpoint.cache_by == "expiry":
            fetched = _called(accounted, attempts, logger, None)
            # What has kept parts ends with the first of them.
            keep_as_said(Freshness(seconds=fetched.seconds_left), context.task)
            return content_of(fetched.answer, fetched_at and (fetched.oldest or fetched_at))
        came, freshness = _by_partners_word(accounted, attempts, logger)
        keep_as_said(freshness, context.task)
        if isinstance(came, Content):
            return came.fetched(fetched_at, freshness)
        fetched_at = fetched_at and (came.oldest or fetched_at)
        return replace(content_of(came.answer, fetched_at), freshness=freshness_table(freshness))
