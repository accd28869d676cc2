from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tasks.errors import (
    CampaignError,
    ColumnsMissing,
    ColumnTaken,
    FilterInvalid,
    KeyTypesDiffer,
    SourceMissing,
    SourceUnreadable,
)
from tasks.sources.files import ProfileFile
from tasks.sources.selection import AdditionalData
from tasks.tables.conditions import condition
from tasks.targeting.query import QueryOptions, birthday_on, equals, has_text, query

PROFILES = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3", "4", "1"],
        "email": ["a@x.example", None, "c@x.example", " ", "again@x.example"],
        "birth_date": [date(1990, 11, 24), date(1991, 11, 24), None, date(1992, 11, 24), date(1993, 11, 24)],
        "zip_code": ["02134", "95124", "95124", "95124", "95124"],
        "may_contact": [True, True, True, None, True],
    }
)
Write = Callable[[pl.DataFrame], Path]


@pytest.fixture(params=["parquet", "csv", "ndjson", "delta"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    def write(table: pl.DataFrame) -> Path:
        path = tmp_path / f"profiles.{request.param}"
        getattr(table, f"write_{request.param}")(path)
        return path

    return write


def selected(path: Path, where: str, **source: object) -> pl.DataFrame:
    return query.fn(QueryOptions(source=ProfileFile(path=path, **source), where=where)).collect()


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("TRUE", ["1", "2", "3", "4"]),
        (birthday_on("birth_date", date(2026, 11, 24)), ["1", "2", "4"]),
        ("may_contact", ["1", "2", "3"]),
        (has_text("email"), ["1", "3"]),
        (equals("email", "a@x.example"), ["1"]),
        (equals("email", "x' OR '1' = '1"), []),
        ("birth_date IS NULL OR zip_code = '02134'", ["1", "3"]),
        ("zip_code = '2134'", []),
    ],
)
def test_the_filter_chooses_the_profiles(written: Write, where: str, ids: list[str]) -> None:
    assert selected(written(PROFILES), where)["profile_id"].to_list() == ids


def test_zip_codes_keep_their_leading_zeros_and_dates_are_dates(written: Write) -> None:
    table = selected(written(PROFILES), "profile_id = '1'")
    assert table.row(0) == ("1", "a@x.example", date(1990, 11, 24), "02134", True)


def test_duplicates_are_removed_unless_they_are_wanted(written: Write) -> None:
    path = written(PROFILES)
    assert selected(path, "TRUE").height == 4
    everyone = query.fn(QueryOptions(source=ProfileFile(path=path), remove_duplicates=False)).collect()
    assert everyone.height == 5


def test_profiles_without_a_key_are_not_taken_for_one_another(written: Write) -> None:
    nameless = PROFILES.with_columns(profile_id=pl.lit(None, pl.String()))
    assert selected(written(nameless), "TRUE").height == 5


def test_columns_of_other_names_and_columns_that_are_not_there(written: Write) -> None:
    path = written(PROFILES.drop("may_contact").rename({"profile_id": "id", "zip_code": "postal"}))
    table = selected(
        path, "may_contact", columns={"profile_id": "id", "zip_code": "postal"}, constants={"may_contact": True}
    )
    assert set(table.columns) == set(PROFILES.columns)
    assert table["zip_code"].to_list() == ["02134", "95124", "95124", "95124"]


def test_a_constant_comes_before_a_column_of_the_file(written: Write) -> None:
    assert selected(written(PROFILES), "may_contact", constants={"may_contact": False}).is_empty()


@pytest.mark.parametrize("written", ["parquet", "delta"], indirect=True)
def test_the_filter_is_pushed_down_into_the_scan(written: Write) -> None:
    path = written(PROFILES.rename({"zip_code": "postal"}))
    source = ProfileFile(path=path, columns={"zip_code": "postal"})
    where = f"{birthday_on('birth_date', date(2026, 11, 24))} AND {has_text('zip_code')} AND profile_id LIKE '1%'"
    plan = source.select(where).explain()
    assert "FILTER" not in plan
    assert "SELECTION" in plan


@pytest.mark.parametrize(
    ("today", "born_on_february"),
    [
        (date(2027, 2, 28), [28, 29]),
        (date(2028, 2, 28), [28]),
        (date(2028, 2, 29), [29]),
        (date(2027, 3, 1), []),
        (date(2100, 2, 28), [28, 29]),
        (date(2000, 2, 28), [28]),
    ],
)
def test_february_29_is_celebrated_in_every_year(today: date, born_on_february: list[int]) -> None:
    born = pl.DataFrame({"birth_date": [date(1996, 2, 28), date(1996, 2, 29), date(1996, 3, 2)]})
    where = condition(birthday_on("birth_date", today), born.schema, activity="Query", where="it")
    found = born.filter(where)["birth_date"].dt.day().to_list()
    assert found == born_on_february


def text_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("none.csv", None, SourceMissing, "none.csv"),
        ("noise.parquet", b"not a parquet file", SourceUnreadable, "noise.parquet"),
        ("empty.csv", b"", SourceUnreadable, "empty.csv"),
        ("other.csv", b"profile_id,mail\n1,a\n", ColumnsMissing, "Did you mean|CAMPAIGN_PROFILES__COLUMNS"),
        (
            "dates.csv",
            b"profile_id,email,birth_date\n1,a,\n1,a,05/06/1990\n",
            SourceUnreadable,
            "row 2 .*'birth_date'",
        ),
        ("days.csv", b"profile_id,email,birth_date\n1,a,1990-02-30\n", SourceUnreadable, "row 1 .*'birth_date'"),
        (
            "yes.csv",
            b"profile_id,email,birth_date,may_contact\n1,a,,yes\n",
            SourceUnreadable,
            "row 1 .*'may_contact'",
        ),
        ("words.ndjson", b"not json\n", SourceUnreadable, "words.ndjson"),
        (
            "dates.ndjson",
            b'{"profile_id": "1", "email": "a", "birth_date": "05/06/1990"}\n',
            SourceUnreadable,
            "row 1 .*'birth_date'",
        ),
        ("latin.csv", "profile_id,email,birth_date\n1,é,\n".encode("latin-1"), SourceUnreadable, "latin.csv"),
    ],
)
def test_a_bad_file_is_named_with_the_remedy(
    tmp_path: Path, name: str, content: bytes | None, error: type[CampaignError], says: str
) -> None:
    path = tmp_path / name if content is None else text_file(tmp_path, name, content)
    with pytest.raises(error, match=says):
        selected(path, "TRIM(email) <> '' AND birth_date IS NOT NULL")


PURCHASES = pl.DataFrame(
    {"who": ["1", "3", "1", "9"], "day": [date(2026, 11, day) for day in (3, 4, 5, 6)], "amount": [5, 7, 6, 1]}
)


def test_simple_fields_are_computed_for_each_profile(written: Write) -> None:
    options = QueryOptions(
        source=ProfileFile(path=written(PROFILES)), fields={"region": "LEFT(zip_code, 2)", "age_year": "2026"}
    )
    assert query.fn(options).collect()["region"].to_list() == ["02", "95", "95", "95"]
    with pytest.raises(ColumnTaken, match="'email'"):
        query.fn(options.model_copy(update={"fields": {"email": "LOWER(email)"}})).collect()


def test_the_last_transaction_and_the_total_are_added(written: Write, tmp_path: Path) -> None:
    purchases = tmp_path / "purchases.csv"
    PURCHASES.write_csv(purchases)
    source = ProfileFile(path=purchases, types={"day": "date", "amount": "integer"})
    linked = {"source": source, "on": {"profile_id": "who"}, "cardinality": "many"}
    options = QueryOptions(
        source=ProfileFile(path=written(PROFILES)),
        additional_data=[
            AdditionalData(name="last", order_by=["day"], descending=True, lines=1, columns=["amount"], **linked),
            AdditionalData(name="bought", aggregates={"total": "SUM(amount)"}, where="amount < 7", **linked),
        ],
    )
    table = query.fn(options).collect()
    assert table["last"].to_list() == [{"amount": 6}, None, {"amount": 7}, None]
    assert table["bought"].to_list() == [{"total": 11}, {"total": None}, {"total": None}, {"total": None}]


def test_additional_data_that_cannot_be_linked_is_named(written: Write) -> None:
    source = ProfileFile(path=written(PROFILES))
    for changed, error in (
        ({"on": {"profile_id": "nobody"}}, ColumnsMissing),
        ({"on": {"nobody": "profile_id"}}, ColumnsMissing),
        ({"on": {"birth_date": "profile_id"}}, KeyTypesDiffer),
        ({"where": "nothing = 1"}, ColumnsMissing),
    ):
        additional = AdditionalData(
            **{"name": "more", "source": source, "on": {"profile_id": "profile_id"}, **changed}
        )
        with pytest.raises(error, match="more"):
            query.fn(QueryOptions(source=source, additional_data=[additional])).collect()


def test_a_spoiled_delta_table_is_named(tmp_path: Path) -> None:
    log = tmp_path / "profiles.delta" / "_delta_log"
    log.mkdir(parents=True)
    (log / "00000000000000000000.json").write_text("noise")
    with pytest.raises(SourceUnreadable, match=r"profiles\.delta"):
        selected(log.parent, "TRUE")


def test_a_mapped_column_that_is_not_in_the_file_is_named(written: Write) -> None:
    with pytest.raises(ColumnsMissing, match="'postal_code'"):
        selected(written(PROFILES), "TRUE", columns={"zip_code": "postal_code"})


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ("birth_date IS", FilterInvalid, "birth_date IS"),
        ("zip_cod = '1'", ColumnsMissing, "Did you mean 'zip_code'"),
        ("zip_code", FilterInvalid, "zip_code"),
        ("zip_code > 5", FilterInvalid, "zip_code > 5"),
    ],
)
def test_a_filter_that_cannot_be_run_is_shown(
    written: Write, where: str, error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        selected(written(PROFILES), where)


def test_the_task_runs_alone_and_logs_its_count(
    written: Write, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = query(QueryOptions(source=ProfileFile(path=written(PROFILES)), where="may_contact"))
    assert table.height == 3
    assert "Query: standard: 3, rejects: 0." in caplog.text


@pytest.mark.parametrize("path", ["profiles", "profiles/*/*.parquet", "profiles/**/*.parquet"])
def test_parquet_in_partitions_is_one_source(in_folder: Path, path: str) -> None:
    for year in (2025, 2026):
        for number in range(2):
            file = in_folder / "profiles" / f"year={year}" / f"{number}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pl.DataFrame({"profile_id": [f"{year}-{number}"], "visits": [number]}).write_parquet(file)
    source = ProfileFile(path=path, types={})
    everybody = query.fn(QueryOptions(source=source)).collect()
    assert everybody["profile_id"].to_list() == ["2025-0", "2025-1", "2026-0", "2026-1"]
    if path == "profiles":
        assert (
            query.fn(QueryOptions(source=source, where="year = 2026 AND visits = 1")).collect()["year"].item()
            == 2026
        )


@pytest.mark.parametrize("path", ["empty", "none/*.parquet"])
def test_a_folder_or_pattern_without_files_is_told(in_folder: Path, path: str) -> None:
    (in_folder / "empty").mkdir()
    with pytest.raises(SourceMissing, match=path.partition("/")[0]):
        query.fn(QueryOptions(source=ProfileFile(path=path, types={}))).collect()
