"""Prefect's server for runs at a terminal: one for each Prefect home, found again, and gone when nobody uses it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from deployments.home_server import HomeServer, Running
from deployments.terminal.app import app, told
from deployments.terminal.server import end, start
from tests.prefect_database import migrated
from tests.waiting import until

ROOT = Path(__file__).parents[2]
ASK = (
    "import sys\n"
    "from deployments.terminal.server import server_for_runs\n"
    "from prefect.client.orchestration import get_client\n"
    "with server_for_runs(), get_client(sync_client=True) as client:\n"
    "    client.read_flows()\n"
    "    print('asked', client.api_url, flush=True)\n"
    "    sys.stdin.readline()\n"
)
"""A run, as the server sees it: it asks, and stays until a line comes."""


@dataclass(frozen=True)
class Terminal:
    """A terminal with a Prefect home of its own."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def home(self) -> HomeServer:
        return HomeServer(self.folder / ".prefect")

    def begin(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", ASK]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def campaign(self, *arguments: str) -> "tuple[int, pytest.CaptureResult[str]]":
        """The command, in this process, which has its imports already: its status, and what it said."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            told(app, [*arguments])
        return int(ended.value.code or 0), self.capsys.readouterr()

    def server(self) -> Running | None:
        with self.home.gate(print):
            return self.home.find(print)


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    monkeypatch.chdir(tmp_path)
    found = Terminal(tmp_path, capsys)
    monkeypatch.setenv("PREFECT_HOME", str(found.home.home))  # of other processes; this one has read it already
    with temporary_settings({PREFECT_HOME: found.home.home}, restore_defaults={PREFECT_API_URL}):
        yield found
    with found.home.gate(print):
        if server := found.home.who():
            end(found.home, server)


def test_the_first_runs_start_one_server_and_later_ones_find_it(terminal: Terminal) -> None:
    """Also those that begin at one moment, on an empty home."""
    two = [terminal.begin(), terminal.begin()]
    said = [run.communicate("\n")[0] for run in two]
    server = terminal.server()
    assert server is not None
    assert [run.returncode for run in two] == [0, 0], said
    assert all(f"asked {server.address}/api" in text for text in said)
    assert sum("starts in the background" in text for text in said) == 1
    (message,) = [text for text in said if "starts in the background" in text]
    assert f"process {server.pid}" in message
    assert "campaign server stop" in message
    later = terminal.begin()
    assert later.communicate("\n")[0] == f"asked {server.address}/api/\n"
    assert httpx.get(f"{server.address}/api/admin/version").status_code == 401
    assert {path.stat().st_mode & 0o077 for path in terminal.home.home.rglob("*")} == {0}

    # It died, and its number is another's by now.
    os.kill(server.pid, signal.SIGKILL)
    with terminal.home.gate(print):
        terminal.home.wait_until_gone(print)
    terminal.home.tell(Running(os.getpid(), server.port, is_kept=True))
    assert "last used" not in terminal.campaign("server", "status")[1].out
    assert "No server" in terminal.campaign("server", "stop")[1].out

    # The next one is not stopped while a run uses it, and then it is.
    run = terminal.begin()
    assert "starts in the background" in run.stdout.readline()
    while "asked" not in run.stdout.readline():
        assert run.poll() is None
    assert "a run uses it" in terminal.campaign("server", "status")[1].out
    status, refused = terminal.campaign("server", "stop")
    assert (status, "A run uses it" in refused.err) == (1, True)
    run.kill()
    run.communicate()
    assert "Stopped" in terminal.campaign("server", "stop")[1].out
    assert terminal.server() is None


def test_it_ends_by_itself_when_nobody_has_used_it(terminal: Terminal) -> None:
    shutil.copyfile(migrated(), terminal.home.home / "prefect.db")
    with terminal.home.used(print):
        with terminal.home.gate(print):
            server = start(terminal.home, idle=timedelta(seconds=0.5))
        # As long as there is a user it stays.
        assert server.is_healthy()
    until(lambda: terminal.server() is None)
    assert json.loads((terminal.home.folder / "who.json").read_text())["pid"] == server.pid


@pytest.mark.parametrize(
    ("address", "says"), [("http://127.0.0.1:9/api", "does not answer"), ("{backend}/nowhere", "answers 404")]
)
def test_a_server_that_is_set_and_does_not_answer_is_told_in_a_sentence(
    terminal: Terminal, prefect_backend: str, address: str, says: str
) -> None:
    terminal.campaign("new", "spring-offers")
    with temporary_settings({PREFECT_API_URL: address.format(backend=prefect_backend.rstrip("/"))}):
        status, said = terminal.campaign("run", "spring-offers")
    assert status == 1
    assert says in said.err
    assert "PREFECT_API_URL" in said.err
    assert "Traceback" not in said.out + said.err


def test_a_server_that_cannot_start_is_told_with_its_log(terminal: Terminal) -> None:
    (terminal.home.home / "prefect.db").write_bytes(b"this is no database" * 1000)
    terminal.campaign("new", "spring-offers")
    status, said = terminal.campaign("run", "spring-offers")
    assert status == 1
    assert f"The last lines of {terminal.home.log} say why" in said.err
    assert "Traceback" not in said.out + said.err
    assert "not a database" in terminal.home.log.read_text()
