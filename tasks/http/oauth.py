"""OAuth 2.0 client credentials (RFC 6749): a token that is kept while it is fresh.

The token is fetched through the same guarded connection as everything else; what is asked and what is answered is
oauthlib's to say. A module of its own, so that a call without OAuth does not wait for oauthlib to be imported.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal, Protocol
from urllib.parse import quote

from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, MissingTokenError, OAuth2Error
from pydantic import SecretStr

from tasks.errors import (
    ApiError,
    AuthorizationServerUnreachable,
    CredentialsRefused,
    DeadlineExceeded,
    HeaderNameReserved,
    OAuthSetupInvalid,
    PartnerUnreachable,
    StatusRefused,
    TokenNotFetched,
)
from tasks.http.bounded import json_object
from tasks.http.credentials import basic
from tasks.http.exchange import FORM, Connection, PartnerRequest, check_header_name
from tasks.http.network import public_url
from tasks.http.session import send_one
from tasks.runs.log import Logger

EARLY = timedelta(seconds=30)
"""A token is no longer used so long before it expires: the call itself takes time."""
LONGEST = timedelta(days=366)
"""A token is not kept for longer, whatever its server says."""


@dataclass(frozen=True)
class Token:
    """An access token and when it ends; None: it does not say."""

    value: SecretStr
    expires_at: datetime | None

    def is_fresh(self, now: datetime) -> bool:
        """Whether it can still be used."""
        return self.expires_at is None or now < self.expires_at - EARLY


class TokenStore(Protocol):
    """Where a token is kept between runs."""

    def read(self, setup: str) -> Token | None:
        """The token that was kept for this setup of the account."""

    def write(self, setup: str, token: Token) -> None:
        """Keep a token."""


@dataclass(frozen=True)
class OAuthSetup:
    """OAuth 2.0 client credentials: who asks whom for what."""

    provider: str
    token_url: str
    client_id: str
    client_secret: SecretStr
    scope: str = ""
    audience: str = ""
    client_authentication: Literal["header", "body"] = "header"
    headers: Mapping[str, SecretStr] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Tells setups apart, so that a token of an earlier one is not used; nothing of it can be read back."""
        parts = (self.token_url, self.client_id, self.scope, self.audience, self.client_secret.get_secret_value())
        return sha256("\x1f".join(parts).encode()).hexdigest()


def token_request(setup: OAuthSetup) -> PartnerRequest:
    """The request for a token. Errors: `OAuthSetupInvalid` where something is left out."""
    absent = [name for name in ("token_url", "client_id") if not getattr(setup, name)]
    if not setup.client_secret.get_secret_value():
        absent.append("client_secret")
    if absent:
        raise OAuthSetupInvalid(provider=setup.provider, reason=f"it has no {' and no '.join(absent)}")
    in_body = setup.client_authentication == "body"
    more = {"audience": setup.audience} if setup.audience else {}
    if in_body:
        more["client_secret"] = setup.client_secret.get_secret_value()
    body = BackendApplicationClient(setup.client_id).prepare_request_body(
        scope=setup.scope or None, include_client_id=in_body, **more
    )
    headers = dict(setup.headers)
    if not in_body:
        # RFC 6749, 2.3.1: both are form-encoded before they are joined.
        client = quote(setup.client_id, safe="")
        secret = SecretStr(quote(setup.client_secret.get_secret_value(), safe=""))
        headers |= basic(client, secret).headers()
    return PartnerRequest("POST", setup.token_url, body.encode(), FORM, headers)


def allowed_headers(setup: OAuthSetup, logger: Logger) -> OAuthSetup:
    """The setup without the headers that the activity sets itself, each of which is warned of (WKF-560279)."""
    kept: dict[str, SecretStr] = {}
    for name, value in setup.headers.items():
        try:
            check_header_name(name, also_reserved={"authorization"})
        except HeaderNameReserved:
            logger.warning(
                "OAuth credential header key is not allowed: %r of provider ID '%s' is left out. (WKF-560279)",
                name,
                setup.provider,
            )
        else:
            kept[name] = value
    return replace(setup, headers=kept)


def token_of(body: bytes, setup: OAuthSetup, now: datetime) -> Token:
    """The token of an answer.

    Errors: `TokenNotFetched`, `CredentialsRefused`; neither shows anything of the answer.
    """
    try:
        # Read by the bounded reader of JSON first: oauthlib's own has no limit of depth or of digits.
        document = json.dumps(json_object(body))
        found = BackendApplicationClient(setup.client_id).parse_request_body_response(document)
        seconds = found.get("expires_in")
        expires_at = None if seconds is None else now + min(timedelta(seconds=float(seconds)), LONGEST)
        kind = str(found.get("token_type", "Bearer"))
        value = SecretStr(str(found["access_token"]))
    except InvalidClientError:
        raise CredentialsRefused(provider=setup.provider) from None
    except MissingTokenError:
        raise TokenNotFetched(provider=setup.provider, reason="the answer has no access token") from None
    except (OAuth2Error, ValueError, OverflowError, TypeError) as error:
        raise TokenNotFetched(
            provider=setup.provider, reason=f"the answer is not a token ({type(error).__name__})"
        ) from None
    if kind.lower() != "bearer":
        raise TokenNotFetched(provider=setup.provider, reason="the token is not a bearer token")
    return Token(value, expires_at)


@dataclass
class OAuthCredentials:
    """A bearer token: the one that is kept while it is fresh, else a new one; fetched anew once after a 401."""

    setup: OAuthSetup
    store: TokenStore
    connection: Connection
    allowed_hosts: frozenset[str]
    logger: Logger
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _renewed: bool = False

    def headers(self) -> Mapping[str, SecretStr]:
        """The token as a header. Errors: those of `fetch`."""
        token = self.store.read(self.setup.fingerprint())
        if token is not None and token.is_fresh(self.now()):
            self.logger.info("Using cached access token for provider ID '%s'.", self.setup.provider)
        else:
            token = self.fetch()
        return {"Authorization": SecretStr(f"Bearer {token.value.get_secret_value()}")}

    def check(self, url: str) -> None:
        """They go where the account that has them lends them."""

    def renew(self) -> bool:
        """Fetch a new token, once. Errors: those of `fetch`."""
        if self._renewed:
            return False
        self._renewed = True
        self.logger.info("Refreshing OAuth access token due to error (HTTP: '%d').", 401)
        try:
            self.fetch()
        except ApiError as error:
            self.logger.warning(
                "Error refreshing OAuth access token (error: '%s').", error.facts.get("status", error.code)
            )
            raise
        return True

    def fetch(self) -> Token:
        """Ask the authorization server for a token, and keep it.

        Errors: `OAuthSetupInvalid`, `AuthorizationServerUnreachable` (retryable), `CredentialsRefused`,
        `TokenNotFetched` (retryable where the server's status is), and those of a URL or host that is not allowed.
        """
        provider, url = self.setup.provider, public_url(self.setup.token_url)
        request = token_request(allowed_headers(self.setup, self.logger))
        try:
            answer = send_one(request, self.connection, self.allowed_hosts)
        except StatusRefused as refused:
            status = int(refused.facts["status"])
            if status in {400, 401, 403}:
                said = refused.facts["said"].replace(self.setup.client_secret.get_secret_value(), "…")
                raise CredentialsRefused(provider=provider, status=status, said=said) from None
            raise TokenNotFetched(
                provider=provider,
                reason=f"HTTP - {status}",
                status=status,
                retryable=refused.retryable,
                retry_after=refused.retry_after,
                url=url,
            ) from None
        except (PartnerUnreachable, DeadlineExceeded) as error:
            raise AuthorizationServerUnreachable(
                provider=provider,
                url=url,
                reason=str(error.facts.get("reason", "no answer in time")),
                retryable=True,
            ) from None
        token = token_of(answer.body, self.setup, self.now())
        self.store.write(self.setup.fingerprint(), token)
        self.logger.info("Fetched access token from server for provider ID '%s'.", provider)
        return token
