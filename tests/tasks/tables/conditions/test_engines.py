"""One condition, the same rows from every source; PostgreSQL, run on the text itself, says which."""
# ruff: noqa: E501  # one form of the grammar a line

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.sources.database import DatabaseTable
from tasks.sources.files import ProfileFile
from tasks.sources.selection import selected_rows
from tasks.sources.sql import Database, transaction
from tasks.targeting.query import QueryOptions, birthday_on, has_text
from tests.postgresql import new_database

TYPES = {"i": "integer", "j": "integer", "f": "number", "d": "date", "m": "datetime", "b": "boolean"}
TEXTS = [
    "", " ", "k", "K", "Köln", "KÖLN", "köln ", "a%b", "a_b", "a\\b", "it's", "Straße", "ΑΣ", "e\u0301", "日本", "😀k",
    "kk", "\tk", "\u00a0", "NULL", "true", "2", "-1.5", "2008-02-29", None,
]  # fmt: skip
DAYS = [
    date(2008, 2, 28),
    date(2008, 2, 29),
    date(2008, 3, 1),
    date(1999, 12, 31),
    date(2000, 1, 1),
    date(2026, 11, 25),
]
MOMENTS = [
    datetime(2008, 2, 29, 23, 59, 59),
    datetime(2026, 10, 25, 2, 30),
    datetime(2026, 3, 29, 1, 0),
    datetime(1969, 12, 31, 12),
]
FLOATS = [0.0, -0.0, 0.5, 1.5, 2.5, -2.5, 1e10, 0.1, float("nan"), None]


def random_rows(count: int = 240) -> list[tuple[object, ...]]:
    random = Random(1)

    def one(values: list[object]) -> object:
        return random.choice([*values, None])

    return [
        (
            f"{number:03}",
            one([-7, -2, -1, 0, 1, 2, 3, 5, 1000]),
            one([-3, 0, 1, 2, 5]),
            one(FLOATS),
            one(TEXTS),
            one(TEXTS),
            one(DAYS),
            one(MOMENTS),
            one([True, False]),
            one([Decimal("2.50"), Decimal("-2.50"), Decimal("0.00"), Decimal("10.05"), Decimal(1)]),
            one([moment.replace(tzinfo=UTC) + timedelta(minutes=30) for moment in MOMENTS]),
        )
        for number in range(count)
    ]


COLUMNS = {
    "profile_id": (pl.String(), "TEXT"),
    "i": (pl.Int64(), "INTEGER"),
    "j": (pl.Int64(), "BIGINT"),
    "f": (pl.Float64(), "FLOAT"),
    "t": (pl.String(), "TEXT"),
    "s": (pl.String(), "VARCHAR(40)"),
    "d": (pl.Date(), "DATE"),
    "m": (pl.Datetime("us"), "TIMESTAMP"),
    "b": (pl.Boolean(), "BOOLEAN"),
    "n": (pl.Decimal(38, 2), "NUMERIC(10, 2)"),
    "z": (pl.Datetime("us", "UTC"), "TIMESTAMPTZ"),
}
SOMEWHERE = {"n", "z"}
"""Columns that CSV files and SQLite have no type for."""
Ask = Callable[[str], Mapping[str, list[str]]]


def table_of(database: Database, rows: pl.DataFrame) -> DatabaseTable:
    columns = [sa.column(name) for name in rows.columns]
    declared = ", ".join(f"{name} {COLUMNS[name][1]}" for name in rows.columns)
    table = sa.table("people", *columns, schema=database.schema_name)
    with transaction(database) as connection:
        prefix = f"{database.schema_name}." if database.schema_name else ""
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {prefix}people"))
        connection.execute(sa.text(f"CREATE TABLE {prefix}people ({declared})"))
        texts = database.kind == "sqlite"
        given = [
            {name: str(value) if texts and isinstance(value, date) else value for name, value in row.items()}
            for row in rows.iter_rows(named=True)
        ]
        connection.execute(table.insert(), given)
    return DatabaseTable(database=database, table="people")


@pytest.fixture(scope="module")
def server() -> Iterator[Database]:
    """An empty database of the PostgreSQL server."""
    try:
        with new_database("conditions") as url:
            yield Database(url=url)
    except sa.exc.OperationalError as error:
        pytest.skip(f"no PostgreSQL server here: {error}")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory, server: Database) -> Ask:
    """The keys of the rows that a condition holds for, from each source, and as PostgreSQL itself says."""
    folder: Path = tmp_path_factory.mktemp("engines")
    schema = {name: kind for name, (kind, _) in COLUMNS.items()}
    everything = pl.DataFrame(random_rows(), schema=schema, orient="row")
    plain = everything.drop(SOMEWHERE)
    everything.write_parquet(folder / "people.parquet")
    # NaN is NULL in conditions, and a CSV file writes a missing number.
    plain.with_columns(pl.col("f").fill_nan(None)).write_csv(folder / "people.csv")
    sources = {
        "parquet": ProfileFile(path=folder / "people.parquet", types={}),
        "csv": ProfileFile(path=folder / "people.csv", types=TYPES),
        "postgresql": table_of(server, everything),
        "sqlite": table_of(Database(url=f"sqlite:///{folder / 'people.db'}"), plain),
    }
    names = ", ".join("NULLIF(f, 'NaN') AS f" if name == "f" else name for name in COLUMNS)
    oracle = f"SELECT profile_id FROM (SELECT {names} FROM people) AS people WHERE "

    def asked(where: str) -> Mapping[str, list[str]]:
        with transaction(server) as connection:
            says = [row[0] for row in connection.exec_driver_sql(f"{oracle}{where.replace('%', '%%')} ORDER BY 1")]
        some = {
            name: source
            for name, source in sources.items()
            if everywhere(where) or name in {"parquet", "postgresql"}
        }
        found = {
            name: selected_rows(QueryOptions(source=source, where=where), activity="Query")["profile_id"].to_list()
            for name, source in some.items()
        }
        return {"PostgreSQL itself": says, **found}

    return asked


def everywhere(where: str) -> bool:
    return not any(f"({name})" in where for name in SOMEWHERE)


def wrapped(form: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda given: form.format(*given))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


LITERALS = st.sampled_from([text for text in TEXTS if text is not None]).map(quoted)
WHOLE = st.integers(-9, 9).map(str)
PATTERNS = st.text(st.sampled_from("%_kKöa'\\s"), max_size=5).map(
    lambda text: quoted(text.replace("\\", "\\\\") if text.endswith("\\") else text)
)
ESCAPED = st.text(st.sampled_from("%_kKb"), max_size=4).map(lambda text: quoted(f"{text}!%") + " ESCAPE '!'")
DATES = st.sampled_from(DAYS).map(lambda day: f"DATE '{day}'")
STAMPS = st.sampled_from(MOMENTS).map(lambda moment: f"TIMESTAMP '{moment}'")
INTERVALS = st.tuples(st.integers(-30, 30), st.sampled_from(["years", "months", "days", "hours", "weeks"])).map(
    lambda given: f"INTERVAL '{given[0]} {given[1]}'"
)
COMPARED = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])

texts = st.recursive(
    st.sampled_from(["t", "s"]) | LITERALS,
    lambda inner: st.one_of(
        wrapped("LOWER({})", inner),
        wrapped("TRIM({})", inner),
        wrapped("TRIM(BOTH {} FROM {})", LITERALS, inner),
        wrapped("LTRIM({})", inner),
        wrapped("RTRIM({}, 'kn ')", inner),
        wrapped("LEFT({}, {})", inner, WHOLE),
        wrapped("RIGHT({}, {})", inner, WHOLE),
        wrapped("SUBSTRING({} FROM {} FOR {})", inner, WHOLE, st.integers(0, 5)),
        wrapped("SUBSTRING({}, {})", inner, WHOLE),
        wrapped("{} || {}", inner, inner),
        wrapped("CONCAT({}, {})", inner, inner),
        wrapped("COALESCE({}, {})", inner, inner),
        wrapped("NULLIF({}, {})", inner, inner),
        wrapped("CASE WHEN b THEN {} ELSE {} END", inner, inner),
        wrapped("CASE i WHEN 1 THEN {} WHEN j THEN {} END", inner, inner),
    ),
    max_leaves=4,
)
days = (
    st.sampled_from(["d", "CAST(m AS DATE)", "CAST('2008-02-29' AS DATE)"])
    | DATES
    | wrapped("(d + {})", WHOLE)
    | wrapped("(d - {})", WHOLE)
)
stamps = (
    st.just("m")
    | STAMPS
    | wrapped("({} + {})", days, INTERVALS)
    | wrapped("(m - {})", INTERVALS)
    | st.just("CAST(d AS TIMESTAMP)")
)
local = st.sampled_from(["((z) AT TIME ZONE 'Europe/Berlin')", "((z) AT TIME ZONE 'America/New_York')"])
integers = st.recursive(
    st.sampled_from(["i", "j"]) | st.integers(0, 9).map(str),
    lambda inner: st.one_of(
        wrapped("{} + {}", inner, inner),
        wrapped("{} - {}", inner, inner),
        wrapped("({} + 1) * {}", inner, inner),
        wrapped("({}) / NULLIF({}, 0)", inner, inner),
        wrapped("({}) % NULLIF({}, 0)", inner, inner),
        wrapped("-({})", inner),
        wrapped("ABS({})", inner),
        wrapped("COALESCE({}, {})", inner, inner),
        wrapped("GREATEST({}, {})", inner, inner),
        wrapped("LEAST({}, {})", inner, inner),
        wrapped("LENGTH({})", texts),
        wrapped("({} - {})", days, days),
        wrapped("CASE WHEN b IS NOT TRUE THEN {} END", inner),
        wrapped("CAST(f AS INTEGER) - {}", inner).filter(lambda _: False) | inner,
    ),
    max_leaves=4,
)
parts = wrapped(
    "EXTRACT({} FROM {})",
    st.sampled_from(["YEAR", "MONTH", "DAY", "QUARTER", "WEEK", "ISOYEAR", "DOW", "ISODOW", "DOY"]),
    days | stamps,
)
clocks = wrapped("EXTRACT({} FROM {})", st.sampled_from(["HOUR", "MINUTE"]), st.just("m") | local)
numerics = st.sampled_from(
    [
        "(n)",
        "2.5",
        "-0.5",
        "ROUND(2.5)",
        "ROUND((n))",
        "ROUND((n), 1)",
        "FLOOR((n))",
        "CEIL((n))",
        "ABS((n))",
        "(n) * 1.5",
        "(n) + 1",
        "(n) - i",
    ]
)
doubles = st.recursive(
    st.sampled_from(["f", "CAST(i AS DOUBLE PRECISION)", "ROUND(f)", "FLOOR(f)", "CEIL(f)", "ROUND(i)"]),
    lambda inner: st.one_of(
        wrapped("{} + {}", inner, inner),
        wrapped("({}) / NULLIF({}, 0)", inner, inner),
        wrapped("({}) * 0.5", inner),
        wrapped("-({})", inner),
        wrapped("ABS({})", inner),
    ),
    max_leaves=3,
)
numbers = integers | parts | clocks | numerics | doubles


def compared(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        wrapped("{} {} {}", values, COMPARED, values),
        wrapped("{} BETWEEN {} AND {}", values, values, values),
        wrapped("{} NOT BETWEEN {} AND {}", values, values, values),
        wrapped("{} IN ({}, {}, NULL)", values, values, values),
        wrapped("{} NOT IN ({}, {})", values, values, values),
        wrapped("{} IS NULL", values),
        wrapped("{} IS NOT NULL", values),
    )


atoms = st.one_of(
    st.sampled_from(
        [
            "b",
            "TRUE",
            "FALSE",
            "b = TRUE",
            "b <> FALSE",
            "b IN (TRUE, NULL)",
            "d > '2008-02-28'",
            "m <= '2026-10-25 02:30'",
        ]
    ),
    st.sampled_from(
        ["(z) > TIMESTAMPTZ '2026-10-25 02:00:00+02'", "(z) + INTERVAL '2 hours' > '2026-03-29 00:00:00Z'"]
    ),
    compared(texts),
    compared(numbers),
    compared(days | stamps),
    compared(local),
    wrapped("{} LIKE {}", texts, PATTERNS | ESCAPED),
    wrapped("{} NOT LIKE {}", texts, PATTERNS | ESCAPED),
    wrapped("{} ILIKE {}", texts, PATTERNS),
    wrapped("STARTS_WITH({}, {})", texts, texts),
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        wrapped("{} AND {}", inner, inner),
        wrapped("{} OR {}", inner, inner),
        wrapped("NOT {}", inner),
        wrapped("({})", inner),
        wrapped("({} OR {}) AND {}", inner, inner, inner),
        wrapped(
            "({}) IS {}",
            inner,
            st.sampled_from(["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN", "NULL"]),
        ),
        wrapped("CASE WHEN {} THEN {} ELSE {} END", inner, inner, inner),
    ),
    max_leaves=5,
)


@pytest.mark.slow
@given(where=conditions)
@example(where="t LIKE 'k%'")
@example(where="LOWER(t) = 'köln'")
@example(where="5 / 2 = 2 AND -5 / 2 = -2 AND -7 % 2 = -1")
@example(where="ROUND(2.5) = 3 AND ROUND(-2.5) = -3")
@example(where="b IS NOT TRUE")
@example(where="NOT (b AND i > 2)")
@example(where="DATE '2026-11-25' - d > 6570")
@example(where="d <= DATE '2026-02-28' - INTERVAL '18 years'")
@example(where="d + INTERVAL '1 year' = TIMESTAMP '2009-02-28 00:00:00'")
@example(where="f > 1000")
@example(where="CAST(i AS DOUBLE PRECISION) / 2 > 1")
@example(where="TRIM(t) = 'k'")
@example(where=has_text("t"))
@example(where=birthday_on("d", date(2026, 2, 28)))
@example(where="i NOT IN (1, NULL)")
@example(where="t > 'a' AND t < 'z'")
@settings(
    # HYPOTHESIS_PROFILE=search tries as many as that profile says.
    max_examples=25 if settings.default.derandomize else settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_a_condition_chooses_the_same_rows_from_every_source(ask: Ask, where: str) -> None:
    found = ask(where)
    says = found.pop("PostgreSQL itself")
    assert found == dict.fromkeys(found, says), where


BY_HAND = [
    # Nulls, and three values of truth.
    "NOT (b OR i > 2)",
    "(b = (i > 0)) IS NOT TRUE",
    "(i > j) IS UNKNOWN",
    "i IS DISTINCT FROM j AND s IS NOT DISTINCT FROM t",
    "COALESCE(i, j, -1) IN (j, -1, NULL)",
    "NULLIF(t, s) IS NULL AND t IS NOT NULL",
    "CASE WHEN i > 2 THEN b WHEN i < 0 THEN NOT b END",
    "CASE i WHEN 1 THEN 'k' WHEN j THEN t ELSE s END = 'k'",
    "i NOT BETWEEN j AND 3",
    "t NOT IN (s, 'k')",
    "GREATEST(i, j) = LEAST(i, j, 5)",
    "b IS NULL OR NOT b AND i IS NOT NULL",
    # Numbers.
    "i / NULLIF(j, 0) * j + i % NULLIF(j, 0) = i",
    "i / 2 < 0 OR i % 2 = -1",
    "MOD(i, 3) = -1 OR -i = 7",
    "f = 0 OR f <> f",
    "f > i",
    "f NOT BETWEEN -1 AND 2.5",
    "ROUND(f) = 2 OR FLOOR(f) = -3 OR CEIL(f) = -2",
    "ABS(f) = 2.5 AND f IN (2.5, -2.5, 0)",
    "ROUND((n), 1) = 10.1 OR ROUND((n)) = -3 OR (n) * 4 > 40",
    "CAST(i AS TEXT) = t OR CAST(CAST(f AS BIGINT) AS TEXT) = s",
    "CAST((n) AS BIGINT) = 3 OR (n) = i",
    "CAST(b AS TEXT) = t OR CAST(b AS INTEGER) = j",
    # Texts.
    "t = '' OR LENGTH(t) = 1",
    "LENGTH(t || s) = LENGTH(t) + LENGTH(s) AND t || s > 'k'",
    "t LIKE 'a\\_b' OR t LIKE 'a!%b' ESCAPE '!' OR t LIKE 'a\\\\b'",
    "s NOT LIKE '%k%' AND s LIKE '_'",
    "LOWER(t) = LOWER(s) AND t <> s",
    "LOWER(t) LIKE 'köln%' OR UPPER(t) = 'KÖLN'",
    "TRIM(t) = TRIM(s) AND LTRIM(t) <> RTRIM(s)",
    "SUBSTRING(t FROM 2) = SUBSTRING(s FROM 2 FOR 100) AND LEFT(t, 1) <> RIGHT(s, 1)",
    "RIGHT(t, -1) = 'k' OR LEFT(t, -1) = s",
    "SUBSTRING(t FROM 0 FOR 2) = 'K' OR SUBSTRING(t FROM -1 FOR 3) = '😀'",
    "CONCAT(t, NULL, s) = t",
    "t >= s AND t < s || 'z'",
    "STARTS_WITH(t, s) AND s <> ''",
    "t ILIKE 'STRASSE' OR t ILIKE 'stra_e' OR LOWER(t) = 'straße'",
    # Days, moments and zones.
    "d + INTERVAL '1 year' - INTERVAL '1 year' <> d",
    "d - INTERVAL '1 month' = DATE '2008-01-29' OR d + INTERVAL '12 months 1 day' = DATE '2009-03-01'",
    "d + i > DATE '2008-02-29' AND d - i <= DATE '2008-03-01'",
    "DATE '2026-02-28' - d > 6570 AND d <= DATE '2026-02-28' - INTERVAL '18 years'",
    "EXTRACT(MONTH FROM d) = 2 AND EXTRACT(DAY FROM d) = 29 OR EXTRACT(DOY FROM m) = 60",
    "EXTRACT(WEEK FROM d) = 52 OR EXTRACT(ISOYEAR FROM d) <> EXTRACT(YEAR FROM d)",
    "EXTRACT(DOW FROM d) IN (0, 6) OR EXTRACT(ISODOW FROM m) = 7",
    "m > d AND m - INTERVAL '1 day' < d",
    "CAST(m AS DATE) = d OR CAST(d AS TIMESTAMP) > m",
    "(z) AT TIME ZONE 'Europe/Berlin' >= TIMESTAMP '2026-10-25 02:00:00'",
    "EXTRACT(HOUR FROM (z) AT TIME ZONE 'Europe/Berlin') = 3 OR CAST((z) AT TIME ZONE 'America/New_York' AS DATE) = d",
    "(z) AT TIME ZONE 'Asia/Kathmandu' = m + INTERVAL '6 hours 15 minutes' OR (z) > TIMESTAMPTZ '2026-10-25 02:30:00+00'",
    "(z) AT TIME ZONE 'Europe/Berlin' + INTERVAL '1 day' > TIMESTAMP '2026-03-30 03:00:00'",
    "EXTRACT(YEAR FROM m) - EXTRACT(YEAR FROM d) > 10.5",
]
"""Of columns: rows have nulls, NaN, empty texts, Unicode, leap days and the hours at which zones change."""


@pytest.mark.parametrize("where", BY_HAND)
def test_a_condition_that_people_write_chooses_the_same_rows_from_every_source(ask: Ask, where: str) -> None:
    found = ask(where)
    says = found.pop("PostgreSQL itself")
    assert found == dict.fromkeys(found, says)
