import gzip
from pathlib import Path

import polars as pl
import pytest

from tasks.files.shape import MOST_COLUMNS, ROW, Dialect, ShapeRefused, shaped

OF_THREE = "values in a file of 3 columns"
BACKSLASH = "has a quote after a backslash, which quote_escape 'backslash' reads"
OPEN = "has a quote that is not closed"
INSIDE = "has a quote inside a value"


def file(folder: Path, content: bytes | str) -> Path:
    path = folder / "people.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def records(folder: Path, content: bytes | str, **dialect: object) -> tuple[list[tuple[object, ...]], list[str]]:
    proved = shaped(file(folder, content), Dialect(**dialect))
    return proved.scan().collect().rows(), [f"{row} {reason}" for row, _, reason, _ in proved.faults.rows()]


@pytest.mark.parametrize(
    ("body", "whole", "faults"),
    [
        ("1,a,b\n2,c,d\n", [(1, "1", "a", "b"), (2, "2", "c", "d")], []),
        ("1,a,b\r\n2,c,d", [(1, "1", "a", "b"), (2, "2", "c", "d")], []),
        ("", [], []),
        (
            "1,,\n2,c\n3,e,f\n",
            [(1, "1", None, None), (3, "3", "e", "f")],
            [f"2 has 2 {OF_THREE} (line 3)"],
        ),
        ("1,a,b,\n2,c,d\n", [(2, "2", "c", "d")], [f"1 has 4 {OF_THREE} (line 2)"]),
        ("1,a,b\r\n2,c\rx,d\n", [(1, "1", "a", "b")], ["2 has a carriage return inside a value (line 3)"]),
        ("1,a,b\r\r\n2,c,d\r\n", [(1, "1", "a", "b"), (2, "2", "c", "d")], []),
        ('1,"a\r",b\n', [(1, "1", "a\r", "b")], []),
        ("1,a,b\n\n2,c,d\n", [(1, "1", "a", "b"), (3, "2", "c", "d")], []),
        ("1,a,b\n2,c", [(1, "1", "a", "b")], [f"2 has 2 {OF_THREE} (line 3)"]),
        ('1,"a ""x"", y",b\n', [(1, "1", 'a "x", y', "b")], []),
        (
            '1,"two\nlines",b\n2,c\n',
            [(1, "1", "two\nlines", "b")],
            [f"2 has 2 {OF_THREE} (line 4)"],
        ),
        (
            '1,"a\n2,c,d\n3,e,f\n',
            [(2, "2", "c", "d"), (3, "3", "e", "f")],
            [f"1 {OPEN} (line 2)"],
        ),
        (
            '1,5" pipe,b\n2,c,d\n3,6" pipe,f\n',
            [(2, "2", "c", "d")],
            [f"1 {INSIDE} (line 2)", f"3 {INSIDE} (line 4)"],
        ),
        (
            '1,"a \\"x\\" y",b\n2,"c",d\n',
            [(2, "2", "c", "d")],
            [f"1 {BACKSLASH} (line 2)"],
        ),
        (
            '1,"a \\"",b\n2,c,d\n3,"e",f\n',
            [(2, "2", "c", "d"), (3, "3", "e", "f")],
            [f"1 {BACKSLASH} (line 2)"],
        ),
        (
            '1,"a \\"",b@x\n2,c,d\n3,",f\n',
            [(2, "2", "c", "d")],
            [
                f"1 {BACKSLASH} (line 2)",
                f"3 {OPEN} (line 4)",
            ],
        ),
    ],
)
def test_a_line_is_one_whole_record_or_a_fault_of_its_own(
    tmp_path: Path, body: str, whole: list[tuple[object, ...]], faults: list[str]
) -> None:
    assert records(tmp_path, "id,name,mail\n" + body) == (whole, faults)


@pytest.mark.parametrize(
    ("content", "dialect", "whole"),
    [
        ('id,a\n1,"x \\"y\\", z"\n', {"quote_escape": "backslash"}, [(1, "1", 'x "y", z')]),
        ("sep=;\nid;a\n1;é\n".encode(), {"separator": ";"}, [(1, "1", "é")]),
        ("id,a\n1,é\n".encode("cp1252"), {"encoding": "cp1252"}, [(1, "1", "é")]),
        ("id,a\n1,é\n".encode("utf-16"), {"encoding": "utf-16"}, [(1, "1", "é")]),
        ("id,a\n1,é\n".encode("utf-8-sig"), {}, [(1, "1", "é")]),
        ("made by us\nid,a\n1,é\n", {"skip_lines": 1}, [(1, "1", "é")]),
        (gzip.compress("id,a\n1,é\n".encode()), {}, [(1, "1", "é")]),
        ('id\ta\n1\tsay "x"\n', {"separator": "\t", "quote": ""}, [(1, "1", 'say "x"')]),
        ("id,a\n1,'it''s, so'\n", {"quote": "'"}, [(1, "1", "it's, so")]),
    ],
)
def test_a_file_is_read_as_its_dialect_says(
    tmp_path: Path, content: bytes | str, dialect: dict[str, object], whole: list[tuple[object, ...]]
) -> None:
    assert records(tmp_path, content, **dialect) == (whole, [])


@pytest.mark.parametrize(
    ("content", "dialect", "reason", "cure"),
    [
        (b"", {}, "it is empty", "header"),
        (b"\n \n", {}, "it is empty", "header"),
        ("id;name\n1;x\n", {}, "between a semicolon", "separator to ';'"),
        ("id\tname\n1\tx\n", {}, "between a tab", "separator to '\\t'"),
        ("id,name\n1,x\n", {"separator": ";"}, "between a comma", "separator to ','"),
        ("sep=;\nid;name\n1;x\n", {}, "first line says .* a semicolon", "separator to ';'"),
        (
            "id,name\n1,é\n".encode("cp1252"),
            {},
            "line 2 is not utf-8 .* Windows-1252",
            "encoding to cp1252",
        ),
        ("id,name\n1,é\n".encode("utf-16"), {}, "UTF-16", "encoding to utf-16"),
        ("id,name\n1,x\n".encode("utf-16-le"), {}, "UTF-16", "encoding to utf-16-le"),
        ("id,name,id\n1,x,2\n", {}, "label 'id' more than once", "label of its own"),
        ('id,"na\n1,x\n', {}, "line 1.* not closed", "quote"),
        ("id,a\r1,b\r", {}, "CR alone", "LF"),
        ("id,name\n1,x\n".encode("utf-16-be"), {}, "UTF-16", "encoding to utf-16-be"),
        ("id,name\n1,x\n".encode("utf-32"), {}, "UTF-32", "encoding to utf-32"),
        ("id,name\n1,x\n", {"encoding": "utf-16"}, "byte order mark", "or to utf-8"),
        (b"PK\x03\x04id,name\n", {}, "a ZIP archive or an Excel workbook", "delimited text"),
        (b"(\xb5/\xfd\x04\x00a", {}, "compressed with Zstandard", "delimited text"),
        (b"PAR1id,name\n", {}, "a Parquet file", "delimited text"),
        ("<!DOCTYPE html><p>Log in", {}, "HTML or XML", "delimited text"),
        ('[{"id": "1"}]', {}, "JSON", "delimited text"),
        (",".join(map(str, range(MOST_COLUMNS + 1))) + "\n", {}, f"more than {MOST_COLUMNS} columns", "separator"),
        (gzip.compress(b"id,a\n1,2\n")[:-9], {}, "cut short|damaged", "again|Divide"),
    ],
)
def test_what_a_file_seems_to_be_is_told_with_the_option_that_reads_it(
    tmp_path: Path, content: bytes | str, dialect: dict[str, object], reason: str, cure: str
) -> None:
    with pytest.raises(ShapeRefused, match=reason) as refused:
        shaped(file(tmp_path, content), Dialect(**dialect))
    assert (
        cure.split("|", maxsplit=1)[0] in refused.value.cure
        or cure.rsplit("|", maxsplit=1)[-1] in refused.value.cure
    )


def test_what_a_gzip_grows_to_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(ShapeRefused, match="more than 1000000 bytes"):
        shaped(file(tmp_path, gzip.compress(b"id,a\n" + b"1,2\n" * 1_000_000)), Dialect(), limit=1_000_000)


def test_a_copy_is_private_and_gone_with_its_reader(tmp_path: Path) -> None:
    proved = shaped(file(tmp_path, "id,a\n1\n2,x\n"), Dialect())
    copy = proved.path
    assert copy.parent != tmp_path
    assert [copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777] == [0o600, 0o700]
    del proved
    assert not copy.exists()


@pytest.mark.parametrize("width", [1, 3, 250])
def test_wide_and_narrow_files_are_proved_alike(tmp_path: Path, width: int) -> None:
    labels = [f"c{number}" for number in range(width)]
    row = ["x"] * width
    lines = [labels, row, [*row, "y"], ['"x"'] * width, row]
    proved = shaped(file(tmp_path, "\n".join(",".join(line) for line in lines)), Dialect())
    assert proved.scan().collect()[ROW].to_list() == [1, 3, 4]
    assert proved.faults["row"].to_list() == [2]
    assert proved.scan().collect().drop(ROW).unique().row(0) == tuple(row)
    assert proved.scan().collect_schema()[ROW] == pl.Int64()
