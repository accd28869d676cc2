"""Small workflows that tests deploy: a worker runs them in processes of its own."""

from datetime import date, timedelta
from pathlib import Path

from prefect import flow, task

from tasks.execution.wait import WaitOptions, wait
from tasks.runs.results import ARROW, PER_RUN


@task(cache_policy=PER_RUN, result_serializer=ARROW)
def note(diary: str, line: str) -> int:
    with Path(diary).open("a") as file:
        return file.write(f"{line}\n")


@flow
def waits(diary: str, seconds: float) -> None:
    note(diary, "before")
    wait(WaitOptions(name="in between", duration=timedelta(seconds=seconds)))
    note(diary, "after")


@flow
def signalled(business_date: date, limit: int, region: str | None = "nowhere", diary: str = "") -> None:
    note(diary, f"{business_date!r} {limit!r} {region!r}")
