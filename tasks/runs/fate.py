"""What became of a flow run: whether that for which it was given people has happened."""

from collections.abc import Iterator
from enum import StrEnum
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run


class Fate(StrEnum):
    """What became of a flow run."""

    DONE = "done"
    """It, and the flow runs that it is a part of, ended well."""
    FAILED = "failed"
    """It, or one that it is a part of, failed, crashed or was cancelled."""
    OPEN = "open"
    """It has not ended: it may also wait, be paused, or be tried again."""
    OURS = "ours"
    """It has not failed, and is of the same workflow run as the one that asks."""
    GONE = "gone"
    """Prefect does not know it, or does not any more."""


def fate_of(run: UUID) -> Fate:
    """What became of a flow run, by Prefect."""
    with get_client(sync_client=True) as client:
        try:
            line = list(_line(client, run))
            ours = {one.id for one in _line(client, UUID(flow_run.id))} if flow_run.id else set()
        except ObjectNotFound:
            return Fate.GONE
    states = [one.state for one in line]
    if any(state and state.is_final() and not state.is_completed() for state in states):
        return Fate.FAILED
    if ours & {one.id for one in line}:
        return Fate.OURS
    return Fate.DONE if all(state and state.is_completed() for state in states) else Fate.OPEN


def first_flow_run() -> FlowRun | None:
    """The flow run that this one is a part of, however deep, as Prefect has it; None outside a flow run."""
    if not flow_run.id:
        return None
    with get_client(sync_client=True) as client:
        return list(_line(client, UUID(flow_run.id)))[-1]


def tries() -> int:
    """How often the workflow run that this is a part of was begun: 1 in its first try, 0 outside a run."""
    if not flow_run.id:
        return 0
    with get_client(sync_client=True) as client:
        return max(one.run_count for one in _line(client, UUID(flow_run.id)))


def _line(client: SyncPrefectClient, run: UUID | None) -> Iterator[FlowRun]:
    """A flow run, the one that started it, and so on."""
    while run is not None:
        found = client.read_flow_run(run)
        yield found
        task = found.parent_task_run_id
        run = client.read_task_run(task).flow_run_id if task else None
