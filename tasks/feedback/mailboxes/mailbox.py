"""What every mailbox gives: its messages after a position, in order, and none changed or removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from tasks.http.certificates import AuthorityFile


class Received(NamedTuple):
    """One message of a mailbox."""

    position: str
    """From where to read on once it has been dealt with."""
    content: bytes


class Mailbox(Protocol):
    """A mailbox that is read."""

    @property
    def name(self) -> str:
        """By which the position in it is kept; no secret."""
        ...

    def after(self, position: str) -> Iterator[Received]:
        """The messages after a position ("" is the beginning). Errors: `MailboxUnreadable`."""
        ...


class MailboxOptions(BaseModel):
    """The mailbox that bounces and complaints come to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none", "imap", "maildir", "mbox"] = Field(
        default="none",
        title="Kind",
        description="imap (at a mail server), maildir or mbox (a folder or a file here); none: no mailbox is read.",
    )
    path: Path = Field(
        default=Path("feedback"), title="Path", description="The Maildir's folder, or the mbox file."
    )
    host: str = Field(default="", title="Host", description="The IMAP server; it is reached with TLS only.")
    port: int = Field(default=993, ge=1, le=65535, title="Port", description="The IMAP server's port for TLS.")
    user: str = Field(default="", title="User", description="User name at the IMAP server.")
    password: SecretStr = Field(default=SecretStr(""), title="Password", description="Password at the IMAP server.")
    account: str = Field(
        default="",
        pattern=r"^(oauth2-account/.+)?$",
        title="Account",
        description="OAuth 2.0 account whose token logs the user in (XOAUTH2), instead of a password.",
    )
    folder: str = Field(
        default="INBOX",
        pattern=r"^[ -~]+$",
        title="Folder",
        description="Folder at the IMAP server that is read; a name of letters without accents.",
    )
    ca_file: AuthorityFile = None
    timeout_seconds: float = Field(
        default=60, gt=0, title="Timeout", description="Limit for each answer of the IMAP server, in seconds."
    )
    at_once: int = Field(
        default=10_000, ge=1, title="At once", description="Messages that one run reads; the next reads on."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.kind == "imap" and not (self.host and self.user):
            raise ValueError("imap needs a host and a user")
        if self.account and self.password.get_secret_value():
            raise ValueError("an account and a password do not go together")
        return self
