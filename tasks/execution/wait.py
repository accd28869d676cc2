"""Wait: lets a workflow go on after a duration, from seconds to months, without holding a worker."""

import time
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger, suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.runtime import deployment, flow_run
from prefect.states import Scheduled
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import ConfigurationError

SPARE = timedelta(days=365)
"""How long after its time a run that waits may still be resumed, should the server have been away."""


class WaitOptions(BaseModel):
    """Options of the Wait activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, title="Name", description="Name of the wait: each of a workflow has its own.")
    duration: timedelta = Field(
        gt=timedelta(0), title="Duration", description="How long to wait, as ISO 8601 (P3D, PT2H) or in seconds."
    )


def wait(options: WaitOptions) -> None:
    """Let the workflow go on after the duration. Call it in the flow itself, not in a task.

    In: the name of the wait, and how long it takes.
    A run of a deployment ends its process, and is scheduled again for its time: it then begins again, takes the
    stored results of the activities that it had done, passes this wait and goes on. Resuming it in the Prefect UI
    ends the wait early. A run without a deployment, or a subflow, cannot be scheduled again: its process waits.
    Errors: `ConfigurationError` outside a flow run. Source: Adobe Campaign Standard, Wait activity.

    Example:
        ```python
        wait(WaitOptions(name="a moment", duration=timedelta(seconds=1)))
        ```
    """
    if not flow_run.id:
        raise ConfigurationError(setting="wait", reason="it can only be called in a flow")
    due = datetime.now(UTC) + options.duration
    if deployment.id is None or flow_run.parent_flow_run_id is not None:
        get_run_logger().info("Waiting in this process until %s: only a deployment's run can leave it.", due)
        time.sleep(options.duration.total_seconds())
        return
    try:
        suspend_flow_run(timeout=int((options.duration + SPARE).total_seconds()), key=f"wait {options.name}")
    except Pause:
        # Before the process ends: from the suspended state a run may be scheduled for any time.
        _schedule(str(flow_run.id), due)
        get_run_logger().info("Waiting until %s, without a process.", due)
        raise


def _schedule(run_id: str, due: datetime) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, Scheduled(scheduled_time=due, name="Waiting"))
