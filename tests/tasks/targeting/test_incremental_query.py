from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from prefect import flow
from pydantic import ValidationError

from tasks.errors import CampaignError, ColumnsMissing, ColumnTypesDiffer, ConfigurationError, SourceUnreadable
from tasks.sources.database import DatabaseTable
from tasks.sources.files import ProfileFile
from tasks.sources.sql import Database
from tasks.targeting.incremental_query import IncrementalQueryOptions, incremental_query, remember, select_new

TUESDAY = datetime(2026, 11, 24, 7, tzinfo=UTC)
WEEK = timedelta(days=7)
PEOPLE = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3", "4", "5"],
        "joined": [date(2026, 11, day) for day in (16, 17, 23, 24, 30)],
        "seen": [datetime(2026, 11, day, hour) for day, hour in ((16, 9), (17, 7), (24, 6), (24, 7), (24, 8))],
        "state": ["CA", "NY", "CA", None, "CA"],
    }
).with_columns(instant=pl.col("seen").dt.replace_time_zone("UTC"))


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., IncrementalQueryOptions]:
    people = tmp_path / "people.parquet"
    PEOPLE.write_parquet(people)

    def of(**changed: object) -> IncrementalQueryOptions:
        return IncrementalQueryOptions(
            **{"source": ProfileFile(path=people, types={}), "history": tmp_path / "h", "name": "weekly", **changed}
        )

    return of


def run(options: IncrementalQueryOptions, run_at: datetime) -> list[str]:
    selected = select_new(options, run_at)
    remember(selected, options, run_at)
    return selected["profile_id"].to_list()


def test_whom_an_earlier_run_gave_is_left_out(options: Callable) -> None:
    assert run(options(where="state = 'CA'"), TUESDAY) == ["1", "3", "5"]
    assert run(options(), TUESDAY + WEEK) == ["2", "4"]
    assert run(options(), TUESDAY + 2 * WEEK) == []


def test_a_run_that_is_started_again_gives_the_same_again(options: Callable) -> None:
    for _ in range(2):
        assert run(options(where="state = 'CA'"), TUESDAY) == ["1", "3", "5"]
    assert run(options(), TUESDAY + WEEK) == ["2", "4"]
    assert run(options(where="state = 'CA'"), TUESDAY) == ["1", "3", "5"], "also after later runs"


def test_histories_of_other_names_do_not_matter(options: Callable) -> None:
    run(options(), TUESDAY)
    assert len(run(options(name="other"), TUESDAY + WEEK)) == 5


def test_a_history_in_days_forgets_older_runs(options: Callable, tmp_path: Path) -> None:
    run(options(keep_days=10), TUESDAY)
    assert run(options(keep_days=10), TUESDAY + WEEK) == []
    assert len(run(options(keep_days=10), TUESDAY + 2 * WEEK)) == 5
    assert len(list((tmp_path / "h" / "weekly").iterdir())) == 2


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("joined", ["1", "2", "3"], ["4", "5"]),
        ("seen", ["1", "2", "3"], ["4", "5"]),
        ("instant", ["1", "2", "3"], ["4", "5"]),
    ],
)
def test_the_date_field_takes_what_came_since_the_last_run_and_nothing_twice(
    options: Callable, field: str, first: list[str], second: list[str]
) -> None:
    dated = options(mode="date_field", date_field=field)
    assert run(dated, TUESDAY) == first
    assert run(dated, TUESDAY + WEEK) == second
    assert run(dated, TUESDAY) == first


@pytest.mark.parametrize(
    ("field", "since", "found"),
    [
        ("joined", datetime(2026, 11, 17), ["2", "3"]),
        ("seen", datetime(2026, 11, 17, 7), ["2", "3"]),
        ("seen", datetime(2026, 11, 17, 7, 0, 1), ["3"]),
        ("instant", datetime(2026, 11, 17, 7, tzinfo=UTC), ["2", "3"]),
        ("instant", datetime(2026, 11, 17, 7), ["2", "3"]),
    ],
)
def test_the_last_date_can_be_overridden(options: Callable, field: str, since: datetime, found: list[str]) -> None:
    run(options(mode="date_field", date_field=field), TUESDAY - timedelta(hours=1))
    assert run(options(mode="date_field", date_field=field, since=since), TUESDAY) == found


def test_days_are_those_of_the_runs_time_zone(options: Callable) -> None:
    dated = options(mode="date_field", date_field="joined")
    late = datetime(2026, 11, 23, 20, tzinfo=UTC)
    assert run(dated, late) == ["1", "2"]
    assert run(dated, late.astimezone(ZoneInfo("Asia/Tokyo"))) == ["1", "2", "3"]


def test_a_database_runs_the_window_itself(database: Database, make_table: Callable, tmp_path: Path) -> None:
    rows = [("1", "2026-11-23 07:00:00"), ("2", "2026-11-24 06:59:59"), ("3", "2026-11-24 07:00:00")]
    make_table("visits", "profile_id TEXT, seen TIMESTAMP", rows)
    options = IncrementalQueryOptions(
        source=DatabaseTable(database=database, table="visits"),
        history=tmp_path,
        name="visits",
        mode="date_field",
        date_field="seen",
    )
    assert run(options, TUESDAY) == ["1", "2"]
    assert run(options, TUESDAY + WEEK) == ["3"]


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"mode": "date_field", "date_field": "sean"}, ColumnsMissing, "Did you mean 'seen'"),
        ({"mode": "date_field", "date_field": "state"}, ColumnTypesDiffer, "String, neither a date"),
        ({"where": "stat = 'CA'"}, ColumnsMissing, "Did you mean 'state'"),
    ],
)
def test_a_query_that_cannot_be_run_says_why(
    options: Callable, changed: dict[str, object], error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        select_new(options(**changed), TUESDAY)


def test_a_moment_without_a_time_zone_is_none(options: Callable) -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        select_new(options(), TUESDAY.replace(tzinfo=None))


def test_a_spoiled_history_is_named(options: Callable, tmp_path: Path) -> None:
    run(options(), TUESDAY)
    (part,) = (tmp_path / "h" / "weekly").iterdir()
    part.write_bytes(b"noise")
    with pytest.raises(SourceUnreadable, match="weekly"):
        select_new(options(), TUESDAY + WEEK)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"mode": "date_field"}, "must be given there"),
        ({"date_field": "seen"}, "goes with the mode"),
        ({"since": TUESDAY}, "goes with the mode"),
        ({"name": "../x"}, "name"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: Callable, changed: dict[str, object], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        options(**changed)


def test_the_task_runs_alone_and_logs_its_count(
    options: Callable, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    def two_runs() -> list[int]:
        return [incremental_query(options(), run_at).height for run_at in (TUESDAY, TUESDAY + WEEK)]

    assert two_runs() == [5, 0]
    assert "Incremental query weekly: standard: 5." in caplog.text
