"""A shipped campaign whose process is killed at any step does only what is missing when its run is tried again."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from pydantic import SecretStr

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from deployments.sandbox.partner import Partner
from tasks.channels._whole_audience import GONE, MOVED
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.settings import JournalSettings
from tests.benchmarks.mail_sink import running_sink
from tests.flows.conftest import messages_of
from tests.made_up import WRITTEN

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 24)
SIZE = 3


Run = Callable[..., int]


@pytest.fixture
def run(in_folder: Path, prefect_backend: str) -> Run:
    """Runs a campaign of `killed_flow.py` in a folder of its own; gives the exit status."""

    def started(folder: Path, what: str = "birthday", size: int = SIZE, **settings: str) -> int:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "flows" / "killed_flow.py"), str(folder), what],
            cwd=in_folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PREFECT_API_URL": prefect_backend,
                "PREFECT_LOCAL_STORAGE_PATH": str(folder / "results"),
                "CAMPAIGN_PARTITIONS__SIZE": str(size),
                "CAMPAIGN_ENGINE__WORKERS": "1",
                "CAMPAIGN_JOURNAL__URL": f"sqlite:///{folder}/journal.db",
                "CAMPAIGN_OUTBOX__FOLDER": str(folder / "outbox"),
                "CAMPAIGN_EMAIL__FOLDER": str(folder / "sent"),
                "CAMPAIGN_KEPT__FOLDER": str(folder / "kept"),
                **settings,
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        (folder / "log").write_text(done.stdout + done.stderr)
        return done.returncode

    return started


def traces(folder: Path) -> Counter[str]:
    """How often each piece of work was done."""
    return Counter(trace.name.rpartition("-")[0].removeprefix("trace-") for trace in folder.glob("trace-*"))


def reported(send: Path) -> tuple[dict[str, str], list[str], list[tuple[str, ...]]]:
    """Subjects by address, files of the send's folder, and its rejects."""
    subjects = {address: str(message["Subject"]) for address, message in messages_of(send).items()}
    files = sorted(file.name for file in send.iterdir() if not file.name.startswith("."))
    return subjects, files, pl.read_csv(send / "rejects.csv", infer_schema=False).sort("profile_id").rows()


SENT = Path("outbox") / "birthday-coupons" / DAY.isoformat()
STEPS = ["query-2", "table-1", "planning-1", "part-2", "closing-1", "report-1"]
DONE_AGAIN = Counter({"query-1": 1, "query-2": 1, "table-1": 1, "part-2": 1})
"""A query starts again as a whole, and so does the part or the table whose result was not kept yet."""
MADE_IN_EVERY_TRY = {"planning", "closing", "report"}


def test_a_campaign_that_is_killed_at_every_step_and_resumed_does_only_what_is_missing(
    sample_profiles: pl.DataFrame,
    tmp_path: Path,
    run: Run,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
) -> None:
    partner = start_partner()
    use_partner(partner)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert run(whole) == 0, (whole / "log").read_text()
    work, calls = traces(whole), len(partner.requests)
    assert set(STEPS) <= set(work)

    for step in STEPS:
        (killed / "die").write_text(step)
        assert run(killed) == -9, (step, (killed / "log").read_text())
        assert not (killed / "die").exists(), step
    assert run(killed) == 0, (killed / "log").read_text()
    assert reported(killed / SENT) == reported(whole / SENT)
    again = traces(killed) - work
    kept = Counter({name: n for name, n in again.items() if name.partition("-")[0] not in MADE_IN_EVERY_TRY})
    assert kept == DONE_AGAIN
    assert set(traces(killed)) == set(work)
    assert len(partner.requests) == 2 * calls, "the partner is asked once, whenever the process died"


OF_MAIL = ["claimed-1", "answered-1", "part-2", "closing-1"]


MAIL_SIZE = 5
"""A part is one window: of another, on its way when the process dies, nobody can say whether it was taken."""


def mailed_by(run: Run, folder: Path, *steps: str) -> tuple[object, ...]:
    """The campaign by mail in a folder, with a mail server of its own; it dies once at each of the steps.

    Out: how many messages came, and how many different ones; the manifest; the rejects.
    """
    with running_sink() as (port, taken):
        server = {"HOST": "127.0.0.1", "PORT": str(port), "SECURITY": "none"}
        settings = {f"CAMPAIGN_EMAIL__SERVER__{key}": value for key, value in server.items()}
        for step in steps:
            (folder / "die").write_text(step)
            assert run(folder, "mail", MAIL_SIZE, **settings) == -9, (step, (folder / "log").read_text())
            assert not (folder / "die").exists(), step
        assert run(folder, "mail", MAIL_SIZE, **settings) == 0, (folder / "log").read_text()
        messages = taken()
    sent = folder / "sent" / "mail" / DAY.isoformat()
    manifest = pl.read_parquet(sent / "email-manifest.parquet").select("profile_id", "outcome")
    rejects = pl.read_csv(sent / "rejects.csv", infer_schema=False)
    work = traces(folder)
    assert {"claimed-1", "answered-1", "part-3", "closing-1"} <= set(work)
    assert messages == (manifest.height, manifest.height)
    return messages, *(sorted(table.iter_rows()) for table in (manifest, rejects))


def test_a_campaign_by_mail_that_is_killed_at_every_step_and_resumed_sends_every_message_once(
    sample_profiles: pl.DataFrame, in_folder: Path, tmp_path: Path, run: Run
) -> None:
    sample_profiles.head(4 * MAIL_SIZE).write_parquet(in_folder / "samples" / "profiles.parquet")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert mailed_by(run, killed, *OF_MAIL) == mailed_by(run, whole)


def test_a_campaign_that_is_stopped_in_its_parts_closes_and_goes_on_later(
    sample_profiles: pl.DataFrame, in_folder: Path, tmp_path: Path, run: Run
) -> None:
    size = 5
    sample_profiles.head(4 * size).write_parquet(in_folder / "samples" / "profiles.parquet")
    sent = tmp_path / "sent" / "mail" / DAY.isoformat()
    with running_sink() as (port, taken):
        server = {"HOST": "127.0.0.1", "PORT": str(port), "SECURITY": "none"}
        settings = {f"CAMPAIGN_EMAIL__SERVER__{key}": value for key, value in server.items()}
        (tmp_path / "die").write_text("stop answered-1")
        assert run(tmp_path, "mail", size, **settings) != 0
        assert not (tmp_path / "die").exists()
        log = (tmp_path / "log").read_text()
        assert traces(tmp_path)["closing-1"] == 1, log
        stopped = pl.read_parquet(sent / "email-manifest.parquet")
        assert set(stopped["outcome"]) <= {"sent", "deferred"}, log
        assert "Traceback" not in log, log
        assert (sent / "rejects.csv").exists()
        before = stopped.filter(outcome="sent")["profile_id"].to_list()
        assert f"{len(before)} messages sent, " in log, log
        assert run(tmp_path, "mail", size, **settings) == 0, (tmp_path / "log").read_text()
        manifest = pl.read_parquet(sent / "email-manifest.parquet")
        assert set(manifest["outcome"]) == {"sent"}
        assert set() < set(before) < set(manifest["profile_id"])
        assert taken() == (manifest.height, manifest.height), "each message came once"


@pytest.mark.parametrize("step", ["planning-1", "part-1"])
def test_a_run_that_goes_on_writes_to_nobody_who_was_removed_moved_or_opted_out_meanwhile(
    step: str, sample_profiles: pl.DataFrame, in_folder: Path, tmp_path: Path, run: Run
) -> None:
    size, file = 4, in_folder / "samples" / "profiles.parquet"
    people = sample_profiles.filter("may_contact", pl.col("email").is_not_null(), WRITTEN).head(4 * size)
    people.write_parquet(file)
    # Of the last part, whose turn had not come when the process died.
    removed, withdrawn, moved, opted_out = people["profile_id"].tail(size)
    with running_mail_server(MailSandbox()) as server:
        of_mail = {"HOST": "127.0.0.1", "PORT": str(server.port), "SECURITY": "none"}
        settings = {f"CAMPAIGN_EMAIL__SERVER__{key}": value for key, value in of_mail.items()}
        (tmp_path / "die").write_text(step)
        assert run(tmp_path, "mail", size, **settings) == -9, (tmp_path / "log").read_text()
        key = pl.col("profile_id")
        people.filter(key != removed).with_columns(
            may_contact=pl.col("may_contact") & (key != withdrawn),
            email=pl.when(key == moved).then(pl.lit("elsewhere@profiles.example")).otherwise("email"),
        ).write_parquet(file)
        journal = open_journal(JournalSettings(url=SecretStr(f"sqlite:///{tmp_path}/journal.db")))
        journal.suppressions.add([Sighting(Kind.OPT_OUT, "email", "", "test", profile_id=opted_out)])
        assert run(tmp_path, "mail", size, **settings) == 0, (tmp_path / "log").read_text()
        recipients = Counter(one.recipient for one in server.taken)
    assert recipients == Counter(people["email"].head(3 * size))
    rejects = pl.read_csv(tmp_path / "sent" / "mail" / DAY.isoformat() / "rejects.csv", infer_schema=False)
    assert dict(rejects.select("profile_id", "reason").iter_rows()) == {
        removed: GONE,
        withdrawn: GONE,
        moved: MOVED,
        opted_out: "opt-out",
    }
    assert "3 people who are not selected any more, or have another address now" in (tmp_path / "log").read_text()
