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
from tasks.targeting.incremental_query import IncrementalQueryOptions, incremental_query

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
    """Whom the query gives outside a flow run: they are remembered at once."""
    return incremental_query.fn(options, run_at).collect()["profile_id"].to_list()


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
    assert len(list((tmp_path / "h" / "weekly").glob("*.parquet"))) == 2


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
    tokyo = options(mode="date_field", date_field="joined", name="tokyo")
    assert run(tokyo, late.astimezone(ZoneInfo("Asia/Tokyo"))) == ["1", "2", "3"]


Rows = list[tuple[str | None, str]]


def dated(folder: Path, rows: Rows, **source: object) -> ProfileFile:
    """A file of rows, each with a moment as text."""
    path = folder / "dated.csv"
    pl.DataFrame(rows, schema=["profile_id", "seen"], orient="row").write_csv(path)
    return ProfileFile(**{"path": path, "types": {"seen": "datetime"}, **source})


def test_rows_that_appear_late_are_given_within_the_lag_and_nobody_twice(tmp_path: Path) -> None:
    common = {"history": tmp_path / "h", "name": "late", "mode": "date_field", "date_field": "seen"}

    def run_on(rows: Rows, run_at: datetime) -> list[str]:
        source = dated(tmp_path, rows)
        return run(IncrementalQueryOptions(source=source, lag=timedelta(hours=2), **common), run_at)

    rows: Rows = [("1", "2026-11-24T05:30:00"), ("2", "2026-11-24T06:30:00")]
    assert run_on(rows, TUESDAY) == ["1", "2"]
    rows += [("3", "2026-11-24T05:10:00"), ("4", "2026-11-24T04:50:00"), ("1", "2026-11-24T06:59:00")]
    assert run_on(rows, TUESDAY + timedelta(hours=1)) == ["3", "1"], "4 is later than the lag; 1 has changed since"
    assert run_on(rows, TUESDAY + timedelta(hours=1, minutes=30)) == []
    rows += [("5", "2026-11-24T05:20:00"), ("2", "2026-11-24T08:15:00")]
    assert run_on(rows, TUESDAY + timedelta(hours=2)) == ["2"], "5 came later than the lag"


def test_a_duplicate_that_was_left_out_is_not_given_within_the_lag(tmp_path: Path) -> None:
    options = IncrementalQueryOptions(
        source=dated(tmp_path, [("1", "2026-11-24T06:00:00"), ("1", "2026-11-24T06:30:00")]),
        history=tmp_path / "h",
        name="late",
        mode="date_field",
        date_field="seen",
        lag=timedelta(hours=2),
    )
    assert run(options, TUESDAY) == ["1"]
    assert run(options, TUESDAY + timedelta(minutes=30)) == []


BERLIN, NEW_YORK, LORD_HOWE = map(ZoneInfo, ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe"))


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        (BERLIN, datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 4, tzinfo=UTC)),
        (BERLIN, datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 4, tzinfo=UTC)),
        (NEW_YORK, datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 1, 9, tzinfo=UTC)),
        (LORD_HOWE, datetime(2026, 4, 4, 13, tzinfo=UTC), datetime(2026, 4, 4, 18, tzinfo=UTC)),
    ],
    ids=["autumn in Berlin", "spring in Berlin", "autumn in New York", "half an hour on Lord Howe"],
)
@pytest.mark.parametrize(("kind", "minutes"), [("csv", 20), ("parquet", 60)])
def test_a_clock_that_is_put_back_or_forward_loses_and_doubles_nobody(
    tmp_path: Path, zone: ZoneInfo, first: datetime, last: datetime, kind: str, minutes: int
) -> None:
    moments = [first + timedelta(minutes=10 * step) for step in range(int((last - first) / timedelta(minutes=10)))]
    local = [moment.astimezone(zone).replace(tzinfo=None) for moment in moments]
    people = pl.DataFrame({"profile_id": [str(place) for place in range(len(moments))], "seen": local})
    path, given, run_at = tmp_path / f"people.{kind}", list[str](), first
    options = IncrementalQueryOptions(
        source=ProfileFile(path=path, types={"seen": "datetime"}, zone=zone.key),
        history=tmp_path / "h",
        name="local",
        mode="date_field",
        date_field="seen",
    )
    while run_at < last + timedelta(hours=3):
        run_at += timedelta(minutes=minutes)
        there = people.head(sum(moment <= run_at for moment in moments))
        there.write_csv(path) if kind == "csv" else there.write_parquet(path)
        given += run(options, run_at.astimezone(zone))
    assert sorted(given, key=int) == people["profile_id"].to_list()


def test_a_moment_that_spring_leaves_out_is_refused_or_rejected_by_name(tmp_path: Path) -> None:
    rows: Rows = [("1", "2026-03-29T01:30:00"), ("2", "2026-03-29T02:30:00")]

    def options(on_bad_value: str) -> IncrementalQueryOptions:
        return IncrementalQueryOptions(
            source=dated(tmp_path, rows, zone="Europe/Berlin", on_bad_value=on_bad_value),
            history=tmp_path / "h",
            name=on_bad_value,
            mode="date_field",
            date_field="seen",
        )

    with pytest.raises(SourceUnreadable, match=r"row 2 of the column 'seen' is .*of Europe/Berlin"):
        run(options("error"), TUESDAY)
    given = incremental_query.fn(options("reject"), TUESDAY)
    assert given.collect()["profile_id"].to_list() == ["1"]
    rejected = given.transition("rejects").collect().select("profile_id", "column", "value")
    assert rejected.rows() == [("2", "seen", "2026-03-29T02:30:00")]


def test_rows_without_a_key_are_rejected_by_name(tmp_path: Path) -> None:
    source = dated(tmp_path, [("1", "2026-03-29T01:30:00"), (None, "2026-03-29T01:30:00")])
    given = incremental_query.fn(IncrementalQueryOptions(source=source, history=tmp_path, name="k"), TUESDAY)
    assert given.collect()["profile_id"].to_list() == ["1"]
    assert "has no key" in given.transition("rejects").collect()["reason"].item()


def test_a_run_that_is_late_gives_nobody_whom_a_later_one_gave(options: Callable) -> None:
    assert len(run(options(), TUESDAY + WEEK)) == 5
    assert run(options(), TUESDAY) == []
    later = options(name="dated", mode="date_field", date_field="seen")
    assert run(later, TUESDAY + WEEK) == ["1", "2", "3", "4", "5"]
    assert run(later, TUESDAY) == []


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
        run(options(**changed), TUESDAY)


def test_a_moment_without_a_time_zone_is_none(options: Callable) -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        run(options(), TUESDAY.replace(tzinfo=None))


def test_a_spoiled_history_is_named(options: Callable, tmp_path: Path) -> None:
    run(options(), TUESDAY)
    (part,) = (tmp_path / "h" / "weekly").glob("*.parquet")
    part.write_bytes(b"noise")
    with pytest.raises(SourceUnreadable, match="weekly"):
        run(options(), TUESDAY + WEEK)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"mode": "date_field"}, "must be given there"),
        ({"date_field": "seen"}, "goes with the mode"),
        ({"since": TUESDAY}, "goes with the mode"),
        ({"name": "../x"}, "name"),
        ({"lag": WEEK}, "'lag' goes with the mode"),
        ({"lag": WEEK, "mode": "date_field", "date_field": "seen", "since": TUESDAY}, "without 'since'"),
        ({"lag": WEEK, "mode": "date_field", "date_field": "seen", "keep_days": 3}, "longer than the history"),
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
    assert "Incremental query weekly: standard: 5, rejects: 0." in caplog.text
