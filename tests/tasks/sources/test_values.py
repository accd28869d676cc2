"""What values mean, from every kind of source: the one documented meaning, or a reject by row, column and value."""

import gzip
import json
import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from pydantic import ValidationError

from tasks.errors import ColumnsMissing, SourceUnreadable
from tasks.sources.database import DatabaseTable
from tasks.sources.files import ProfileFile
from tasks.sources.rejects import Rejects
from tasks.sources.selection import selected_batches, selected_rows
from tasks.targeting.query import QueryOptions

BERLIN = ZoneInfo("Europe/Berlin")
NAN = float("nan")


def read(source: ProfileFile | DatabaseTable, where: str = "TRUE") -> tuple[pl.DataFrame, list[tuple[Any, ...]]]:
    rejects = Rejects()
    rows = selected_rows(QueryOptions(source=source, where=where), activity="Query", rejects=rejects)
    return rows, rejects.table().rows()


@pytest.mark.parametrize(
    ("values", "kind", "options", "taken", "rejected"),
    [
        (["1", "Y", "true", "T", "0"], "boolean", {}, [True, True, True, False], ["Y"]),
        (["1", "Y"], "boolean", {"remap": {"c": {"Y": "true"}}}, [True, True], []),
        ([1, 0, 2], "boolean", {}, [True, False], ["2"]),
        ([1.0, NAN, 0.5], "boolean", {}, [True, None], ["0.5"]),
        ([10115.0, 1.5, NAN], "text", {}, ["10115", None], ["1.5"]),
        ([1234, None], "text", {}, ["1234", None], []),
        ([True], "text", {}, ["true"], []),
        ([date(2026, 11, 25)], "text", {}, ["2026-11-25"], []),
        ([2.0, 2.5, 1e300, NAN], "integer", {}, [2, None], ["2.5", "1e+300"]),
        ([1.5, NAN, float("inf")], "number", {}, [1.5, None], ["inf"]),
        (["1.5", "NaN", "inf"], "number", {}, [1.5], ["NaN", "inf"]),
        (["1.234,5", "1,5"], "number", {"decimal_separator": ",", "thousands_separator": "."}, [1234.5, 1.5], []),
        ([1.1, 1.125], "decimal", {}, [Decimal("1.10")], ["1.125"]),
        ([20261231, 20260101], "date", {}, [], ["20261231", "20260101"]),
        ([20261231], "date", {"formats": {"c": "%Y%m%d"}}, [date(2026, 12, 31)], []),
        (["24.11.26", "24.11.2026"], "date", {"formats": {"c": "%d.%m.%Y"}}, [date(2026, 11, 24)], ["24.11.26"]),
        (
            ["24.11.26", "24.11.27", "01.01.00"],
            "date",
            {"formats": {"c": "%d.%m.%y"}, "latest_year": 2026},
            [date(2026, 11, 24), date(1927, 11, 24), date(2000, 1, 1)],
            [],
        ),
        (
            [datetime(1990, 11, 23, 23, tzinfo=UTC), datetime(1990, 6, 4, 22, tzinfo=UTC)],
            "date",
            {"zone": "Europe/Berlin"},
            [date(1990, 11, 24), date(1990, 6, 5)],
            [],
        ),
        ([datetime(1990, 11, 23, 23, tzinfo=UTC)], "date", {}, [], ["1990-11-23T23:00:00+00:00"]),
        ([datetime(1990, 11, 24, tzinfo=BERLIN)], "date", {}, [date(1990, 11, 24)], []),
        (
            [datetime(1990, 11, 24), datetime(1990, 11, 24, 1)],
            "date",
            {},
            [date(1990, 11, 24)],
            ["1990-11-24T01:00:00"],
        ),
        ([date(2026, 11, 25)], "datetime", {"zone": "Europe/Berlin"}, [datetime(2026, 11, 24, 23)], []),
        (
            [datetime(2026, 11, 25, 12), datetime(2026, 10, 25, 2, 30), datetime(2026, 3, 29, 2, 30)],
            "datetime",
            {"zone": "Europe/Berlin"},
            [datetime(2026, 11, 25, 11)],
            ["2026-10-25T02:30:00", "2026-03-29T02:30:00"],
        ),
        (
            ["2026-11-25T12:00:00", "2026-11-25T12:00:00+00:00"],
            "datetime",
            {"zone": "Europe/Berlin"},
            [datetime(2026, 11, 25, 11), datetime(2026, 11, 25, 12)],
            [],
        ),
        ([datetime(2026, 11, 25, 12, tzinfo=BERLIN)], "datetime", {}, [datetime(2026, 11, 25, 11)], []),
        ([["a"]], "text", {}, [], ["..."]),
        (["", "x"], "text", {"on_empty": "bad_value"}, ["x"], [""]),
    ],
)
def test_values_of_parquet_have_their_meaning_or_are_rejected(
    tmp_path: Path, values: list[Any], kind: str, options: dict[str, Any], taken: list[Any], rejected: list[str]
) -> None:
    path = tmp_path / "people.parquet"
    pl.DataFrame({"profile_id": [str(n) for n in range(len(values))], "c": values}, strict=False).write_parquet(
        path
    )
    rows, rejects = read(ProfileFile(path=path, types={"c": kind}, on_bad_value="reject", **options))
    assert rows["c"].to_list() == taken
    assert [value for *_, value in rejects] == rejected
    assert all(profile == str(row - 1) and column == "c" for profile, row, column, *_ in rejects)


def test_what_is_not_a_number_passes_no_condition(tmp_path: Path) -> None:
    pl.DataFrame({"profile_id": ["1", "2"], "spent": [NAN, 2000.0]}).write_parquet(tmp_path / "people.parquet")
    rows, _ = read(ProfileFile(path=tmp_path / "people.parquet"), "spent > 1000")
    assert rows.rows() == [("2", 2000.0)]


def text_of(ending: str) -> str:
    rows = [("1", "1990-11-24", "true"), ("2", "24.11.1990", "true"), ("3", "1991-01-01", "Y"), ("4", "", "false")]
    if ending == "csv":
        return "profile_id,birth_date,may_contact\n" + "\n".join(map(",".join, rows)) + "\n"
    named = ({"profile_id": a, "birth_date": b, "may_contact": c} for a, b, c in rows)
    return pl.DataFrame(list(named)).write_ndjson()


@pytest.mark.parametrize("ending", ["csv", "ndjson"])
@pytest.mark.parametrize(("on_bad_value", "kept"), [("reject", ["1", "4"]), ("null", ["1", "2", "3", "4"])])
def test_bad_values_of_text_files_are_rejected_or_missing(
    tmp_path: Path, ending: str, on_bad_value: str, kept: list[str]
) -> None:
    path = tmp_path / f"people.{ending}"
    path.write_text(text_of(ending))
    rows, rejects = read(ProfileFile(path=path, on_bad_value=on_bad_value))
    assert rows["profile_id"].to_list() == kept
    assert rejects == (
        [
            ("2", 2, "birth_date", "is not a date", "24.11.1990"),
            ("3", 3, "may_contact", "is not a boolean", "Y"),
        ]
        if on_bad_value == "reject"
        else []
    )


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ("24.11.1990", "date", "format %d.%m.%Y: set it in formats"),
        ("24.11.90", "date", "format %d.%m.%y"),
        ("24/11/1990", "date", "%d/%m/%Y or %m/%d/%Y"),
        ("19901124", "date", "%Y%m%d"),
        ("1990-11-24 00:00:00", "date", "may be a datetime: set it in types"),
        ("Y", "boolean", "set remap to {c:"),
        ("1,5", "number", "decimal_separator to ','"),
        ("1.234,50", "decimal", "thousands_separator to '.'"),
        ("1,234.50", "number", "thousands_separator to ','"),
    ],
)
def test_what_a_bad_value_seems_to_be_is_told_with_the_option_and_without_the_value(
    tmp_path: Path, value: str, kind: str, says: str
) -> None:
    path = tmp_path / "people.csv"
    path.write_text(f'profile_id,c\n1,\n2,"{value}"\n')
    with pytest.raises(SourceUnreadable, match="row 2 of the column 'c' is not") as refused:
        read(ProfileFile(path=path, types={"c": kind}))
    assert says in str(refused.value)
    assert value not in str(refused.value)


def test_an_ordinary_european_file_is_an_audience(tmp_path: Path) -> None:
    path = tmp_path / "kunden.csv"
    text = 'sep=;\r\nKundennr;E-Mail;Geburtstag;Umsatz;Werbung\r\n007;"jörg@x.example";24.11.1990;1.234,50;J\r\n'
    path.write_bytes(text.encode("cp1252"))
    source = ProfileFile(
        path=path,
        separator=";",
        encoding="cp1252",
        columns={"profile_id": "Kundennr", "email": "E-Mail", "birth_date": "Geburtstag", "may_contact": "Werbung"},
        types={"birth_date": "date", "Umsatz": "decimal", "may_contact": "boolean"},
        formats={"birth_date": "%d.%m.%Y"},
        decimal_separator=",",
        thousands_separator=".",
        remap={"may_contact": {"J": "true", "N": "false"}},
        required=["profile_id", "email", "birth_date"],
    )
    rows, _ = read(source, "may_contact AND Umsatz > 1000")
    assert rows.rows() == [("007", "jörg@x.example", date(1990, 11, 24), Decimal("1234.50"), True)]


def test_a_line_of_another_length_is_a_reject_or_the_end(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("profile_id,email\n1,a@x\n2\n3,b@x,more\n4,c@x\n")
    rows, rejects = read(ProfileFile(path=path, on_bad_value="reject"))
    assert rows["profile_id"].to_list() == ["1", "4"]
    assert [(row, reason) for _, row, _, reason, _ in rejects] == [
        (2, "has 1 values in a file of 2 columns (line 3)"),
        (3, "has 3 values in a file of 2 columns (line 4)"),
    ]
    with pytest.raises(SourceUnreadable, match=r"row 2 has 1 values in a file of 2 columns \(line 3\)"):
        read(ProfileFile(path=path))


def test_a_line_that_is_no_json_is_one_reject(tmp_path: Path) -> None:
    path = tmp_path / "people.ndjson"
    path.write_text('{"profile_id": "1"}\n\n{"profile_id": "2"\n[3]\n{"profile_id": "4"}\n')
    rows, rejects = read(ProfileFile(path=path, on_bad_value="reject"))
    assert rows["profile_id"].to_list() == ["1", "4"]
    assert [row for _, row, *_ in rejects] == [3, 4]
    with pytest.raises(SourceUnreadable, match="row 3 is no JSON object"):
        read(ProfileFile(path=path))


@pytest.mark.parametrize(
    ("folders", "types", "values"),
    [
        (["01234", "95124"], {}, ["01234", "95124"]),
        (["01234", "95124"], {"zip": "integer"}, [1234, 95124]),
        (["7", "42"], {}, [7, 42]),
        (["7", "42"], {"zip": "text"}, ["7", "42"]),
    ],
)
def test_folders_keep_their_leading_zeros(
    tmp_path: Path, folders: list[str], types: dict[str, Any], values: list[Any]
) -> None:
    for name in folders:
        (tmp_path / f"zip={name}").mkdir()
        pl.DataFrame({"profile_id": [name]}).write_parquet(tmp_path / f"zip={name}" / "0.parquet")
    rows, _ = read(ProfileFile(path=tmp_path, types=types))
    assert sorted(rows["zip"].to_list(), key=str) == sorted(values, key=str)


ONE, TWO = {"profile_id": ["1"], "email": ["a"]}, {"profile_id": ["2"], "email": ["b"]}


def placed(folder: Path, files: dict[str, dict[str, Any] | bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            pl.DataFrame(content).write_parquet(folder / name)


@pytest.mark.parametrize(
    ("files", "options", "rows"),
    [
        ({"1.parquet": ONE, "2.parquet": {**TWO, "x": [1]}}, {"other_columns": "align"}, [("1", "a"), ("2", "b")]),
        (
            {"1.parquet": {**ONE, "x": [1]}, "2.parquet": TWO},
            {"other_columns": "align"},
            [("1", "a", 1), ("2", "b", None)],
        ),
        ({"1.parquet": ONE, "2.parquet": {"email": ["b"], "profile_id": ["2"]}}, {}, [("1", "a"), ("2", "b")]),
        ({"1.parquet": ONE, "_SUCCESS": b"", ".1.parquet.crc": b"x"}, {}, [("1", "a")]),
        ({"c=%C3%A9/1.parquet": ONE, "c=a%2Fb/2.parquet": TWO}, {}, [("1", "a", "é"), ("2", "b", "a/b")]),
        (
            {"c=1/1.parquet": ONE, "c=__HIVE_DEFAULT_PARTITION__/2.parquet": TWO},
            {},
            [("1", "a", 1), ("2", "b", None)],
        ),
        ({"c=__HIVE_DEFAULT_PARTITION__/2.parquet": TWO}, {}, [("2", "b", None)]),
        ({"c=2026-02-29/1.parquet": ONE}, {}, [("1", "a", "2026-02-29")]),
        ({"c=2024-02-29/1.parquet": ONE}, {}, [("1", "a", date(2024, 2, 29))]),
        ({"c=99999999999999999999/1.parquet": ONE}, {}, [("1", "a", "99999999999999999999")]),
        ({"c=true/1.parquet": ONE}, {"types": {"c": "boolean"}}, [("1", "a", True)]),
        (
            {"c=01/1.parquet": ONE, "c=02/2.parquet": TWO},
            {"path": "*/*.parquet"},
            [("1", "a", "01"), ("2", "b", "02")],
        ),
    ],
)
def test_a_folder_s_files_and_folders_are_rows_and_columns(
    tmp_path: Path, files: dict[str, Any], options: dict[str, Any], rows: list[tuple[Any, ...]]
) -> None:
    placed(tmp_path, files)
    found, _ = read(ProfileFile(**{"types": {}, **options, "path": tmp_path / options.get("path", "")}))
    assert sorted(found.rows()) == rows


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"1.parquet": ONE, "2.parquet": {**TWO, "x": [1]}},
            r"'2.parquet' has the column 'x'.*other_columns to 'align'\. .*: CAMPAIGN_PROFILES__OTHER_COLUMNS\.",
        ),
        ({"1.parquet": {**ONE, "x": [1]}, "2.parquet": TWO}, r"'2.parquet' lacks the column 'x'.*'align'"),
        (
            {"1.parquet": {**ONE, "x": [1]}, "2.parquet": {**TWO, "x": ["y"]}},
            "'2.parquet' has String in the column 'x'",
        ),
        ({"1.parquet": ONE, "readme.txt": b"hello"}, r"'readme.txt' in it is not a Parquet file.*/\*\*/\*.parquet"),
        ({"1.parquet": ONE, "2.parquet": b"profile_id,email\n"}, "'2.parquet' is not a Parquet file"),
        ({"1.parquet": ONE, "2.parquet": b"PAR1cut"}, "'2.parquet' is cut or damaged"),
        ({"c=a=b/1.parquet": ONE}, "has = in its value"),
        ({"c=1/1.parquet": ONE, "2.parquet": TWO}, "are not those of the other files"),
        ({"c=1/1.parquet": {**ONE, "c": [2]}}, "both have the column 'c'"),
    ],
)
def test_what_a_folder_has_that_has_no_one_reading_is_told(
    tmp_path: Path, files: dict[str, Any], says: str
) -> None:
    placed(tmp_path, files)
    with pytest.raises(SourceUnreadable, match=says):
        read(ProfileFile(path=tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("people.xlsx", b"PK\x03\x04", "it is a ZIP archive or an Excel workbook"),
        ("people.csv.zst", b"(\xb5/\xfd", "it is compressed with Zstandard"),
        ("people.parquet", b"", "is not a Parquet file"),
        ("people.ndjson", b'[\n{"profile_id": "1"},\n]', "it is one JSON array"),
        ("people.ndjson", '{"profile_id": "1"}\n'.encode("utf-16"), "none of its lines is a JSON object in UTF-8"),
        ("people.ndjson", b"", "it is empty"),
    ],
)
def test_a_file_of_another_kind_is_told(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    placed(tmp_path, {name: content})
    with pytest.raises(SourceUnreadable, match=says):
        read(ProfileFile(path=tmp_path / name))


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"profile_id": "1"}\n{"profile_id": "2"}\n',
        gzip.compress(b'{"profile_id": "1"}\r\n{"profile_id": "2"}\r\n'),
        gzip.compress(b'\xef\xbb\xbf{"profile_id": "1"}\n\n{"profile_id": "2"}\n'),
    ],
)
def test_ndjson_may_have_a_mark_and_be_compressed(tmp_path: Path, content: bytes) -> None:
    placed(tmp_path, {"people.ndjson": content})
    assert read(ProfileFile(path=tmp_path / "people.ndjson"))[0].rows() == [("1",), ("2",)]


def delta_with(folder: Path, **changes: Any) -> Path:
    """A Delta table whose log says something else of it."""
    pl.DataFrame(ONE).write_delta(str(folder))
    log = next((folder / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        for name, change in changes.items():
            if name in action:
                action[name].update(change)
    log.write_text("\n".join(map(json.dumps, actions)))
    return folder


UNREADABLE = {"storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"}
DELETIONS = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": {"minReaderVersion": 4}},
        {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}},
        {"protocol": {**DELETIONS, "readerFeatures": ["fooBar"], "writerFeatures": ["fooBar"]}},
        {
            "protocol": {**DELETIONS, "writerFeatures": ["deletionVectors"]},
            "add": {"deletionVector": {**UNREADABLE, "sizeInBytes": 40, "cardinality": 1}},
        },
    ],
)
def test_a_delta_table_that_is_not_understood_is_never_read_in_part(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(SourceUnreadable):
        read(ProfileFile(path=delta_with(tmp_path / "people", **changes)))


@pytest.mark.parametrize(
    ("header", "near"), [(" email", " email"), ("EMAIL", "EMAIL"), ("Email\xa0", "Email\xa0"), ("e-mail", "e-mail")]
)
def test_a_label_that_differs_in_case_or_space_is_told_as_the_nearest(
    tmp_path: Path, header: str, near: str
) -> None:
    (tmp_path / "people.csv").write_text(f"profile_id,{header}\n1,a\n")
    with pytest.raises(ColumnsMissing, match=f"Did you mean '{near}'"):
        read(ProfileFile(path=tmp_path / "people.csv", required=["email"]))


def test_required_columns_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,mail\n1,a\n")
    with pytest.raises(ColumnsMissing, match="'profile_id', 'email'"):
        read(ProfileFile(path=tmp_path / "people.csv", required=["profile_id", "email"]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"types": {"c": "date"}, "formats": {"c": "%d.%m"}}, "does not tell a date"),
        ({"types": {"c": "date"}, "formats": {"c": "%d.%m.%y"}}, "latest_year"),
        ({"types": {}, "formats": {"c": "%Y"}}, "needs a type"),
        ({"zone": "Berlin"}, "not a time zone"),
        ({"encoding": "utf-99"}, "not an encoding"),
        ({"decimal_separator": ",", "thousands_separator": ","}, "are the same"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ProfileFile(**options)


def test_what_sqlite_keeps_is_read_as_its_column_is_declared(tmp_path: Path) -> None:
    file = tmp_path / "people.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE people (profile_id TEXT, may_contact BOOLEAN, seen_at DATETIME)")
        rows = [("1", "t", "2026-11-25 07:30:00"), ("2", "f", None), ("3", "true", 1764000000), ("4", "no", None)]
        connection.executemany("INSERT INTO people VALUES (?, ?, ?)", rows)
    source = DatabaseTable(database={"url": f"sqlite:///{file}"}, table="people", on_bad_value="reject")
    rows, rejects = read(source, "may_contact")
    assert rows.rows() == [("1", True, datetime(2026, 11, 25, 7, 30))]
    assert [(profile, column, value) for profile, _, column, _, value in rejects] == [
        ("3", "seen_at", "1764000000"),
        ("4", "may_contact", "no"),
    ]


@pytest.mark.parametrize("size", [7, 100])
def test_rejects_of_many_batches_come_in_the_source_s_order(tmp_path: Path, size: int) -> None:
    path = tmp_path / "people.csv"
    path.write_text("profile_id,birth_date\n" + "".join(f"{n},{'x' if n % 3 else ''}\n" for n in range(50)))
    rejects = Rejects()
    options = QueryOptions(source=ProfileFile(path=path, on_bad_value="reject"))
    batches = list(selected_batches(options, size, activity="Query", rejects=rejects))
    assert pl.concat(batches)["profile_id"].to_list() == [str(n) for n in range(0, 50, 3)]
    assert rejects.table()["profile_id"].to_list() == [str(n) for n in range(50) if n % 3]


@pytest.mark.parametrize(
    ("scores", "is_pushed"), [([1.5, NAN, None, 2.5], True), ([1.5, float("inf"), None, 2.5], False)]
)
def test_numbers_of_a_parquet_file_do_not_keep_the_scan_from_running_the_condition(
    tmp_path: Path, scores: list[float | None], is_pushed: bool
) -> None:
    path = tmp_path / "scores.parquet"
    pl.DataFrame({"profile_id": ["1", "2", "3", "4"], "score": scores}).write_parquet(path)
    source = ProfileFile(path=path, types={"score": "number"}, on_bad_value="reject")
    selected = source.select("profile_id <> '1'")
    assert ("SELECTION" in selected.explain()) == is_pushed
    rows, rejected = read(source, "profile_id <> '1'")
    assert rows["score"].to_list() == ([None, None, 2.5] if is_pushed else [None, 2.5])
    assert [reject[1] for reject in rejected] == ([] if is_pushed else [2])
