"""The call of an endpoint without Prefect: page after page, and the resulting table.

`fetch` makes one call; `tasks.endpoint.many` makes one for each key.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from time import monotonic
from typing import Any

import anyio
import anyio.to_thread
import orjson
import polars as pl
from pydantic import SecretStr

from tasks.endpoint.answer.body import Body
from tasks.endpoint.answer.contract import FINDINGS, Finding, judged
from tasks.endpoint.answer.reader import Answer, elements_of, read_bodies
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.completeness import Marks, marks_of
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.pagination import PROBE_ENDS, Page, Step
from tasks.errors import PagesInvalid, StatusRefused, TooManyPages
from tasks.http.credentials import NO_CREDENTIALS, Credentials
from tasks.http.exchange import NO_CONTENT, NOT_MODIFIED, PartnerAnswer, PartnerRequest
from tasks.http.freshness import Freshness, freshness_of, freshness_of_all, revalidated
from tasks.http.network import public_url
from tasks.http.session import Client, Session, from_any_thread

BeforeRequest = Callable[[], Awaitable[None]]
"""Called before each request: takes a place of a rate limit."""


async def at_once() -> None:
    """Nothing to wait for."""


class NotModified(Exception):  # no failure: the partner's answer to the question whether anything has changed
    """What was kept is still right; `freshness` says for how long."""

    def __init__(self, freshness: Freshness) -> None:
        super().__init__("not modified")
        self.freshness = freshness


@dataclass
class Progress:
    """What came of a call so far. A retry that is given it goes on at the page that failed."""

    step: Step | None = None
    is_begun: bool = False
    bodies: list[Body] = field(default_factory=list)
    marks: Marks = field(default_factory=Marks)
    seen: dict[bytes, int] = field(default_factory=dict)
    """Digest of a page's rows to the page's number."""
    asked: set[tuple[str, bytes | None]] = field(default_factory=set)
    freshness: list[Freshness] = field(default_factory=list)
    """Of each page."""
    kept_at: datetime | None = None
    """When it came, where it was kept of an earlier run."""

    @property
    def is_whole(self) -> bool:
        """Whether all pages came."""
        return self.is_begun and self.step is None

    def begin(self, step: Step) -> None:
        """Begin at the first page, with nothing that came before."""
        self.bodies, self.marks, self.seen, self.asked, self.freshness = [], Marks(), {}, set(), []
        self.step, self.is_begun = step, True

    @property
    def bytes(self) -> int:
        """Decoded size of all pages."""
        return sum(len(body.content) for body in self.bodies)


@dataclass(frozen=True)
class Fetched:
    """What a call brought: the answer as tables, and how many bytes, pages and rows it was."""

    answer: Answer
    bytes: int
    pages: int
    rows: int
    freshness: Freshness
    oldest: datetime | None = None
    """When the oldest part of it came, where a part was kept of an earlier run."""
    seconds_left: float | None = None
    """How long all of those parts are still right."""


class Access:
    """Credentials for requests side by side: asked for once, renewed once for all of them."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = anyio.Lock()
        self._headers: Mapping[str, SecretStr] | None = None

    async def headers(self) -> Mapping[str, SecretStr]:
        """Headers to send with a request."""
        if self._headers is None:
            async with self._lock:
                if self._headers is None:
                    self._headers = await anyio.to_thread.run_sync(self._credentials.headers)
        return self._headers

    def check(self, url: str) -> None:
        """Check that the credentials are for this address. Errors: `AccountNotForHost`."""
        self._credentials.check(url)

    async def renewed(self, used: Mapping[str, SecretStr]) -> bool:
        """Take fresh credentials instead of those that were used; False where there are none."""
        async with self._lock:
            if self._headers is used:
                if not await anyio.to_thread.run_sync(self._credentials.renew):
                    return False
                self._headers = None
        return True


def fetch(  # noqa: PLR0917
    call: EndpointCall,
    allowed_hosts: frozenset[str],
    credentials: Credentials = NO_CREDENTIALS,
    call_id: str = "",
    progress: Progress | None = None,
    before_request: BeforeRequest = at_once,
    kept: Freshness | None = None,
) -> Fetched:
    """Make a call, page after page, under one clock and one limit of bytes, and read what it answers.

    In: the call; the credentials; an identifier of this call, the same for every attempt at it, sent as
    `Idempotency-Key` unless it is a GET; what came of earlier attempts; the freshness of an answer that is kept.
    Out: the tables of the outbound mapping. Errors: `NotModified`, `ApiError` and its kinds.
    """
    progress = Progress() if progress is None else progress

    async def run() -> None:
        async with Client(call.endpoint, allowed_hosts) as client:
            await fetch_pages(call, client, Access(credentials), call_id, progress, before_request, kept)

    from_any_thread(run)
    return read_fetched(progress.bodies, call.endpoint, progress.marks, progress.freshness)


async def fetch_pages(  # noqa: PLR0917
    call: EndpointCall,
    client: Client,
    access: Access,
    call_id: str,
    progress: Progress,
    before_request: BeforeRequest = at_once,
    kept: Freshness | None = None,
) -> None:
    """Fetch the pages of a call that `progress` lacks, into it. Errors: `NotModified`, `ApiError` and its kinds."""
    endpoint = call.endpoint
    if not progress.is_begun or not endpoint.resume:
        progress.begin(endpoint.pagination.first() if endpoint.pagination else Step())
    session = Session(client, endpoint.max_response_bytes - progress.bytes)
    while progress.step is not None:
        step = progress.step
        if endpoint.pagination is not None and step.number > endpoint.pagination.max_pages:
            raise TooManyPages(url=call.url, limit=endpoint.pagination.max_pages)
        request = call.request(step, _idempotency_key(endpoint, call_id, step))
        if (request.url, request.body) in progress.asked:
            raise PagesInvalid(
                reason=f"page {step.number} would be asked for as an earlier page was: no end would come"
            )
        if kept is not None and step.number == 1:
            request = replace(request, conditions=kept.conditions)
        await before_request()
        asked_at = monotonic()
        try:
            answer = await _let_in(session, request, access)
        except StatusRefused as refused:
            if not _is_end(int(refused.facts["status"]), step, endpoint):
                raise
            progress.step = None
            return
        freshness = freshness_of(answer.headers, datetime.now(UTC), monotonic() - asked_at, call.unkeyed_headers)
        if answer.status == NOT_MODIFIED and kept is not None:
            raise NotModified(revalidated(kept, freshness))
        progress.asked.add((request.url, request.body))
        progress.freshness.append(freshness)
        progress.step = None if answer.status == NO_CONTENT else _following(call, request, answer, progress)


def _is_end(status: int, step: Step, endpoint: Endpoint) -> bool:
    """Whether a status that is no success says that there are no (more) rows."""
    if status in endpoint.empty_statuses:
        return True
    if endpoint.pagination is None or step.number == 1:
        return False
    return status in endpoint.pagination.past_end_statuses or (step.is_probe and status in PROBE_ENDS)


def _following(
    call: EndpointCall, request: PartnerRequest, answer: PartnerAnswer, progress: Progress
) -> Step | None:
    """Keep a page, and say what the next one asks for."""
    endpoint, step = call.endpoint, progress.step or Step()
    body = Body(answer.body, endpoint.outbound, public_url(endpoint.url))
    elements = elements_of(body, endpoint.outbound)
    if endpoint.pagination is not None and elements:
        digest = _digest(elements)
        before = progress.seen.setdefault(digest, step.number)
        if before != step.number:
            if step.is_probe:
                return None  # the partner does not page: what came is what it has
            raise PagesInvalid(reason=_repeats(step, before))
    progress.bodies.append(body)
    rows = step.rows_before + len(elements)
    whole = endpoint.outbound.flatten
    progress.marks = marks_of(body.quick, answer.headers, rows, step.number, whole=whole)
    if endpoint.pagination is None:
        return None
    page = Page(
        rows=len(elements),
        url=request.url,
        headers=answer.headers,
        value_at=body.value_at,
        marks=progress.marks,
    )
    return endpoint.pagination.following(step, page)


def _repeats(step: Step, before: int) -> str:
    sent = ", ".join(f"'{name}'" for name in step.parameters)
    cause = f"the partner passes over {sent}, or" if sent else "the partner gives the same address again, or"
    return (
        f"page {step.number} has the same rows as page {before}: {cause} repeats its last page past the end; name"
        " the parameter that it reads, or say where the end is (size, total or more)"
    )


def _digest(elements: list[Any]) -> bytes:
    try:
        text = orjson.dumps(elements)
    except TypeError:
        text = repr(elements).encode("utf-8", "surrogatepass")
    return sha256(text).digest()


def _idempotency_key(endpoint: Endpoint, call_id: str, step: Step) -> dict[str, SecretStr]:
    given = {name.lower() for name in endpoint.headers}
    if not call_id or endpoint.method == "GET" or not endpoint.idempotency_key or "idempotency-key" in given:
        return {}
    return {"Idempotency-Key": SecretStr(call_id if step.number == 1 else f"{call_id}-{step.number}")}


async def _let_in(session: Session, request: PartnerRequest, access: Access) -> PartnerAnswer:
    """Send with credentials; where they are refused as a token that has expired, once more with fresh ones."""
    access.check(request.url)
    used = await access.headers()
    try:
        return await session.send(_with_headers(request, used))
    except StatusRefused as refused:
        expired = refused.facts["status"] == 401 or refused.facts.get("is_expired")
        if not expired or not await access.renewed(used):
            raise
    try:
        return await session.send(_with_headers(request, await access.headers()))
    except StatusRefused as refused:
        raise StatusRefused(**{**refused.facts, "after_refresh": refused.facts["status"] in {401, 403}}) from None


def _with_headers(request: PartnerRequest, headers: Mapping[str, SecretStr]) -> PartnerRequest:
    return replace(request, headers={**request.headers, **headers}) if headers else request


def read_fetched(
    bodies: list[Body], endpoint: Endpoint, marks: Marks, freshness: Iterable[Freshness] = ()
) -> Fetched:
    """Read the pages of a call, and add to the findings what came and whether it was all.

    Errors: `ResponseShapeInvalid`, also where there is more and the contract calls that an error.
    """
    answer = read_bodies(bodies, endpoint.outbound)
    size = sum(len(body.content) for body in bodies)
    rows = sum(len(elements_of(body, endpoint.outbound)) for body in bodies)
    pages = max(len(bodies), 1)
    more = [Finding("more", "", f"not all rows came: {marks.sentence}")] if marks.more else []
    came = f"{_some(rows, 'row')}, {_some(pages, 'page')}, {_some(size, 'byte')}; {marks.sentence}"
    received = pl.DataFrame([("received", None, "info", came)], schema=FINDINGS, orient="row")
    findings = pl.concat([judged(more, endpoint.outbound.contract), answer.findings, received])
    return Fetched(replace(answer, findings=findings), size, pages, rows, freshness_of_all(freshness))


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
