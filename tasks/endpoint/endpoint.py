"""An endpoint of a partner, and the call of it: what is sent, page after page, and the table that comes of it.

`fetch` is the whole call without Prefect; the External API activity is a task over it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Literal

import polars as pl
from pydantic import Field, SecretStr, model_validator

from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.answer.reader import Answer, read_answer, row_count, value_in
from tasks.endpoint.inbound import InboundMapping, Method, check_campaign_wide, request_body, request_url
from tasks.endpoint.pagination import Page, Pagination, Step
from tasks.errors import StatusRefused, TooManyPages
from tasks.http.credentials import NO_CREDENTIALS, Credentials
from tasks.http.exchange import (
    FIVE_MEGABYTES,
    NO_CONTENT,
    Connection,
    PartnerAnswer,
    PartnerRequest,
    Session,
)
from tasks.http.network import public_url
from tasks.http.retry import backoff_delays

CACHE_FORMAT = "2"
"""Part of every cache key; another number makes earlier results unknown."""


class Endpoint(Connection):
    """Options of the External API activity: how the partner is reached, what is sent and what is read."""

    name: str = Field(title="Name", description="Name of the content, as templates and logs use it.")
    method: Method = Field(
        default="POST", title="Method", description="POST sends a body; GET sends a query alone, and no rows."
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
    pagination: Pagination | None = Field(
        default=None,
        title="Pagination",
        description="How further pages are asked for, as JSON: {kind: page, offset, cursor or link, ...}.",
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
        description="Prefect global concurrency limit of which a call holds one place; empty: none.",
    )
    rate_limit: str = Field(
        default="",
        title="Rate limit",
        description="Prefect global concurrency limit with slot decay that a call takes one place of; empty: none.",
    )
    limit_wait_seconds: float = Field(
        default=300,
        gt=0,
        title="Limit wait",
        description="How long to wait for a place of these limits, in seconds.",
    )

    @model_validator(mode="after")
    def _get_sends_no_rows(self) -> "Endpoint":
        if self.method == "GET" and self.inbound.columns:
            raise ValueError("GET has no body: inbound columns cannot be sent; use POST, or params and query")
        if self.method == "GET" and self.paged_in == "params":
            raise ValueError("GET has no body: page parameters go into the query")
        return self

    def execution_options(self) -> dict[str, Any]:
        """The endpoint's retries, their delays and its cache expiry as options of a Prefect task."""
        return {
            "retries": self.retries,
            "retry_delay_seconds": backoff_delays(self.retries, self),
            "cache_expiration": self.cache_expiry,
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


@dataclass(frozen=True)
class Fetched:
    """What a call brought: the answer as tables, and how many bytes and pages it was."""

    answer: Answer
    bytes: int
    pages: int


def request_of(
    inbound: pl.DataFrame | None, endpoint: Endpoint, step: Step, headers: Mapping[str, SecretStr]
) -> PartnerRequest:
    """The request for one page. Errors: `ProfileLevelCall`, `ColumnsMissing`, `RequestBodyInvalid`."""
    mapping, method = endpoint.inbound, endpoint.method
    if inbound is not None:
        check_campaign_wide(inbound, mapping, public_url(endpoint.url))
    in_params = endpoint.paged_in == "params" or (endpoint.paged_in is None and method == "POST")
    in_query = {} if in_params else step.parameters
    body = request_body(inbound, mapping, step.parameters if in_params else {}) if method == "POST" else None
    url = step.url or request_url(endpoint.url, inbound, mapping, method, in_query)
    return PartnerRequest(method, url, body, headers={**endpoint.headers, **headers})


def fetch(
    inbound: pl.DataFrame | None,
    endpoint: Endpoint,
    allowed_hosts: frozenset[str],
    credentials: Credentials = NO_CREDENTIALS,
    call_id: str = "",
) -> Fetched:
    """Call the endpoint, page after page, under one clock and one limit of bytes, and read what it answers.

    In: the rows to send, or None; the credentials; an identifier of this call, the same for every attempt at it,
    sent as `Idempotency-Key` with a POST. Out: the tables of the outbound mapping.
    Errors: `ApiError` and its kinds.
    """
    step: Step | None = endpoint.pagination.first() if endpoint.pagination else Step()
    bodies: list[bytes] = []
    with Session(endpoint, allowed_hosts) as session:
        while step is not None:
            if endpoint.pagination is not None and step.number > endpoint.pagination.max_pages:
                raise TooManyPages(url=public_url(endpoint.url), limit=endpoint.pagination.max_pages)
            idempotency = _idempotency_key(endpoint, call_id, step)
            request = request_of(inbound, endpoint, step, idempotency)
            answer = _let_in(session, request, credentials)
            if answer.status != NO_CONTENT:
                bodies.append(answer.body)
            step = _following(endpoint, step, request, answer)
    url = public_url(endpoint.url)
    return Fetched(read_answer(bodies, endpoint.outbound, url=url), sum(map(len, bodies)), max(len(bodies), 1))


def _idempotency_key(endpoint: Endpoint, call_id: str, step: Step) -> dict[str, SecretStr]:
    given = {name.lower() for name in endpoint.headers}
    if not call_id or endpoint.method != "POST" or not endpoint.idempotency_key or "idempotency-key" in given:
        return {}
    return {"Idempotency-Key": SecretStr(call_id if step.number == 1 else f"{call_id}-{step.number}")}


def _let_in(session: Session, request: PartnerRequest, credentials: Credentials) -> PartnerAnswer:
    """Send with credentials; after a 401, once more with fresh ones if there are any."""
    try:
        return session.send(_with_headers(request, credentials.headers()))
    except StatusRefused as refused:
        if refused.facts["status"] != 401 or not credentials.renew():
            raise
    try:
        return session.send(_with_headers(request, credentials.headers()))
    except StatusRefused as refused:
        raise StatusRefused(**{**refused.facts, "after_refresh": True}) from None


def _with_headers(request: PartnerRequest, headers: Mapping[str, SecretStr]) -> PartnerRequest:
    return PartnerRequest(
        request.method, request.url, request.body, request.content_type, {**request.headers, **headers}
    )


def _following(endpoint: Endpoint, step: Step, request: PartnerRequest, answer: PartnerAnswer) -> Step | None:
    if endpoint.pagination is None or answer.status == NO_CONTENT:
        return None
    url = public_url(endpoint.url)
    page = Page(
        rows=row_count(answer.body, endpoint.outbound, url=url),
        url=request.url,
        headers=answer.headers,
        value_at=partial(value_in, answer.body, limits=endpoint.outbound.limits, url=url),
    )
    return endpoint.pagination.following(step, page)


def request_key(inbound: pl.DataFrame | None, endpoint: Endpoint) -> str:
    """Cache key of a call: the endpoint, the mappings and the rows as they are sent; no secret is part of it.

    Errors: those of `request_of`.
    """
    request = request_of(inbound, endpoint, Step(), {})
    parts = (
        CACHE_FORMAT,
        endpoint.name,
        endpoint.method,
        request.url,
        endpoint.account,
        endpoint.outbound.model_dump_json(),
        endpoint.model_dump_json(include={"pagination", "paged_in"}),
    )
    digest = sha256("\x1f".join(parts).encode())
    digest.update(request.body or b"")
    return f"external-api-{digest.hexdigest()}"
