"""What a person at a terminal sees of a delivery."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.states import State
from tasks.delivery.progress import percent

FLOW = Path(__file__).parents[1] / "channels" / "email_flow.py"


def shown_on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    leader, follower = pty.openpty()
    with subprocess.Popen(command, env=environment, stdout=follower, stderr=follower) as process:
        os.close(follower)
        seen = b""
        try:
            while part := os.read(leader, 65536):
                seen += part
        except OSError:  # how Linux says that nobody writes any more
            pass
    os.close(leader)
    assert process.returncode == 0, seen.decode()[-2000:]
    return seen.decode()


def test_a_bar_runs_to_its_end(prefect_backend: str, tmp_path: Path) -> None:
    with running_mail_server(MailSandbox()) as sandbox:
        seen = shown_on_a_terminal(
            [sys.executable, str(FLOW), "200", str(sandbox.port), str(tmp_path)],
            {
                **os.environ,
                "PREFECT_API_URL": prefect_backend,
                "CAMPAIGN_JOURNAL__URL": f"sqlite:///{tmp_path}/journal.db",
                "PYTHONPATH": str(Path(__file__).parents[3]),
                "TERM": "xterm-256color",
                "COLUMNS": "120",
            },
        )
    assert "200/200" in seen
    assert "Birthday" in seen


def test_the_share_that_is_done_is_between_nothing_and_all() -> None:
    tally = Tally(8)
    assert percent(tally) == 0
    tally.states[State.SENT] += 5
    tally.states[State.UNKNOWN] += 1
    assert percent(tally) == 75
    assert percent(Tally(0)) == 100
