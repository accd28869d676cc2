"""Flows over an incremental query, as a test starts, tries again and kills them."""

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from prefect import flow

from tasks.channels.email import email
from tasks.send import Send
from tasks.sources.files import ProfileFile
from tasks.targeting.incremental_query import IncrementalQueryOptions, incremental_query
from tests.tasks.channels.email_flow import made_up_messages, options_for


def newcomers(people: Path, **options: object) -> IncrementalQueryOptions:
    return IncrementalQueryOptions(**{"source": ProfileFile(path=people, types={}), "name": "welcome", **options})


def write_people(people: Path, *numbers: int) -> None:
    pl.DataFrame({"profile_id": [str(number) for number in numbers]}).write_parquet(people)


@flow
def welcome(people: Path, port: int, folder: Path, run_at: datetime) -> int:
    """Mail a greeting to whoever is new."""
    new = incremental_query(newcomers(people), run_at).collect()
    messages = made_up_messages(100).join(new.select("profile_id"), on="profile_id", how="semi")
    send = Send(campaign="welcome", label="Welcome", business_date=run_at.date())
    email(messages, options_for(port, folder, server={"patience_seconds": 0.2}), send)
    return new.height


@flow
def killed(people: Path) -> None:
    """Dies once it has been given people."""
    incremental_query(newcomers(people), datetime(2026, 11, 24, 7, tzinfo=UTC))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    killed(Path(sys.argv[1]))
