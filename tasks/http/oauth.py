"""OAuth 2.0: a token that is kept while it is fresh.

By client credentials or a refresh token (RFC 6749), or by an assertion signed with a private key (RFC 7523).

The token is fetched through the same guarded connection as everything else; what is asked and what is answered is
oauthlib's to say. A module of its own, so that a call without OAuth does not wait for oauthlib to be imported.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlencode
from uuid import uuid4

from oauthlib.oauth2 import BackendApplicationClient, MissingTokenError, OAuth2Error
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
from tasks.http.exchange import FORM, JSON, Connection, PartnerRequest, check_header_name
from tasks.http.network import public_url
from tasks.http.partner_words import words_of
from tasks.http.session import send_one
from tasks.runs.locks import SystemLocks
from tasks.runs.log import Logger

EARLY = timedelta(seconds=30)
"""A token is no longer used so long before it expires: the call itself takes time."""
SHORT_WAIT = 3.0
"""Seconds of waiting for another run that are not worth a line in the log."""
LONGEST = timedelta(days=366)
"""A token is not kept for longer, whatever its server says."""


@dataclass(frozen=True)
class Token:
    """An access token and when it ends; None: it does not say."""

    value: SecretStr
    expires_at: datetime | None
    refresh_token: SecretStr | None = None
    """What the next token is asked for with, where the server gave one."""

    def is_fresh(self, now: datetime) -> bool:
        """Whether it can still be used."""
        return self.expires_at is None or now < self.expires_at - EARLY


class TokenStore(Protocol):
    """Where a token is kept between runs."""

    def read(self, setup: str) -> Token | None:
        """The token that was kept for this setup of the account."""

    def write(self, setup: str, token: Token) -> None:
        """Keep a token."""


NO_SECRET = SecretStr("")
Grant = Literal["client_credentials", "refresh_token", "jwt_bearer"]
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_LASTS = timedelta(minutes=5)


@dataclass(frozen=True)
class OAuthSetup:
    """How a token is asked for: who asks whom for what."""

    provider: str
    token_url: str
    client_id: str
    client_secret: SecretStr
    scope: str = ""
    audience: str = ""
    client_authentication: Literal["header", "body"] = "header"
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    grant: Grant = "client_credentials"
    refresh_token: SecretStr = NO_SECRET
    private_key: SecretStr = NO_SECRET
    """PEM; of the grant jwt_bearer."""
    key_id: str = ""
    algorithm: str = "RS256"
    claims: Mapping[str, Any] = field(default_factory=dict)
    """Further claims of an assertion; they come before its own."""
    parameters: Mapping[str, SecretStr] = field(default_factory=dict)
    """Further parameters of the request (resource, say)."""
    encoding: Literal["form", "json"] = "form"
    token_type: str = ""
    """The word before the token, whatever the server calls its type; empty: Bearer, and the server must say so."""
    has_certificate: bool = False
    """Whether a client certificate says who asks, so that no secret is needed (RFC 8705)."""

    def fingerprint(self) -> str:
        """Tells setups apart, so that a token of an earlier one is not used; nothing of it can be read back."""
        secrets = (self.client_secret, self.refresh_token, self.private_key)
        parts = (
            *(self.token_url, self.client_id, self.scope, self.audience, self.grant, self.key_id, self.token_type),
            repr(sorted(self.claims.items())),
            repr(sorted((name, value.get_secret_value()) for name, value in self.parameters.items())),
            *(secret.get_secret_value() for secret in secrets),
        )
        return sha256("\x1f".join(parts).encode()).hexdigest()

    def needed(self) -> list[str]:
        """What the grant cannot do without, by name."""
        secret = {
            "client_credentials": "client_secret",
            "refresh_token": "refresh_token",
            "jwt_bearer": "private_key",
        }
        by_certificate = self.has_certificate and self.grant == "client_credentials"
        return ["token_url", "client_id", *([] if by_certificate else [secret[self.grant]])]


def token_request(setup: OAuthSetup, kept: Token | None = None, now: datetime | None = None) -> PartnerRequest:
    """The request for a token; `kept` may have a refresh token that is newer than the account's.

    Errors: `OAuthSetupInvalid` where something is left out, or the private key cannot sign.
    """
    absent = [name for name in setup.needed() if not _plain(getattr(setup, name))]
    if absent:
        raise OAuthSetupInvalid(provider=setup.provider, reason=f"it has no {' and no '.join(absent)}")
    secret = setup.client_secret.get_secret_value()
    in_body = setup.client_authentication == "body" or not secret
    asked = {name: value.get_secret_value() for name, value in setup.parameters.items()}
    asked |= _grant(setup, kept, now or datetime.now(UTC))
    asked |= {name: value for name, value in (("scope", setup.scope), ("audience", setup.audience)) if value}
    if setup.grant == "jwt_bearer":
        asked.pop("audience", None)  # it is the assertion's
    elif in_body:
        asked |= {"client_id": setup.client_id} | ({"client_secret": secret} if secret else {})
    headers = dict(setup.headers)
    if not in_body:
        # RFC 6749, 2.3.1: both are form-encoded before they are joined.
        client = quote(setup.client_id, safe="")
        headers |= basic(client, SecretStr(quote(secret, safe=""))).headers()
    is_json = setup.encoding == "json"
    body = json.dumps(asked) if is_json else urlencode(asked)
    return PartnerRequest("POST", setup.token_url, body.encode(), JSON if is_json else FORM, headers)


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _grant(setup: OAuthSetup, kept: Token | None, now: datetime) -> dict[str, str]:
    match setup.grant:
        case "client_credentials":
            return {"grant_type": "client_credentials"}
        case "refresh_token":
            token = kept.refresh_token if kept is not None and kept.refresh_token else setup.refresh_token
            return {"grant_type": "refresh_token", "refresh_token": token.get_secret_value()}
        case _:
            return {"grant_type": JWT_BEARER, "assertion": _assertion(setup, now)}


def _assertion(setup: OAuthSetup, now: datetime) -> str:
    """A signed statement of who asks (RFC 7523, 3). Errors: `OAuthSetupInvalid`."""
    import jwt  # noqa: PLC0415  # only this grant waits for it

    claims = {
        "iss": setup.client_id,
        "sub": setup.client_id,
        "aud": setup.audience or setup.token_url,
        "iat": int(now.timestamp()),
        "exp": int((now + ASSERTION_LASTS).timestamp()),
        "jti": str(uuid4()),
        **({"scope": setup.scope} if setup.scope else {}),
        **setup.claims,
    }
    headers = {"kid": setup.key_id} if setup.key_id else None
    try:
        return jwt.encode(claims, setup.private_key.get_secret_value(), algorithm=setup.algorithm, headers=headers)
    except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
        reason = f"its private key cannot sign with {setup.algorithm}"
        raise OAuthSetupInvalid(provider=setup.provider, reason=reason) from None


def allowed_headers(setup: OAuthSetup, logger: Logger) -> OAuthSetup:
    """The setup without the headers that the activity sets itself; each is logged as a warning (WKF-560279)."""
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

    Errors: `TokenNotFetched`, `CredentialsRefused`; of the answer they show the server's error alone.
    """
    try:
        # Read by the bounded reader of JSON first: oauthlib's own has no limit of depth or of digits.
        answer = json_object(body)
        if "error" in answer:
            # Some servers refuse with 200.
            raise CredentialsRefused(provider=setup.provider, said=f"; the server says: {words_of(answer)}")
        if setup.token_type:
            answer = {**answer, "token_type": "Bearer"}
        found = BackendApplicationClient(setup.client_id).parse_request_body_response(json.dumps(answer))
        seconds = found.get("expires_in")
        expires_at = None if seconds is None else now + min(timedelta(seconds=float(seconds)), LONGEST)
        kind = str(found.get("token_type", "Bearer"))
        value = SecretStr(str(found["access_token"]))
        refresh = found.get("refresh_token")
    except MissingTokenError:
        raise TokenNotFetched(provider=setup.provider, reason="the answer has no access token") from None
    except (OAuth2Error, ValueError, OverflowError, TypeError) as error:
        raise TokenNotFetched(
            provider=setup.provider, reason=f"the answer is not a token ({type(error).__name__})"
        ) from None
    if kind.lower() != "bearer":
        raise TokenNotFetched(
            provider=setup.provider, reason="the token is not a bearer token; name its type in token_type"
        )
    return Token(value, expires_at, SecretStr(refresh) if isinstance(refresh, str) and refresh else None)


@dataclass
class OAuthCredentials:
    """A bearer token: the one that is kept while it is fresh, else a new one; fetched again once after a 401."""

    setup: OAuthSetup
    store: TokenStore
    connection: Connection
    allowed_hosts: frozenset[str]
    logger: Logger
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _renewed: bool = False
    _used: Token | None = None

    def headers(self) -> Mapping[str, SecretStr]:
        """The token as a header. Errors: those of `fetch`."""
        token = self.store.read(self.setup.fingerprint())
        if token is not None and token.is_fresh(self.now()):
            self.logger.info("Using cached access token for provider ID '%s'.", self.setup.provider)
        else:
            token = self._fetch_alone(None)
        self._used = token
        word = self.setup.token_type or "Bearer"
        return {"Authorization": SecretStr(f"{word} {token.value.get_secret_value()}")}

    def check(self, url: str) -> None:
        """They go where the account that has them lends them."""

    def renew(self) -> bool:
        """Fetch a new token, once. Errors: those of `fetch`."""
        if self._renewed:
            return False
        self._renewed = True
        self.logger.info("Refreshing OAuth access token due to error (HTTP: '%d').", 401)
        try:
            self._fetch_alone(self._used)
        except ApiError as error:
            self.logger.warning(
                "Error refreshing OAuth access token (error: '%s').", error.facts.get("status", error.code)
            )
            raise
        return True

    def _fetch_alone(self, refused: Token | None) -> Token:
        """A new token, or the one that another run fetched meanwhile, unless it is the refused one.

        Runs ask one after the other: a refresh token that its server replaces is good for one request.
        """
        setup = self.setup.fingerprint()
        locks, key, holder = SystemLocks(), f"token-{setup}", str(uuid4())
        if not locks.acquire_lock(key, holder, SHORT_WAIT):
            self.logger.info(
                "Waiting for the token that another run asks provider ID '%s' for.", self.setup.provider
            )
            locks.acquire_lock(key, holder)
        try:
            token = self.store.read(setup)
            is_new = token is not None and (refused is None or token.value != refused.value)
            return token if token is not None and is_new and token.is_fresh(self.now()) else self.fetch()
        finally:
            locks.release_lock(key, holder)

    def fetch(self) -> Token:
        """Ask the authorization server for a token, and keep it.

        Errors: `OAuthSetupInvalid`, `AuthorizationServerUnreachable` (retryable), `CredentialsRefused`,
        `TokenNotFetched` (retryable where the server's status is), and those of a URL or host that is not allowed.
        """
        provider, url = self.setup.provider, public_url(self.setup.token_url)
        kept = self.store.read(self.setup.fingerprint())
        request = token_request(allowed_headers(self.setup, self.logger), kept, self.now())
        try:
            answer = send_one(request, self.connection, self.allowed_hosts)
        except StatusRefused as refused:
            status = int(refused.facts["status"])
            if status in {400, 401, 403}:
                said = self._without_secrets(refused.facts["said"], kept)
                raise CredentialsRefused(provider=provider, status=status, said=said) from None
            raise TokenNotFetched(
                provider=provider,
                reason=f"HTTP - {status}{self._without_secrets(refused.facts['said'], kept)}",
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
        if token.refresh_token is None and kept is not None:
            token = replace(token, refresh_token=kept.refresh_token)
        self.store.write(self.setup.fingerprint(), token)
        self.logger.info("Fetched access token from server for provider ID '%s'.", provider)
        return token

    def _without_secrets(self, said: str, kept: Token | None) -> str:
        setup = self.setup
        secrets = [setup.client_secret, setup.refresh_token, *setup.parameters.values()]
        if kept is not None and kept.refresh_token is not None:
            secrets.append(kept.refresh_token)
        for secret in secrets:
            said = said.replace(secret.get_secret_value(), "…") if secret.get_secret_value() else said
        return said
