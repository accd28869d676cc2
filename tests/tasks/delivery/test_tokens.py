"""A token that ends during a long send is renewed: at a mail server, at a provider, at a mailbox."""

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import trustme
from pydantic import SecretStr

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from deployments.sandbox.server import Call, Reply
from tasks.channels.email import email_channel
from tasks.channels.push import PushOptions, push_channel
from tasks.delivery.delivery import send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.smtp.connection import Security
from tasks.errors import AccountNotForHost, MailboxUnreadable, MailServerRefuses, ProviderRefuses
from tasks.feedback.mailboxes.imap import ImapMailbox
from tasks.feedback.mailboxes.mailbox import MailboxOptions
from tasks.http.accounts import OAuth2Account
from tasks.settings import JournalSettings
from tests.tasks.channels.email_flow import SEND, made_up_messages, options_for
from tests.tasks.provider_server import Asked, running_provider

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass
class Issuer:
    """An authorization server: each token is another one, and only the newest is good."""

    given: list[str] = field(default_factory=list)
    good: set[str] = field(default_factory=set)

    def respond(self, call: Call) -> Reply:
        self.given.append(f"token-{len(self.given) + 1}")
        self.good.clear()
        self.good.add(self.given[-1])
        answer = {"access_token": self.given[-1], "token_type": "Bearer", "expires_in": 3600}
        return Reply(json.dumps(answer).encode())


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def account(
    start_server: Callable, issuer: Issuer, prefect_backend: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Saves an account that lends itself to a host; gives its name."""
    server = start_server(issuer.respond)
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')

    def saved(host: str) -> str:
        name = f"mail-{uuid4().hex[:8]}"
        OAuth2Account(
            token_url=f"{server.address}/token",
            client_id="us",
            client_secret=SecretStr("s3cret"),
            ca_file=server.ca_file,
            hosts=[host],
        ).save(name)
        return f"oauth2-account/{name}"

    return saved


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority


def context_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def journal_in(folder: Path):
    return open_journal(JournalSettings(url=SecretStr(f"sqlite:///{folder}/journal.db")))


class EndingTokens(MailSandbox):
    """After some messages every token ends, and whoever is logged in by one is gone."""

    def __init__(self, issuer: Issuer, every: int) -> None:
        super().__init__(login=("sender@shop.test", ""), tokens=issuer.good)
        self._every = every

    def fault_at(self, at, address=""):
        fault = super().fault_at(at, address)
        if at == "MAIL" and self.seen[at] % self._every == 0:
            self.tokens.clear()
            return type("Gone", (), {"answer": "421 4.7.0 Token ended"})()
        return fault


def mail_options(port: int, folder: Path, name: str):
    server = {
        "host": "localhost",
        "security": Security.STARTTLS,
        "ca_file": folder / "ca.pem",
        "username": "sender@shop.test",
        "account": name,
        "connections": 1,
    }
    return options_for(port, folder, server=server)


def mailed(options, folder: Path):
    channel = email_channel(options, SEND, NOON)
    messages = made_up_messages(60)
    return send_messages(messages, channel, options, SEND, journal=journal_in(folder), tally=Tally(60))


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")
def test_a_mail_server_is_logged_in_to_by_a_token_that_is_renewed(
    account: Callable[[str], str], issuer: Issuer, authority: trustme.CA, tmp_path: Path
) -> None:
    with running_mail_server(EndingTokens(issuer, 25), starttls=context_of(authority)) as sandbox:
        delivery, failure = mailed(mail_options(sandbox.port, tmp_path, account("localhost")), tmp_path)
    assert failure is None
    assert delivery.standard.height == 60
    assert len(issuer.given) >= 3, "one at the start, and one each time that it ended"
    assert set(sandbox.message_ids.values()) == {1}


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")
def test_a_token_that_no_renewal_makes_good_ends_the_run_in_a_sentence(
    account: Callable[[str], str], issuer: Issuer, authority: trustme.CA, tmp_path: Path
) -> None:
    sandbox = MailSandbox(login=("sender@shop.test", ""), tokens={"another"})
    with running_mail_server(sandbox, starttls=context_of(authority)):
        _, failure = mailed(mail_options(sandbox.port, tmp_path, account("localhost")), tmp_path)
    assert isinstance(failure, MailServerRefuses)
    assert "535" in str(failure)
    assert not any(token in str(failure) for token in issuer.given)
    assert len(issuer.given) == 2


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")
def test_an_account_s_token_goes_to_its_own_hosts_only(
    account: Callable[[str], str], issuer: Issuer, authority: trustme.CA, tmp_path: Path
) -> None:
    with running_mail_server(EndingTokens(issuer, 25), starttls=context_of(authority)) as sandbox:
        _, failure = mailed(mail_options(sandbox.port, tmp_path, account("smtp.another.test")), tmp_path)
    assert isinstance(failure, AccountNotForHost)
    assert sandbox.taken == []
    assert issuer.given == []


@pytest.mark.parametrize("is_ever_good", [True, False])
def test_a_provider_s_token_is_renewed_when_it_ends_during_the_send(
    account: Callable[[str], str], issuer: Issuer, tmp_path: Path, is_ever_good: bool
) -> None:
    taken: list[str] = []

    def answer(asked: Asked) -> tuple[int, dict[str, str], object]:
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in issuer.good or not is_ever_good:
            return 401, {}, {"error": {"status": "UNAUTHENTICATED", "message": "token ended"}}
        taken.append(json.loads(asked.body)["message"]["token"])
        if len(taken) % 10 == 0:
            issuer.good.clear()
        return 200, {}, {"name": f"projects/p/messages/{len(taken)}"}

    with running_provider(tmp_path, answer) as provider:
        options = PushOptions(
            url=provider.url,
            project="p",
            account=account("localhost"),
            folder=tmp_path,
            connection=provider.connection(connections=2),
        )
        channel = push_channel(options)
        messages = made_up_messages(35)
        delivery, failure = send_messages(
            messages, channel, options, SEND, journal=journal_in(tmp_path), tally=Tally(35)
        )
    if is_ever_good:
        assert failure is None
        assert delivery.standard.height == len(taken) == 35
        assert len(issuer.given) >= 4
    else:
        assert isinstance(failure, ProviderRefuses)
        assert taken == []


class Imap:
    """An IMAP server that knows XOAUTH2 and an empty folder."""

    def __init__(self, context: ssl.SSLContext, good: set[str]) -> None:
        self._context, self._good = context, good
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            with self._context.wrap_socket(plain, server_side=True) as connection:
                self._talk(connection.makefile("rwb"))

    def _talk(self, file) -> None:
        def say(line: str) -> None:
            file.write(f"{line}\r\n".encode())
            file.flush()

        say("* OK ready")
        while line := file.readline().decode().split():
            tag, verb = line[0], line[1].upper()
            if verb == "CAPABILITY":
                say("* CAPABILITY IMAP4rev1 AUTH=XOAUTH2")
            elif verb == "AUTHENTICATE":
                say("+")
                said = base64.b64decode(file.readline()).decode()
                if said not in {f"user=reader\x01auth=Bearer {token}\x01\x01" for token in self._good}:
                    say(f"{tag} NO token ended")
                    continue
            elif verb in {"SELECT", "EXAMINE"}:
                say("* 0 EXISTS")
                say("* OK [UIDVALIDITY 7] ok")
            elif verb == "UID":
                say("* SEARCH")
            say(f"{tag} OK done")
            if verb == "LOGOUT":
                return

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def imap(authority: trustme.CA, issuer: Issuer) -> Iterator[Imap]:
    server = Imap(context_of(authority), issuer.good)
    yield server
    server.close()


def test_a_mailbox_is_read_by_a_token_that_is_renewed(
    account: Callable[[str], str], issuer: Issuer, imap: Imap, tmp_path: Path
) -> None:
    options = MailboxOptions(
        kind="imap", host="localhost", port=imap.port, user="reader", account=account("localhost"),
        ca_file=tmp_path / "ca.pem",
    )  # fmt: skip
    box = ImapMailbox(options, frozenset({"localhost"}))
    assert list(box.after("")) == []
    issuer.good.clear()  # the kept one has ended
    assert list(box.after("")) == []
    assert len(issuer.given) == 2
    imap._good = {"another"}
    with pytest.raises(MailboxUnreadable, match="token ended") as failed:
        list(box.after(""))
    assert not any(token in str(failed.value) for token in issuer.given)
