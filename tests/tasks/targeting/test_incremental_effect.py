"""Whom an incremental query gave is remembered once the flow run that used it has had its effect."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from uuid import UUID

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run
from prefect.states import Completed, Crashed, Scheduled

from deployments.sandbox.mail_server import MailBehaviour, MailSandbox, running_mail_server
from tasks.errors import (
    ConfigurationError,
    HistoryUndecided,
    MailServerRefuses,
    MailServerUnavailable,
    SourceUnreadable,
)
from tasks.files.kept import kept
from tasks.targeting.incremental_query import incremental_query
from tests.tasks.targeting import incremental_flow
from tests.tasks.targeting.incremental_flow import newcomers, welcome, write_people

TUESDAY = datetime(2026, 11, 24, 7, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def people(in_folder: Path, result_folder: Path) -> Iterator[Path]:
    """A file of three people."""
    path = in_folder / "people.parquet"
    write_people(path, 1, 2, 3)
    return path


def set_state(run: UUID | str, state: State) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state, force=True)


def try_again(workflow: Flow, run: str, **parameters: object) -> object:
    """What Retry does in Prefect's UI, with the worker's part."""
    set_state(run, Scheduled(name="AwaitingRetry"))
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run)
    return run_flow(workflow, flow_run=found, parameters=parameters)


@flow
def gives(people: Path, run_at: datetime, fails: bool = False, then: Callable | None = None) -> list[str]:
    """Gives the new people's ids, and fails after it, if asked."""
    found = incremental_query(newcomers(people), run_at).collect()["profile_id"].to_list()
    if then:
        then(flow_run.id, found)
    if fails:
        raise RuntimeError("no effect")
    return found


def failed(people: Path, run_at: datetime) -> str:
    """A run that was given people and failed: its id."""
    runs: list[str] = []
    with pytest.raises(RuntimeError, match="no effect"):
        gives(people, run_at, fails=True, then=lambda run, _: runs.append(run))
    return runs[0]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [(MailBehaviour.CLOSED, MailServerRefuses), (MailBehaviour.AWAY, MailServerUnavailable)],
)
def test_a_mail_server_that_is_down_loses_nobody(
    people: Path, tmp_path: Path, behaviour: MailBehaviour, error: type[Exception]
) -> None:
    with running_mail_server(MailSandbox(behaviour=behaviour)) as down, pytest.raises(error):
        welcome(people, down.port, tmp_path / "mail", TUESDAY)
    with running_mail_server(MailSandbox()) as server:
        assert welcome(people, server.port, tmp_path / "mail", TUESDAY + WEEK) == 3
        assert welcome(people, server.port, tmp_path / "mail", TUESDAY + 2 * WEEK) == 0
        write_people(people, 1, 2, 3, 4)
        assert welcome(people, server.port, tmp_path / "mail", TUESDAY + 3 * WEEK) == 1
        assert sorted(server.message_ids.values()) == [1] * 4


@pytest.mark.parametrize("moved", [timedelta(0), timedelta(minutes=5)], ids=["same moment", "another moment"])
def test_a_run_that_is_tried_again_gives_the_same_people(people: Path, moved: timedelta) -> None:
    run = failed(people, TUESDAY)
    write_people(people, 1, 2, 3, 4)
    assert try_again(gives, run, people=people, run_at=TUESDAY + moved) == ["1", "2", "3"]
    assert gives(people, TUESDAY + WEEK) == ["4"]
    assert gives(people, TUESDAY + 2 * WEEK) == []


def test_a_run_that_is_tried_again_gives_nobody_whom_another_run_gave_since(people: Path) -> None:
    run = failed(people, TUESDAY)
    assert gives(people, TUESDAY + WEEK) == ["1", "2", "3"]
    write_people(people, 1, 2, 3, 4)
    assert try_again(gives, run, people=people, run_at=TUESDAY) == ["4"]
    assert gives(people, TUESDAY + 2 * WEEK) == []


def test_a_run_that_was_killed_is_asked_about_and_then_gives_its_people_again(
    people: Path, prefect_backend: str
) -> None:
    command = [sys.executable, incremental_flow.__file__, str(people)]
    environment = {**os.environ, "PREFECT_API_URL": prefect_backend}
    assert subprocess.run(command, check=False, timeout=600, env=environment).returncode == -signal.SIGKILL
    with pytest.raises(HistoryUndecided, match=r"given 3 people, has not ended.*change its state") as refused:
        gives(people, TUESDAY + WEEK)
    set_state(refused.value.facts["run"], Crashed())
    assert gives(people, TUESDAY + WEEK) == ["1", "2", "3"]


def test_a_run_that_was_killed_after_its_effect_can_be_called_completed(people: Path) -> None:
    run = failed(people, TUESDAY)
    set_state(run, Completed())
    assert gives(people, TUESDAY + WEEK) == []


def test_of_two_runs_at_once_one_is_refused(people: Path) -> None:
    given, go_on = Event(), Event()

    def wait(_run: str, _found: list[str]) -> None:
        given.set()
        assert go_on.wait(60)

    first = Thread(target=gives, args=(people, TUESDAY), kwargs={"then": wait})
    first.start()
    try:
        assert given.wait(60)
        with pytest.raises(HistoryUndecided, match="has not ended"):
            gives(people, TUESDAY + WEEK)
    finally:
        go_on.set()
        first.join()
    assert gives(people, TUESDAY + 2 * WEEK) == []


def test_a_run_whose_whole_failed_gives_its_people_again(people: Path) -> None:
    @flow
    def whole() -> None:
        assert gives(people, TUESDAY) == ["1", "2", "3"]
        assert gives(people, TUESDAY + timedelta(hours=1)) == []
        raise RuntimeError("no effect")

    with pytest.raises(RuntimeError):
        whole()
    assert gives(people, TUESDAY + WEEK) == ["1", "2", "3"]


def test_a_run_that_prefect_forgot_is_asked_about(people: Path) -> None:
    run = failed(people, TUESDAY)
    with get_client(sync_client=True) as client:
        client.delete_flow_run(UUID(run))
    with pytest.raises(HistoryUndecided, match=r"not known to Prefect any more.*remove the file"):
        gives(people, TUESDAY + WEEK)


def test_two_queries_of_a_run_need_two_histories(people: Path) -> None:
    @flow
    def both() -> None:
        for where in ("profile_id = '1'", "TRUE"):
            incremental_query(newcomers(people, where=where), TUESDAY)

    with pytest.raises(ConfigurationError, match="'welcome' is the history of another query"):
        both()


def test_a_corrected_query_is_asked_anew_when_its_run_is_tried_again(people: Path) -> None:
    @flow
    def narrowed(where: str, fails: bool, then: Callable) -> list[str]:
        found = incremental_query(newcomers(people, where=where), TUESDAY).collect()["profile_id"].to_list()
        then(flow_run.id)
        if fails:
            raise RuntimeError("too many")
        return found

    runs: list[str] = []
    with pytest.raises(RuntimeError):
        narrowed("TRUE", True, runs.append)
    again = try_again(narrowed, runs[0], where="profile_id = '1'", fails=False, then=runs.append)
    assert again == ["1"]
    assert gives(people, TUESDAY + WEEK) == ["2", "3"]


def test_progress_does_not_depend_on_the_working_folder(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gives(people, TUESDAY) == ["1", "2", "3"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert gives(people, TUESDAY + WEEK) == []
    assert not list((tmp_path / "elsewhere").iterdir())
    monkeypatch.setenv("CAMPAIGN_KEPT__FOLDER", "here")
    with pytest.raises(ConfigurationError, match=r"CAMPAIGN_KEPT__FOLDER.*working folder"):
        gives(people, TUESDAY + 2 * WEEK)


def test_a_foreign_file_in_a_history_is_named(people: Path) -> None:
    gives(people, TUESDAY)
    (kept(Path("histories")) / "welcome" / "Copy of people.parquet").touch()
    with pytest.raises(SourceUnreadable, match=r"'Copy of people.parquet' in it is none of its files\. Move it"):
        gives(people, TUESDAY + WEEK)
