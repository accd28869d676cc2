"""A database that hangs, as a server does that is stopped: it is cut off, and the wait was said."""

import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from tasks.delivery.journal import deadlines
from tasks.delivery.journal.database import in_transaction
from tasks.delivery.journal.seats import Ask
from tasks.delivery.journal.storage import open_journal
from tasks.errors import JournalUnavailable
from tasks.settings import JournalSettings


class Passage:
    """Passes bytes on to a server, until it is told to hang."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.hangs = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(65536):
                if self.hangs.is_set():
                    return
                other.sendall(content)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def passage(postgresql_url: str) -> Iterator[tuple[Passage, str]]:
    url = sa.make_url(postgresql_url)
    passage = Passage(str(url.host), url.port or 5432)
    yield passage, url.set(host="127.0.0.1", port=passage.port).render_as_string(hide_password=False)
    passage.close()


def test_a_database_that_hangs_is_cut_off_and_said(
    passage: tuple[Passage, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deadlines, "SILENCE_SECONDS", 0.1)
    way, url = passage
    journal = open_journal(JournalSettings(url=SecretStr(url), patience_seconds=2))
    journal.renew()
    way.hangs.set()
    with caplog.at_level(logging.WARNING), pytest.raises(JournalUnavailable):
        journal.renew()
    assert "says nothing: it is waited for, 1 seconds at most" in caplog.text


def test_the_locks_of_a_sender_that_is_frozen_within_a_transaction_are_free_before_the_others_give_up(
    postgresql_url: str,
) -> None:
    frozen = open_journal(JournalSettings(url=SecretStr(postgresql_url), patience_seconds=4))
    other = open_journal(JournalSettings(url=SecretStr(postgresql_url), patience_seconds=20))
    is_held, is_awake, times = threading.Event(), threading.Event(), []

    def work(database: sa.Connection) -> str:
        times.append(1)
        database.execute(sa.text("LOCK TABLE seats IN ACCESS EXCLUSIVE MODE"))
        if len(times) == 1:
            is_held.set()
            assert is_awake.wait(60)
        return str(database.execute(sa.text("SELECT 'whole'")).scalar())

    with ThreadPoolExecutor(1) as pool:
        # No limit of its own, as a process that is stopped has none: PostgreSQL alone ends it.
        written = pool.submit(lambda: frozen.database.patiently(lambda: in_transaction(frozen.engine, work, 600)))
        assert is_held.wait(60)
        try:
            assert other.seats.share({"account": Ask(4, 0, 4)}) == {"account": 4}
        finally:
            is_awake.set()
        if (error := written.exception(60)) is None:
            assert (written.result(), len(times)) == ("whole", 2), "what was lost is done again, in full"
        else:
            assert isinstance(error, JournalUnavailable), error


def test_a_table_that_somebody_locked_is_not_waited_for_for_ever(postgresql_url: str) -> None:
    journal = open_journal(JournalSettings(url=SecretStr(postgresql_url), patience_seconds=2))
    other = open_journal(JournalSettings(url=SecretStr(postgresql_url)))
    with other.engine.begin() as holder:
        holder.execute(sa.text("LOCK TABLE senders IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(JournalUnavailable, match="timeout"):
            journal.renew()
    journal.renew()
