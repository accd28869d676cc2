"""One HTTPS exchange with a partner: its limits, its headers and its failures, as rules without I/O.

`tasks.http.session` applies them to real connections.
"""

import re
import socket
import ssl
import string
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from tasks.errors import (
    ApiError,
    CertificateInvalid,
    ContentTypeRefused,
    HeaderNameInvalid,
    HeaderNameReserved,
    HeaderValueInvalid,
    PartnerUnreachable,
    StatusRefused,
)
from tasks.http.certificates import AuthorityFile, ClientCertificate, ClientKey
from tasks.http.retry import retry_after_seconds

FIVE_MEGABYTES = 5 * 1024 * 1024
JSON = "application/json"
JSON_TYPES = frozenset({JSON, "+json"})
FORM = "application/x-www-form-urlencoded"
NO_CONTENT = 204
ACCEPTED = 202
NOT_MODIFIED = 304

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

CREDENTIALS = "Check the endpoint's headers or its external account: key, user, scope."
REMEDY_OF_STATUS = {
    202: "The partner has only accepted the request, and has no answer yet: try later, or ask where it will be.",
    400: "Correct what is sent: the endpoint's inbound mapping.",
    401: CREDENTIALS,
    403: f"{CREDENTIALS} The account may lack a right to this resource.",
    404: "Check the path of the endpoint's URL; if it means that nothing was found, name it in empty_statuses.",
    405: "Check the endpoint's method.",
    406: "Check the endpoint's format.",
    407: "A proxy before the partner asks for credentials: name it in CAMPAIGN_NETWORK__PROXY.",
    410: "The address is no longer served: ask the partner for the new one.",
    413: "Send fewer rows, or a call for each chunk of rows (calls).",
    415: "Check the endpoint's inbound encoding.",
    422: "Correct what is sent: the endpoint's inbound mapping.",
    429: "The partner limits its calls: try later, ask for more, or set the endpoint's rate_limit.",
}
EXPIRED = re.compile(r"invalid[_ -]?token|expired|token.{0,40}(invalid|not valid|revoked)", re.IGNORECASE)


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
    client_certificate: ClientCertificate = None
    client_key: ClientKey = None
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
    checked = {"Accept": request.accept, "Accept-Encoding": "gzip"}
    if request.body is not None:
        checked["Content-Type"] = request.content_type
    checked |= request.conditions
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

    method: Literal["GET", "POST", "PUT", "PATCH"]
    url: str
    body: bytes | None = None
    content_type: str = JSON
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    accept: str = JSON
    takes: frozenset[str] = JSON_TYPES
    """Content types that an answer may have; `+json` is any type that ends so."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Headers that ask whether an answer of before is still right: 304 says that it is."""


@dataclass(frozen=True)
class PartnerAnswer:
    """A 2xx answer, or a 304 that was asked for: status, header fields, body as decoded from any compression."""

    status: int
    headers: httpx.Headers
    body: bytes


def status_refused(response: httpx.Response, url: str, retry_after_limit: float, words: str) -> StatusRefused:
    """The failure of an answer that is not 2xx: with the partner's words, and the wait that it asks for."""
    said = f"; the partner says: {words}" if words else ""
    return StatusRefused(
        url=url,
        status=response.status_code,
        said=said,
        cure=_remedy_of(response),
        is_expired=response.status_code in {401, 403} and _is_expired(response, words),
        retry_after=retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC), retry_after_limit),
    )


def check_content_type(response: httpx.Response, request: PartnerRequest, url: str) -> None:
    """Check that a 2xx answer is of a type that was asked for. Errors: `ContentTypeRefused`."""
    content_type = response.headers.get("Content-Type", "")
    bare = content_type.partition(";")[0].strip().lower()
    taken = bare in request.takes or any(bare.endswith(each) for each in request.takes if each.startswith("+"))
    if response.status_code != NO_CONTENT and not taken:
        raise ContentTypeRefused(url=url, content_type=content_type[:100], wanted=request.accept)


def _remedy_of(response: httpx.Response) -> str:
    if response.is_redirect:
        return "Redirects are not followed: set the endpoint's URL to the final address."
    if response.status_code >= 500:
        return "The partner's service failed: try later, or ask the partner."
    return REMEDY_OF_STATUS.get(response.status_code, "Ask the partner, or try later.")


def _is_expired(response: httpx.Response, words: str) -> bool:
    """Whether credentials are refused because a token is no longer valid."""
    return bool(EXPIRED.search(response.headers.get("WWW-Authenticate", "")) or EXPIRED.search(words))


def connection_failure(error: BaseException, url: str) -> ApiError:
    """What a broken connection is, by its cause."""
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
