import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from pydantic import ValidationError

from tasks.errors import ConfigurationError
from tasks.execution.wait import WaitOptions, wait
from tests.waiting import until

Deploy = Callable[..., str]


def test_a_deployments_run_leaves_its_process_and_goes_on_when_the_time_has_come(
    deploy: Deploy, tmp_path: Path
) -> None:
    diary = tmp_path / "diary.txt"
    begun = datetime.now(UTC)
    parameters = {"diary": str(diary), "seconds": 5}
    run = run_deployment(deploy("waits"), parameters=parameters, timeout=0)
    with get_client(sync_client=True) as client:
        until(lambda: client.read_flow_run(run.id).state.name == "Waiting")
        waiting = client.read_flow_run(run.id).state
        assert waiting.is_scheduled(), "no process is held"
        assert waiting.state_details.scheduled_time >= begun + timedelta(seconds=5)
        assert diary.read_text() == "before\n"
        until(lambda: diary.read_text() != "before\n")
        until(lambda: client.read_flow_run(run.id).state.name == "Completed")
    assert datetime.now(UTC) - begun >= timedelta(seconds=5)
    assert diary.read_text() == "before\nafter\n", "what was done before the wait is not done again"


def test_a_run_without_a_deployment_waits_in_its_process(
    prefect_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    def short() -> float:
        begun = time.monotonic()
        wait(WaitOptions(name="short", duration=timedelta(seconds=0.3)))
        return time.monotonic() - begun

    assert short() >= 0.3
    assert "Waiting in this process" in caplog.text


def test_a_wait_outside_a_flow_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="in a flow"):
        wait(WaitOptions(name="x", duration=timedelta(days=1)))


@pytest.mark.parametrize("options", [{"name": "", "duration": 1}, {"name": "x", "duration": 0}, {"name": "x"}])
def test_a_wait_has_a_name_and_a_duration(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WaitOptions(**options)


def test_durations_are_written_from_seconds_to_months() -> None:
    assert WaitOptions(name="x", duration="P90D").duration == timedelta(days=90)
    assert WaitOptions(name="x", duration=5).duration == timedelta(seconds=5)
