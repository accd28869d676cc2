"""A campaign of many parts, as a program: what the tests run on every engine, kill, and start again."""

import sys
import uuid
from datetime import UTC, date, datetime
from pathlib import Path

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.settings import temporary_settings
from prefect.states import AwaitingRetry

from tasks.channels.outbox import OutboxOptions
from tasks.content.personalization import PersonalizationOptions, Templates, personalization
from tasks.runs.engine import ENGINE
from tasks.send import Send
from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, query
from tests.heartbeats import NO_HEARTBEATS
from tests.tasks.traced_outbox import traced_outbox

SEND = Send(campaign="partitions", label="Partitions", business_date=date(2026, 11, 24))
TEMPLATES = Templates(
    folder=Path("made-up"),
    parts={"subject": "subject", "html": "body.html", "text": "text"},
    sources=dict.fromkeys(("subject", "body.html", "text"), "Hello {{ profile.profile_id }}"),
)


@flow(name="Partitions", task_runner=ENGINE)
def campaign(folder: Path, form: str = "parquet") -> dict[str, int]:
    """Deliver the profiles of the folder into its outbox."""
    source = ProfileFile(path=folder / "profiles.parquet", types={})
    audience = query(QueryOptions(source=source))
    messages = personalization(audience, PersonalizationOptions(templates=TEMPLATES, send=SEND))
    sent = traced_outbox(messages, OutboxOptions(folder=folder / "outbox", format=form), SEND, folder)
    counts = {"delivered": sent.height, "before": sent.complement.height}
    (folder / "counts").write_text(f"{sent.height} {sent.complement.height} {sent.rejects.height}")
    return counts


def resumed(number: uuid.UUID) -> FlowRun:
    """The flow run, as it is when somebody has asked in the UI that it be tried again."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(number, AwaitingRetry(scheduled_time=datetime.now(UTC)), force=True)
        return client.read_flow_run(number)


def new(parameters: dict[str, object]) -> FlowRun:
    """A flow run that was not begun."""
    with get_client(sync_client=True) as client:
        return client.create_flow_run(campaign, parameters=parameters)


if __name__ == "__main__":
    place, known = Path(sys.argv[1]), Path(sys.argv[1]) / "flow-run"
    given = {"folder": place, "form": sys.argv[2]}
    flow_run = resumed(uuid.UUID(known.read_text())) if known.exists() else new(given)
    known.write_text(str(flow_run.id))
    with temporary_settings(NO_HEARTBEATS):
        run_flow(campaign, flow_run=flow_run, parameters=given)
