"""One HTTPS exchange with a partner: its limits, its headers, its failures, and when a retry can mend them.

The rules are functions without I/O; a `Session` applies them to real connections. All requests of a session (the
pages of an answer, a call made again with a fresh token) share one clock and one limit of bytes.
"""

import socket
import ssl
import string
from collections.abc import Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Literal, Self

import anyio
import anyio.from_thread
import httpcore
import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from tasks.errors import (
    ApiError,
    CertificateInvalid,
    ContentTypeRefused,
    DeadlineExceeded,
    HeaderNameInvalid,
    HeaderNameReserved,
    HeaderValueInvalid,
    PartnerUnreachable,
    RequestTooLarge,
    ResponseTooLarge,
    StatusRefused,
)
from tasks.http.bounded import BoundedReader, Damaged, TooLarge
from tasks.http.certificates import AuthorityFile, trusted_certificates
from tasks.http.network import GuardedTransport, check_url, public_url
from tasks.http.retry import retry_after_seconds

FIVE_MEGABYTES = 5 * 1024 * 1024
JSON = "application/json"
NO_CONTENT = 204

RESERVED_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
HEADER_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
HEADER_VALUE_CHARACTERS = frozenset(chr(code) for code in (9, *range(32, 127)))

REMEDY_OF_STATUS = {
    401: "Check the credentials in the endpoint's headers.",
    403: "Check the credentials in the endpoint's headers.",
    404: "Check the path of the endpoint's URL.",
    429: "The partner limits its calls: try later or ask for more.",
}


class Connection(BaseModel):
    """How a partner is reached: its address, credentials and limits, and how often a failure is retried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(default="", title="URL", description="Address of the endpoint; https only.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict,
        title="Request headers",
        description="Custom headers, for example an API key. Values are secrets: they are never shown.",
    )
    ca_file: AuthorityFile = None
    timeout_seconds: float = Field(
        default=60, gt=0, title="Timeout", description="Limit for one whole exchange, in seconds."
    )
    max_request_bytes: int = Field(
        default=FIVE_MEGABYTES, gt=0, title="Request limit", description="Largest request body, in bytes."
    )
    max_response_bytes: int = Field(
        default=FIVE_MEGABYTES, gt=0, title="Response limit", description="Largest decoded answer, in bytes."
    )
    retries: int = Field(
        default=3, ge=0, le=50, title="Retries", description="How often a call that failed is made again."
    )
    backoff_seconds: float = Field(
        default=1,
        ge=0,
        title="Backoff",
        description="Bound of the random delay before the first retry, in seconds; doubled for each next.",
    )
    backoff_limit_seconds: float = Field(
        default=30, ge=0, title="Longest backoff", description="Bound that the doubling stops at, in seconds."
    )
    retry_after_limit_seconds: float = Field(
        default=120,
        ge=0,
        title="Longest Retry-After",
        description="Longest wait that the partner's Retry-After may ask for, in seconds.",
    )


def check_header_name(name: str, also_reserved: Set[str] = frozenset()) -> None:
    """Check a header's name. Errors: `HeaderNameInvalid`, `HeaderNameReserved`."""
    if not name or not HEADER_NAME_CHARACTERS.issuperset(name):
        raise HeaderNameInvalid(name=name)
    if name.lower() in RESERVED_HEADERS | also_reserved:
        raise HeaderNameReserved(name=name)


def request_headers(request: "PartnerRequest") -> dict[str, str]:
    """Headers to send, custom ones checked against the HTTP grammar.

    Errors: `HeaderNameInvalid`, `HeaderNameReserved`, `HeaderValueInvalid`; none shows a value.
    """
    checked = {"Accept": JSON, "Accept-Encoding": "gzip"}
    if request.body is not None:
        checked["Content-Type"] = request.content_type
    for name, secret in request.headers.items():
        check_header_name(name)
        value = secret.get_secret_value()
        if not HEADER_VALUE_CHARACTERS.issuperset(value):
            raise HeaderValueInvalid(name=name)
        checked[name] = value
    return checked


@dataclass(frozen=True)
class PartnerRequest:
    """One request: its method, its address (https), and what goes with it."""

    method: Literal["GET", "POST"]
    url: str
    body: bytes | None = None
    content_type: str = "application/json"
    headers: Mapping[str, SecretStr] = field(default_factory=dict)


@dataclass(frozen=True)
class PartnerAnswer:
    """A 2xx answer: its status, its header fields, and its body as decoded from any compression."""

    status: int
    headers: httpx.Headers
    body: bytes


class Session:
    """Requests to a partner under one clock and one limit of bytes; a context manager.

    The clock starts when the block is entered and bounds resolving, connecting, TLS, sending and every byte of all
    answers. Redirects are not followed; proxies of the environment are not used; the address that was checked is
    the one connected to.
    """

    def __init__(self, connection: Connection, allowed_hosts: frozenset[str]) -> None:
        self._connection = connection
        self._allowed_hosts = allowed_hosts
        self._unread_bytes = connection.max_response_bytes
        self._running = ExitStack()

    def __enter__(self) -> Self:
        context = trusted_certificates(self._connection.ca_file)
        self._ends = monotonic() + self._connection.timeout_seconds
        # A thread with a loop of its own: a task may be called where a loop is running, and where none is.
        self._portal = self._running.enter_context(anyio.from_thread.start_blocking_portal())
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(context, self._allowed_hosts),
            follow_redirects=False,
            trust_env=False,
            timeout=None,  # noqa: S113  # httpx's timeouts are per read; `send` has the one clock
        )
        self._running.callback(self._portal.call, self._client.aclose)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def send(self, request: PartnerRequest) -> PartnerAnswer:
        """Make one request and give its answer, which is 2xx and, if it has a body, application/json.

        Errors: those of `check_url` and `request_headers`, `RequestTooLarge`, `StatusRefused`,
        `ContentTypeRefused`, `ResponseTooLarge`, `CertificateInvalid`, `PartnerUnreachable`, `DeadlineExceeded`.
        """
        check_url(request.url, self._allowed_hosts)
        url = public_url(request.url)
        limit = self._connection.max_request_bytes
        if request.body is not None and len(request.body) > limit:
            raise RequestTooLarge(url=url, size=len(request.body), limit=limit)
        headers = request_headers(request)
        try:
            return self._portal.call(self._exchange, request, headers)
        except (TimeoutError, httpcore.TimeoutException):
            raise DeadlineExceeded(url=url, seconds=self._connection.timeout_seconds, retryable=True) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise _connection_failure(error, url) from None

    async def _exchange(self, request: PartnerRequest, headers: dict[str, str]) -> PartnerAnswer:
        with anyio.fail_after(self._ends - monotonic()):
            sent = self._client.build_request(request.method, request.url, content=request.body, headers=headers)
            response = await self._client.send(sent, stream=True)
            try:
                check_answer(response, public_url(request.url), self._connection.retry_after_limit_seconds)
                body = await self._decoded_body(response, public_url(request.url))
            finally:
                await response.aclose()
        return PartnerAnswer(response.status_code, response.headers, body)

    async def _decoded_body(self, response: httpx.Response, url: str) -> bytes:
        try:
            reader = BoundedReader(self._unread_bytes, encoding=response.headers.get("Content-Encoding", ""))
        except ValueError:
            encoding = response.headers["Content-Encoding"]
            raise ContentTypeRefused(url=url, content_type=f"{encoding[:40]}-encoded") from None
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


def check_answer(response: httpx.Response, url: str, retry_after_limit: float) -> None:
    """Check the status and the header fields of an answer, before any of its body is read.

    Errors: `StatusRefused` (not 2xx, with the wait that the partner asks for), `ContentTypeRefused`.
    """
    if not response.is_success:
        raise StatusRefused(
            url=url,
            status=response.status_code,
            cure=_remedy_of(response),
            retry_after=retry_after_seconds(
                response.headers.get("Retry-After"), datetime.now(UTC), retry_after_limit
            ),
        )
    content_type = response.headers.get("Content-Type", "")
    if response.status_code != NO_CONTENT and content_type.partition(";")[0].strip().lower() != JSON:
        raise ContentTypeRefused(url=url, content_type=content_type)


def post(body: bytes, connection: Connection, allowed_hosts: frozenset[str]) -> bytes:
    """POST a JSON body to the connection's address and give the answer's body. Errors: those of `Session.send`."""
    with Session(connection, allowed_hosts) as session:
        return session.send(PartnerRequest("POST", connection.url, body, headers=connection.headers)).body


def _remedy_of(response: httpx.Response) -> str:
    if response.is_redirect:
        return "Redirects are not followed: set the endpoint's URL to the final address."
    return REMEDY_OF_STATUS.get(response.status_code, "Ask the partner, or try later.")


def _connection_failure(error: BaseException, url: str) -> ApiError:
    cause: BaseException | None = error
    reason = ""
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateInvalid(url=url, reason=cause.verify_message)
        if isinstance(cause, socket.gaierror):
            passing = cause.errno != socket.EAI_NONAME
            return PartnerUnreachable(url=url, reason="its host name does not resolve", retryable=passing)
        reason = str(getattr(cause, "strerror", None) or cause) or reason
        cause = cause.__cause__ or cause.__context__
    return PartnerUnreachable(url=url, reason=f"no connection, or it broke: {reason}", retryable=True)
