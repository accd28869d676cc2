"""A shipped campaign as a program that dies once, at a step that the test names, and goes on when it is run again.

Usage: `python killed_flow.py FOLDER birthday|mail`; mail is the form by e-mail. The step's name is in the
file FOLDER/die; after "stop " it is SIGTERM that comes, and not SIGKILL. Each piece of work leaves a trace
FOLDER/trace-<step>-<number>-<random>.
"""

import os
import signal
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import temporary_settings
from prefect.states import AwaitingRetry

from flows import birthday_coupons, campaign
from tasks.delivery.dispatch import Dispatch
from tasks.delivery.journal.storage import Journal
from tasks.runs import part, shapes, sink, table
from tests.heartbeats import NO_HEARTBEATS

FOLDER = Path(sys.argv[1])
DAY = date(2026, 11, 24)
BY_MAIL = {"name": "mail", "label": "Mail", "channel": {"kind": "email"}}
MODULE, FLOW, GIVEN = {
    "birthday": (birthday_coupons, birthday_coupons.birthday_coupons, {"business_date": DAY}),
    "mail": (campaign, campaign.campaign, {"business_date": DAY, **BY_MAIL}),
}[sys.argv[2]]


def traced(place: Any, name: str, step: str, number: Callable[..., int] = lambda *_, **__: 1) -> None:
    """Let a function leave a trace of each call, and kill the process after its work, if that is asked for."""
    function = getattr(place, name)

    def work(*args: Any, **kwargs: Any) -> Any:
        done = function(*args, **kwargs)
        this, order = f"{step}-{number(*args, **kwargs)}", FOLDER / "die"
        (FOLDER / f"trace-{this}-{uuid.uuid4().hex}").touch()
        asked = order.read_text() if order.exists() else ""
        if asked.removeprefix("stop ") == this:
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL if asked == this else signal.SIGTERM)
        return done

    setattr(place, name, work)


traced(table, "_kept", "query", lambda _, __, number, **___: number)
traced(shapes, "_collected", "table")
traced(shapes, "streamed", "table")
traced(shapes.RowsActivity, "planned", "planning")
traced(part, "tried", "part", lambda _, __, ___, part: part.number)
traced(sink.SinkActivity, "run_closing", "closing")
traced(MODULE, "report", "report")
traced(Journal, "claim_and_hold", "claimed")
traced(Dispatch, "_weighed", "answered")


if __name__ == "__main__":
    known = FOLDER / "flow-run"
    with get_client(sync_client=True) as client:
        if known.exists():
            number = uuid.UUID(known.read_text())
            client.set_flow_run_state(number, AwaitingRetry(scheduled_time=datetime.now(UTC)), force=True)
            flow_run = client.read_flow_run(number)
        else:
            flow_run = client.create_flow_run(FLOW, parameters=GIVEN)
            known.write_text(str(flow_run.id))
    with temporary_settings(NO_HEARTBEATS):
        run_flow(FLOW, flow_run=flow_run, parameters=GIVEN)
