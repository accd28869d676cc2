"""Real connections to a partner: one client for all of a call, and sessions under one clock and one limit of bytes.

Redirects are not followed; proxies of the environment are not used, only the settings' own; without one the address
that was checked is the one connected to.
"""

from collections.abc import Awaitable, Callable
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote_plus

import anyio
import anyio.from_thread
import httpcore
import httpx
from pydantic import SecretStr

from tasks.errors import (
    ContentTypeRefused,
    DeadlineExceeded,
    PartnerUnreachable,
    RequestTooLarge,
    ResponseTooLarge,
)
from tasks.http.bounded import BoundedReader, Damaged, OverBound, TooLarge
from tasks.http.certificates import trusted_certificates
from tasks.http.exchange import (
    ACCEPTED,
    NOT_MODIFIED,
    Connection,
    PartnerAnswer,
    PartnerRequest,
    check_content_type,
    connection_failure,
    request_headers,
    status_refused,
)
from tasks.http.network import GuardedTransport, check_url, public_url
from tasks.http.partner_words import LONGEST_BODY, partner_words

T = TypeVar("T")


class Client:
    """Guarded connections to one partner, kept open between requests; an async context manager."""

    def __init__(
        self, connection: Connection, allowed_hosts: frozenset[str], transport: GuardedTransport | None = None
    ) -> None:
        self.connection = connection
        self.allowed_hosts = allowed_hosts
        if transport is None:
            context = trusted_certificates(connection.ca_file, connection.client_certificate, connection.client_key)
            transport = GuardedTransport(context, allowed_hosts, 1)
        self._transport = transport

    def beside(self) -> "Client":
        """A client of the same partner with a connection of its own, for calls side by side."""
        return Client(self.connection, self.allowed_hosts, self._transport.beside())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def begin(self, request: httpx.Request) -> httpx.Response:
        """Send a request and give its answer, of which only the header has come."""
        return await self._transport.handle_async_request(request)


class Session:
    """Requests of one call (its pages, the same with a fresh token): one clock, and one limit of bytes.

    The clock starts when the session is made and bounds resolving, connecting, TLS, sending and every byte of all
    answers.
    """

    def __init__(self, client: Client, unread_bytes: int | None = None) -> None:
        self._client = client
        self._connection = client.connection
        self._ends = monotonic() + self._connection.timeout_seconds
        self._unread_bytes = self._connection.max_response_bytes if unread_bytes is None else unread_bytes

    async def send(self, request: PartnerRequest) -> PartnerAnswer:
        """Make one request and give its answer, which is 2xx and, if it has a body, of a type that was asked for.

        Errors: those of `check_url` and `request_headers`, `RequestTooLarge`, `StatusRefused`,
        `ContentTypeRefused`, `ResponseTooLarge`, `CertificateInvalid`, `PartnerUnreachable`, `DeadlineExceeded`.
        """
        address = check_url(request.url, self._client.allowed_hosts)
        url = public_url(request.url)
        limit = self._connection.max_request_bytes
        if request.body is not None and len(request.body) > limit:
            raise RequestTooLarge(url=url, size=len(request.body), limit=limit)
        sent = httpx.Request(request.method, address, content=request.body, headers=request_headers(request))
        try:
            with anyio.fail_after(self._ends - monotonic()):
                return await self._exchange(sent, request, url)
        except (TimeoutError, httpcore.TimeoutException):
            raise DeadlineExceeded(url=url, seconds=self._connection.timeout_seconds, retryable=True) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise connection_failure(error, url) from None

    async def _exchange(self, sent: httpx.Request, request: PartnerRequest, url: str) -> PartnerAnswer:
        response = await self._client.begin(sent)
        try:
            if response.status_code == NOT_MODIFIED and request.conditions:
                return PartnerAnswer(NOT_MODIFIED, response.headers, b"")
            if not response.is_success or response.status_code == ACCEPTED:
                words = partner_words(await _beginning(response), _not_shown(request))
                raise status_refused(response, url, self._connection.retry_after_limit_seconds, words)
            check_content_type(response, request, url)
            body = await self._decoded_body(response, url)
        finally:
            await response.aclose()
        return PartnerAnswer(response.status_code, response.headers, body)

    async def _decoded_body(self, response: httpx.Response, url: str) -> bytes:
        try:
            reader = BoundedReader(self._unread_bytes, encoding=response.headers.get("Content-Encoding", ""))
        except ValueError:
            encoding = response.headers["Content-Encoding"]
            raise ContentTypeRefused(url=url, content_type=f"{encoding[:40]}-encoded", wanted="gzip") from None
        body = bytearray()
        try:
            async for part in response.aiter_raw():
                for piece in reader.decoded(part):
                    body += piece
            reader.finish()
        except TooLarge:
            raise ResponseTooLarge(url=url, limit=self._connection.max_response_bytes) from None
        except Damaged as reason:
            raise PartnerUnreachable(url=url, reason=f"the compressed answer {reason}", retryable=True) from None
        self._unread_bytes -= len(body)
        return bytes(body)


def _not_shown(request: PartnerRequest) -> list[SecretStr]:
    """What a partner may repeat and no error shows: headers and, as in addresses, the query. It may hold a key."""
    query = httpx.URL(request.url).query.decode()
    values = [pair.partition("=")[2] for pair in query.split("&")]
    return [*request.headers.values(), *map(SecretStr, values), *(SecretStr(unquote_plus(each)) for each in values)]


async def _beginning(response: httpx.Response) -> bytes:
    """What can be read of an error's body: nothing where it breaks off, is too long or of another encoding."""
    body = bytearray()
    try:
        reader = BoundedReader(LONGEST_BODY, encoding=response.headers.get("Content-Encoding", ""))
        async for part in response.aiter_raw():
            for piece in reader.decoded(part):
                body += piece
    except (OverBound, Damaged, ValueError, httpcore.NetworkError, httpcore.ProtocolError, OSError):
        pass
    return bytes(body)


def from_any_thread(work: Callable[..., Awaitable[T]], *arguments: Any) -> T:  # noqa: ANN401
    """Run async work in a thread with a loop of its own: a task may be called where a loop is running or not."""
    with anyio.from_thread.start_blocking_portal() as portal:
        return portal.call(work, *arguments)


def send_one(request: PartnerRequest, connection: Connection, allowed_hosts: frozenset[str]) -> PartnerAnswer:
    """Make one request over connections of its own. Errors: those of `Session.send`."""

    async def send() -> PartnerAnswer:
        async with Client(connection, allowed_hosts) as client:
            return await Session(client).send(request)

    return from_any_thread(send)
