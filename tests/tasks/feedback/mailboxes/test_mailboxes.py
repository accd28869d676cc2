"""Mailboxes as they are read: a real IMAP server over TLS, a Maildir, an mbox. Nothing in them changes."""

import asyncio
import imaplib
import mailbox
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tasks.errors import CampaignError, HostNotAllowed, MailboxUnreadable
from tasks.feedback.mailboxes.mailbox import Mailbox, MailboxOptions
from tasks.feedback.mailboxes.opening import mailbox_of
from tasks.feedback.parts import LARGEST_MESSAGE
from tests.ports import free_port

NAMED = b"From: a@b.example\r\nSubject: %d\r\n\r\nHello\r\n"
MESSAGES = [NAMED % number for number in range(3)]


@dataclass
class ImapServer:
    """pymap on loopback, and TLS before it."""

    plain_port: int
    port: int
    ca_file: Path

    def append(self, *contents: bytes) -> None:
        with imaplib.IMAP4("127.0.0.1", self.plain_port, timeout=20) as client:
            client.login("reader", "pass word")
            for content in contents:
                client.append("INBOX", "", None, content)

    def flags(self) -> list[Any]:
        with imaplib.IMAP4("127.0.0.1", self.plain_port, timeout=20) as client:
            client.login("reader", "pass word")
            client.select("INBOX", readonly=True)
            return client.fetch("1:*", "(FLAGS)")[1]

    def mailbox(self, **options: Any) -> Mailbox:
        given = {
            "kind": "imap",
            "host": "localhost",
            "port": self.port,
            "user": "reader",
            "password": "pass word",
            "ca_file": self.ca_file,
            "timeout_seconds": 20,
            **options,
        }
        found = mailbox_of(MailboxOptions(**given), frozenset({f"localhost:{self.port}"}))
        assert found is not None
        return found


@pytest.fixture(scope="module")
def imap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImapServer]:
    folder = tmp_path_factory.mktemp("imap")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    plain = free_port()
    command = [Path(sys.executable).with_name("pymap"), "--no-tls", "--host", "127.0.0.1", "--port", str(plain)]
    command += ["--no-service", "admin", "dict", "--demo-user", "reader", "--demo-password", "pass word"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection("127.0.0.1", plain)
        await asyncio.gather(_poured(reader, out), _poured(there, writer))

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(20)
    running = ImapServer(plain, server.sockets[0].getsockname()[1], folder / "ca.pem")
    try:
        for _ in range(200):
            try:
                running.append()
                break
            except OSError:
                assert process.poll() is None
                threading.Event().wait(0.1)
        yield running
    finally:
        loop.call_soon_threadsafe(server.close)
        process.terminate()
        process.wait(20)
        loop.call_soon_threadsafe(loop.stop)


async def _poured(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while content := await source.read(65536):
        sink.write(content)
        await sink.drain()
    sink.close()


def test_an_imap_mailbox_is_read_on_after_the_last_position_and_nothing_in_it_changes(imap: ImapServer) -> None:
    assert list(imap.mailbox().after("")) == []
    imap.append(*MESSAGES[:2])
    flags = imap.flags()
    first = list(imap.mailbox().after(""))
    assert [one.content for one in first] == MESSAGES[:2]
    assert list(imap.mailbox().after(first[-1].position)) == []
    imap.append(MESSAGES[2])
    assert [one.content for one in imap.mailbox().after(first[-1].position)] == MESSAGES[2:]
    assert [one.content for one in imap.mailbox(at_once=1).after(first[0].position)] == MESSAGES[1:2]
    assert imap.flags()[:2] == flags
    of_another_numbering = f"1{first[-1].position}"
    assert len(list(imap.mailbox().after(of_another_numbering))) == 3


def test_of_a_huge_message_the_beginning_is_read(imap: ImapServer) -> None:
    imap.append(b"Subject: huge\r\n\r\n" + b"x" * (LARGEST_MESSAGE + 100))
    *_, last = imap.mailbox().after("")
    assert len(last.content) == LARGEST_MESSAGE


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "wrong password": ({"password": "no secret word"}, "cannot be read"),
    "no such folder": ({"folder": "Sent"}, "cannot be read"),
    "authority that is not trusted": ({"ca_file": None}, "certificate"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mailbox_that_cannot_be_read_is_one_sentence_without_a_secret(imap: ImapServer, case: str) -> None:
    options, words = REFUSED[case]
    with pytest.raises(MailboxUnreadable, match=words) as refused:
        list(imap.mailbox(**options).after(""))
    assert "no secret word" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nobody_answering_is_one_sentence(imap: ImapServer) -> None:
    port = free_port()
    options = MailboxOptions(kind="imap", host="localhost", port=port, user="reader")
    with pytest.raises(MailboxUnreadable, match="refused"):
        list(mailbox_of(options, frozenset({f"localhost:{port}"})).after(""))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "169.254.169.254", "10.0.0.1", "0x7f000001"])
def test_a_mailbox_is_reached_through_the_network_guard(host: str) -> None:
    box = mailbox_of(MailboxOptions(kind="imap", host=host, user="reader", timeout_seconds=5), frozenset())
    with pytest.raises(HostNotAllowed):
        list(box.after(""))


def maildir(folder: Path) -> Path:
    box = mailbox.Maildir(folder / "maildir", create=True)
    for message in MESSAGES:
        box.add(message)
    return folder / "maildir"


def mbox(folder: Path) -> Path:
    box = mailbox.mbox(folder / "mbox")
    for message in MESSAGES:
        box.add(message)
    box.close()
    return folder / "mbox"


@pytest.mark.parametrize("made", [maildir, mbox])
def test_files_are_read_whole_and_stay_as_they_are(made: Callable[[Path], Path], tmp_path: Path) -> None:
    path = made(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    box = mailbox_of(MailboxOptions(kind=made.__name__, path=path), frozenset())
    for _ in range(2):
        read = [one.content.replace(b"\r\n", b"\n").rstrip() for one in box.after("")]
        assert sorted(read) == sorted(message.replace(b"\r\n", b"\n").rstrip() for message in MESSAGES)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("kind", ["maildir", "mbox"])
def test_files_that_are_not_there_are_one_sentence(kind: str, tmp_path: Path) -> None:
    box = mailbox_of(MailboxOptions(kind=kind, path=tmp_path / "none"), frozenset())
    with pytest.raises(CampaignError, match="does not exist"):
        list(box.after(""))
