"""Credentials of a call: the headers that a partner wants, and what to do when it no longer takes them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr


class Credentials(Protocol):
    """What a call needs to be let in."""

    def headers(self) -> Mapping[str, SecretStr]:
        """Headers to send with every request."""

    def renew(self) -> bool:
        """Take fresh credentials after a 401; False where there are none to take."""


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


NO_CREDENTIALS = FixedCredentials()


def basic(user: str, password: SecretStr) -> FixedCredentials:
    """Basic authentication (RFC 7617), in UTF-8. Errors: `ValueError` for a user name with a colon."""
    if ":" in user:
        raise ValueError("a user name of basic authentication has no colon")
    pair = base64.b64encode(f"{user}:{password.get_secret_value()}".encode()).decode()
    return FixedCredentials({"Authorization": SecretStr(f"Basic {pair}")})
