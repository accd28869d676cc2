"""An endpoint of a partner as data: how it is reached, what is sent, what is read, and what a run makes of it."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.inbound import InboundMapping, Method
from tasks.endpoint.pagination import Pagination
from tasks.endpoint.placeholders import check_names, names_in
from tasks.forms import AsChoice
from tasks.http.exchange import FIVE_MEGABYTES, Connection
from tasks.http.retry import backoff_delays


class Calls(BaseModel):
    """One call for each distinct key, or for each chunk of rows, instead of one call for all rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Many calls")

    per: Literal["key", "chunk"] = Field(
        default="key",
        title="Call per",
        description=(
            "key: a call for each distinct combination of the inbound columns, which the answer's rows then have as"
            " columns. chunk: a call for each so many rows."
        ),
    )
    size: int = Field(default=100, ge=1, title="Rows of a chunk", description="How many rows a chunk has.")
    parallel: int = Field(
        default=4, ge=1, le=64, title="Calls at a time", description="How many calls are made side by side."
    )
    max_calls: int = Field(
        default=1000,
        ge=1,
        title="Call limit",
        description="More calls than this would be a lookup for each profile, and are refused.",
    )
    max_bytes: int = Field(
        default=50 * 1024 * 1024,
        ge=1,
        title="Limit of all answers",
        description="Largest decoded size of all answers together, in bytes.",
    )


class Incremental(BaseModel):
    """Only what is new is asked for, and put to what was kept of the answers before.

    What is kept is the activity's own result: if it is gone, the next call begins at the start again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="Only what is new")

    column: str = Field(
        title="Column",
        description="Outbound column whose greatest value ${since} stands for: a number, a date, a moment, a text.",
    )
    start: str = Field(title="Start", description="What ${since} stands for while nothing is kept.")
    merge_on: tuple[str, ...] = Field(
        default=(),
        title="Merge on",
        description="Outbound columns by which a new row takes the place of a kept one. Empty: rows are appended.",
    )
    format: str = Field(
        default="",
        title="Format",
        description="How a date or moment is written, as %Y-%m-%d. Empty: ISO 8601, moments in UTC with Z.",
    )
    max_rows: int = Field(
        default=1_000_000, ge=1, title="Row limit", description="More rows than this are not kept: an error."
    )


NoPages = Annotated[None, Field(title="One page")]
OneCall = Annotated[None, Field(title="One call for all rows")]
AllOfIt = Annotated[None, Field(title="All of it, each time")]


class Endpoint(Connection):
    """Options of the External API activity: how the partner is reached, what is sent and what is read."""

    name: str = Field(title="Name", description="Name of the content, as templates and logs use it.")
    method: Method = Field(
        default="POST",
        title="Method",
        description="POST, PUT and PATCH send a body; GET sends a query alone, and rows only by placeholders.",
    )
    account: str = Field(
        default="",
        title="External account",
        description="Prefect block with the partner's credentials, <kind>/<name>; empty: none.",
    )
    inbound: InboundMapping = Field(default=InboundMapping(), title="Inbound mapping", description="What is sent.")
    outbound: OutboundMapping = Field(
        default=OutboundMapping(), title="Outbound mapping", description="What is read."
    )
    pagination: Annotated[Pagination | NoPages, AsChoice()] = Field(
        default=None,
        title="Pagination",
        description="How further pages are asked for, as JSON: {kind: page, offset, cursor, link or next, ...}.",
    )
    resume: bool = Field(
        default=True,
        title="Go on at the page that failed",
        description=(
            "A retry goes on at the page that failed. Off: it begins at the first page again, for answers whose"
            " pages are only right together."
        ),
    )
    calls: Calls | OneCall = Field(
        default=None,
        title="Many calls",
        description="One call for each key or chunk of rows, as JSON: {per: key}. Left out: one call for all rows.",
    )
    incremental: Incremental | AllOfIt = Field(
        default=None,
        title="Incremental",
        description=(
            "Ask only for what is new since the last good answer, as JSON: {column: updated_at, start: 2026-01-01,"
            " merge_on: [id]}; ${since} in the address, query or body is where that answer ended."
        ),
    )
    empty_statuses: frozenset[int] = Field(
        default=frozenset(),
        title="Statuses of nothing",
        description="HTTP statuses, such as 404, that mean that nothing was found: no rows.",
    )
    paged_in: Literal["query", "params"] | None = Field(
        default=None,
        title="Place of page parameters",
        description="In the URL's query, or in the body's params. Left out: where the method sends its parameters.",
    )
    cache_expiry: timedelta = Field(
        default=timedelta(hours=1),
        title="Cache expiry",
        description="How long an answer is used again for the same request, as ISO 8601 (PT1H) or in seconds.",
    )
    cache_by: Literal["expiry", "partner"] = Field(
        default="expiry",
        title="Cache by",
        description=(
            "expiry: for the cache expiry, whatever the partner says. partner: by its Cache-Control, Expires, Age"
            " and Vary (RFC 9111); what has ended is asked for by ETag or Last-Modified, and 304 counts as fresh."
            " The expiry counts where the partner says nothing."
        ),
    )
    refresh_before: timedelta = Field(
        default=timedelta(0),
        title="Refresh before",
        description=(
            "How long before its end a kept answer is fetched again in the background by the first run that uses it"
            " then (PT5M); 0: never."
        ),
    )
    cache_ignores: tuple[str, ...] = Field(
        default=(),
        title="Not in the cache key",
        description=(
            "Names of headers whose value does not change the answer, and `account` if another credential gets the"
            " same answer. Everything else that is sent is part of the key."
        ),
    )
    stale_if_error: timedelta = Field(
        default=timedelta(0),
        title="Stale if error",
        description=(
            "Up to which age the last good answer may be used when the partner fails (PT24H); 0: never. The table"
            " then has a column fetched_at, in UTC."
        ),
    )
    on_failure: Literal["fail", "transition"] = Field(
        default="fail",
        title="On failure",
        description="Whether a call that failed fails the run, or leaves through the transition `failure`.",
    )
    idempotency_key: bool = Field(
        default=True,
        title="Idempotency key",
        description="Send an Idempotency-Key with each POST, the same for every attempt of one call.",
    )
    concurrency_limit: str = Field(
        default="",
        title="Concurrency limit",
        description="Prefect global concurrency limit; a call holds one slot of it. Empty: none.",
    )
    rate_limit: str = Field(
        default="",
        title="Rate limit",
        description="Prefect global concurrency limit with slot decay; a call takes one slot of it. Empty: none.",
    )
    limit_wait_seconds: float = Field(
        default=300,
        gt=0,
        title="Limit wait",
        description="How long to wait for a place of these limits, in seconds.",
    )

    @model_validator(mode="after")
    def _can_be_sent(self) -> "Endpoint":
        sent = set(self.inbound.columns.values())
        check_names(self.url, sent)
        address, _, _ = self.url.partition("://")[2].partition("/")
        if "${" in address.partition("?")[0]:
            raise ValueError("a placeholder cannot stand in the host of the address")
        if self.method == "GET":
            placed = {name.partition(".")[0] for part in (self.url, self.inbound.query) for name in names_in(part)}
            if sent and not placed & {"row", "rows"}:
                raise ValueError(
                    "GET has no body: inbound columns cannot be sent; use POST, or placeholders in the address"
                    " or query"
                )
            if self.paged_in == "params":
                raise ValueError("GET has no body: page parameters go into the query")
            if self.inbound.body is not None or self.inbound.encoding == "form":
                raise ValueError("GET has no body: use POST, PUT or PATCH")
        elif self.pagination is not None and self.pages_in == "params" and self.inbound.body is not None:
            heads = {name.partition(".")[0] for name in names_in(self.inbound.body)}
            if self.pagination.first().parameters and not heads & {"page", "params"}:
                raise ValueError(
                    "the body has no place for the page's parameters: write ${page}, or set paged_in to query"
                )
        self._check_incremental()
        if self.calls is not None and not sent:
            raise ValueError("many calls need inbound columns, whose values make the calls")
        return self

    def _check_incremental(self) -> None:
        parts = (self.url, self.inbound.query, self.inbound.body)
        is_asked = any("since" in names_in(part) for part in parts)
        if is_asked != (self.incremental is not None):
            raise ValueError("${since} goes with 'incremental', and has a place in the address, query or body then")
        if self.incremental is None:
            return
        unread = {self.incremental.column, *self.incremental.merge_on} - self.outbound.columns.keys()
        if unread:
            raise ValueError(f"incremental: {', '.join(sorted(unread))} is no outbound column")
        if self.calls is not None or self.cache_by == "partner":
            raise ValueError("incremental goes with one call, whose answers are kept for the cache expiry")

    @property
    def pages_in(self) -> Literal["query", "params"]:
        """Where the page's parameters go."""
        return self.paged_in or ("query" if self.method == "GET" else "params")

    def execution_options(self) -> dict[str, Any]:
        """The endpoint's retries, their delays and its cache expiry as options of a Prefect task.

        Of many calls each is retried by itself, without Prefect.
        """
        return {
            "retries": 0 if self.calls else self.retries,
            "retry_delay_seconds": backoff_delays(self.retries, self),
            # Prefect takes nothing for "no expiry given", and would keep the answer for ever.
            "cache_expiration": max(self.cache_expiry, timedelta(microseconds=1)),
        }

    def raised_limits(self) -> dict[str, tuple[object, object]]:
        """Limits that this endpoint sets higher than the documented ones: name to (its own, the documented)."""
        own = {
            **{name: getattr(self, name) for name in DOCUMENTED_LIMITS if hasattr(self, name)},
            **{name: getattr(self.outbound.limits, name) for name in type(self.outbound.limits).model_fields},
        }
        return {
            name: (own[name], documented)
            for name, documented in DOCUMENTED_LIMITS.items()
            if own[name] > documented
        }


DOCUMENTED_LIMITS = {
    "timeout_seconds": 60,
    "max_request_bytes": FIVE_MEGABYTES,
    "max_response_bytes": FIVE_MEGABYTES,
    "max_depth": 10,
    "max_key_length": 255,
    "max_duplicate_names": 150,
}
"""Adobe Campaign's limits, which hold unless an endpoint raises its own."""
