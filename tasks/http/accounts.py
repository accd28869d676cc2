"""External accounts: a partner's credentials as Prefect blocks, which keep them encrypted and are made in the UI.

`prefect block register -m tasks.http.accounts` makes the three kinds known to a server. An endpoint names its
account as `<kind>/<name>`, for example `oauth2-account/coupon-system`.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal

from prefect.blocks.core import Block
from prefect.blocks.fields import SecretDict
from pydantic import Field, SecretStr

from tasks.errors import AccountDisabled, AccountMissing, AccountOfWrongKind, OAuthSetupInvalid
from tasks.http.credentials import NO_CREDENTIALS, Credentials, FixedCredentials, LentCredentials, basic
from tasks.http.exchange import Connection
from tasks.http.oauth import OAuthCredentials, OAuthSetup, Token
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
    """OAuth 2.0 client credentials: a token is fetched, kept until it expires, and fetched anew after a 401."""

    _block_type_name = "OAuth 2.0 Account"
    _block_type_slug: ClassVar[str] = "oauth2-account"
    _description = "OAuth 2.0 client credentials of a partner, for the External API activity."

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
    headers: SecretDict = Field(
        default=SecretDict({}), title="Headers", description="More headers of the request for a token."
    )
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
            headers={name: SecretStr(str(value)) for name, value in self.headers.get_secret_value().items()},
        )
        store = KeptTokens(f"{name.rpartition('/')[2]}-token")
        return OAuthCredentials(setup, store, Connection(ca_file=self.ca_file), allowed_hosts, logger)


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
        return Token(kept.value, kept.expires_at) if kept.setup == setup else None

    def write(self, setup: str, token: Token) -> None:
        """Keep a token in place of the one before."""
        kept = AccessToken(setup=setup, value=token.value, expires_at=token.expires_at)
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
