from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tasks.data_management.subscription_services import (
    Subscribed,
    SubscriptionServicesOptions,
    subscribe,
    subscription_services,
)
from tasks.errors import ColumnsMissing
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
