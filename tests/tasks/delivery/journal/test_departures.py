"""What a sender that is gone left behind, and who believes it."""

import os
import resource
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from tasks.delivery.journal import departures
from tasks.delivery.journal.states import Event, State
from tasks.delivery.journal.storage import Journal, Settlement, open_journal
from tasks.errors import ConfigurationError, JournalUnavailable
from tasks.send import DIGITS, Send
from tasks.settings import JournalSettings
from tests.waiting import until

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEYS = {SEND.message_key("email", name): name for name in ("answered", "leaving", "staying")}
ANSWERED, LEAVING, STAYING = KEYS


def sender(folder: Path, name: str) -> Journal:
    settings = JournalSettings(url=SecretStr(f"sqlite:///{folder}/journal.db"), patience_seconds=1)
    journal = open_journal(settings, lambda: NOON, name)
    journal.enter()
    return journal


def in_the_middle(folder: Path) -> Journal:
    """A sender that has claimed three messages, of which two have begun to leave and one was answered."""
    journal = sender(folder, "first")
    journal.claim(SEND, "email", KEYS)
    for key in (ANSWERED, LEAVING):
        depart(journal, key)
    journal.arrive(Settlement(ANSWERED, Event.TAKEN, "250 2.0.0 Ok:\nqueued as ü"))
    return journal


def depart(journal: Journal, key: str) -> None:
    with suppress(StopIteration):  # a file is written at once
        journal.departing(SEND, "email")(key).send(None)


def killed(journal: Journal) -> None:
    """As the system leaves a process that is killed: the lock is free, the file stays."""
    journal.departures._let_go()
    os.close(journal.departures._file)


def states(journal: Journal) -> list[State]:
    known = journal.known(SEND, "email", KEYS)
    return [known[key].state for key in KEYS]


def test_of_a_killed_sender_only_what_was_on_its_way_is_in_doubt(tmp_path: Path) -> None:
    killed(in_the_middle(tmp_path))
    heir = sender(tmp_path, "heir")
    assert heir.expire(SEND, "email") == 0
    assert states(heir) == [State.SENT, State.UNKNOWN, State.DEFERRED]
    assert heir.known(SEND, "email", [ANSWERED])[ANSWERED].answer == "250 2.0.0 Ok: queued as ü"
    assert heir.claim(SEND, "email", KEYS) == {STAYING}
    assert len(list((tmp_path / "journal.db.departures").iterdir())) == 1, "the heir's own"


def test_a_sender_that_lives_keeps_its_claims(tmp_path: Path) -> None:
    in_the_middle(tmp_path)
    other = sender(tmp_path, "other")
    other.expire(SEND, "email")
    assert states(other) == [State.CLAIMED] * 3


def test_after_a_new_start_of_the_machine_the_file_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = in_the_middle(tmp_path)
    killed(first)
    first.departures._file = None
    first.leave()  # its lease ends
    monkeypatch.setattr(departures, "boot", lambda: "another start")
    heir = sender(tmp_path, "heir")
    assert heir.expire(SEND, "email") == 3
    assert states(heir) == [State.UNKNOWN] * 3


def test_what_is_noted_is_in_the_file_at_once(tmp_path: Path) -> None:
    first = in_the_middle(tmp_path)
    (file,) = (tmp_path / "journal.db.departures").iterdir()
    depart(first, STAYING)
    noted = file.read_text().rstrip("\0").split("\n")
    answered, leaving, staying = (key[:DIGITS] for key in KEYS)
    assert noted[1:] == [answered, leaving, f"{answered} taken 250 2.0.0 Ok: queued as ü", staying, ""]


def test_a_file_has_room_for_any_number_of_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "ROOM", 50)
    first = in_the_middle(tmp_path)
    for _ in range(100):
        depart(first, STAYING)
        depart(first, LEAVING)
    killed(first)
    heir = sender(tmp_path, "heir")
    heir.expire(SEND, "email")
    assert states(heir) == [State.SENT, State.UNKNOWN, State.UNKNOWN]


@pytest.mark.parametrize("cut", [STAYING[:DIGITS], STAYING[:9], f"\0\0{STAYING[2:DIGITS]}"])
def test_a_line_that_was_cut_is_of_a_message_that_stayed(tmp_path: Path, cut: str) -> None:
    first = in_the_middle(tmp_path)
    notes = first.departures
    notes._notes[notes._size : notes._size + len(cut)] = cut.encode()
    killed(first)
    heir = sender(tmp_path, "heir")
    heir.expire(SEND, "email")
    assert states(heir)[2] is State.DEFERRED


def test_a_sender_that_is_done_leaves_no_file(tmp_path: Path) -> None:
    in_the_middle(tmp_path).leave()
    assert list((tmp_path / "journal.db.departures").iterdir()) == []


def test_a_departure_that_has_no_room_on_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures, "ROOM", 50)
    journal = in_the_middle(tmp_path)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, most))
    try:
        with pytest.raises(JournalUnavailable, match="File too large"):
            depart(journal, STAYING)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pool_of_transactions_before_postgresql_is_told_and_one_of_sessions_works(
    postgresql_url: str, mode: str
) -> None:
    pgbouncer = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if pgbouncer is None:
        pytest.skip("no PgBouncer is installed here")
    server = sa.make_url(postgresql_url)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp())  # pytest's own lets nobody else in
    folder.chmod(0o755)
    (folder / "pool.ini").write_text(
        f"[databases]\n* = host={server.host} port={server.port} user=postgres\n"
        f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\npool_mode={mode}\n"
        f"unix_socket_dir=\nignore_startup_parameters=extra_float_digits\n"
    )
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    pool = subprocess.Popen([pgbouncer, *as_nobody, "pool.ini"], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        url = SecretStr(server.set(port=port).render_as_string(hide_password=False))
        with closing(open_journal(JournalSettings(url=url, patience_seconds=5))) as journal:
            if mode == "session":
                journal.enter()
                journal.leave()
                return
            with pytest.raises(ConfigurationError, match="pool_mode=transaction"):
                journal.enter()
    finally:
        pool.terminate()
        pool.wait(20)
        shutil.rmtree(folder)
