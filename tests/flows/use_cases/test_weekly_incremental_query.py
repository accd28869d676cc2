"""Use case: each week a welcome to those who are new, and to nobody twice.

scheduler (weekly) -> incremental query -> email
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
from prefect import flow

from tasks.sources.files import ProfileFile
from tasks.targeting.incremental_query import IncrementalQueryOptions, incremental_query

TUESDAY = datetime(2026, 11, 24, 7, tzinfo=UTC)
WEEK = timedelta(days=7)


def test_each_week_welcomes_who_came_since(people: ProfileFile, deliver: Callable, mails: Callable) -> None:
    newcomers = IncrementalQueryOptions(source=people, where="may_contact AND email IS NOT NULL", name="welcome")

    @flow
    def welcome(run_at: datetime) -> None:
        deliver(incremental_query(newcomers, run_at), "welcome", "Hello {{ profile.first_name }}", run_at.date())

    everyone = pl.read_parquet(people.path)
    everyone.head(2).write_parquet(people.path)
    welcome(TUESDAY)
    everyone.write_parquet(people.path)
    welcome(TUESDAY + WEEK)
    welcome(TUESDAY + 2 * WEEK)
    assert set(mails("welcome", TUESDAY.date())) == {"ada@x.example", "bob@x.example"}
    assert set(mails("welcome", (TUESDAY + WEEK).date())) == {
        "dee@x.example",
        "ADA@x.example",
        "gus@x.example",
        "hal@x.example",
    }
    assert mails("welcome", (TUESDAY + 2 * WEEK).date()) == {}
