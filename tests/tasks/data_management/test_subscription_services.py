from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data_management.subscription_services import (
    Subscribed,
    SubscriptionServicesOptions,
    subscribe,
    subscription_services,
)
from tasks.errors import ColumnsMissing, ColumnTypesDiffer
from tasks.sources.database import DatabaseTable
from tasks.sources.sql import Database

FIRST, SECOND, THIRD = (date(2026, 11, day) for day in (1, 2, 3))


def change(
    database: Database, ids: list[str | None], day: date, operation: str = "subscribe", **options: object
) -> Subscribed:
    chosen = SubscriptionServicesOptions(
        **{"database": database, "service": "newsletter", "operation": operation, **options}
    )
    return subscribe(pl.DataFrame({"profile_id": ids}, schema={"profile_id": pl.String()}), chosen, day)


def kept(database: Database) -> list[tuple[object, ...]]:
    return sorted(DatabaseTable(database=database, table="subscriptions").select("TRUE").collect().rows(), key=str)


def ids(table: pl.DataFrame) -> list[str]:
    return table["profile_id"].to_list()


def test_who_is_subscribed_keeps_the_first_date(database: Database) -> None:
    assert ids(change(database, ["1", "2"], FIRST).standard) == ["1", "2"]
    outbound = change(database, ["2", "3"], SECOND)
    assert (ids(outbound.standard), ids(outbound.complement)) == (["3"], ["2"])
    assert kept(database) == [
        ("newsletter", "1", FIRST, None),
        ("newsletter", "2", FIRST, None),
        ("newsletter", "3", SECOND, None),
    ]


def test_who_unsubscribes_and_comes_back_has_the_new_date(database: Database) -> None:
    change(database, ["1", "2"], FIRST)
    outbound = change(database, ["1", "9"], SECOND, "unsubscribe")
    assert ids(outbound.standard) == ["1", "9"]
    assert kept(database)[0] == ("newsletter", "1", FIRST, SECOND)
    assert ids(change(database, ["1"], SECOND, "unsubscribe").complement) == ["1"]
    assert ids(change(database, ["1", "2"], THIRD).standard) == ["1"]
    assert kept(database)[0] == ("newsletter", "1", THIRD, None)


def test_what_is_said_later_holds_and_a_refusal_of_somebody_unknown_is_kept(database: Database) -> None:
    change(database, ["9"], SECOND, "unsubscribe")
    for older in (FIRST, SECOND):
        outbound = change(database, ["9"], older)
        assert outbound.rejects["reason"].to_list() == ["it has unsubscribed since"]
    assert kept(database) == [("newsletter", "9", None, SECOND)]
    assert ids(change(database, ["9"], THIRD).standard) == ["9"]
    assert change(database, ["9"], SECOND, "unsubscribe").rejects["reason"].to_list() == [
        "it has subscribed again since"
    ]
    assert kept(database) == [("newsletter", "9", THIRD, None)]


SAID = st.lists(st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.integers(1, 5)), min_size=1, max_size=6)


@settings(max_examples=25)
@given(said=SAID)
def test_in_whatever_order_lists_come_nobody_is_subscribed_who_refused_as_late_or_later(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, int]]
) -> None:
    database = Database(url=f"sqlite:///{tmp_path_factory.mktemp('consent')}/campaigns.db")
    for operation, day in said:
        rows = pl.DataFrame({"profile_id": ["1"], "said_on": [date(2026, 11, day)]})
        options = SubscriptionServicesOptions(
            database=database, service="newsletter", operation=operation, date_column="said_on"
        )
        subscribe(rows, options, date(2026, 12, 1))
    ((_, _, _, refused_on),) = kept(database)
    wanted, refused = (
        max((day for operation, day in said if operation == each), default=0)
        for each in ("subscribe", "unsubscribe")
    )
    assert refused_on is not None or wanted > refused
    assert refused_on is None or refused > 0


@pytest.mark.parametrize(
    ("moment", "on"),
    [
        (datetime(2026, 11, 2, 0, 30, tzinfo=ZoneInfo("Europe/Berlin")), SECOND),
        (datetime(2026, 11, 2, 23, 30), SECOND),
    ],
)
def test_a_moment_counts_by_its_day_in_its_own_zone(database: Database, moment: datetime, on: date) -> None:
    options = SubscriptionServicesOptions(database=database, service="n", date_column="at")
    kind = pl.Datetime("us", "Europe/Berlin" if moment.tzinfo else None)
    rows = pl.DataFrame({"profile_id": ["1"], "at": [moment]}, schema={"profile_id": pl.String(), "at": kind})
    subscribe(rows, options, THIRD)
    assert kept(database) == [("n", "1", on, None)]


def test_a_date_as_text_is_refused(database: Database) -> None:
    options = SubscriptionServicesOptions(database=database, service="n", date_column="at")
    with pytest.raises(ColumnTypesDiffer, match="'at': it is String"):
        subscribe(pl.DataFrame({"profile_id": ["1"], "at": ["1.11.2026"]}), options, THIRD)


def test_services_are_apart(database: Database) -> None:
    change(database, ["1"], FIRST)
    assert ids(change(database, ["1"], SECOND, service="news from O'Neil").standard) == ["1"]
    change(database, ["1"], THIRD, "unsubscribe")
    assert [row[3] for row in kept(database)] == [None, THIRD]


def test_repeated_profiles_count_once_and_rows_without_key_are_rejected(database: Database) -> None:
    outbound = change(database, ["1", None, "1"], FIRST)
    assert (ids(outbound.standard), ids(outbound.complement)) == (["1"], ["1"])
    assert outbound.rejects["reason"].to_list() == ["it has no key"]


def test_profiles_can_bring_their_own_date_and_key(database: Database) -> None:
    rows = pl.DataFrame({"id": [7, 8], "since": [FIRST, None]})
    options = SubscriptionServicesOptions(database=database, service="n", key="id", date_column="since")
    assert subscribe(rows, options, THIRD).standard.height == 2
    assert kept(database) == [("n", "7", FIRST, None), ("n", "8", THIRD, None)]


def test_a_missing_column_is_named(database: Database) -> None:
    with pytest.raises(ColumnsMissing, match="Did you mean 'profile_id'"):
        change(database, ["1"], FIRST, key="profil_id")


def test_the_task_runs_alone_and_logs_its_counts(
    database: Database, result_folder: Path, caplog: pytest.LogCaptureFixture, make_table: Callable[..., None]
) -> None:
    options = SubscriptionServicesOptions(database=database, service="newsletter")
    assert subscription_services(pl.DataFrame({"profile_id": ["1", "2"]}), options, FIRST).standard.height == 2
    assert "Subscription services newsletter: standard: 2, complement: 0, rejects: 0." in caplog.text
