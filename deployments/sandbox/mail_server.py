"""A mail server on loopback that keeps what it receives, and misbehaves as configured: `python -m` this.

It is a real SMTP server (aiosmtpd; the extra is `sandbox`). Nothing that it takes goes anywhere.
"""

import argparse
import asyncio
import base64
import contextlib
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default as internet_message
from enum import StrEnum
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HOST = "127.0.0.1"
PORT = 1025
GOODBYE = "421 4.3.2 Closing, try again later"


class At(StrEnum):
    """Where a fault strikes: what the server has just read, or done."""

    EHLO = "EHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    """The final dot was read; the message is not kept."""
    TAKEN = "taken"
    """The message is kept; the answer has not been given."""


class Fault(NamedTuple):
    """What goes wrong, and how often."""

    at: At
    answer: str | None = None
    """What is said instead of what is right; None closes the connection without an answer."""
    every: int = 1
    """One in so many."""
    times: int | None = None
    """No more often than that; None for always."""
    domain: str = ""
    """Only at RCPT, for recipients of that domain; empty for all."""


class MailBehaviour(StrEnum):
    """How the server behaves."""

    NORMAL = "normal"
    """Takes everything."""
    SLOW = "slow"
    """Takes a fifth of a second for each message."""
    GREYLIST = "greylist"
    """Asks each recipient's first message to come again."""
    BUSY = "busy"
    """Closes the connection with 421 at one message in twenty."""
    FULL = "full"
    """452 to one message in ten, when it has come whole."""
    PICKY = "picky"
    """550 to recipients whose address has `bad` in it."""
    DROPPING = "dropping"
    """Breaks the connection after the message was taken, at one message in fifty."""
    AWAY = "away"
    """Closes each connection with 421 after EHLO."""
    CLOSED = "closed"
    """Refuses the sender."""


FAULTS: dict[MailBehaviour, tuple[Fault, ...]] = {
    MailBehaviour.BUSY: (Fault(At.MAIL, GOODBYE, every=20),),
    MailBehaviour.FULL: (Fault(At.CONTENT, "452 4.3.1 Out of space", every=10),),
    MailBehaviour.DROPPING: (Fault(At.TAKEN, every=50),),
    MailBehaviour.AWAY: (Fault(At.EHLO, GOODBYE),),
    MailBehaviour.CLOSED: (Fault(At.MAIL, "550 5.7.1 Sender not allowed here"),),
}


class Taken(NamedTuple):
    """A message that the server took."""

    message_id: str
    recipient: str
    content: bytes
    sender: str
    """Of the envelope: the address that it comes back to."""


@dataclass
class MailSandbox:
    """A running server: where it is, what it took, and what it is told to do wrong."""

    port: int = 0
    behaviour: MailBehaviour = MailBehaviour.NORMAL
    faults: tuple[Fault, ...] = ()
    pipelining: bool = True
    utf8: bool = True
    login: tuple[str, str] | None = None
    tokens: set[str] = field(default_factory=set)
    """Those that log in as `login`'s user, by XOAUTH2."""
    taken: list[Taken] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    """Connections at this moment."""
    most_open: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    struck: Counter[Fault] = field(default_factory=Counter)
    greylisted: set[str] = field(default_factory=set)
    """Recipients that were asked to come again, over whichever connection."""
    takes: bool = True
    """Whether messages are taken now; while not, each waits for its answer."""

    @property
    def message_ids(self) -> Counter[str]:
        """How often each message was taken."""
        return Counter(one.message_id for one in self.taken)

    def fault_at(self, at: At, address: str = "") -> Fault | None:
        """The fault that strikes now, if one does."""
        self.seen[at] += 1
        for fault in (*FAULTS.get(self.behaviour, ()), *self.faults):
            due = fault.at is at and self.seen[at] % fault.every == 0 and address.endswith(fault.domain)
            if due and (fault.times is None or self.struck[fault] < fault.times):
                self.struck[fault] += 1
                return fault
        return None


class _Handler:
    def __init__(self, sandbox: MailSandbox) -> None:
        self._sandbox = sandbox

    async def auth_XOAUTH2(self, server: SMTP, arguments: list[str]) -> AuthResult:
        said = base64.b64decode(arguments[1]).decode() if len(arguments) > 1 else ""
        user = self._sandbox.login[0] if self._sandbox.login else ""
        known = {f"user={user}\x01auth=Bearer {token}\x01\x01" for token in self._sandbox.tokens}
        return AuthResult(success=said in known, handled=False)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self._sandbox.connections += 1
        if fault := self._sandbox.fault_at(At.EHLO):
            return [await _struck(server, fault)]
        extra = ["250-PIPELINING"] if self._sandbox.pipelining else []
        return [*responses[:-1], *extra, responses[-1]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if fault := self._sandbox.fault_at(At.MAIL):
            return await _struck(server, fault)
        envelope.mail_from = address
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if fault := self._sandbox.fault_at(At.RCPT, address):
            return await _struck(server, fault)
        behaviour = self._sandbox.behaviour
        if behaviour is MailBehaviour.PICKY and "bad" in address:
            return "550 5.1.1 No such user"
        if behaviour is MailBehaviour.GREYLIST and address not in self._sandbox.greylisted:
            self._sandbox.greylisted.add(address)
            return "451 4.7.1 Greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self._sandbox.behaviour is MailBehaviour.SLOW:
            await asyncio.sleep(0.2)
        while not self._sandbox.takes:
            await asyncio.sleep(0.05)
        if fault := self._sandbox.fault_at(At.CONTENT):
            return await _struck(server, fault)
        content = envelope.content
        assert isinstance(content, bytes)  # noqa: S101  # for the types: it is, unless aiosmtpd is asked to decode
        header, _, _ = content.partition(b"\r\n\r\n")
        message_id = str(message_from_bytes(header, policy=internet_message)["Message-ID"])
        self._sandbox.taken.append(Taken(message_id, envelope.rcpt_tos[0], content, envelope.mail_from or ""))
        if fault := self._sandbox.fault_at(At.TAKEN):
            return await _struck(server, fault)
        return f"250 2.0.0 Ok: queued as {len(self._sandbox.taken):08X}"


async def _struck(server: SMTP, fault: Fault) -> str:
    """Say the wrong thing; after 421, or with nothing to say, be gone."""
    transport = server.transport
    if fault.answer is not None and not fault.answer.startswith("421"):
        return fault.answer
    if fault.answer is not None:
        await server.push(fault.answer)
    if isinstance(transport, asyncio.Transport):
        transport.close()
    await asyncio.sleep(3600)  # aiosmtpd ends this when the connection is lost
    return GOODBYE


class _Server(SMTP):
    _is_counted = False

    def __init__(self, sandbox: MailSandbox, **options: Any) -> None:  # noqa: ANN401
        super().__init__(_Handler(sandbox), hostname="sandbox.example", enable_SMTPUTF8=sandbox.utf8, **options)
        self._sandbox = sandbox

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._is_counted:  # STARTTLS makes it again
            self._is_counted = True
            self._sandbox.open += 1
            self._sandbox.most_open = max(self._sandbox.most_open, self._sandbox.open)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sandbox.open -= self._is_counted
        self._is_counted = False
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str | None) -> None:
        fault = self._sandbox.fault_at(At.DATA)
        if fault is None:
            await super().smtp_DATA(arg)
        else:
            await self.push(await _struck(self, fault))


@contextmanager
def running_mail_server(
    sandbox: MailSandbox, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[MailSandbox]:
    """Serve on loopback in a thread, at `sandbox.port` (0 takes a free one, and is set to it)."""
    ready, stopping = threading.Event(), threading.Event()
    failed: list[OSError] = []

    def authenticator(*arguments: Any) -> AuthResult:  # noqa: ANN401
        given = arguments[-1]
        right = (
            isinstance(given, LoginPassword) and (given.login.decode(), given.password.decode()) == sandbox.login
        )
        return AuthResult(success=right, handled=False)

    def connection() -> _Server:
        login = {
            "authenticator": authenticator,
            "auth_required": True,
            "auth_require_tls": starttls is not None,
        }
        return _Server(sandbox, tls_context=starttls, **(login if sandbox.login else {}))

    async def serve() -> None:
        try:
            server = await asyncio.get_running_loop().create_server(connection, HOST, sandbox.port, ssl=tls)
        except OSError as error:
            failed.append(error)
            return
        sandbox.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            while not stopping.is_set():
                await asyncio.sleep(0.05)

    def run() -> None:
        asyncio.run(serve())
        ready.set()

    thread = threading.Thread(target=run, name="mail sandbox", daemon=True)
    thread.start()
    ready.wait()
    if failed:
        raise failed[0]
    try:
        yield sandbox
    finally:
        stopping.set()
        thread.join()


def main() -> None:
    """Read the command line and serve until interrupted, telling now and then how much was taken."""
    parser = argparse.ArgumentParser(prog="python -m deployments.sandbox.mail_server", description=__doc__)
    parser.add_argument(
        "--behaviour", type=MailBehaviour, choices=list(MailBehaviour), default=MailBehaviour.NORMAL
    )
    parser.add_argument("--port", type=int, default=PORT, help="port on loopback; 0 takes a free one")
    options = parser.parse_args()
    with (
        contextlib.suppress(KeyboardInterrupt),
        running_mail_server(MailSandbox(options.port, options.behaviour)) as sandbox,
    ):
        print(f"Mail server on {HOST}:{sandbox.port}, {sandbox.behaviour}. Stop it with Ctrl-C.", flush=True)
        told = 0
        while True:
            threading.Event().wait(1)
            if len(sandbox.taken) != told:
                told = len(sandbox.taken)
                last = sandbox.taken[-1]
                print(f"{told} messages taken, the last {last.message_id} for {last.recipient}", flush=True)


if __name__ == "__main__":
    main()
