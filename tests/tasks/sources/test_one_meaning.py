"""The same text means the same, whatever source it comes from; a value with a type keeps its meaning as another."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from tasks.errors import SourceUnreadable
from tasks.extras import extra_module
from tasks.sources.database import DatabaseTable
from tasks.sources.files import ProfileFile
from tasks.sources.rejects import Rejects
from tasks.sources.selection import selected_rows
from tasks.tables.columns import ColumnType
from tasks.targeting.query import QueryOptions
from tests.postgresql import engine_of, new_database

NAN, INFINITE = float("nan"), float("inf")
DAY = date(2026, 11, 24)
BAD = object()
"""Rejected, with the column, the row and the value as it came."""

TEXTS: Mapping[ColumnType, Mapping[str, object]] = {
    "text": {text: text for text in (" a ", "NULL", "N/A", "a\tb", "\xa0", "a\\b", "=1+1", "\"", "a\nb", "null")},
    "integer": {
        "7": 7, " 1": 1, "1 ": 1, "\xa01": 1, "+1": 1, "-0": 0, "007": 7, "1.0": 1, "": None, "  ": None,
        "-9223372036854775808": -(2**63), "1,234": BAD, "1e3": BAD, "1.50": BAD, "٣": BAD, "１２": BAD, "0x10": BAD,
        "1_000": BAD, "--1": BAD, "9223372036854775808": BAD, "NaN": BAD,
    },
    "number": {
        "1.5": 1.5, "1e3": 1000.0, "1.": 1.0, "+.5": 0.5, " 1.5 ": 1.5, "1e-999": 0.0, "": None, "NaN": BAD,
        "nan": BAD, "Infinity": BAD, "-inf": BAD, "1,5": BAD, ".": BAD, "1e999": BAD, "٣.٥": BAD, "1 000": BAD,
        "−1": BAD, "5%": BAD, "0x1p3": BAD, "$5": BAD,
    },
    "decimal": {
        "1.10": Decimal("1.10"), "1.120000": Decimal("1.12"), ".5": Decimal("0.50"), "1.": Decimal(1),
        "+1": Decimal(1),
        "999999999999999999999999999999999999.99": Decimal("999999999999999999999999999999999999.99"),
        "": None, "1.125": BAD, "1e2": BAD, "9" * 38: BAD, "NaN": BAD,
    },
    "boolean": {
        "true": True, "TRUE ": True, "t": True, "1": True, "False": False, "f": False, "0": False, "": None,
        "yes": BAD, "on": BAD, "Y": BAD, "1.0": BAD, "01": BAD, "-1": BAD, "null": BAD, "wahr": BAD,
    },
    "date": {
        "2026-11-24": date(2026, 11, 24), "2024-02-29": date(2024, 2, 29), " 2026-11-24": date(2026, 11, 24),
        "0001-01-01": date(1, 1, 1), "9999-12-31": date(9999, 12, 31), "": None, "2026-02-29": BAD, "26-11-24": BAD,
        "2026-1-5": BAD, "2026-W48-2": BAD, "2026-328": BAD, "20261124": BAD, "24.11.2026": BAD, "0000-01-01": BAD,
        "10000-01-01": BAD, "2026-13-01": BAD, "2026-11-24T00:00:00": BAD, "٢٠٢٦-11-24": BAD,
    },
    "time": {
        "07:30": time(7, 30), "23:59:59.5": time(23, 59, 59, 500_000), "23:59:59.1234567": BAD,
        " 07:30": time(7, 30), "": None, "7:30": BAD,
        "24:00": BAD, "23:59:60": BAD, "07:30 PM": BAD, "07:30Z": BAD,
    },
    "datetime": {
        "2026-11-24T07:30:00": datetime(2026, 11, 24, 7, 30), "2026-11-24 07:30": datetime(2026, 11, 24, 7, 30),
        "2026-11-24T07:30:00Z": datetime(2026, 11, 24, 7, 30),
        "2026-11-24t07:30:00z": datetime(2026, 11, 24, 7, 30),
        "2026-11-24T07:30:00+01:00": datetime(2026, 11, 24, 6, 30),
        "2026-11-24 07:30:00+01": datetime(2026, 11, 24, 6, 30),
        "2026-11-24T07:30:00+14:00": datetime(2026, 11, 23, 17, 30),
        "2026-11-24T07:30:00.123456": datetime(2026, 11, 24, 7, 30, 0, 123_456),
        "2026-11-24T07:30:00.123456000Z": datetime(2026, 11, 24, 7, 30, 0, 123_456),
        "2026-11-24T07:30:00.1234567": BAD, "2026-11-24 07:30:00.000000001+01": BAD,
        "": None, "2026-11-24": BAD, "2026-11-24T24:00:00": BAD, "2026-11-24T07:30:60": BAD, "1764000000": BAD,
        "2026-11-24T07:30:00,5": BAD, "2026-11-24 07:30:00 UTC": BAD, "2026-11-24T07:30:00+25:00": BAD,
        "0001-01-01T00:00:00+01:00": BAD,
    },
}  # fmt: skip
"""For each type what a text is read as, without any option. The sources' texts are these, in one column."""

Kept = Callable[[Path, Sequence[str]], ProfileFile | DatabaseTable]
Source = ProfileFile | DatabaseTable


def numbered(values: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame({"profile_id": [str(n) for n in range(len(values))], "c": values})


def csv(folder: Path, texts: Sequence[str]) -> Source:
    numbered(texts).write_csv(folder / "people.csv", quote_style="always")
    return ProfileFile(path=folder / "people.csv")


def ndjson(folder: Path, texts: Sequence[str]) -> Source:
    numbered(texts).write_ndjson(folder / "people.ndjson")
    return ProfileFile(path=folder / "people.ndjson")


def parquet(folder: Path, texts: Sequence[str]) -> Source:
    numbered(texts).write_parquet(folder / "people.parquet")
    return ProfileFile(path=folder / "people.parquet")


def categories(folder: Path, texts: Sequence[str]) -> Source:
    numbered(texts).cast({"c": pl.Categorical()}).write_parquet(folder / "people.parquet")
    return ProfileFile(path=folder / "people.parquet")


def delta(folder: Path, texts: Sequence[str]) -> Source:
    numbered(texts).write_delta(str(folder / "people"))
    return ProfileFile(path=folder / "people")


def sqlite(folder: Path, texts: Sequence[str]) -> Source:
    with sqlite3.connect(folder / "people.db") as connection:
        connection.execute("CREATE TABLE people (profile_id INTEGER, c TEXT)")
        connection.executemany("INSERT INTO people VALUES (?, ?)", enumerate(texts))
    return DatabaseTable(
        database={"url": f"sqlite:///{folder / 'people.db'}"}, table="people", types={"profile_id": "text"}
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    extra_module("psycopg", extra="database", purpose="PostgreSQL")
    try:
        with new_database("meaning") as url:
            yield url
    except sa.exc.OperationalError:
        pytest.skip("there is no PostgreSQL server")


def created(url: str, *columns: str) -> None:
    with engine_of(url).connect() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS people")
        connection.exec_driver_sql(f"CREATE TABLE people (profile_id integer, {', '.join(columns)})")


def postgresql(url: str, texts: Sequence[str]) -> Source:
    created(url, "c text")
    with engine_of(url).connect() as connection:
        rows = [{"n": n, "c": text} for n, text in enumerate(texts)]
        connection.execute(sa.text("INSERT INTO people VALUES (:n, :c)"), rows)
    return DatabaseTable(database={"url": url}, table="people", types={"profile_id": "text"})


def taken(source: Source, kind: ColumnType | None, **options: object) -> dict[int, object]:
    """What each row's value is read as; `BAD`, or its reason, where the row is rejected by it."""
    types = {"profile_id": "text", **({"c": kind} if kind else {})}
    source = type(source)(**{**dict(source), "types": types, "on_bad_value": "reject", **options})
    rejects = Rejects()
    rows = selected_rows(QueryOptions(source=source), activity="Query", rejects=rejects)
    found: dict[int, object] = {int(key): value for key, value in rows.select("profile_id", "c").iter_rows()}
    for key, row, column, _, value in rejects.table().iter_rows():
        assert (column, row) == ("c", int(key) + 1)
        assert value is not None
        found[int(key)] = BAD
    return found


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("kept", [csv, ndjson, parquet, categories, delta, sqlite])
def test_a_text_means_the_same_from_every_source(tmp_path: Path, kept: Kept, kind: ColumnType) -> None:
    texts = list(TEXTS[kind])
    assert taken(kept(tmp_path, texts), kind) == dict(enumerate(TEXTS[kind].values()))


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_means_the_same_from_postgresql(server: str, kind: ColumnType) -> None:
    assert taken(postgresql(server, list(TEXTS[kind])), kind) == dict(enumerate(TEXTS[kind].values()))


@pytest.mark.parametrize(
    ("raw", "options", "meanings"),
    [
        (
            pl.Series([1, 0, -5], dtype=pl.Int8),
            {},
            {"text": ["1", "0", "-5"], "boolean": [True, False, BAD], "date": [BAD] * 3},
        ),
        (pl.Series([1, 2**63], dtype=pl.UInt64), {}, {"integer": [1, BAD], "text": ["1", str(2**63)]}),
        (
            pl.Series([10115.0, 2.5, NAN, INFINITE, -0.0]),
            {},
            {
                "text": ["10115", BAD, None, BAD, "0"],
                "integer": [10115, BAD, None, BAD, 0],
                "number": [10115.0, 2.5, None, BAD, 0.0],
                "decimal": [Decimal(10115), Decimal("2.5"), None, BAD, Decimal(0)],
                "boolean": [BAD, BAD, None, BAD, False],
                "date": [BAD, BAD, None, BAD, BAD],
            },
        ),
        (pl.Series([10115.0, 2.5, -1.0]), {"remap": {"c": {"-1": "none"}}}, {"text": ["10115", BAD, "none"]}),
        (pl.Series([1.0, 2.0, NAN]), {"remap": {"c": {"2": "false"}}}, {"boolean": [True, False, None]}),
        (pl.Series([20261231.0, NAN]), {"formats": {"c": "%Y%m%d"}}, {"date": [date(2026, 12, 31), None]}),
        (
            pl.Series([date(2026, 1, 1), date(1900, 1, 1)]),
            {"remap": {"c": {"1900-01-01": ""}}},
            {"date": [date(2026, 1, 1), None]},
        ),
        (
            pl.Series([Decimal("1.000"), Decimal("2.500"), Decimal("1.125")], dtype=pl.Decimal(38, 3)),
            {},
            {
                "text": ["1.000", "2.500", "1.125"],
                "integer": [1, BAD, BAD],
                "decimal": [Decimal(1), Decimal("2.5"), BAD],
                "number": [1.0, 2.5, 1.125],
                "boolean": [True, BAD, BAD],
            },
        ),
        (pl.Series([True, False]), {}, {"text": ["true", "false"], "integer": [BAD, BAD], "date": [BAD, BAD]}),
        (
            pl.Series([date(2026, 11, 24), date(1, 1, 1)]),
            {"zone": "Europe/Berlin"},
            {
                "text": ["2026-11-24", "0001-01-01"],
                "datetime": [datetime(2026, 11, 23, 23), BAD],
                "integer": [BAD, BAD],
            },
        ),
        (
            pl.Series([-800_000, 100, 4_000_000], dtype=pl.Int32).cast(pl.Date()),
            {"columns": {"c": "c"}},
            {"text": [BAD, "1970-04-11", BAD], "datetime": [BAD, datetime(1970, 4, 11), BAD]},
        ),
        (
            pl.Series([time(7, 30), time(0, 0, 0, 1)]),
            {},
            {"text": ["07:30:00", "00:00:00.000001"], "datetime": [BAD, BAD]},
        ),
        (
            pl.Series([datetime(2026, 11, 24), datetime(2026, 11, 24, 7, 30)]).dt.cast_time_unit("ns"),
            {},
            {
                "date": [date(2026, 11, 24), BAD],
                "text": ["2026-11-24T00:00:00", "2026-11-24T07:30:00"],
                "datetime": [datetime(2026, 11, 24), datetime(2026, 11, 24, 7, 30)],
                "integer": [BAD, BAD],
            },
        ),
        (
            pl.Series([datetime(2026, 11, 24), datetime(2026, 11, 24, 7)]).dt.replace_time_zone("Asia/Kolkata"),
            {},
            {
                "date": [date(2026, 11, 24), BAD],
                "text": ["2026-11-24T00:00:00+05:30", "2026-11-24T07:00:00+05:30"],
                "datetime": [datetime(2026, 11, 23, 18, 30), datetime(2026, 11, 24, 1, 30)],
            },
        ),
        (
            pl.Series([1_764_000_000_123_456_000, 1_764_000_000_123_456_789]).cast(pl.Datetime("ns")),
            {},
            {
                "datetime": [datetime(2025, 11, 24, 16, 0, 0, 123_456), BAD],
                "text": ["2025-11-24T16:00:00.123456", "2025-11-24T16:00:00.123456789"],
            },
        ),
        (
            pl.Series([1000, 1001]).cast(pl.Time()),
            {},
            {"time": [time(0, 0, 0, 1), BAD], "text": ["00:00:00.000001", "00:00:00.000001001"]},
        ),
        (
            pl.Series(["24.11.1500 07:30:00.123456", "24.11.1500 07:30:00.1234567", "24.11.2026 07:30:00.1234567"]),
            {"formats": {"c": "%d.%m.%Y %H:%M:%S%.f"}},
            {"datetime": [datetime(1500, 11, 24, 7, 30, 0, 123_456), BAD, BAD]},
        ),
        (
            pl.Series(["1764000000.123456000", "1764000000.1234567"]),
            {"formats": {"c": "epoch_seconds"}},
            {"datetime": [datetime(2025, 11, 24, 16, 0, 0, 123_456), BAD]},
        ),
        (pl.Series([1764000000]), {"formats": {"c": "epoch_seconds"}}, {"datetime": [datetime(2025, 11, 24, 16)]}),
        (pl.Series([timedelta(days=1)]), {}, {kind: [BAD] for kind in TEXTS}),
        (pl.Series([b"1", b"\xff"]), {}, {kind: [BAD, BAD] for kind in TEXTS}),
        (pl.Series([["a"], []]), {}, {kind: [BAD, BAD] for kind in TEXTS}),
        (pl.Series([{"a": 1}]), {}, {kind: [BAD] for kind in TEXTS}),
        (pl.Series([[1, 2]], dtype=pl.Array(pl.Int64(), 2)), {}, {kind: [BAD] for kind in TEXTS}),
        (pl.Series([None, None], dtype=pl.Null()), {}, {kind: [None, None] for kind in TEXTS}),
    ],
)
def test_a_value_keeps_its_meaning_as_another_type(
    tmp_path: Path, raw: pl.Series, options: dict[str, object], meanings: dict[ColumnType, list[object]]
) -> None:
    numbered(raw.to_list() if raw.dtype == pl.Null() else [0] * len(raw)).with_columns(
        raw.alias("c")
    ).write_parquet(tmp_path / "people.parquet")
    source = ProfileFile(path=tmp_path / "people.parquet")
    for kind, expected in meanings.items():
        assert taken(source, kind, **options) == dict(enumerate(expected)), kind


@pytest.mark.parametrize(
    ("kind", "values", "wanted", "expected"),
    [
        ("numeric", ["1.125", "NaN", "12345678901234567890.12"], None, [1.125, None, 12345678901234567890.12]),
        ("numeric", ["1.12", "NaN", "9" * 20], "decimal", [Decimal("1.12"), None, Decimal("9" * 20)]),
        ("numeric(10, 2)", ["1.5"], None, [Decimal("1.50")]),
        ("numeric(10, 2)", ["1.5"], "text", ["1.50"]),
        ("double precision", ["NaN", "1.5"], None, [None, 1.5]),
        ("date", ["infinity", "0044-03-15 BC", "12000-01-01", "2026-11-24"], None, [BAD, BAD, BAD, DAY]),
        ("date", ["-infinity", "2026-11-24"], "text", [BAD, "2026-11-24"]),
        ("timestamp", ["infinity", "2026-11-24 07:30"], None, [BAD, datetime(2026, 11, 24, 7, 30)]),
        ("timestamptz", ["-infinity", "2026-11-24 07:30+01"], "datetime", [BAD, datetime(2026, 11, 24, 6, 30)]),
        ("time", ["07:30:00.5", "24:00"], "time", [time(7, 30, 0, 500_000), BAD]),
        ("timetz", ["07:30+01"], None, ["07:30:00+01"]),
        ("uuid", ["00000000-0000-0000-0000-000000000001"], None, ["00000000-0000-0000-0000-000000000001"]),
        ("jsonb", ['{"a":1}'], None, ['{"a": 1}']),
        ("bytea", ["\\x01"], None, ["\\x01"]),
        ("interval", ["1 day"], None, ["1 day"]),
        ("integer[]", ["{1,2}"], None, ["{1,2}"]),
        ("boolean", ["t", "no"], "text", ["true", "false"]),
    ],
)  # fmt: skip
def test_a_value_of_postgresql_keeps_its_meaning(
    server: str, kind: str, values: list[str], wanted: ColumnType | None, expected: list[object]
) -> None:
    created(server, f"c {kind}")
    with engine_of(server).connect() as connection:
        for number, value in enumerate(values):
            connection.execute(
                sa.text(f"INSERT INTO people VALUES (:n, CAST(:c AS {kind}))"), {"n": number, "c": value}
            )
    source = DatabaseTable(database={"url": server}, table="people")
    assert taken(source, wanted) == dict(enumerate(expected))


def test_an_infinite_date_is_the_end_or_a_missing_value_as_the_options_say(server: str) -> None:
    created(server, "c date")
    with engine_of(server).connect() as connection:
        connection.exec_driver_sql("INSERT INTO people VALUES (0, 'infinity'), (1, '2026-11-24')")
    source = DatabaseTable(database={"url": server}, table="people")
    assert taken(source, None, on_bad_value="null") == {0: None, 1: date(2026, 11, 24)}


NESTED, LARGE = "is an object or a list, and other lines have none", "is beyond the whole numbers of 2^53, and"
REPEATED = "has the key"


@pytest.mark.parametrize(
    ("lines", "kind", "taken_values", "reasons"),
    [
        (['"c":"a","c":"b"', '"c":"x"'], None, {1: "x"}, {1: REPEATED}),
        (['"c":"a","\\u0063":"b"', '"c" :"\\":"'], None, {1: '":'}, {1: REPEATED}),
        (['"c" :"a","c"  :"\\":"', '"c":"x"'], None, {1: "x"}, {1: REPEATED}),
        (['"c":"x"', '"c":"y","d":[{"a":1,"a":2}]'], None, {0: "x"}, {2: REPEATED}),
        (['"c":"a"', '"c":{"x":1}', '"c":[1]', '"c":null'], "text", {0: "a", 3: None}, {2: NESTED, 3: NESTED}),
        (['"c":[1]', '"c":7'], None, {1: 7}, {1: NESTED}),
        (['"c":9007199254740993', '"c":1.5', '"c":2'], "number", {1: 1.5, 2: 2.0}, {1: LARGE}),
        (['"c":9007199254740993', '"c":"x"'], None, {0: "9007199254740993", 1: "x"}, {}),
        (['"c":12345678901234567890123', '"c":1'], "integer", {1: 1}, {1: "is beyond 64-bit integers"}),
    ],
)  # fmt: skip
def test_a_value_of_ndjson_is_itself_or_is_rejected(
    tmp_path: Path,
    lines: list[str],
    kind: ColumnType | None,
    taken_values: dict[int, object],
    reasons: dict[int, str],
) -> None:
    text = "".join(f'{{"profile_id":"{n}",{line}}}\n' for n, line in enumerate(lines))
    (tmp_path / "people.ndjson").write_text(text, encoding="utf-8")
    types: dict[str, ColumnType] = {"profile_id": "text", **({"c": kind} if kind else {})}
    rejects = Rejects()
    source = ProfileFile(path=tmp_path / "people.ndjson", types=types, on_bad_value="reject")
    rows = selected_rows(QueryOptions(source=source), activity="Query", rejects=rejects)
    assert {int(key): value for key, value in rows.select("profile_id", "c").iter_rows()} == taken_values
    found = dict(rejects.table().select("row", "reason").iter_rows())
    assert found.keys() == reasons.keys()
    assert all(found[row].startswith(reason) for row, reason in reasons.items())


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (['{"profile_id":"1","c":true}\n{"profile_id":"2","c":1}\n'], "'c' is true or false in some lines and"),
        (['{"profile_id":"1","c":[1]}\n{"profile_id":"2","c":{"a":1}}\n'], "'c' is an object in some lines and"),
        (['{"profile_id":"1","c":"a"}\n', '{"profile_id":"2","c":{"a":1}}\n'], "'c' has objects or lists in one"),
        (['{"profile_id":9007199254740993}\n', '{"profile_id":1.0}\n'], "whole numbers beyond 2^53"),
    ],
)
def test_ndjson_of_several_kinds_is_refused_by_name(tmp_path: Path, files: list[str], said: str) -> None:
    for number, text in enumerate(files):
        (tmp_path / f"{number}.ndjson").write_text(text, encoding="utf-8")
    source = ProfileFile(path=tmp_path / "*.ndjson", types={"profile_id": "text"}, on_bad_value="reject")
    with pytest.raises(SourceUnreadable, match=re.escape(said)):
        selected_rows(QueryOptions(source=source), activity="Query")


@pytest.mark.parametrize("other", ["2,x\r\n", "2,x,y\r\n"])
@pytest.mark.parametrize("options", [{}, {"quote_escape": "backslash"}, {"encoding": "utf-16"}])
def test_the_ends_of_lines_in_a_value_stay_whatever_is_wrong_with_another_row(
    tmp_path: Path, other: str, options: dict[str, Any]
) -> None:
    text = f'profile_id,c\r\n1,"a\r\nb\nc"\r\n{other}'
    (tmp_path / "people.csv").write_bytes(text.encode(options.get("encoding", "utf-8")))
    source = ProfileFile(path=tmp_path / "people.csv", on_bad_value="reject", **options)
    rows = selected_rows(QueryOptions(source=source), activity="Query", rejects=Rejects())
    assert rows["c"][0] == "a\r\nb\nc"
