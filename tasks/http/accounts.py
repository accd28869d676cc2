"""External accounts: a partner's credentials as Prefect blocks, which keep them encrypted and are made in the UI.

`prefect block register -m tasks.http.accounts` makes the three kinds known to a server. An endpoint names its
account as `<kind>/<name>`, for example `oauth2-account/coupon-system`.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from prefect.blocks.core import Block
from prefect.blocks.fields import SecretDict
from pydantic import Field, SecretStr

from tasks.errors import AccountDisabled, AccountMissing, AccountOfWrongKind, OAuthSetupInvalid
from tasks.http.certificates import ClientCertificate, ClientKey
from tasks.http.credentials import NO_CREDENTIALS, Credentials, FixedCredentials, LentCredentials, basic
from tasks.http.exchange import Connection
from tasks.http.oauth import Grant, OAuthCredentials, OAuthSetup, Token
from tasks.runs.log import Logger


class ExternalAccount(Block):
    """Credentials of one partner."""

    enabled: bool = Field(default=True, title="Enabled", description="A disabled account lets no call out.")
    hosts: list[str] = Field(
        default=[],
        title="Hosts",
        description=(
            "Hosts that the account is for, each a host, host:port, or either with the beginning of a path"
            " (api.example.com/v1). It is sent nowhere else; empty: nowhere at all."
        ),
    )

    def credentials(self, name: str, allowed_hosts: frozenset[str], logger: Logger) -> Credentials:
        """The account as the headers of a call."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Text that tells these credentials apart from others; a secret itself."""
        return repr(sorted((name, _plain(value)) for name, value in self if name not in {"enabled", "hosts"}))


class BasicAccount(ExternalAccount):
    """User name and password, sent as basic authentication."""

    _block_type_name = "Basic Account"
    _block_type_slug: ClassVar[str] = "basic-account"
    _description = "A partner's user name and password, for the External API activity."

    user: str = Field(default="", title="User name", description="Without a colon.")
    password: SecretStr = Field(default=SecretStr(""), title="Password", description="Sent to the partner only.")

    def credentials(self, name: str, allowed_hosts: frozenset[str], logger: Logger) -> Credentials:  # noqa: ARG002
        """A basic Authorization header. Errors: `OAuthSetupInvalid` for a user name that cannot be one."""
        try:
            return basic(self.user, self.password)
        except ValueError as error:
            raise OAuthSetupInvalid(provider=name, reason=str(error)) from None


class HeaderAccount(ExternalAccount):
    """A bearer token or an API key, sent in a header."""

    _block_type_name = "Header Account"
    _block_type_slug: ClassVar[str] = "header-account"
    _description = "A partner's bearer token or API key, for the External API activity."

    header: str = Field(default="Authorization", title="Header", description="Name of the header.")
    prefix: str = Field(
        default="Bearer ",
        title="Prefix",
        description="What stands before the secret; for an API key often nothing.",
    )
    secret: SecretStr = Field(default=SecretStr(""), title="Secret", description="Sent to the partner only.")

    def credentials(self, name: str, allowed_hosts: frozenset[str], logger: Logger) -> Credentials:  # noqa: ARG002
        """The header."""
        return FixedCredentials({self.header: SecretStr(f"{self.prefix}{self.secret.get_secret_value()}")})


class OAuth2Account(ExternalAccount):
    """OAuth 2.0: a token is fetched, kept until it expires, and fetched again after a 401."""

    _block_type_name = "OAuth 2.0 Account"
    _block_type_slug: ClassVar[str] = "oauth2-account"
    _description = "OAuth 2.0 of a partner (client credentials, refresh token, signed assertion), for External API."

    token_url: str = Field(default="", title="Token URL", description="Address that gives tokens; https only.")
    client_id: str = Field(default="", title="Client ID", description="Who we are to the authorization server.")
    client_secret: SecretStr = Field(default=SecretStr(""), title="Client secret", description="Its password.")
    scope: str = Field(default="", title="Scope", description="What to ask for, separated by spaces; may be empty.")
    audience: str = Field(default="", title="Audience", description="Asked for by some servers; may be empty.")
    client_authentication: Literal["header", "body"] = Field(
        default="header",
        title="Client authentication",
        description="Whether client ID and secret go in a basic header or in the body.",
    )
    grant: Grant = Field(
        default="client_credentials",
        title="Grant",
        description=(
            "client_credentials; refresh_token (a newer one that the server gives is kept); jwt_bearer: an"
            " assertion that is signed with the private key."
        ),
    )
    refresh_token: SecretStr = Field(
        default=SecretStr(""), title="Refresh token", description="Of the grant refresh_token."
    )
    private_key: SecretStr = Field(
        default=SecretStr(""), title="Private key", description="PEM, of the grant jwt_bearer."
    )
    key_id: str = Field(default="", title="Key ID", description="Name of that key in the assertion (kid).")
    algorithm: Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"] = Field(
        default="RS256", title="Algorithm", description="How the assertion is signed."
    )
    claims: dict[str, Any] = Field(
        default={},
        title="Claims",
        description="Of the assertion, besides iss, sub, aud, iat, exp, jti: {sub: ...}.",
    )
    parameters: SecretDict = Field(
        default=SecretDict({}), title="Parameters", description="More parameters of the request: {resource: ...}."
    )
    encoding: Literal["form", "json"] = Field(
        default="form", title="Encoding", description="Whether the request for a token is a form or JSON."
    )
    token_type: str = Field(
        default="",
        pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]*$",
        title="Token type",
        description="The word before the token, whatever the server calls it. Empty: Bearer.",
    )
    headers: SecretDict = Field(
        default=SecretDict({}), title="Headers", description="More headers of the request for a token."
    )
    client_certificate: ClientCertificate = None
    client_key: ClientKey = None
    ca_file: Path | None = Field(
        default=None,
        title="Certificate authority file",
        description="PEM file of the authorities to trust for the token URL, instead of the system's.",
    )

    def credentials(self, name: str, allowed_hosts: frozenset[str], logger: Logger) -> Credentials:
        """A token that is kept between runs."""
        setup = OAuthSetup(
            provider=name,
            token_url=self.token_url,
            client_id=self.client_id,
            client_secret=self.client_secret,
            scope=self.scope,
            audience=self.audience,
            client_authentication=self.client_authentication,
            headers=_secrets(self.headers),
            grant=self.grant,
            refresh_token=self.refresh_token,
            private_key=self.private_key,
            key_id=self.key_id,
            algorithm=self.algorithm,
            claims=self.claims,
            parameters=_secrets(self.parameters),
            encoding=self.encoding,
            token_type=self.token_type,
            has_certificate=self.client_certificate is not None,
        )
        store = KeptTokens(f"{name.rpartition('/')[2]}-token")
        connection = Connection(
            ca_file=self.ca_file, client_certificate=self.client_certificate, client_key=self.client_key
        )
        return OAuthCredentials(setup, store, connection, allowed_hosts, logger)


def _secrets(values: SecretDict) -> dict[str, SecretStr]:
    return {name: SecretStr(str(value)) for name, value in values.get_secret_value().items()}


class AccessToken(Block):
    """An access token that is kept until it expires; written by the External API activity, not by people."""

    _block_type_name = "Access Token"
    _block_type_slug: ClassVar[str] = "access-token"
    _description = "A token that the External API activity keeps until it expires."

    setup: str = Field(title="Setup", description="Fingerprint of the account that it was fetched with.")
    value: SecretStr = Field(title="Token", description="The token.")
    expires_at: datetime | None = Field(
        default=None, title="Expires at", description="When it ends, if it says so."
    )
    refresh_token: SecretStr | None = Field(
        default=None, title="Refresh token", description="The newest one, where the server gives any."
    )


@dataclass(frozen=True)
class KeptTokens:
    """Tokens in Prefect's own encrypted store, one block an account."""

    block: str

    def read(self, setup: str) -> Token | None:
        """The token that was kept for this setup, or None."""
        try:
            kept: AccessToken = AccessToken.load(self.block, _sync=True)  # type: ignore[call-arg, assignment]
        except ValueError:
            return None
        return Token(kept.value, kept.expires_at, kept.refresh_token) if kept.setup == setup else None

    def write(self, setup: str, token: Token) -> None:
        """Keep a token in place of the one before."""
        kept = AccessToken(
            setup=setup, value=token.value, expires_at=token.expires_at, refresh_token=token.refresh_token
        )
        kept.save(self.block, overwrite=True, _sync=True)  # type: ignore[call-arg]


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr | SecretDict) else value


def account_fingerprint(account: str) -> str:
    """Text that tells the credentials of an account apart from others; a secret itself, never to be shown.

    Empty where there is no account. Errors: those of `credentials_of`.
    """
    return _account(account).fingerprint() if account else ""


def credentials_of(account: str, allowed_hosts: frozenset[str], logger: Logger) -> Credentials:
    """The credentials of the account `<kind>/<name>`; none where it is empty.

    Errors: `AccountMissing`, `AccountDisabled`, `AccountOfWrongKind`, `OAuthSetupInvalid`.
    """
    if not account:
        return NO_CREDENTIALS
    block = _account(account)
    return LentCredentials(block.credentials(account, allowed_hosts, logger), account, tuple(block.hosts))


def _account(account: str) -> ExternalAccount:
    try:
        block = Block.load(account, _sync=True)  # type: ignore[call-arg]
    except ValueError:
        raise AccountMissing(account=account) from None
    if not isinstance(block, ExternalAccount):
        raise AccountOfWrongKind(account=account, kind=type(block).__name__)
    if not block.enabled:
        raise AccountDisabled(account=account)
    return block
