"""A flow that sends made-up messages, as a program: what the tests kill."""

import sys
from datetime import date
from pathlib import Path

import polars as pl
from prefect import flow
from prefect.runtime import flow_run
from prefect.settings import temporary_settings
from prefect.utilities.engine import capture_sigterm

from tasks.channels.email import EmailOptions, email
from tasks.delivery import dispatch
from tasks.delivery.smtp.connection import MailServer, Security
from tasks.runs import sink
from tasks.runs.audience import Audience
from tasks.runs.engine import ENGINE
from tasks.runs.table import stored
from tasks.send import Send
from tests.heartbeats import NO_HEARTBEATS

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))


def made_up_messages(count: int) -> pl.DataFrame:
    return (
        pl.select(number=pl.int_range(count))
        .select(
            profile_id="number",
            email=pl.format("p{}@example.com", "number"),
            subject=pl.format("Happy birthday, no. {} — ✓", "number"),
            html=pl.format("<p>Hello {}</p>\n.\n", "number"),
            text=pl.format("Hello {}\n.\n..\n", "number"),
        )
        .cast({"profile_id": pl.String()})
    )


def options_for(port: int, folder: Path, **options: object) -> EmailOptions:
    server = {
        "host": "127.0.0.1",
        "port": port,
        "security": Security.NONE,
        "timeout_seconds": 10,
        "backoff_seconds": 0.05,
        "backoff_limit_seconds": 0.3,
        **options.pop("server", {}),
    }
    return EmailOptions(server=MailServer(**server), folder=folder, **{"round_seconds": 0.1, **options})


@flow(task_runner=ENGINE)
def birthday_mail(count: int, port: int, folder: Path, parts: int = 1) -> Audience:
    messages = made_up_messages(count)
    if parts == 1:
        return email(messages, options_for(port, folder), SEND)
    in_parts = stored(messages.iter_slices(count // parts), str(flow_run.id), distinct=True)
    return email(Audience(in_parts, activity="Personalization"), options_for(port, folder), SEND)


if __name__ == "__main__":
    # On a busy machine too, a run that is stopped has the time to hear the answers to what is on its way.
    dispatch.FINISHING_SECONDS = 300
    sink.STOPPING_SECONDS = 301
    with temporary_settings(NO_HEARTBEATS), capture_sigterm():  # as Prefect runs a flow that a worker has begun
        birthday_mail(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:]))
