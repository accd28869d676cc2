import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Barrier
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import sqlalchemy as sa

from tasks.data_management.update_data import Updated, UpdateDataOptions, update, update_data
from tasks.errors import CampaignError, ColumnsMissing, ColumnTypesDiffer, DatabaseBusy, DatabaseFailed
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


POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@pytest.fixture
def types(database: Database) -> Database:
    """PostgreSQL, with the types that a schema makes for itself."""
    with transaction(database) as connection:
        for statement in (
            "CREATE EXTENSION IF NOT EXISTS citext",
            f"CREATE TYPE {database.schema_name}.\"Mood X\" AS ENUM ('good', 'so so')",
            f"CREATE DOMAIN {database.schema_name}.zip AS varchar(5) CHECK (value ~ '^[0-9]+$')",
        ):
            connection.execute(sa.text(statement))
    return database


BERLIN = ZoneInfo("Europe/Berlin")
UUID = "0efa6264-3dd3-4d04-8f0c-f3dbb6b45feb"
TEXTS = ["a", "b,c", '"q"', None, "NULL", "{x}", "\\", "line\n\ttab", ""]
NOON = datetime(2026, 7, 1, 12, tzinfo=BERLIN)
DAY = '{"a": 1, "d": "2026-01-02"}'
INSTANT = pl.Datetime("us", "Europe/Berlin")
OF_POSTGRESQL: list[tuple[str, pl.DataType, object, object, object]] = [
    # the column, the inbound type, a value, what the database has then, a value that it refuses
    ('{schema}."Mood X"', pl.String(), "so so", "so so", "secret"),
    ('{schema}."Mood X"', pl.Enum(["good", "secret"]), "good", "good", "secret"),
    ("{schema}.zip", pl.String(), "01234", "01234", "secret"),
    ("{schema}.zip", pl.String(), "01234", "01234", "012345"),
    ("uuid", pl.String(), UUID, UUID, "secret"),
    ("json", pl.String(), '{"a":  1}', '{"a":  1}', "{secret"),
    ("jsonb", pl.String(), '{"b": 1, "a": "ü"}', '{"a": "ü", "b": 1}', 'secret"'),
    ("jsonb", pl.Struct({"a": pl.Int64, "d": pl.Date}), {"a": 1, "d": date(2026, 1, 2)}, DAY, None),
    ("json", pl.List(pl.Struct({"a": pl.String})), [{"a": '"\n'}], r'[{"a": "\"\n"}]', None),
    ("jsonb", pl.List(pl.Float64()), [1.5], "[1.5]", [float("nan")]),
    ("numeric", pl.Decimal(38, 4), Decimal("1.25"), "1.2500", None),
    ("numeric", pl.Float64(), float("nan"), None, None),
    ("numeric(5,2)", pl.Decimal(38, 4), Decimal("1.2500"), "1.25", Decimal("1.2345")),
    ("numeric(5,2)", pl.Int64(), 3, "3.00", 12345),
    ("numeric(20)", pl.UInt64(), 2**64 - 1, "18446744073709551615", None),
    ("bigint", pl.UInt64(), 2**63 - 1, "9223372036854775807", 2**64 - 1),
    ("smallint", pl.Int64(), 1, "1", 54321),
    ("double precision", pl.Float64(), float("inf"), "Infinity", None),
    ("citext", pl.String(), "Ab", "Ab", "a\0secret"),
    ("text", pl.Categorical(), "a", "a", None),
    ("varchar(3)", pl.String(), "äöü", "äöü", "abcd"),
    ("char(4)", pl.String(), "ab", "ab", "abcde"),
    ("bit(3)", pl.String(), "101", "101", "10"),
    ("text[]", pl.List(pl.String()), TEXTS, TEXTS, None),
    ("text[]", pl.Array(pl.String(), 2), ["a", None], ["a", None], None),
    ("varchar(3)[]", pl.List(pl.String()), ["abc"], ["abc"], ["abcd"]),
    ("int[]", pl.List(pl.Int64()), [1, None], [1, None], [2**40]),
    ("int[]", pl.List(pl.List(pl.Int64())), [[1, 2], [3, 4]], [[1, 2], [3, 4]], [[1, 2], [3]]),
    ("bytea[]", pl.List(pl.Binary()), [b"\0\\"], [b"\0\\"], None),
    ("timestamptz[]", pl.List(INSTANT), [NOON], '{"2026-07-01 10:00:00+00"}', None),
    ("timestamptz", INSTANT, NOON, "2026-07-01 10:00:00+00", None),
    ("timestamp", pl.Datetime("ms"), datetime(2026, 7, 1, 12), "2026-07-01 12:00:00", None),
    ("timestamp", pl.Date(), date(2026, 7, 1), "2026-07-01 00:00:00", None),
    ("time", pl.Time(), time(12, 30, 0, 1), "12:30:00.000001", None),
    ("interval", pl.Duration("ms"), timedelta(days=1, hours=2), "26:00:00", None),
    ("interval", pl.String(), "1 day", "1 day", "secret"),
    ("bytea", pl.Binary(), b"\x00\xff\\", r"\x00ff5c", None),
    ("inet", pl.String(), "10.0.0.1", "10.0.0.1/32", "secret"),
    ("int4range", pl.String(), "[1,3)", "[1,3)", "secret"),
    ("int CHECK (v <> 54321)", pl.Int64(), 1, "1", 54321),
    ("int REFERENCES {schema}.one DEFERRABLE INITIALLY DEFERRED", pl.Int64(), 1, "1", 54321),
]  # fmt: skip


@POSTGRESQL
@pytest.mark.parametrize(("column", "kind", "value", "there", "refused"), OF_POSTGRESQL)
def test_every_type_of_postgresql_is_written_and_a_refused_value_rejects_its_row_alone(
    types: Database, column: str, kind: pl.DataType, value: object, there: object, refused: object
) -> None:
    name = types.schema_name
    with transaction(types) as connection:
        connection.execute(sa.text(f"CREATE TABLE {name}.one AS SELECT 1 AS id"))
        connection.execute(sa.text(f"ALTER TABLE {name}.one ADD PRIMARY KEY (id)"))
        connection.execute(
            sa.text(f"CREATE TABLE {name}.kinds (id int PRIMARY KEY, v {column.format(schema=name)})")
        )
    values = [value, None, *([] if refused is None else [refused]), value]
    rows = pl.DataFrame({"id": range(len(values)), "v": pl.Series(values, dtype=kind)})
    outbound = written(types, rows, table="kinds")
    assert outbound.counts.row(0) == (3, 0, 0, 0)
    assert outbound.rejects["id"].to_list() == ([] if refused is None else [2])
    assert not any(re.search("secret|54321|abcd|1.23", reason) for reason in outbound.rejects["reason"])
    assert written(types, rows, table="kinds").counts.row(0) == (0, 0, 0, 3), "what is there is not written again"
    shown = "v" if isinstance(there, list) else "v::text"
    with transaction(types) as connection:
        found = connection.execute(sa.text(f"SELECT {shown} FROM {name}.kinds ORDER BY id")).scalars().all()
    assert found == [there, None, there]


@pytest.mark.parametrize(
    ("name", "key", "column"),
    [
        ("t a", "id key", "a b"),
        ('T"q"', 'I"D', 'C"d'),
        ("select", "order", "user"),
        ("Täß日", "schlüssel", "größe 日本"),
        ("UPPER", "ID", "Ident"),
        ("p%s", "k%(x)s", "c%%d"),
        ("c:olon", "k:id", "v:id"),
        ("x" * 63, "k" * 63, "v" * 63),
        ("é" * 31, "ü" * 31, "ß" * 31),
        ("{}", "k{0}", "v{1}"),
        ("d.o.t", "k.y", "v.y"),
        ("campaign_staging", "campaign_row", "c0"),
        ("semi;--", "k'--", "v\\n"),
    ],
)
def test_names_can_be_any(
    database: Database, make_table: Callable[..., None], name: str, key: str, column: str
) -> None:
    table = sa.Table(name, sa.MetaData(schema=database.schema_name), sa.Column(key, sa.Text(), primary_key=True))
    table.append_column(sa.Column(column, sa.Text()))
    with transaction(database) as connection:
        table.create(connection)
    rows = pl.DataFrame({key: ["", "1", "\\."], column: ["x", None, ""]})
    for operation, counts in (
        ("insert_or_update", (3, 0, 0, 0)),
        ("update", (0, 0, 0, 3)),
        ("delete", (0, 0, 3, 0)),
    ):
        outbound = written(database, rows, table=name, key=[key], operation=operation)
        assert outbound.counts.row(0) == counts
        left = DatabaseTable(database=database, table=name, key=key).select("TRUE").collect().rows()
        assert sorted(left) == ([] if operation == "delete" else rows.rows())


MOMENTS = [
    # what is written and as what, the option, what the table has then
    (datetime(2026, 7, 1, 12, tzinfo=BERLIN), {"zone": "Europe/Berlin"}, datetime(2026, 7, 1, 12)),
    (datetime(2026, 7, 1, 12, tzinfo=BERLIN), {"zone": "UTC"}, datetime(2026, 7, 1, 10)),
    (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), {"zone": "Europe/Berlin"}, None),
    (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), {"zone": "Europe/Berlin"}, None),
    (
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        {"zone": "Europe/Berlin", "repeated_hour": "first"},
        datetime(2026, 10, 25, 2, 30),
    ),
    (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), {"zone": "Europe/Berlin", "repeated_hour": "second"}, None),
]


@pytest.mark.parametrize(("moment", "options", "there"), MOMENTS)
def test_a_moment_in_a_column_without_a_zone_is_the_same_moment_when_it_is_read(
    database: Database,
    make_table: Callable[..., None],
    moment: datetime,
    options: dict[str, str],
    there: datetime | None,
) -> None:
    make_table("moments", "id INTEGER PRIMARY KEY, seen TIMESTAMP")
    rows = pl.DataFrame({"id": [1], "seen": [moment]}, schema={"id": pl.Int64, "seen": INSTANT})
    outbound = written(database, rows, table="moments", **options)
    if there is None:
        assert outbound.rejects["reason"].to_list() == ["'seen' is no one moment in Europe/Berlin"]
        return
    assert rows_of(database, "moments") == [(1, there)]
    source = DatabaseTable(database=database, table="moments", key="id", **options)
    back = source.select("TRUE").collect()
    assert back["seen"].dt.replace_time_zone("UTC").to_list() == [moment]
    assert written(database, back, table="moments", **options).counts.row(0) == (0, 0, 0, 1)


@POSTGRESQL
@pytest.mark.parametrize(
    ("inbound_moment", "there"),
    [
        (datetime(2026, 7, 1, 12), datetime(2026, 7, 1, 12, tzinfo=UTC)),
        (NOON, datetime(2026, 7, 1, 10, tzinfo=UTC)),
        (date(2026, 7, 1), datetime(2026, 6, 30, 22, tzinfo=UTC)),
    ],
)
def test_a_moment_without_a_zone_is_utc_and_a_date_is_its_midnight_in_the_declared_zone(
    types: Database, make_table: Callable[..., None], inbound_moment: object, there: datetime
) -> None:
    make_table("moments", "id INTEGER PRIMARY KEY, seen TIMESTAMPTZ")
    rows = pl.DataFrame({"id": [1], "seen": [inbound_moment]})
    written(types, rows, table="moments", zone="Europe/Berlin")
    assert rows_of(types, "moments") == [(1, there)]


def test_of_two_upserts_at_once_the_second_waits_for_the_first(people: Database) -> None:
    barrier = Barrier(2)

    def upsert(name: str) -> Updated:
        barrier.wait()
        return written(people, inbound(*((f"n{number}", None, name, None) for number in range(99))))

    with ThreadPoolExecutor(2) as pool:
        counts = sorted(outbound.counts.row(0) for outbound in pool.map(upsert, ["one", "two"]))
    assert counts == [(0, 99, 0, 0), (99, 0, 0, 0)]


def test_who_waits_too_long_for_another_is_told_to_repeat(
    people: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sql", "staging"):
        monkeypatch.setattr(f"tasks.sources.{module}.LOCK_SECONDS", 1)
    with transaction(people) as connection:
        table = sa.Table("people", sa.MetaData(), schema=people.schema_name, autoload_with=connection)
        connection.execute(table.delete())
        with pytest.raises(DatabaseBusy, match="Repeat"):
            written(people, inbound(EVE))
    assert written(people, inbound(EVE)).counts.row(0) == (1, 0, 0, 0)


@POSTGRESQL
def test_the_schema_is_in_what_is_said_of_a_table(types: Database) -> None:
    with pytest.raises(DatabaseFailed, match=f"'nowhere' in the schema '{types.schema_name}'"):
        written(types, inbound(EVE), table="nowhere")
    source = DatabaseTable(database=types, table="nowhere")
    with pytest.raises(DatabaseFailed, match=f"'nowhere' in the schema '{types.schema_name}'"):
        source.types_of_columns()
    assert f"{types.schema_name}.nowhere" in source.shown


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
