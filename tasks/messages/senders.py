"""From which addresses mail may be sent: those that the operator gives, and no placeholder's to the world."""

from collections.abc import Collection

from tasks.errors import SenderNotAllowed
from tasks.messages.address import normalized_address

RESERVED = ("example", "test", "invalid", "localhost", "example.com", "example.org", "example.net")
"""Domains that are reserved for examples (RFC 2606, RFC 6761)."""


def is_placeholder(address: str) -> bool:
    """Whether an address is of a domain that is reserved for examples."""
    domain = _domain(address)
    return any(domain == reserved or domain.endswith(f".{reserved}") for reserved in RESERVED)


def check_sender(address: str, allowed: Collection[str]) -> None:
    """Check an address that parameters would send from; `allowed` are addresses and whole domains.

    Errors: `SenderNotAllowed`.
    """
    known = {normalized_address(each) if "@" in each else _domain(f"@{each}") for each in allowed}
    if not known & {normalized_address(address), _domain(address)}:
        raise SenderNotAllowed(address=address)


def _domain(address: str) -> str:
    domain = address.rpartition("@")[2].strip().rstrip(".").lower()
    return domain if domain.isascii() else normalized_address(f"x@{domain}").rpartition("@")[2]
