import threading
import time
from datetime import timedelta

import polars as pl
import pytest
from prefect import flow, resume_flow_run, task
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from tasks.errors import CampaignError, ColumnTaken, PopulationUnknown, SourceMissing
from tasks.execution.execution_options import ExecutionOptions, executed, with_segment_codes
from tasks.targeting.deduplication import Deduplicated
from tests.waiting import until

TABLE = pl.DataFrame({"id": [1, 2]})


@task(name="Select")
def select(rows: int) -> pl.DataFrame:
    if rows < 0:
        raise SourceMissing(what="file", path="p", setting="S", hint="")
    if rows == 0:
        raise ZeroDivisionError("a bug")
    return TABLE.head(rows)


def run(rows: int, **options: object) -> pl.DataFrame | None:
    @flow
    def workflow() -> pl.DataFrame | None:
        return executed(ExecutionOptions(**options), select, rows)

    return workflow()


def test_an_activity_runs_and_gets_its_segment_code(prefect_backend: str) -> None:
    assert run(2, segment_codes={"standard": "vip"})["segment_code"].to_list() == ["vip", "vip"]


def test_a_skipped_activity_gives_nothing(prefect_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    assert run(-1, execution="skipped") is None
    assert "'Select' is skipped" in caplog.text


def test_an_expected_failure_fails_the_run_or_lets_the_branch_be_ignored(
    prefect_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SourceMissing):
        run(-1)
    assert run(-1, on_error="ignore_branch") is None
    assert "'Select' failed, and its branch is ignored: The file 'p' does not exist" in caplog.text


def test_a_bug_is_never_ignored(prefect_backend: str) -> None:
    with pytest.raises(ZeroDivisionError):
        run(0, on_error="ignore_branch")


def test_who_takes_too_long_is_told_of(prefect_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def workflow(seconds: float) -> None:
        executed(ExecutionOptions(maximum_duration=timedelta(seconds=0.2)), time.sleep, seconds)

    workflow(0)
    assert "takes longer" not in caplog.text
    workflow(0.6)
    assert "'sleep' takes longer than 0:00:00.200000" in caplog.text


def test_a_paused_activity_runs_when_a_person_resumes(prefect_backend: str) -> None:
    ran: list[str] = []
    ids: list[str] = []

    @flow
    def workflow() -> None:
        ids.append(flow_run.id)
        executed(ExecutionOptions(execution="paused"), ran.append, "ran")

    thread = threading.Thread(target=workflow)
    thread.start()
    with get_client(sync_client=True) as client:
        until(lambda: ids and client.read_flow_run(ids[0]).state.is_paused())
    assert ran == []
    resume_flow_run(ids[0])
    thread.join(60)
    assert ran == ["ran"]


def test_codes_go_on_the_named_transitions() -> None:
    coded = with_segment_codes(Deduplicated(TABLE, TABLE), {"complement": "twice"})
    assert coded.standard.columns == ["id"]
    assert coded.complement["segment_code"].to_list() == ["twice", "twice"]


@pytest.mark.parametrize(
    ("result", "codes", "error"),
    [
        (TABLE, {"rejects": "x"}, PopulationUnknown),
        (Deduplicated(TABLE, TABLE), {"rejects": "x"}, PopulationUnknown),
        (7, {"standard": "x"}, PopulationUnknown),
        (TABLE.with_columns(segment_code=pl.lit("a")), {"standard": "x"}, ColumnTaken),
    ],
)
def test_a_code_that_cannot_be_put_on_is_an_error(
    result: object, codes: dict[str, str], error: type[CampaignError]
) -> None:
    with pytest.raises(error):
        with_segment_codes(result, codes)
