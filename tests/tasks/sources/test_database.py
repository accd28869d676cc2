import logging
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from tasks.errors import CampaignError, ColumnsMissing, DatabaseFailed, FilterInvalid, SourceUnreadable
from tasks.sources.database import DatabaseTable, select_statement
from tasks.sources.selection import selected_batches
from tasks.sources.sql import Database, transaction
from tasks.tables.conditions import read_condition
from tasks.targeting.query import QueryOptions, birthday_on, has_text, query

PROFILES = sa.Table(
    "profiles",
    sa.MetaData(),
    sa.Column("id", sa.String(10), primary_key=True),
    sa.Column("email", sa.Text()),
    sa.Column("birth_date", sa.Date()),
    sa.Column("may_contact", sa.Boolean()),
    sa.Column("visits", sa.Integer()),
    sa.Column("score", sa.Float()),
    sa.Column("spent", sa.Numeric(10, 2)),
    sa.Column("seen_at", sa.DateTime()),
)
ROWS = [
    ("3", "C@x.example", date(1990, 11, 24), True, 3, 1.5, Decimal("1.10"), datetime(2026, 11, 1, 7, 30)),
    ("1", None, date(1991, 3, 1), True, None, None, None, None),
    ("2", " ", None, None, 0, 0.0, Decimal(0), None),
]


@pytest.fixture
def table(database: Database) -> DatabaseTable:
    with transaction(database) as connection:
        target = PROFILES.to_metadata(sa.MetaData(), schema=database.schema_name)
        target.create(connection)
        connection.execute(target.insert(), [dict(zip(target.columns.keys(), row, strict=True)) for row in ROWS])
    return DatabaseTable(database=database, table="profiles", columns={"profile_id": "id"})


def ids(table: DatabaseTable, where: str) -> list[str]:
    return query.fn(QueryOptions(source=table, where=where)).collect()["profile_id"].to_list()


def test_rows_come_typed_named_and_in_the_order_of_the_key(table: DatabaseTable) -> None:
    rows = query.fn(QueryOptions(source=table)).collect()
    assert rows.schema == {
        "profile_id": pl.String(),
        "email": pl.String(),
        "birth_date": pl.Date(),
        "may_contact": pl.Boolean(),
        "visits": pl.Int64(),
        "score": pl.Float64(),
        "spent": pl.Decimal(38, 2),
        "seen_at": pl.Datetime("us"),
    }
    assert rows.rows() == sorted(ROWS)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("TRUE", ["1", "2", "3"]),
        (birthday_on("birth_date", date(2026, 11, 24)), ["3"]),
        (has_text("email"), ["3"]),
        ("birth_date IS NULL OR visits > 2", ["2", "3"]),
        ("birth_date >= DATE '1990-12-01'", ["1"]),
        ("may_contact", ["1", "3"]),
        ("LEFT(email, 1) = 'C' AND STARTS_WITH(email, 'C@')", ["3"]),
        ("email = 'x'' OR ''1'' = ''1'", []),
        ("profile_id IN ('1', '2') AND NOT may_contact IS NULL", ["1"]),
    ],
)
def test_the_database_runs_the_filter(table: DatabaseTable, where: str, found: list[str]) -> None:
    assert ids(table, where) == found


def test_the_filter_is_in_the_statement_and_no_other_row_leaves_the_database(table: DatabaseTable) -> None:
    statement = select_statement(table, table.types_of_columns(), table.pushdown("visits > 2"))
    assert '("visits" > 2)' in statement
    assert table.select("visits > 2").collect().height == 1


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ("TRUE); DROP TABLE profiles; --", FilterInvalid, "column 6"),
        ("EXISTS (SELECT 1)", FilterInvalid, "EXISTS"),
        ("emial = 'x'", ColumnsMissing, "Did you mean 'email'"),
        ("visits", FilterInvalid, "visits"),
    ],
)
def test_a_filter_that_is_no_condition_is_refused_before_the_database_sees_it(
    table: DatabaseTable, where: str, error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        ids(table, where)
    assert len(ids(table, "TRUE")) == 3


def test_the_database_is_given_one_condition_and_no_query(table: DatabaseTable) -> None:
    for where in ("EXISTS (SELECT 1)", "TRUE; SELECT 1", "visits > 2) OR (1 = 1"):
        with pytest.raises(FilterInvalid):
            table.pushdown(where)


def test_text_that_first_appears_after_thousands_of_nulls_is_read(
    database: Database, make_table: Callable[..., None]
) -> None:
    make_table("late", "profile_id INTEGER, note TEXT", [(number, None) for number in range(3000)] + [(3000, "x")])
    notes = query.fn(QueryOptions(source=DatabaseTable(database=database, table="late"))).collect()["note"]
    assert notes.drop_nulls().to_list() == ["x"]


def test_a_type_that_the_database_does_not_know_is_given(
    database: Database, make_table: Callable[..., None]
) -> None:
    make_table("texts", "profile_id TEXT, day TEXT", [("1", "2026-11-24"), ("2", None)])
    source = DatabaseTable(database=database, table="texts", types={"day": "date"})
    assert query.fn(QueryOptions(source=source)).collect()["day"].to_list() == [date(2026, 11, 24), None]


def test_a_bad_value_is_not_shown(database: Database, make_table: Callable[..., None]) -> None:
    make_table("texts", "profile_id TEXT, day TEXT", [("1", "somebody's secret")])
    source = DatabaseTable(database=database, table="texts", types={"day": "date"})
    with pytest.raises(SourceUnreadable, match="row 1 of the column 'day' is not a date") as failed:
        query.fn(QueryOptions(source=source)).collect()
    assert "secret" not in str(failed.value)


def test_a_table_that_is_not_there_is_named(table: DatabaseTable) -> None:
    with pytest.raises(DatabaseFailed, match=r"no table 'profile' in .*\. Did you mean 'profiles'"):
        table.model_copy(update={"table": "profile"}).types_of_columns()


def test_a_view_is_a_table_too(table: DatabaseTable, database: Database) -> None:
    prefix = f"{database.schema_name}." if database.schema_name else ""
    with transaction(database) as connection:
        connection.execute(
            sa.text(f"CREATE VIEW {prefix}visitors AS SELECT * FROM {prefix}profiles WHERE visits > 0")
        )
    assert ids(table.model_copy(update={"table": "visitors"}), "may_contact") == ["3"]


def test_a_database_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "none.db"
    with pytest.raises(DatabaseFailed, match="no such file"):
        DatabaseTable(database=Database(url=f"sqlite:///{file}"), table="profiles").types_of_columns()
    assert not file.exists()


@pytest.mark.parametrize("url", ["mysql://u:canary@host/db", "nonsense canary"])
def test_a_database_that_is_not_known_is_refused_without_its_address(url: str) -> None:
    for options in ({"database": {"url": url}, "table": "t"}, {"database": {"uri": url}, "table": "t"}):
        with pytest.raises((ValidationError, CampaignError)) as refused:
            QueryOptions(source=options)
        assert "canary" not in str(refused.value)


def test_the_password_is_shown_nowhere() -> None:
    database = Database(url="postgresql://user:canary@127.0.0.1:1/none")
    with pytest.raises(DatabaseFailed, match=r"127\.0\.0\.1:1/none") as failed:
        DatabaseTable(database=database, table="profiles").types_of_columns()
    for text in (str(failed.value), repr(database), database.model_dump_json(), database.shown):
        assert "canary" not in text


def batches(table: DatabaseTable, size: int, where: str = "1 = 1", **options: object) -> list[pl.DataFrame]:
    return list(selected_batches(QueryOptions(source=table, where=where, **options), size, activity="Query"))


@pytest.mark.parametrize("remove_duplicates", [True, False])
@pytest.mark.parametrize("where", ["1 = 1", "may_contact", "visits > 1", "visits > 99"])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_ranges_of_the_key_are_together_the_rows_of_the_query(
    table: DatabaseTable, size: int, where: str, remove_duplicates: bool
) -> None:
    found = batches(table, size, where, remove_duplicates=remove_duplicates)
    whole = query.fn(QueryOptions(source=table, where=where)).collect()
    assert_frame_equal(pl.concat(found), whole)
    assert all(0 < rows.height <= size for rows in found) or whole.is_empty()


@pytest.mark.parametrize("kind", ["INTEGER", "VARCHAR(9)", "NUMERIC(9, 1)", "DATE"])
def test_ranges_hold_for_keys_of_every_type_with_duplicates_and_rows_without_a_key(
    database: Database, make_table: Callable[..., None], kind: str
) -> None:
    values = [f"2026-01-{day:02}" for day in range(1, 13)] if kind == "DATE" else [str(n) for n in range(1, 13)]
    if kind == "INTEGER" or kind.startswith("NUMERIC"):
        values = [int(value) for value in values]
    if kind == "DATE" and database.kind == "postgresql":
        values = [date.fromisoformat(value) for value in values]
    make_table("visitors", f"who {kind}, place INTEGER", [(who, 0) for who in [*values, *values, None, None]])
    table = DatabaseTable(database=database, table="visitors", key="who")
    found = pl.concat(batches(table, 5))
    assert found["who"].drop_nulls().len() == found["who"].drop_nulls().n_unique() == len(values)
    assert found["who"].null_count() == 2


def test_ranges_are_of_one_moment(database: Database, make_table: Callable[..., None]) -> None:
    if database.kind != "postgresql":
        pytest.skip("read all at once")
    make_table("visitors", "who INTEGER", [(who,) for who in range(10)])
    source = DatabaseTable(database=database, table="visitors", key="who")
    reading = selected_batches(QueryOptions(source=source), 4, activity="Query")
    first = next(reading)
    with transaction(database) as connection:
        connection.execute(sa.text(f"INSERT INTO {database.schema_name}.visitors VALUES (99)"))
        connection.execute(sa.text(f"DELETE FROM {database.schema_name}.visitors WHERE who = 8"))
    assert pl.concat([first, *reading])["who"].drop_nulls().to_list() == list(range(10))


def test_a_condition_over_remapped_values_is_not_run_by_the_database(
    database: Database, make_table: Callable[..., None]
) -> None:
    make_table("marks", "profile_id TEXT, tier TEXT", [("1", "G"), ("2", "S")])
    source = DatabaseTable(database=database, table="marks", remap={"tier": {"G": "gold"}})
    assert ids(source, "tier = 'gold' AND profile_id <> '2'") == ["1"]
    assert source.pushdown("tier = 'gold' AND profile_id <> '2'").run == 1


MOMENTS = [
    datetime(2026, 3, 29, 1, 59),
    datetime(2026, 3, 29, 3, 0),
    datetime(2026, 7, 1, 12),
    datetime(2026, 10, 25, 1, 59),
    datetime(2026, 10, 25, 2, 0),
    datetime(2026, 10, 25, 2, 59),
    datetime(2026, 10, 25, 3, 0),
    None,
]


@pytest.mark.parametrize(
    "where",
    [
        "seen >= TIMESTAMP '2026-03-29 01:00:00'",
        "seen < TIMESTAMP '2026-10-25 01:00:00'",
        "seen = TIMESTAMP '2026-10-25 01:30:00' OR NOT seen > TIMESTAMP '2026-07-01 10:00:00'",
        "seen IS NULL",
    ],
)
def test_moments_of_a_declared_zone_are_compared_by_postgresql_as_here(
    database: Database, make_table: Callable[..., None], where: str
) -> None:
    make_table("visits", "id INTEGER, seen TIMESTAMP", list(enumerate(map(str_or_none, MOMENTS))))
    source = DatabaseTable(
        database=database, table="visits", key="id", zone="Europe/Berlin", repeated_hour="second"
    )
    assert source.pushdown(where).run == (database.kind == "postgresql")
    whole = source.select("TRUE").collect()
    condition = read_condition(where, whole.schema, activity="Here", where="'here'", cure="")
    found = source.select(where).collect()
    assert found.height > 0
    assert_frame_equal(found, whole.filter(condition.expr))


def str_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment}.000000"


def test_a_moment_that_the_zones_clock_skips_is_bad_whatever_the_condition_is(
    database: Database, make_table: Callable[..., None]
) -> None:
    make_table("visits", "id INTEGER, seen TIMESTAMP", [(1, "2026-03-29 02:30:00.000000")])
    source = DatabaseTable(
        database=database, table="visits", key="id", zone="Europe/Berlin", repeated_hour="second"
    )
    with pytest.raises(SourceUnreadable, match="seen"):
        source.select("seen > TIMESTAMP '2030-01-01 00:00:00'").collect()


def test_what_the_database_runs_of_a_condition_is_in_the_log(
    table: DatabaseTable, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ids(table, "visits > 2 AND email LIKE 'C%'")
        assert f"{table.shown}: The database runs " in caplog.text
        assert '"visits" > 2' in caplog.text
        caplog.clear()
        ids(table, "TRUE")
        assert "runs none of the condition" in caplog.text
