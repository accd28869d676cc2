"""Partitions on every engine, as a program that is killed and started again sees them."""

import mailbox
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from prefect import flow, task

from tasks.errors import CampaignError, ConfigurationError, ExtraMissing
from tasks.runs.engine import ENGINE

ROOT = Path(__file__).parents[3]
PROFILES = 90
SIZE = 20
PARTITIONS = 5

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, prefect_backend: str) -> Run:
    """Runs the campaign of `partition_flow.py` on an engine; gives the exit status."""
    pl.DataFrame(
        {
            "profile_id": [f"P{number}" for number in range(PROFILES)],
            "email": [f"p{number}@x.example" for number in range(PROFILES)],
        }
    ).write_parquet(tmp_path / "profiles.parquet")

    def started(kind: str, form: str = "parquet", **environment: str) -> int:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "tasks" / "partition_flow.py"), str(tmp_path), form],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PREFECT_API_URL": prefect_backend,
                "PREFECT_LOCAL_STORAGE_PATH": str(tmp_path / "results"),
                "CAMPAIGN_ENGINE__KIND": kind,
                "CAMPAIGN_PARTITIONS__SIZE": str(SIZE),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        (tmp_path / "log").write_text(done.stdout + done.stderr)
        return done.returncode

    return started


def delivered(folder: Path) -> Counter[str]:
    """How many messages each profile has in the outbox, of either form."""
    send = folder / "outbox" / "partitions" / "2026-11-24"
    files = sorted((send / "messages").glob("*.parquet"))
    if files:
        return Counter(pl.read_parquet(files)["profile_id"])
    return Counter(str(message["Subject"]).removeprefix("Hello ") for message in mailbox.Maildir(send / "maildir"))


def worked(folder: Path) -> Counter[int]:
    """How often each partition was worked on."""
    return Counter(int(trace.name.split("-")[1]) for trace in folder.glob("worked-*"))


EVERYBODY = Counter({f"P{number}": 1 for number in range(PROFILES)})


@pytest.mark.parametrize(("kind", "form"), [("dask", "maildir"), ("ray", "parquet")])
def test_a_worker_that_is_killed_costs_no_partition_and_no_second_message(
    kind: str, form: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "die-3").touch()
    assert run(kind, form) == 0, (tmp_path / "log").read_text()
    assert delivered(tmp_path) == EVERYBODY
    assert set(worked(tmp_path)) == set(range(1, PARTITIONS + 1))
    assert worked(tmp_path)[3] == 2
    told = [int(count) for count in (tmp_path / "counts").read_text().split()]
    assert sum(told) == PROFILES


def test_a_run_that_is_killed_when_all_parts_are_done_does_only_its_closing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "die-closing").touch()
    assert run("threads") != 0
    assert delivered(tmp_path) == EVERYBODY
    assert run("threads") == 0, (tmp_path / "log").read_text()
    assert delivered(tmp_path) == EVERYBODY
    assert worked(tmp_path) == Counter(range(1, PARTITIONS + 1))
    assert (tmp_path / "counts").read_text() == f"{PROFILES} 0 0"


def test_a_run_that_is_resumed_with_parts_of_another_size_keeps_those_of_its_query(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "die-3").touch()
    assert run("threads", CAMPAIGN_ENGINE__WORKERS="1") != 0
    assert 0 < sum(delivered(tmp_path).values()) < PROFILES
    assert run("threads", CAMPAIGN_PARTITIONS__SIZE="7") == 0, (tmp_path / "log").read_text()
    assert delivered(tmp_path) == EVERYBODY
    assert worked(tmp_path) == Counter({1: 1, 2: 1, 3: 2, 4: 1, 5: 1})
    assert (tmp_path / "counts").read_text() == f"{PROFILES} 0 0"


def test_a_worker_of_a_dask_cluster_made_for_the_run_is_one_thread_of_polars_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAMPAIGN_ENGINE__KIND", "dask")
    with ENGINE.duplicate() as runner:
        threads = runner.client.run(pl.thread_pool_size)
    assert list(threads.values()) == [1, 1]


LISTENING = """
import psutil
from prefect import flow, task
from tasks.runs.engine import ENGINE

@task
def one() -> int:
    return 1

@flow(task_runner=ENGINE)
def listening() -> None:
    assert one.submit().result() == 1
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        for socket in process.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN:
                print("listens:", socket.laddr.ip)

listening()
"""


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_cluster_that_is_made_for_a_run_listens_on_loopback_only(kind: str, prefect_backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTENING],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PREFECT_API_URL": prefect_backend,
            "CAMPAIGN_ENGINE__KIND": kind,
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    addresses = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("listens:")}
    assert addresses, "nothing listens: it was looked for in the wrong processes"
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.parametrize(
    ("kind", "address", "says"),
    [("mainframe", "", "CAMPAIGN_ENGINE__KIND"), ("threads", "tcp://10.0.0.1:8786", "CAMPAIGN_ENGINE")],
)
def test_an_engine_that_is_none_is_named_and_the_run_fails(
    prefect_backend: str, kind: str, address: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_ENGINE__KIND", kind)
    monkeypatch.setenv("CAMPAIGN_ENGINE__ADDRESS", address)
    fails_with(ConfigurationError, says)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_an_engine_whose_packages_are_not_there_names_the_extra(
    prefect_backend: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_ENGINE__KIND", kind)
    monkeypatch.setitem(sys.modules, f"prefect_{kind}", None)
    fails_with(ExtraMissing, rf"campaign-flows\[{kind}\]")


def fails_with(error: type[CampaignError], says: str) -> None:
    """A flow whose work is divided ends as failed, with the sentence; it does not stay running."""

    @task
    def part(number: int) -> int:
        return number

    @flow(name="Divided", task_runner=ENGINE)
    def divided() -> list[int]:
        return part.map([1, 2]).result()

    state = divided(return_state=True)
    assert state.is_failed()
    with pytest.raises(error, match=says):
        state.result()
