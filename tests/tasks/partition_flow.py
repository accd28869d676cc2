"""A campaign in partitions, as a program: what the tests run on every engine, kill, and start again."""

import os
import signal
import sys
import uuid
from datetime import UTC, date, datetime
from pathlib import Path

from prefect import flow, task, unmapped
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry
from tasks.runs.partitions import Outcome, Part

from tasks.channels.outbox import OutboxOptions, deliver
from tasks.content.personalization import PersonalizationOptions, Templates, personalize
from tasks.runs.engine import ENGINE
from tasks.runs.results import ARROW, PER_RUN
from tasks.send import Send
from tasks.settings import Settings
from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, query_partitions

SEND = Send(campaign="partitions", label="Partitions", business_date=date(2026, 11, 24))
TEMPLATES = Templates(
    folder=Path("made-up"),
    parts={"subject": "subject", "html": "body.html", "text": "text"},
    sources=dict.fromkeys(("subject", "body.html", "text"), "Hello {{ profile.profile_id }}"),
)


@task(name="Messages", task_run_name="Messages {part.number}", cache_policy=PER_RUN, result_serializer=ARROW)
def messages(part: Part, options: OutboxOptions, folder: Path) -> Outcome:
    """Deliver one partition, leave a trace of having worked on it, and die where a test has asked for it."""
    (folder / f"worked-{part.number}-{uuid.uuid4().hex}").touch()
    made = personalize(part.read(), PersonalizationOptions(templates=TEMPLATES, send=SEND))
    sent = deliver(made.standard, options, SEND, datetime.now(UTC), part)
    order = folder / f"die-{part.number}"
    if order.exists():
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome.of({"Personalization": made, "Outbox": sent}, made.standard)


@flow(name="Partitions", task_runner=ENGINE)
def campaign(folder: Path, form: str = "parquet") -> dict[str, int]:
    """Deliver the profiles of the folder into its outbox."""
    options = OutboxOptions(folder=folder / "outbox", format=form)
    source = ProfileFile(path=folder / "profiles.parquet", types={})
    audience = query_partitions(QueryOptions(source=source), Settings.load().partitions)
    outcome = Outcome.joined(messages.map(audience, unmapped(options), unmapped(folder)).result())
    counts = {"delivered": outcome.rows("Outbox"), "before": outcome.rows("Outbox", "complement")}
    (folder / "counts").write_text(f"{counts['delivered']} {counts['before']} {outcome.rejects.height}")
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
    run_flow(campaign, flow_run=flow_run, parameters=given)
