"""A mailbox at an IMAP server (RFC 3501), over TLS and the network guard. Nothing in it is marked or removed."""

import imaplib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tasks.errors import MailboxUnreadable
from tasks.feedback.mailboxes.mailbox import MailboxOptions, Received
from tasks.feedback.parts import LARGEST_MESSAGE
from tasks.http.certificates import trusted_certificates
from tasks.http.network import guarded_socket
from tasks.http.tokens import Tokens

VALIDITY = re.compile(r"\d+")


class _Connection(imaplib.IMAP4):
    """imaplib's client over a socket that the guard has opened."""

    def __init__(self, options: MailboxOptions, allowed_hosts: frozenset[str]) -> None:
        self._options, self._allowed_hosts = options, allowed_hosts
        super().__init__(options.host, options.port, options.timeout_seconds)

    def open(self, host: str = "", port: int = 993, timeout: float | None = None) -> None:
        """Connect; imaplib calls it."""
        plain = guarded_socket(host, port, self._allowed_hosts, timeout)
        context = trusted_certificates(self._options.ca_file)
        self.sock = context.wrap_socket(plain, server_hostname=host)
        self.file = self.sock.makefile("rb")


@dataclass(frozen=True)
class ImapMailbox:
    """A folder of an account."""

    options: MailboxOptions
    allowed_hosts: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """By which the position in it is kept."""
        return f"imap:{self.options.user}@{self.options.host}/{self.options.folder}"

    def after(self, position: str) -> Iterator[Received]:
        """The messages after a position. Errors: `MailboxUnreadable`, `HostNotAllowed`."""
        with self._selected() as (client, validity):
            known, _, last = position.partition(":")
            first = int(last) + 1 if known == validity else 1
            for uid in self._uids(client, first)[: self.options.at_once]:
                yield Received(f"{validity}:{uid}", self._content(client, uid))

    @contextmanager
    def _selected(self) -> Iterator[tuple[_Connection, str]]:
        client = None
        try:
            client = _Connection(self.options, self.allowed_hosts)
            self._log_in(client)
            _done(client.select(_quoted(self.options.folder), readonly=True))
            yield client, _validity(client)
        except (imaplib.IMAP4.error, OSError, ssl.SSLError) as error:
            raise MailboxUnreadable(mailbox=self.name, reason=_shown(error, self.options)) from None
        finally:
            if client is not None:
                with suppress(imaplib.IMAP4.error, OSError):
                    client.logout()

    def _log_in(self, client: _Connection) -> None:
        if not self.options.account:
            client.login(self.options.user, self.options.password.get_secret_value())
            return
        tokens = Tokens(
            self.options.account, f"https://{self.options.host}:{self.options.port}", self.allowed_hosts
        )
        used = tokens.headers()
        try:
            client.authenticate("XOAUTH2", lambda _: _xoauth2(self.options.user, tokens.bearer()))
        except imaplib.IMAP4.error:
            if not tokens.renew(used):
                raise
            client.authenticate("XOAUTH2", lambda _: _xoauth2(self.options.user, tokens.bearer()))

    def _uids(self, client: _Connection, first: int) -> list[int]:
        (found,) = _done(client.uid("SEARCH", f"UID {first}:*"))
        # "n:*" always names the last message, even where its number is smaller.
        return sorted(uid for uid in map(int, (found or b"").split()) if uid >= first)

    def _content(self, client: _Connection, uid: int) -> bytes:
        answer = _done(client.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{LARGEST_MESSAGE}>)"))
        for part in answer:
            if isinstance(part, tuple):
                return bytes(part[1])
        return b""  # it was removed meanwhile


def _xoauth2(user: str, token: str) -> bytes:
    """What Google's and Microsoft's servers are logged in to with a token."""
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()


def _validity(client: _Connection) -> str:
    """What the numbers of the folder's messages are valid with."""
    found = VALIDITY.search(str(client.response("UIDVALIDITY")[1]))
    if found is None:
        raise imaplib.IMAP4.error("the server gives no UIDVALIDITY")
    return found.group()


def _done(answer: tuple[str, list[Any]]) -> list[Any]:
    status, data = answer
    if status != "OK":
        words = data[0].decode("utf-8", "replace") if data and isinstance(data[0], bytes) else status
        raise imaplib.IMAP4.error(words)
    return data


def _quoted(folder: str) -> str:
    escaped = folder.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _shown(error: Exception, options: MailboxOptions) -> str:
    words = error.args[0] if error.args and isinstance(error.args[0], bytes) else str(error).encode()
    text = words.decode("utf-8", "replace") or type(error).__name__
    secret = options.password.get_secret_value()
    return text.replace(secret, "***") if secret else text
