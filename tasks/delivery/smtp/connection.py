"""One connection to a mail server: aiosmtplib opens it, secures it and logs in; messages then go in pipelines.

aiosmtplib waits for each reply before the next command. After the login its transport is handed to `Line`, which
sends whole groups of commands where the server offers PIPELINING (RFC 2920), and reads their replies together.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Self, cast

import aiosmtplib
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from tasks.delivery.dispatch import Backoff, Connections, LongestBackoff, Patience, Rate
from tasks.delivery.smtp.receivers import SHIPPED, ReceiverTable
from tasks.delivery.smtp.replies import Reply, ReplyReader
from tasks.errors import CampaignError
from tasks.http.certificates import AuthorityFile, trusted_certificates, verification_failure
from tasks.http.retry import is_retryable
from tasks.http.tokens import Tokens
from tasks.privacy import is_this_machine, unencrypted

GOODBYE_SECONDS = 0.5
"""How long the answer to a goodbye is waited for."""


class Security(StrEnum):
    """How a connection is encrypted."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class MailServer(BaseModel):
    """How a mail server is reached, and how hard it may be worked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="localhost", title="Mail server", description="Name or address of the SMTP server.")
    port: int = Field(default=587, ge=1, le=65535, title="Port", description="587 and 25 usual, 465 for tls.")
    security: Security = Field(
        default=Security.STARTTLS,
        title="Security",
        description="starttls, tls (from the first byte), or none (only for a server on this machine).",
    )
    username: str = Field(default="", title="User name", description="Empty: no login.")
    password: SecretStr = Field(default=SecretStr(""), title="Password", description="Password of the user.")
    account: str = Field(
        default="",
        pattern=r"^(oauth2-account/.+)?$",
        title="Account",
        description=(
            "OAuth 2.0 account (oauth2-account/<name>) whose token logs the user in (XOAUTH2), instead of a"
            " password. It lends itself to the hosts that it names."
        ),
    )
    ca_file: AuthorityFile = None
    helo_name: str = Field(
        default="", title="Name of this machine", description="Said in EHLO; empty: the sender's domain."
    )
    connections: Connections = 4
    timeout_seconds: float = Field(
        default=60, gt=0, title="Timeout", description="How long one reply of the server is waited for, in seconds."
    )
    messages_per_second: Rate = None
    receivers: ReceiverTable = SHIPPED
    backoff_seconds: Backoff = 1
    backoff_limit_seconds: LongestBackoff = 60
    patience_seconds: Patience = 300

    @model_validator(mode="after")
    def _keeps_its_password(self) -> Self:
        is_encrypted = self.security is not Security.NONE or not self.username
        if reason := unencrypted(self.host, is_encrypted=is_encrypted):
            raise ValueError(f"{reason}: choose the security starttls or tls")
        if self.account and (not self.username or self.password.get_secret_value()):
            raise ValueError("an account needs a user name, and no password")
        return self

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class LineDropped(Exception):
    """The connection is of no more use: closed, timed out, or speaking nonsense."""


class TurnedAway(LineDropped):
    """The server closed the connection, as a receiving domain asks for fewer messages: it is not out of order."""


class LineClosed(LineDropped):
    """The connection was of no use before anything was sent on it."""


class SenderRefused(Exception):
    """The server refuses the sender of all messages, or cannot be trusted: a retry does not help."""


class Line(asyncio.Protocol):
    """An open connection on which messages are sent."""

    def __init__(self, client: aiosmtplib.SMTP, server: MailServer) -> None:
        if client.transport is None:
            raise LineDropped("the connection broke")
        transport = cast("asyncio.Transport", client.transport)
        self.pipelining = client.supports_extension("pipelining")
        self.takes_utf8 = client.supports_extension("smtputf8")
        self._client = client  # kept: its end closes the transport
        self._timeout = server.timeout_seconds
        self._transport = transport
        self._reader = ReplyReader()
        self._replies: list[Reply] = []
        self._wanted = 0
        self._arrived: asyncio.Future[None] | None = None
        self._end = ""
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._watch: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of replies arrived."""
        try:
            self._replies += self._reader.feed(data)
        except ValueError as error:
            self._finish(str(error))
            self._transport.abort()
        if self._arrived is not None and len(self._replies) >= self._wanted and not self._arrived.done():
            self._arrived.set_result(None)

    def eof_received(self) -> None:
        """The server closed its side."""
        self._finish("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._finish(f"the connection broke: {exc}" if exc else "the server closed the connection")

    def _finish(self, why: str) -> None:
        self._end = self._end or why
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    @property
    def is_open(self) -> bool:
        """Whether a command can be sent: open, and nothing was said without being asked."""
        return not self._end and not self._replies and not self._transport.is_closing()

    async def exchange(self, commands: list[bytes], replies: list[Reply]) -> None:
        """Send commands and append their replies, as they come, to `replies`.

        All at once where the server offers PIPELINING, else one after the other. Errors: `LineDropped`, with
        the replies that came before it already appended; `LineClosed`, with nothing sent.
        """
        if not self.is_open:
            raise LineClosed(self._end or "the server closed the connection")
        groups = [commands] if self.pipelining else [[command] for command in commands]
        for group in groups:
            self._transport.write(b"".join(group))
            await self._read(len(group), replies)

    async def _read(self, count: int, replies: list[Reply]) -> None:
        if len(self._replies) < count and not self._end:
            self._wanted = count
            self._arrived = self._loop.create_future()
            self._deadline = self._loop.time() + self._timeout
            if self._watch is None:
                self._look_at_the_clock()
            await self._arrived
            self._arrived = None
        replies += self._replies[:count]
        enough = len(self._replies) >= count
        del self._replies[:count]
        if not enough:
            said = f"{replies[-1]}; " if replies and replies[-1].code >= 400 else ""
            raise LineDropped(said + self._end)

    def _look_at_the_clock(self) -> None:
        """One timer a line, and not one a reply, which would cost as much as the reading."""
        now = self._loop.time()
        if self._end:
            self._watch = None
        elif self._arrived is not None and now >= self._deadline:
            # After standing still, a process learns of the time first, and then of what came: that is read before.
            self._watch = self._loop.call_later(0, self._give_up)
        else:
            self._watch = self._loop.call_later(self._timeout / 8, self._look_at_the_clock)

    def _give_up(self) -> None:
        self._watch = None
        is_waiting = self._arrived is not None and not self._arrived.done()
        if is_waiting and self._loop.time() >= self._deadline:
            self._finish(f"no reply within {self._timeout:g} seconds")
        else:
            self._look_at_the_clock()

    async def quit(self) -> None:
        """Take leave: when it returns, the server knows that the connection is over, or is not to be heard of."""
        if self.is_open:
            self._transport.write(b"QUIT\r\n")
            self._wanted = 1
            self._arrived = self._loop.create_future()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived, GOODBYE_SECONDS)
            self._arrived = None
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()


async def opened(server: MailServer, helo_name: str, tokens: Tokens | None = None) -> Line:
    """Connect, secure and log in. `tokens`: of the account that logs in, if it does.

    Errors: `LineDropped`, which may pass; `SenderRefused`, which will not; those of a token's fetching.
    """
    used = None if tokens is None else await _headers(tokens)
    try:
        return await _opened(server, helo_name, used)
    except aiosmtplib.SMTPAuthenticationError as error:
        if tokens is None or used is None or not await asyncio.to_thread(tokens.renew, used):
            raise _why_not(error, server) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _why_not(error, server) from None
    try:
        return await _opened(server, helo_name, await _headers(tokens))
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _why_not(error, server) from None


async def _headers(tokens: Tokens) -> Mapping[str, str]:
    try:
        return await asyncio.to_thread(tokens.headers)
    except CampaignError as error:
        if is_retryable(error):
            raise LineDropped(str(error)) from None
        raise


async def _opened(server: MailServer, helo_name: str, headers: Mapping[str, str] | None) -> Line:
    async def token() -> str:
        return (headers or {}).get("Authorization", "").partition(" ")[2]

    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.username or None,
        password=server.password.get_secret_value() if server.username and headers is None else None,
        oauth_token_generator=None if headers is None else token,
        local_hostname=helo_name,
        timeout=server.timeout_seconds,
        use_tls=server.security is Security.TLS,
        start_tls=server.security is Security.STARTTLS,
        tls_context=None if server.security is Security.NONE else trusted_certificates(server.ca_file),
    )
    await client.connect()
    if client.is_ehlo_or_helo_needed:
        await client.ehlo()
    return Line(client, server)


def _why_not(error: Exception, server: MailServer) -> LineDropped | SenderRefused:
    """Whether the failure to open a connection may pass."""
    if (why := verification_failure(error)) is not None:
        return SenderRefused(f"its certificate does not verify: {why}")
    if server.security is Security.STARTTLS and "STARTTLS extension not supported" in str(error):
        return SenderRefused(f"it does not offer STARTTLS; {_other_security(server)}")
    if isinstance(error, aiosmtplib.SMTPResponseException):
        reason = f"{error.code} {error.message}"
        return LineDropped(reason) if error.code < 500 else SenderRefused(reason)
    if isinstance(error, OSError):  # aiosmtplib's own errors of lost connections and timeouts are among them
        return LineDropped(error.strerror or str(error) or type(error).__name__)
    return SenderRefused(str(error))


def _other_security(server: MailServer) -> str:
    """What a server needs that cannot be made secure by STARTTLS."""
    if is_this_machine(server.host):
        return "set CAMPAIGN_EMAIL__SERVER__SECURITY=none, as it is on this machine"
    return "set CAMPAIGN_EMAIL__SERVER__SECURITY=tls and the port that it has for it, usually 465"
