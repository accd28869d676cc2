"""One HTTPS exchange with a partner: its limits, its headers, its failures, and when a retry can mend them.

The rules are functions without I/O; `post` applies them to a real connection.
"""

import random
import socket
import ssl
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

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
    SourceUnreadable,
    StatusRefused,
)
from tasks.network import GuardedTransport, check_url, public_url

FIVE_MEGABYTES = 5 * 1024 * 1024

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
    ca_file: Path | None = Field(
        default=None,
        title="Certificate authority file",
        description="PEM file of an authority to trust besides the system's.",
    )
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


def backoff_delays(connection: Connection) -> list[float]:
    """Seconds to wait before each retry: full jitter, uniform between nothing and a bound that doubles."""
    return [
        random.uniform(0, min(connection.backoff_limit_seconds, connection.backoff_seconds * 2.0**attempt))  # noqa: S311
        for attempt in range(connection.retries)
    ]


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


def request_headers(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    """Headers to send, custom ones checked against the HTTP grammar.

    Errors: `HeaderNameInvalid`, `HeaderNameReserved`, `HeaderValueInvalid`; none shows a value.
    """
    checked = {"Accept": "application/json", "Content-Type": "application/json"}
    for name, secret in headers.items():
        if not name or not HEADER_NAME_CHARACTERS.issuperset(name):
            raise HeaderNameInvalid(name=name)
        if name.lower() in RESERVED_HEADERS:
            raise HeaderNameReserved(name=name)
        value = secret.get_secret_value()
        if not HEADER_VALUE_CHARACTERS.issuperset(value):
            raise HeaderValueInvalid(name=name)
        checked[name] = value
    return checked


def trusted_certificates(ca_file: Path | None) -> ssl.SSLContext:
    """TLS settings that verify name and chain against the system's authorities and those of `ca_file`.

    Errors: `SourceUnreadable`.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SourceUnreadable(
                what="certificate authority file",
                path=ca_file,
                reason=error.strerror or str(error),
                cure="Set the endpoint's ca_file to a PEM file, or leave it out.",
            ) from None
    return context


def post(body: bytes, connection: Connection, allowed_hosts: frozenset[str]) -> bytes:
    """POST a JSON body and give the decoded body of a 2xx answer of type application/json.

    One clock bounds the whole exchange: resolving, connecting, TLS, sending and every byte of the answer.
    Redirects are not followed; proxies of the environment are not used. Errors: those of `check_url` and
    `request_headers`, `RequestTooLarge`, `StatusRefused`, `ContentTypeRefused`, `ResponseTooLarge`,
    `CertificateInvalid`, `PartnerUnreachable`, `DeadlineExceeded`.
    """
    check_url(connection.url, allowed_hosts)
    url = public_url(connection.url)
    if len(body) > connection.max_request_bytes:
        raise RequestTooLarge(url=url, size=len(body), limit=connection.max_request_bytes)
    headers = request_headers(connection.headers)
    context = trusted_certificates(connection.ca_file)

    async def exchange() -> bytes:
        with anyio.fail_after(connection.timeout_seconds):
            async with httpx.AsyncClient(
                transport=GuardedTransport(context, allowed_hosts),
                follow_redirects=False,
                trust_env=False,
                timeout=connection.timeout_seconds,
            ) as client:
                request = client.build_request("POST", connection.url, content=body, headers=headers)
                response = await client.send(request, stream=True)
                try:
                    return await _read(response, connection)
                finally:
                    await response.aclose()

    try:
        # A thread with a loop of its own: a task may be called where a loop is running, and where none is.
        with anyio.from_thread.start_blocking_portal() as portal:
            return portal.call(exchange)
    except (TimeoutError, httpcore.TimeoutException):
        raise DeadlineExceeded(url=url, seconds=connection.timeout_seconds, retryable=True) from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.DecodingError, OSError) as error:
        raise _connection_failure(error, url) from None


async def _read(response: httpx.Response, connection: Connection) -> bytes:
    url = public_url(connection.url)
    if not response.is_success:
        raise StatusRefused(
            url=url,
            status=response.status_code,
            cure=_remedy_of(response),
            retry_after=retry_after_seconds(
                response.headers.get("Retry-After"), datetime.now(UTC), connection.retry_after_limit_seconds
            ),
        )
    content_type = response.headers.get("Content-Type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ContentTypeRefused(url=url, content_type=content_type)
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > connection.max_response_bytes:
            raise ResponseTooLarge(url=url, limit=connection.max_response_bytes)
    return bytes(body)


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
