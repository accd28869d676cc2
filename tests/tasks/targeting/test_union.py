from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import CampaignError, ColumnsMissing, ColumnTypesDiffer, PopulationUnknown
from tasks.targeting.union import UnionOptions, union

VIP = pl.DataFrame({"profile_id": ["1", "2"], "email": ["one@v", None], "tier": ["gold", "silver"]})
NEW = pl.DataFrame({"profile_id": ["2", "3", "3"], "email": ["two@n", "three@n", "again@n"], "since": [7, 8, 9]})
INBOUND = {"vip": VIP, "new": NEW}


def test_each_member_once_with_the_first_value_that_its_populations_have() -> None:
    outbound = union.fn(INBOUND, UnionOptions())
    assert outbound.standard.rows() == [
        ("1", "one@v", "gold", None),
        ("2", None, "silver", 7),
        ("3", "three@n", None, 8),
    ]
    assert outbound.standard.columns == ["profile_id", "email", "tier", "since"]
    assert outbound.complement.is_empty()


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (
            {"primary": "new"},
            [("2", "two@n", 7, "silver"), ("3", "three@n", 8, None), ("1", "one@v", None, "gold")],
        ),
        ({"common_additional_data_only": True}, [("1", "one@v"), ("2", None), ("3", "three@n")]),
        ({"maximum_size": 1}, [("1", "one@v", "gold", None)]),
        (
            {"reconcile_on": "shared_columns", "common_additional_data_only": True},
            [("1", "one@v"), ("2", None), ("2", "two@n"), ("3", "three@n"), ("3", "again@n")],
        ),
        (
            {"reconcile_on": "chosen_columns", "columns": ["email"], "common_additional_data_only": True},
            [("1", "one@v"), ("2", None), ("2", "two@n"), ("3", "three@n"), ("3", "again@n")],
        ),
        ({"key": ["email"], "maximum_size": 5, "common_additional_data_only": True}, 5),
    ],
)
def test_every_option_does_what_it_says(options: dict[str, object], rows: list[tuple[object, ...]] | int) -> None:
    standard = union.fn(INBOUND, UnionOptions(**options)).standard
    assert (standard.height if isinstance(rows, int) else standard.rows()) == rows


def test_who_is_over_the_maximum_size_is_the_complement() -> None:
    outbound = union.fn(INBOUND, UnionOptions(maximum_size=2))
    assert (outbound.standard.height, outbound.complement["profile_id"].to_list()) == (2, ["3"])


def test_equal_rows_with_nulls_are_one_row_and_null_keys_are_nobody() -> None:
    nobody = pl.DataFrame({"profile_id": [None, None]}, schema={"profile_id": pl.String()})
    twice = {"a": nobody, "b": nobody}
    assert union.fn(twice, UnionOptions(reconcile_on="shared_columns")).standard.height == 1
    assert union.fn(twice, UnionOptions()).standard.height == 4


@pytest.mark.parametrize(
    ("inbound", "options", "error", "says"),
    [
        (INBOUND, {"primary": "old"}, PopulationUnknown, "'old', only 'vip', 'new'"),
        ({}, {}, PopulationUnknown, "only nothing"),
        (INBOUND, {"key": ["id"]}, ColumnsMissing, "'id'"),
        (
            {"vip": VIP.select("tier"), "new": NEW.select("since")},
            {"reconcile_on": "shared_columns"},
            ColumnsMissing,
            "vip: 'tier'; new: 'since'",
        ),
        (
            {"vip": VIP, "new": NEW.with_columns(email=pl.lit(1))},
            {},
            ColumnTypesDiffer,
            "String in 'vip', Int32 in 'new'",
        ),
    ],
)
def test_populations_that_cannot_be_brought_together_are_named(
    inbound: dict[str, pl.DataFrame], options: dict[str, object], error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        union.fn(inbound, UnionOptions(**options))


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=4))
def test_the_union_of_keys_is_that_of_sets(populations: list[list[int]]) -> None:
    inbound = {
        str(n): pl.DataFrame({"profile_id": ids}, schema={"profile_id": pl.Int64})
        for n, ids in enumerate(populations)
    }
    united = union.fn(inbound, UnionOptions()).standard["profile_id"].to_list()
    assert len(united) == len(set(united))
    assert set(united) == set().union(*populations)


def test_the_task_runs_alone_and_logs_its_counts(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert union(INBOUND).standard.height == 3
    assert "Union: standard: 3" in caplog.text
