"""`python -m deployments.register` on a real server: as often as wanted, and nobody's changes are lost."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from deployments.register import MISSED_HEARTBEATS, main, register
from deployments.terminal.writing import write_campaign
from tasks.errors import ConfigurationError

NAME = "Spring offers/spring-offers"


@pytest.fixture(autouse=True)
def client(undeployed: SyncPrefectClient) -> SyncPrefectClient:
    return undeployed


@pytest.fixture
def declare(in_folder: Path) -> Callable[..., None]:
    """Declares the campaign spring-offers of this folder with these fields."""
    write_campaign("spring-offers", "flow")
    written = yaml.safe_load(Path("prefect.yaml").read_text())

    def change(**fields: Any) -> None:
        (one,) = written["deployments"]
        one.update({"work_pool": {"name": "spring-pool"}, **fields})
        Path("prefect.yaml").write_text(yaml.safe_dump(written))

    change(schedules=[{"cron": "0 7 * * *", "timezone": "Europe/Berlin", "active": False}])
    return change


def schedule(client: SyncPrefectClient) -> DeploymentSchedule:
    (found,) = client.read_deployment_by_name(NAME).schedules
    return found


def test_what_people_changed_in_the_ui_stays_and_is_told(
    declare: Callable[..., None], client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(description="First words.")
    assert register() == (["spring-offers"], [])
    found = client.read_deployment_by_name(NAME)
    assert (found.work_pool_name, found.global_concurrency_limit.limit) == ("spring-pool", 1)
    assert (found.pull_steps[0]["prefect.deployments.steps.set_working_directory"]["directory"]) == str(Path.cwd())

    # Switched on in the UI, at another time; and two at a time.
    body = {"active": True, "schedule": {"cron": "30 6 * * *", "timezone": "Europe/Berlin"}}
    client.request("PATCH", f"/deployments/{found.id}/schedules/{schedule(client).id}", json=body)
    client.request("PATCH", f"/deployments/{found.id}", json={"concurrency_limit": 2})
    client.request("PATCH", f"/deployments/{found.id}", json={"parameters": {"business_date": "2027-01-01"}})
    declare(description="Second words.", tags=["campaign", "spring"])
    _, changed = register()
    assert [one.field for one in changed] == ["concurrency limit", "parameter business_date", "schedules"]
    after = client.read_deployment_by_name(NAME)
    assert (after.description, sorted(after.tags)) == ("Second words.", ["campaign", "spring"])
    assert (schedule(client).active, schedule(client).schedule.cron) == (True, "30 6 * * *")
    assert after.global_concurrency_limit.limit == 2
    assert after.parameters == {"business_date": "2027-01-01"}

    # Also where prefect.yaml changes the same; until a flag says otherwise.
    declare(schedules=[{"cron": "0 9 * * *", "timezone": "Europe/Berlin", "active": False}])
    for arguments, says, cron, limit in (([], "kept", "30 6 * * *", 2), (["--reset"], "reset", "0 9 * * *", 1)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sys.argv", ["register", *arguments])
            main()
        said = capsys.readouterr().out
        assert f"{says}: spring-offers: schedules is" in said
        assert ("--reset" in said) is (not arguments)
        assert (schedule(client).schedule.cron, schedule(client).active) == (cron, cron == "30 6 * * *")
        assert client.read_deployment_by_name(NAME).global_concurrency_limit.limit == limit
    # What nobody has changed is changed by prefect.yaml.
    declare(schedules=[{"interval": 3600, "active": True}, {"rrule": "FREQ=DAILY", "timezone": "UTC"}])
    assert register()[1] == []
    assert register()[1] == []
    assert len(client.read_deployment_by_name(NAME).schedules) == 2


def test_a_parameter_that_the_flow_does_not_know_is_refused_before_there_is_a_run(
    declare: Callable[..., None], client: SyncPrefectClient
) -> None:
    register()
    found = client.read_deployment_by_name(NAME)
    for wrong in ({"business_day": "2027-02-28"}, {"business_day": 10**30}):
        with pytest.raises(PrefectHTTPStatusError, match="business_day"):
            client.create_flow_run_from_deployment(found.id, parameters=wrong)
    run = client.create_flow_run_from_deployment(found.id, parameters={"business_date": "2027-02-28"})
    assert client.read_flow_run(run.id).parameters["business_date"] == "2027-02-28"
    client.delete_flow_run(run.id)


def test_a_pool_and_an_automation_of_somebody_stay_as_they_are(
    declare: Callable[..., None], client: SyncPrefectClient
) -> None:
    register()
    (automation,) = client.read_automations_by_name("A run that has died is crashed (campaign)")
    client.pause_automation(automation.id)
    pool = client.read_work_pool("spring-pool")
    register()
    assert client.read_work_pool("spring-pool").updated == pool.updated
    (after,) = client.read_automations_by_name(automation.name)
    assert (after.id, after.enabled) == (automation.id, False)
    client.resume_automation(automation.id)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"triggers": [{"type": "event"}]}, "'triggers' is not deployed here"),
        ({"parameters": {"label": "{{ profile.first_name }}"}}, "double braces"),
        ({"schedules": [{"cron": "every day"}]}, "every day"),
        ({"entrypoint": "flows/gone.py:gone"}, "there is no file 'flows/gone.py'"),
    ],
)
def test_what_cannot_be_deployed_is_refused_in_a_sentence(
    declare: Callable[..., None], client: SyncPrefectClient, fields: dict[str, Any], says: str
) -> None:
    declare(**fields)
    with pytest.raises(ConfigurationError, match="spring-offers") as refused:
        register()
    assert says in str(refused.value)


@pytest.mark.parametrize("seconds", [180, 30])
def test_a_run_is_dead_after_several_missed_signs_of_life(
    declare: Callable[..., None], client: SyncPrefectClient, seconds: int
) -> None:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: seconds}):
        register()
    (found,) = client.read_automations_by_name("A run that has died is crashed (campaign)")
    assert found.trigger.within == timedelta(seconds=MISSED_HEARTBEATS * seconds)
