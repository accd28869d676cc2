"""What the Prefect server of the tests shows. Many tests share it."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from prefect import task
from prefect.client.orchestration import get_client
from prefect.client.schemas import TaskRun
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterName,
)
from prefect.client.schemas.objects import Artifact
from prefect.events.worker import EventsWorker

from tests.waiting import until


def send_events_from_here() -> None:
    """Send this process's events, task runs among them, to the server of the settings that hold now.

    Prefect keeps its first connection, whatever the settings are later, and takes the flow run in which that began
    for the one of all that happens outside of flow runs.
    """
    with ThreadPoolExecutor(1) as apart:  # Playwright's loop runs in the main thread, where Prefect would not wait
        apart.submit(EventsWorker.drain_all).result()
    EventsWorker.instance()


def newest_artifact(key: str) -> Artifact:
    """The last that was made with the key."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return max(found, key=lambda one: one.created)


def task_runs_of(*flow_runs: uuid.UUID | None) -> list[TaskRun]:
    """All task runs of flow runs that have ended.

    The server writes task runs down a little later than they are, in their order: the last of all is waited for.
    """
    ids = [run for run in flow_runs if run]
    assert len(ids) == len(flow_runs)
    name = f"last-{uuid.uuid4()}"
    task(lambda: None, name=name, task_run_name=name, persist_result=False)()
    with get_client(sync_client=True) as client:
        wanted = TaskRunFilter(name=TaskRunFilterName(any_=[name]))
        until(
            lambda: any(
                one.state and one.state.is_final() for one in client.read_task_runs(task_run_filter=wanted)
            ),
            "what the server writes down",
            pause=0.05,
        )
        # Of each by itself: the server gives 200 at a time.
        by_run = [FlowRunFilter(id=FlowRunFilterId(any_=[run])) for run in ids]
        return [found for one in by_run for found in client.read_task_runs(flow_run_filter=one)]
