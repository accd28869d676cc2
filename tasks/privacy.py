"""Personal data as it may be shown in logs and artifacts, and where a password may go; whose files are."""

import os
import re
from collections.abc import Iterable, Mapping
from html import escape
from ipaddress import ip_address
from typing import cast
from urllib.parse import quote, quote_plus

import polars as pl
from pydantic import SecretStr

MASKS = (
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "…@…"),
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), r"\1 …"),
    (re.compile(r"(?=[\w~+/=.-]*\d)(?=[\w~+/=.-]*[A-Za-z])[\w~+/=-]{20,}(?:\.[\w~+/=-]+)*"), "…"),
    (re.compile(r"\+?\d[\d ().-]{7,}\d"), "…"),
)
"""What looks like an address, a login, a token or a telephone number; each with what is shown for it."""


def keep_files_private() -> None:
    """Let this process make every file and folder for its own user only, whoever writes it, from now on.

    Prefect and polars write results, their folders and drafts by the process's mask.
    """
    os.umask(os.umask(0o077) | 0o077)


def masked_email(column: str) -> pl.Expr:
    """Addresses that keep their first letter and domain: `j…@example.com`.

    In: a text column. Out: a text column of the same name; null stays null, and a text that is not an address
    becomes `…`.
    """
    address = pl.col(column)
    first = address.str.slice(0, 1)
    domain = address.str.split("@").list.last()
    return (
        pl.when(address.is_null())
        .then(None)
        .when(address.str.contains("@", literal=True))
        .then(pl.concat_str(first, pl.lit("…@"), domain))
        .otherwise(pl.lit("…"))
        .alias(column)
    )


def is_this_machine(host: str) -> bool:
    """Whether a host is loopback by what it is called; a socket's folder is this machine too."""
    name = host.lower().strip("[]").rstrip(".")
    if not name or name.startswith("/") or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def unencrypted(host: str, *, is_encrypted: bool) -> str:
    """Why a password may not go there: it does so over an encrypted connection, or to this machine. Else empty."""
    if is_encrypted or is_this_machine(host):
        return ""
    return f"a password would go to '{host}' over a connection that is not encrypted"


def unencrypted_postgresql(host: str | None, password: str | None, options: Mapping[str, object]) -> str:
    """The same of a PostgreSQL address, whose client encrypts only if told so; `options` come after its `?`."""
    mode = options.get("sslmode") or os.environ.get("PGSSLMODE", "")
    hosts = options.get("host") or host or ""
    if not (password or options.get("password")):
        return ""
    is_encrypted = mode in {"require", "verify-ca", "verify-full"}
    for each in [hosts] if isinstance(hosts, str) else list(cast("Iterable[str]", hosts)):
        for one in each.split(","):
            if reason := unencrypted(one, is_encrypted=is_encrypted):
                return f"{reason}: end its address with ?sslmode=verify-full, or sslmode=require"
    return ""


def without(text: str, secrets: Iterable[str]) -> str:
    """A text of a message without secrets in it, however they are written there."""
    for secret in secrets:
        for written in (str, escape, quote, quote_plus):
            text = text.replace(written(secret), "…")
    return text


def masked(words: str, secrets: Iterable[SecretStr] = ()) -> str:
    """The words without what was sent as a secret, and without what looks like one or like personal data."""
    for secret in secrets:
        if len(secret.get_secret_value()) >= 4:
            for part in {secret.get_secret_value(), *secret.get_secret_value().split()}:
                words = words.replace(part, "…") if len(part) >= 4 else words
    for form, mask in MASKS:
        words = form.sub(mask, words)
    return words
