"""A trial of an endpoint: one real call, without Prefect's cache and retries, and all of it as text to look at."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

import httpx
import polars as pl
from pydantic import SecretStr

from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.fetch import Access, Fetched, Progress, fetch_pages, read_fetched
from tasks.endpoint.many import calls_of
from tasks.errors import CampaignError, RequestBodyInvalid
from tasks.http.accounts import credentials_of
from tasks.http.network import public_url
from tasks.http.session import Client, from_any_thread
from tasks.privacy import masked
from tasks.runs.log import Logger
from tasks.tables.transitions import quoted

FIRST_ROWS = 5
LONGEST = 400
"""Characters of a body that are shown."""
SHOWN_HEADERS = frozenset({"accept", "accept-encoding", "content-type", "content-length", "user-agent", "host"})
SECRET_NAMES = ("key", "token", "secret", "pass", "pwd", "auth", "sig", "code", "session", "credential")
"""Parts of the names of query parameters whose values are not shown."""


@dataclass
class Exchange:
    """One request, as it may be shown, and what came back."""

    request: str
    status: int | None = None
    content_type: str = ""
    seconds: float = 0.0
    """Until the answer's header had come."""


@dataclass(frozen=True)
class Trial:
    """What a trial came to: all of it as text, and the error it ended with, if it did."""

    text: str
    error: CampaignError | None = None


@dataclass
class _Seen:
    exchanges: list[Exchange] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    calls: int = 1
    seconds: float = 0.0


class _Watched(Client):
    """A client whose exchanges can be looked at afterwards."""

    def __init__(self, endpoint: Endpoint, allowed_hosts: frozenset[str], seen: _Seen) -> None:
        super().__init__(endpoint, allowed_hosts)
        self._seen = seen
        self._secrets = [*endpoint.headers.values()]

    async def begin(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and note it."""
        exchange = Exchange(_shown_request(request, self._secrets))
        self._seen.exchanges.append(exchange)
        begun = monotonic()
        try:
            response = await super().begin(request)
        finally:
            exchange.seconds = monotonic() - begun
        exchange.status, exchange.content_type = response.status_code, response.headers.get("Content-Type", "")
        return response


def try_endpoint(
    endpoint: Endpoint, inbound: pl.DataFrame | None, allowed_hosts: frozenset[str], logger: Logger
) -> Trial:
    """Make one real call of an endpoint: all its pages; of many calls, the first.

    In: the endpoint; the inbound rows, None for none. Out: request, timing, pages, columns, first rows and findings
    as text, secrets masked; the error where it ended with one, which the text says too.
    """
    seen = _Seen()
    begun = monotonic()
    fetched, error = None, None
    try:
        fetched = _fetched(endpoint, inbound, allowed_hosts, logger, seen)
    except CampaignError as failed:
        error = failed
    seen.seconds = monotonic() - begun
    return Trial("\n".join(_lines(endpoint, seen, fetched, error)) + "\n", error)


def _fetched(
    endpoint: Endpoint, inbound: pl.DataFrame | None, allowed_hosts: frozenset[str], logger: Logger, seen: _Seen
) -> Fetched:
    if endpoint.inbound.columns and inbound is None:
        reason = f"the endpoint is sent {quoted(endpoint.inbound.columns)}: give values to try it with"
        raise RequestBodyInvalid(part="data", reason=reason)
    call = EndpointCall(inbound, endpoint)
    if endpoint.calls is not None:
        calls = calls_of(call, endpoint.calls)
        call, seen.calls = calls[0], len(calls)
    access = Access(credentials_of(endpoint.account, allowed_hosts, logger))

    async def run() -> None:
        async with _Watched(endpoint, allowed_hosts, seen) as client:
            await fetch_pages(call, client, access, "trial", seen.progress)

    from_any_thread(run)
    return read_fetched(seen.progress.bodies, endpoint, seen.progress.marks, seen.progress.freshness)


def _lines(endpoint: Endpoint, seen: _Seen, fetched: Fetched | None, error: CampaignError | None) -> Iterator[str]:
    yield f"Endpoint   {endpoint.name}: {endpoint.method} {public_url(endpoint.url)}"
    yield f"Account    {endpoint.account or 'none'}"
    if seen.calls > 1:
        yield f"Calls      {seen.calls} would be made; this is the first"
    for number, exchange in enumerate(seen.exchanges, start=1):
        yield f"\nRequest {number}"
        yield exchange.request
        status = "no answer" if exchange.status is None else f"HTTP {exchange.status}, {exchange.content_type}"
        yield f"  -> {status}, {exchange.seconds * 1000:.0f} ms"
    yield f"\nTime       {seen.seconds:.2f} s in all"
    if fetched is not None:
        yield f"Pages      {fetched.pages}, {fetched.rows} rows, {fetched.bytes} bytes"
        yield from _of_answer(endpoint, fetched)
    if error is not None:
        yield f"\nFailed     {error}"


def _of_answer(endpoint: Endpoint, fetched: Fetched) -> Iterator[str]:
    answer = fetched.answer
    yield "\nColumns"
    for name, kind in answer.standard.schema.items():
        column = endpoint.outbound.columns.get(name)
        yield f"  {name}: {kind}" + (f", from {column.key}" if column else "")
    yield f"\nFirst rows of {answer.standard.height}"
    with pl.Config(tbl_rows=FIRST_ROWS, tbl_cols=-1, fmt_str_lengths=40, tbl_hide_dataframe_shape=True):
        yield str(answer.standard.head(FIRST_ROWS))
    for title, table in (("Rejected", answer.rejects), ("Replaced", answer.replaced)):
        for row in table.head(FIRST_ROWS).iter_rows(named=True):
            yield f"{title}   row {row['row']}, column '{row['column']}' {row['reason']}"
        if table.height > FIRST_ROWS:
            yield f"{title}   and {table.height - FIRST_ROWS} more"
    if endpoint.outbound.left_out:
        yield f"Not read   {quoted(endpoint.outbound.left_out)}"
    for finding in answer.findings.iter_rows(named=True):
        yield f"Finding    {finding['kind']} ({finding['action']}): {finding['detail']}"


def _shown_request(request: httpx.Request, secrets: list[SecretStr]) -> str:
    query = "&".join(
        f"{name}={'…' if any(part in name.lower() for part in SECRET_NAMES) else value}"
        for name, value in request.url.params.multi_items()
    )
    address = public_url(str(request.url))
    lines = [f"  {request.method} {address}" + (f"?{masked(query, secrets)}" if query else "")]
    lines += [
        f"  {name}: {value if name.lower() in SHOWN_HEADERS else '…'}" for name, value in request.headers.items()
    ]
    if request.content:
        body = request.content[: LONGEST * 4].decode("utf-8", "replace")
        more = "…" if len(body) > LONGEST or len(request.content) > LONGEST * 4 else ""
        lines.append(f"  {masked(body[:LONGEST], secrets)}{more}")
    return "\n".join(lines)
