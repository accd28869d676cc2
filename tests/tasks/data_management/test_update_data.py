from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from tasks.data_management.update_data import Updated, UpdateDataOptions, update, update_data
from tasks.errors import CampaignError, ColumnsMissing, ColumnTypesDiffer, DatabaseFailed
from tasks.sources.database import DatabaseTable
from tasks.sources.sql import Database, transaction

COLUMNS = "id VARCHAR(4) PRIMARY KEY, email TEXT UNIQUE, name VARCHAR(5) NOT NULL, born DATE"
STORED = [("1", "a@x", "Ada", "1815-12-10"), ("2", None, "Bob", None), ("3", "c@x", "Cid", None)]


@pytest.fixture
def people(database: Database, make_table: Callable[..., None]) -> Database:
    make_table("people", COLUMNS, STORED)
    return database


def rows_of(database: Database, table: str = "people") -> list[tuple[object, ...]]:
    return DatabaseTable(database=database, table=table, key="id").select("TRUE").collect().rows()


def inbound(*rows: tuple[object, ...]) -> pl.DataFrame:
    schema = {"id": pl.String, "email": pl.String, "name": pl.String, "born": pl.Date}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def written(database: Database, rows: pl.DataFrame, **options: object) -> Updated:
    return update(rows, UpdateDataOptions(**{"database": database, "table": "people", "key": ["id"], **options}))


ADA = ("1", "a@x", "Ada", date(1815, 12, 10))
BOB = ("2", None, "Bob", None)
CID = ("3", "c@x", "Cid", None)
NEW_BOB = ("2", "b@x", "Bob", date(2000, 2, 29))
EVE = ("4", "", 'E,"v', None)


@pytest.mark.parametrize(
    ("operation", "counts", "after"),
    [
        ("insert_or_update", (1, 1, 0, 1), [ADA, NEW_BOB, CID, EVE]),
        ("insert", (1, 0, 0, 2), [ADA, BOB, CID, EVE]),
        ("update", (0, 1, 0, 2), [ADA, NEW_BOB, CID]),
        ("delete", (0, 0, 2, 1), [CID]),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_each_operation_writes_only_what_differs(
    people: Database, operation: str, counts: tuple[int, ...], after: list[tuple[object, ...]], batch_size: int
) -> None:
    rows = inbound(NEW_BOB, ADA, EVE)
    outbound = written(people, rows, operation=operation, batch_size=batch_size)
    assert outbound.counts.row(0) == counts
    assert rows_of(people) == after
    assert outbound.standard.rows() == rows.rows()


def test_doing_it_again_writes_nothing(people: Database) -> None:
    written(people, inbound(NEW_BOB, EVE))
    assert written(people, inbound(NEW_BOB, EVE)).counts.row(0) == (0, 0, 0, 2)


def test_a_null_takes_the_place_of_a_value(people: Database) -> None:
    assert written(people, inbound(("1", None, "Ada", None))).counts.row(0) == (0, 1, 0, 0)
    assert rows_of(people)[0] == ("1", None, "Ada", None)


def test_columns_can_be_mapped_and_others_stay_as_they_are(people: Database) -> None:
    rows = pl.DataFrame({"who": ["1", "2"], "mail": ["new@x", None], "more": [1, 2]})
    outbound = written(people, rows, columns={"id": "who", "email": "mail"})
    assert outbound.counts.row(0) == (0, 1, 0, 1)
    assert rows_of(people)[0] == ("1", "new@x", "Ada", date(1815, 12, 10))


def test_several_columns_can_be_the_key(people: Database) -> None:
    rows = pl.DataFrame({"id": ["1", "2"], "name": ["Ada", "Rob"], "email": ["x@x", "y@x"]})
    assert written(people, rows, key=["id", "name"], operation="update").counts.row(0) == (0, 1, 0, 1)
    assert rows_of(people)[:2] == [("1", "x@x", "Ada", date(1815, 12, 10)), BOB]


def test_rows_that_the_table_cannot_take_are_rejected_with_the_reason(people: Database) -> None:
    outbound = written(
        people,
        inbound(
            (None, "n@x", "N", None),
            ("5", None, None, None),
            ("6", None, "Maximilian", None),
            ("7", None, "first", None),
            ("7", None, "again", None),
            ("80000", None, "Zoe", None),
        ),
    )
    assert outbound.rejects.select("id", "reason").rows() == [
        (None, "it has no key"),
        ("5", "'name' must have a value"),
        ("6", "'name' is longer than 5 characters"),
        ("7", "an earlier row has its key"),
        ("80000", "'id' is longer than 4 characters"),
    ]
    assert outbound.counts.row(0) == (1, 0, 0, 0)


def test_a_row_that_the_database_refuses_is_rejected_alone_and_no_value_is_shown(people: Database) -> None:
    outbound = written(people, inbound(("8", "new@x", "New", None), ("9", "a@x", "Copy", None)), batch_size=1)
    assert outbound.standard["id"].to_list() == ["8"]
    assert outbound.rejects["id"].to_list() == ["9"]
    assert "unique" in outbound.rejects["reason"].item().lower()
    assert "a@x" not in outbound.rejects["reason"].item()
    assert len(rows_of(people)) == 4


@pytest.mark.parametrize("key", ["\\.", "a", "", "=x"])
def test_a_lone_key_of_any_text_deletes_its_row_and_those_after_it(
    database: Database, make_table: Callable[..., None], key: str
) -> None:
    make_table("keys", "id VARCHAR(9) PRIMARY KEY", [(key,), ("z",)])
    outbound = written(database, pl.DataFrame({"id": [key, "z"]}), table="keys", operation="delete", key=["id"])
    assert outbound.counts.row(0) == (0, 0, 2, 0)


def test_a_value_that_the_column_does_not_take_is_told_in_a_sentence(
    database: Database, make_table: Callable[..., None]
) -> None:
    make_table("odd", "id INTEGER PRIMARY KEY, token CHAR(4), CHECK (id < 100)")
    outbound = written(database, pl.DataFrame({"id": [100], "token": ["abcd"]}), table="odd")
    assert "constraint" in outbound.rejects["reason"].item().lower()
    if database.kind == "postgresql":
        make_table("tokens", "id INTEGER PRIMARY KEY, token UUID")
        outbound = written(database, pl.DataFrame({"id": [1], "token": ["abcd"]}), table="tokens")
        assert "uuid" in outbound.rejects["reason"].item()
        assert "abcd" not in outbound.rejects["reason"].item()


def test_every_type_comes_back_as_it_was_written(database: Database) -> None:
    table = sa.Table(
        "kinds",
        sa.MetaData(schema=database.schema_name),
        sa.Column("id", sa.String(9), primary_key=True),
        sa.Column("n", sa.Integer()),
        sa.Column("x", sa.Float()),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("flag", sa.Boolean()),
        sa.Column("day", sa.Date()),
        sa.Column("seen", sa.DateTime()),
    )
    with transaction(database) as connection:
        table.create(connection)
    values = ("é\n,\"'", 7, 0.1, Decimal("1.10"), True, date(2026, 2, 28), datetime(2026, 2, 28, 7, 30))
    schema = {
        "id": pl.String(),
        "n": pl.Int64(),
        "x": pl.Float64(),
        "price": pl.Decimal(38, 2),
        "flag": pl.Boolean(),
        "day": pl.Date(),
        "seen": pl.Datetime("us"),
    }
    rows = pl.DataFrame([values, ("empty", *[None] * 6)], schema=schema, orient="row")
    for counts in ((2, 0, 0, 0), (0, 0, 0, 2)):
        assert written(database, rows, table="kinds").counts.row(0) == counts
    assert sorted(rows_of(database, "kinds"), key=str) == sorted(rows.rows(), key=str)


def test_no_rows_are_no_work(people: Database) -> None:
    assert written(people, inbound()).counts.row(0) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("rows", "options", "error", "says"),
    [
        (inbound(ADA), {"table": "peeple"}, DatabaseFailed, "no table 'peeple'.*Did you mean 'people'"),
        (inbound(ADA), {"key": ["idd"]}, ColumnsMissing, "Did you mean 'id'"),
        (inbound(ADA), {"columns": {"email": "email"}}, ColumnsMissing, "'id'"),
        (inbound(ADA), {"columns": {"id": "id", "name": "nam"}}, ColumnsMissing, "Did you mean 'name'"),
        (inbound(ADA).rename({"email": "mail"}), {}, ColumnsMissing, "'mail'"),
        (inbound(ADA).with_columns(born=pl.lit("1815")), {}, ColumnTypesDiffer, "String .*, Date"),
        (inbound(ADA).with_columns(id=pl.lit(1)), {}, ColumnTypesDiffer, "Int32 .*, String"),
    ],
)
def test_what_cannot_be_written_says_why(
    people: Database, rows: pl.DataFrame, options: dict[str, object], error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        written(people, rows, **options)
    assert rows_of(people) == [ADA, BOB, CID]


def test_the_task_runs_alone_and_logs_its_counts(
    people: Database, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = UpdateDataOptions(database=people, table="people", key=["id"])
    assert update_data(inbound(NEW_BOB, EVE), options).standard.height == 2
    assert "standard: 2, rejects: 0, inserted: 1, updated: 1, deleted: 0, unchanged: 0." in caplog.text
