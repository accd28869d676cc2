"""Credentials of a call: the headers that a partner wants, and what to do when it no longer takes them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote

import httpx
from pydantic import SecretStr

from tasks.errors import AccountNotForHost


class Credentials(Protocol):
    """What a call needs to be let in."""

    def headers(self) -> Mapping[str, SecretStr]:
        """Headers to send with every request."""

    def renew(self) -> bool:
        """Take fresh credentials after a 401; False where there are none to take."""

    def check(self, url: str) -> None:
        """Check, before they are sent, that they are for this address. Errors: `AccountNotForHost`."""


@dataclass(frozen=True)
class FixedCredentials:
    """Headers that never change: basic, bearer, an API key, or none."""

    fixed: Mapping[str, SecretStr] = field(default_factory=dict)

    def headers(self) -> Mapping[str, SecretStr]:
        """The headers."""
        return self.fixed

    def renew(self) -> bool:
        """There is nothing fresher."""
        return False

    def check(self, url: str) -> None:
        """They go where the endpoint that has them goes."""


@dataclass(frozen=True)
class LentCredentials:
    """Credentials of an account, which lends itself only to its hosts."""

    lender: Credentials
    account: str
    hosts: tuple[str, ...]
    """Each `host`, `host:port` or either with the beginning of a path."""

    def headers(self) -> Mapping[str, SecretStr]:
        """The account's headers."""
        return self.lender.headers()

    def renew(self) -> bool:
        """Take the account's fresh credentials."""
        return self.lender.renew()

    def check(self, url: str) -> None:
        """Check that the address is one of the account's hosts. Errors: `AccountNotForHost`."""
        if not any(_is_for(url, place) for place in self.hosts):
            parsed = httpx.URL(url)
            raise AccountNotForHost(account=self.account, host=parsed.netloc.decode(), path=parsed.path)


def _is_for(url: str, place: str) -> bool:
    """Whether an address lies at a place: on its host, its port if it has one, and below its path."""
    parsed = httpx.URL(url)
    authority, slash, path = place.strip().removeprefix("https://").partition("/")
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    if authority.lower().rstrip(".") not in {host.rstrip("."), f"{host}:{parsed.port or 443}"}:
        return False
    wanted = f"{slash}{path}".rstrip("/")
    if not wanted:
        return True
    segments = unquote(parsed.path).split("/")
    if ".." in segments or "." in segments or "\\" in unquote(parsed.path):
        return False  # a server may read it as a path above
    return parsed.path == wanted or parsed.path.startswith(f"{wanted}/")


NO_CREDENTIALS = FixedCredentials()


def basic(user: str, password: SecretStr) -> FixedCredentials:
    """Basic authentication (RFC 7617), in UTF-8. Errors: `ValueError` for a user name with a colon."""
    if ":" in user:
        raise ValueError("a user name of basic authentication has no colon")
    pair = base64.b64encode(f"{user}:{password.get_secret_value()}".encode()).decode()
    return FixedCredentials({"Authorization": SecretStr(f"Basic {pair}")})
