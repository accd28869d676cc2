import gzip
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from tasks.data_management.extract_file import ExtractFileOptions, extract_file, extracted, write_extract
from tasks.errors import CampaignError, ColumnsMissing, ExpressionInvalid, OutsideStorage, StoreUnwritable

TABLE = pl.DataFrame(
    {
        "id": [2, 1],
        "name": ['Ada "A", Lovelace', None],
        "born": [date(1815, 12, 10), None],
        "seen": [datetime(2026, 11, 24, 7, 30), None],
        "score": [1.5, None],
        "coupon": [{"code": "X"}, None],
    }
)
COLUMNS = {"Id": "id", "Name": "name"}


def content(folder: Path, table: pl.DataFrame = TABLE, **options: object) -> bytes:
    chosen = ExtractFileOptions(**{"file": "out.txt", "columns": COLUMNS, **options})
    return write_extract(extracted(table.lazy(), chosen), chosen, folder).read_bytes()


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({}, b'Id,Name\n2,"Ada ""A"", Lovelace"\n1,\n'),
        ({"header": False}, b'2,"Ada ""A"", Lovelace"\n1,\n'),
        ({"separator": ";"}, b'Id;Name\n2;"Ada ""A"", Lovelace"\n1;\n'),
        ({"quote": "'"}, b"Id,Name\n2,'Ada \"A\", Lovelace'\n1,\n"),
        ({"quote_all": True, "columns": {"Id": "id"}}, b'"Id"\n"2"\n"1"\n'),
        ({"windows_lines": True, "columns": {"Id": "id"}}, b"Id\r\n2\r\n1\r\n"),
        ({"byte_order_mark": True, "columns": {"Id": "id"}}, b"\xef\xbb\xbfId\n2\n1\n"),
        (
            {"null_value": "NULL", "columns": {"Name": "name"}, "separator": ";"},
            b'Name\n"Ada ""A"", Lovelace"\nNULL\n',
        ),
        ({"columns": {"Born": "born"}, "date_format": "%d/%m/%Y"}, b"Born\n10/12/1815\n\n"),
        ({"columns": {"S": "seen"}, "datetime_format": "%d.%m.%Y %H:%M"}, b"S\n24.11.2026 07:30\n\n"),
        ({"columns": {"S": "score"}, "decimal_comma": True, "separator": ";"}, b"S\n1,5\n\n"),
        ({"columns": {"Id": "id"}, "sort": ["id"]}, b"Id\n1\n2\n"),
        ({"columns": {"Id": "id"}, "sort": ["id"], "descending": True}, b"Id\n2\n1\n"),
        ({"columns": {"Initial": "LEFT(name, 1)"}}, b"Initial\nA\n\n"),
        ({"columns": {"id": "id"}, "format": "ndjson"}, b'{"id":2}\n{"id":1}\n'),
    ],
)
def test_every_option_shows_in_the_file(tmp_path: Path, options: dict[str, object], written: bytes) -> None:
    assert content(tmp_path, **options) == written


def test_compressed_files_and_parquet_are_read_back(tmp_path: Path) -> None:
    assert gzip.decompress(content(tmp_path, columns={"Id": "id"}, gzip=True)) == b"Id\n2\n1\n"
    assert (
        gzip.decompress(content(tmp_path, columns={"i": "id"}, gzip=True, format="ndjson")) == b'{"i":2}\n{"i":1}\n'
    )
    content(tmp_path, columns={}, format="parquet", file="out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet").equals(TABLE)


def test_every_column_is_written_when_none_is_named(tmp_path: Path) -> None:
    assert content(tmp_path, TABLE.select("id"), columns={}) == b"id\n2\n1\n"


@pytest.mark.parametrize(
    "formula",
    [
        "=1+1",
        "+43 1 234",
        "-2",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "\nx",
        "＝1+1",
        "＋1",
        "－1",
        "＠x",
        '=cmd|" /C calc"!A0',
    ],
)
def test_a_formula_is_made_harmless_in_texts_and_labels(tmp_path: Path, formula: str) -> None:
    table = pl.DataFrame({formula: [formula]})
    harmless = pl.read_csv(content(tmp_path, table, columns={}), infer_schema=False, has_header=False)
    assert harmless.to_series().to_list() == ["'" + formula] * 2
    as_is = pl.read_csv(
        content(tmp_path, table, columns={}, formulas="as_is"), infer_schema=False, has_header=False
    )
    assert as_is.to_series().to_list() == [formula] * 2


def test_numbers_and_plain_texts_are_left_alone(tmp_path: Path) -> None:
    table = pl.DataFrame({"n": [-5], "t": ["a=b"], "d": [date(2026, 1, 1)]})
    assert content(tmp_path, table, columns={}) == b"n,t,d\n-5,a=b,2026-01-01\n"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"columns": {"X": "nam"}}, ColumnsMissing, "Did you mean 'name'"),
        ({"columns": {"X": "LOWER("}}, ExpressionInvalid, "LOWER"),
        ({"columns": {"X": "coupon"}}, ExpressionInvalid, "nested"),
        ({"sort": ["idd"]}, ColumnsMissing, "'idd'"),
        ({"file": "../out.csv"}, OutsideStorage, "out.csv"),
        ({"file": "/tmp/out.csv"}, OutsideStorage, "out.csv"),
        ({"file": "."}, OutsideStorage, "not inside"),
        ({"file": "link/out.csv"}, OutsideStorage, "not inside"),
        ({"file": "plain/out.csv"}, StoreUnwritable, "plain"),
    ],
)
def test_what_cannot_be_written_says_why_and_leaves_nothing(
    tmp_path: Path, options: dict[str, object], error: type[CampaignError], says: str
) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    (storage / "link").symlink_to(tmp_path)
    (storage / "plain").write_text("a file")
    with pytest.raises(error, match=says):
        content(storage, **options)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "plain", "storage"]


def test_a_file_needs_a_name() -> None:
    with pytest.raises(ValidationError, match="file"):
        ExtractFileOptions(file="")


def test_the_task_runs_alone_and_logs_its_count(
    in_folder: Path, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = extract_file(TABLE, ExtractFileOptions(file="a/out.csv", columns={"Id": "id"}))
    assert told.rows() == [("a/out.csv", 7, 2)]
    assert (in_folder / "storage" / "a" / "out.csv").read_text() == "Id\n2\n1\n"
    assert "Extract file a/out.csv: standard: 1." in caplog.text
