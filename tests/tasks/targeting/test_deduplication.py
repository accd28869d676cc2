from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from tasks.errors import ColumnsMissing, ExpressionInvalid
from tasks.targeting.deduplication import DeduplicationOptions, deduplication

TABLE = pl.DataFrame({"n": [0, 1, 2, 3, 4, 5], "zip": ["a", "b", "a", None, None, "a"], "state": list("xxxxxy")})


@pytest.mark.parametrize(
    ("columns", "keep", "kept"),
    [
        (["zip"], 1, [0, 1, 3]),
        (["zip"], 2, [0, 1, 2, 3, 4]),
        (["zip"], 0, [0, 1, 2, 3, 4, 5]),
        (["zip", "state"], 1, [0, 1, 3, 5]),
        (["n"], 1, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_the_first_of_each_group_are_kept_and_nothing_is_lost(
    columns: list[str], keep: int, kept: list[int]
) -> None:
    outbound = deduplication.fn(TABLE, DeduplicationOptions(columns=columns, keep=keep))
    assert outbound.standard["n"].to_list() == kept
    assert outbound.complement["n"].to_list() == [n for n in range(6) if n not in kept]


LACKING = pl.DataFrame(
    {
        "n": range(7),
        "email": ["a@x", None, "", " ", None, "a@x", "b@x"],
        "score": [1.0, 1.0, float("nan"), None, float("nan"), 1.0, 2.0],
    }
)


@pytest.mark.parametrize(
    ("column", "missing_keys", "kept"),
    [
        ("email", "one_group", [0, 1, 2, 3, 6]),
        ("email", "keep", [0, 1, 2, 3, 4, 6]),
        ("email", "leave_out", [0, 6]),
        ("score", "one_group", [0, 2, 3, 6]),
        ("score", "keep", [0, 2, 3, 4, 6]),
        ("score", "leave_out", [0, 6]),
    ],
)
def test_what_becomes_of_rows_that_lack_a_key_can_be_chosen(
    column: str, missing_keys: str, kept: list[int]
) -> None:
    outbound = deduplication.fn(LACKING, DeduplicationOptions(columns=[column], missing_keys=missing_keys))
    assert outbound.standard["n"].to_list() == kept
    assert outbound.complement["n"].to_list() == [n for n in range(7) if n not in kept]


@pytest.mark.parametrize(("which", "kept"), [("largest", [6]), ("smallest", [0])])
def test_not_a_number_is_neither_the_largest_nor_the_smallest(which: str, kept: list[int]) -> None:
    same = DeduplicationOptions(expressions=["1 + 0 * n"], which=which, by="score")
    assert deduplication.fn(LACKING, same).standard["n"].to_list() == kept


PEOPLE = pl.DataFrame(
    {
        "n": [0, 1, 2, 3, 4],
        "email": ["a@x", "A@X", "b@x", "a@x ", "b@x"],
        "source": ["web", "store", None, "crm", "web"],
        "phone": [" ", "1", None, None, None],
        "seen": [3, None, 5, 9, 5],
    }
)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 2]),
        ({"expressions": ["LOWER(email)"]}, [0, 2, 3]),
        ({"which": "preferred_values", "by": "source", "preferred_values": ["crm", "store"]}, [2, 3]),
        ({"which": "preferred_values", "by": "source", "preferred_values": ["store", "web"]}, [1, 4]),
        ({"which": "preferred_values", "by": "seen", "preferred_values": ["9", "5"]}, [2, 3]),
        ({"which": "non_empty", "by": "phone"}, [1, 2]),
        ({"which": "smallest", "by": "seen"}, [0, 2]),
        ({"which": "largest", "by": "seen"}, [2, 3]),
        ({"which": "largest", "by": "seen", "keep": 2}, [0, 2, 3, 4]),
        ({"which": "smallest", "by": "0 - n"}, [3, 4]),
    ],
)
def test_which_one_is_kept_can_be_chosen(options: dict[str, object], kept: list[int]) -> None:
    by_address = {"expressions": ["TRIM(LOWER(email))"], **options}
    outbound = deduplication.fn(PEOPLE, DeduplicationOptions(**by_address))
    assert outbound.standard["n"].to_list() == kept
    assert outbound.complement["n"].to_list() == [n for n in range(5) if n not in kept]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "at least one column or expression"),
        ({"columns": ["n"], "which": "largest"}, "'by' goes with"),
        ({"columns": ["n"], "by": "n"}, "'by' goes with"),
        ({"columns": ["n"], "which": "preferred_values", "by": "n"}, "must be given there"),
        ({"columns": ["n"], "which": "largest", "by": "n", "preferred_values": ["1"]}, "must be given there"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DeduplicationOptions(**options)


def test_an_expression_that_cannot_be_used_is_shown() -> None:
    with pytest.raises(ExpressionInvalid, match="LOWER"):
        deduplication.fn(TABLE, DeduplicationOptions(expressions=["LOWER(zip"]))


def test_an_empty_table_stays_empty() -> None:
    outbound = deduplication.fn(TABLE.clear(), DeduplicationOptions(columns=["zip"]))
    assert outbound.standard.is_empty()
    assert outbound.standard.schema == TABLE.schema


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ColumnsMissing, match="Did you mean 'zip'"):
        deduplication.fn(TABLE, DeduplicationOptions(columns=["zipp"]))


def test_the_task_runs_alone_and_logs_its_counts(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert deduplication(TABLE, DeduplicationOptions(columns=["zip"])).standard.height == 3
    assert "Deduplication: standard: 3, complement: 3." in caplog.text
    assert "2 rows lack a key; missing_keys is 'one_group'" in caplog.text
