import gzip
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.data_management.load_file import Loaded, LoadFileOptions, load, load_file, write_rejects
from tasks.errors import (
    CampaignError,
    ColumnsMissing,
    ColumnsUnexpected,
    OutsideStorage,
    SourceMissing,
    SourceUnreadable,
    ValueRefused,
)

COLUMNS = {"name": {"key": "Name"}, "born": {"key": "Born", "type": "date"}, "n": {"key": "N", "type": "integer"}}


def loaded(folder: Path, content: bytes, **options: object) -> Loaded:
    (folder / "in.txt").write_bytes(content)
    return load(["in.txt"], LoadFileOptions(**{"columns": COLUMNS, **options}), folder)


PLAIN = b'Name,Born,N\n"Lovelace, ""Ada""",1815-12-10,7\n,,\nBob,2000-02-29,8\n'
ROWS = [('Lovelace, "Ada"', date(1815, 12, 10), 7), ("Bob", date(2000, 2, 29), 8)]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (PLAIN, {}),
        (b"\xef\xbb\xbf" + PLAIN, {}),
        (gzip.compress(PLAIN), {}),
        (PLAIN.replace(b"\n", b"\r\n"), {}),
        (b"made by us\n\n" + PLAIN, {"skip_lines": 2}),
        (b"Name;Born;N\n'Lovelace, \"Ada\"';1815-12-10;7\nBob;2000-02-29;8\n", {"separator": ";", "quote": "'"}),
        (b'Name\tBorn\tN\nLovelace, "Ada"\t1815-12-10\t7\nBob\t2000-02-29\t8', {"separator": "\t", "quote": ""}),
        (PLAIN.decode().encode("utf-16"), {"encoding": "utf-16"}),
        (b'Born,N,Extra,Name\n1815-12-10,7,x,"Lovelace, ""Ada"""\n2000-02-29,8,,Bob\n', {}),
        (
            PLAIN.partition(b"\n")[2],
            {
                "header": False,
                "columns": {
                    "name": {"key": "1"},
                    "born": {"key": "2", "type": "date"},
                    "n": {"key": "3", "type": "integer"},
                },
            },
        ),
        (
            b'NAME           BORN      N \nLovelace, "Ada"1815-12-10  7\n\nBob            2000-02-29 8\r\n',
            {"format": "fixed_width", "widths": {"Name": 15, "Born": 10, "N": 3}},
        ),
        (
            'Lovelace, "Ada"1815-12-10007é\nBob            2000-02-29008\n'.encode(),
            {"format": "fixed_width", "widths": {"Name": 15, "Born": 10, "N": 3}, "header": False},
        ),
    ],
)
def test_every_form_of_file_gives_the_same_rows(tmp_path: Path, content: bytes, options: dict[str, object]) -> None:
    outbound = loaded(tmp_path, content, **options)
    assert outbound.standard.rows() == ROWS
    assert outbound.rejects.is_empty()


def test_letters_of_another_encoding_are_read(tmp_path: Path) -> None:
    outbound = loaded(
        tmp_path, "Name\nJosé €\n".encode("cp1252"), encoding="cp1252", columns={"n": {"key": "Name"}}
    )
    assert outbound.standard["n"].to_list() == ["José €"]


def test_bad_lines_are_rejected_with_the_reason_and_the_value_and_their_place(tmp_path: Path) -> None:
    content = (
        b"Name,Born,N\nA,2000-01-01,1\nB,2000-02-30,2\n\nC,2000-01-01,3,too,long\nD,2000-01-01,x\nE,2000-01-01,5\n"
    )
    outbound = loaded(tmp_path, content)
    assert outbound.standard["name"].to_list() == ["A", "E"]
    assert outbound.rejects.rows() == [
        ("in.txt", 2, "born", "is not a date", "2000-02-30"),
        ("in.txt", 4, None, "has 5 values in a file of 3 columns (line 5)", "C,2000-01-01,3,too,long"),
        ("in.txt", 5, "n", "is not an integer", "x"),
    ]


def test_values_that_were_replaced_are_told(tmp_path: Path) -> None:
    outbound = loaded(
        tmp_path, b"Name,N\nA,x\n", columns={"n": {"key": "N", "type": "integer", "on_bad_value": "null"}}
    )
    assert outbound.standard.rows() == [(None,)]
    assert outbound.replaced.rows() == [("in.txt", 1, "n", "is not an integer", "x")]


def test_rejects_are_kept_in_a_file(tmp_path: Path) -> None:
    outbound = loaded(tmp_path, b"Name,Born,N\nB,x,2\n")
    options = LoadFileOptions(columns=COLUMNS, rejects_file="rejects/in.csv")
    write_rejects(outbound.rejects, options, tmp_path)
    assert (
        tmp_path / "rejects" / "in.csv"
    ).read_text() == "file,row,column,reason,value\nin.txt,1,born,is not a date,x\n"


def test_several_files_become_one_table(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"N\n1\n{name}\n")
    outbound = load(["a.csv", "b.csv"], LoadFileOptions(columns={"n": {"key": "N", "type": "integer"}}), tmp_path)
    assert outbound.standard["n"].to_list() == [1, 1]
    assert outbound.rejects.select("file", "row").rows() == [("a.csv", 2), ("b.csv", 2)]
    nothing = load([], LoadFileOptions(columns=COLUMNS), tmp_path)
    assert nothing.standard.columns == ["name", "born", "n"]


@pytest.mark.parametrize(
    ("content", "options", "error", "says"),
    [
        (b"Name,Bron,N\n", {}, ColumnsMissing, "Did you mean 'Bron'"),
        (PLAIN, {"columns": {"n": {"key": "N"}}, "other_columns": "error"}, ColumnsUnexpected, "'Name', 'Born'"),
        (b"", {}, SourceUnreadable, "it is empty"),
        ("Name\né\n".encode("latin-1"), {"columns": {"n": {"key": "Name"}}}, SourceUnreadable, "in.txt"),
        (b"\xff", {"encoding": "utf-16"}, SourceUnreadable, "the byte order mark"),
        (gzip.compress(PLAIN * 9)[:-20], {}, SourceUnreadable, "in.txt"),
        (gzip.compress(b"x" * 10_000_000), {"max_bytes": 1_000_000}, SourceUnreadable, "more than 1000000 bytes"),
        (
            b"N\nx\n",
            {"columns": {"n": {"key": "N", "type": "integer", "on_bad_value": "error"}}},
            ValueRefused,
            "Row 1",
        ),
    ],
)
def test_a_file_that_cannot_be_loaded_says_why(
    tmp_path: Path, content: bytes, options: dict[str, object], error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        loaded(tmp_path, content, **options)


@pytest.mark.parametrize(
    ("file", "error", "says"),
    [("../in.txt", OutsideStorage, "in.txt"), ("inn.txt", SourceMissing, "Did you mean 'in.txt'")],
)
def test_only_files_of_the_storage_folder_are_loaded(
    tmp_path: Path, file: str, error: type[CampaignError], says: str
) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    for folder in (tmp_path, storage):
        (folder / "in.txt").write_bytes(PLAIN)
    with pytest.raises(error, match=says):
        load([file], LoadFileOptions(columns=COLUMNS), storage)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": {}}, "at least 1"),
        ({"columns": COLUMNS, "format": "fixed_width"}, "must be given there"),
        ({"columns": COLUMNS, "widths": {"a": 1}}, "goes with the format"),
        ({"columns": COLUMNS, "format": "fixed_width", "widths": {"a": 0}}, "at least one character"),
        ({"columns": COLUMNS, "encoding": "utf-99"}, "not an encoding"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LoadFileOptions(**options)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
def test_what_was_written_as_csv_is_read_as_it_was(rows: list[tuple[str, str]]) -> None:
    import tempfile

    table = pl.DataFrame(rows, schema={"a": pl.String(), "b": pl.String()}, orient="row")
    with tempfile.TemporaryDirectory() as folder:
        content = table.write_csv(quote_style="always").encode()
        columns = {name: {"key": name, "max_length": None} for name in table.columns}
        outbound = loaded(Path(folder), content, columns=columns)
    assert outbound.standard.rows() == rows
    assert outbound.rejects.is_empty()


def test_the_task_loads_what_transfer_file_gave_and_logs_its_counts(
    in_folder: Path, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (in_folder / "storage").mkdir()
    (in_folder / "storage" / "in.csv").write_bytes(PLAIN + b"C,x,1\n")
    options = LoadFileOptions(columns=COLUMNS, rejects_file="rejects.csv")
    assert load_file(options, pl.DataFrame({"file": ["in.csv"]})).standard.height == 2
    assert "standard: 2, rejects: 1, replaced: 0." in caplog.text
    assert (in_folder / "storage" / "rejects.csv").read_text().count("\n") == 2
    with pytest.raises(ColumnsMissing, match="names no file itself"):
        load_file(options)
