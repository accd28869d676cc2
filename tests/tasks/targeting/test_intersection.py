from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import PopulationUnknown
from tasks.targeting.intersection import IntersectionOptions, intersection

VIP = pl.DataFrame({"profile_id": ["3", "1", "2"], "email": ["c", "a", "b"], "tier": ["x", "y", "z"]})
NEW = pl.DataFrame({"profile_id": ["2", "3", "4"], "email": ["B", "c", "d"], "since": [7, 8, 9]})
INBOUND = {"vip": VIP, "new": NEW}


@pytest.mark.parametrize(
    ("options", "common", "others"),
    [
        ({}, [("3", "c", "x", 8), ("2", "b", "z", 7)], {"1", "4"}),
        ({"primary": "new"}, [("2", "B", 7, "z"), ("3", "c", 8, "x")], {"1", "4"}),
        ({"common_additional_data_only": True}, [("3", "c"), ("2", "b")], {"1", "4"}),
        ({"reconcile_on": "shared_columns"}, [("3", "c", "x", 8)], {"1", "2", "4"}),
        ({"reconcile_on": "chosen_columns", "columns": ["email"]}, [("3", "c", "x", 8)], {"1", "2", "4"}),
        ({"maximum_size": 1}, [("3", "c", "x", 8)], {"1", "2", "4"}),
    ],
)
def test_what_all_have_is_kept_and_the_rest_is_the_complement(
    options: dict[str, object], common: list[tuple[object, ...]], others: set[str]
) -> None:
    outbound = intersection.fn(INBOUND, IntersectionOptions(**options))
    assert outbound.standard.rows() == common
    assert set(outbound.complement["profile_id"]) == others


def test_a_primary_set_that_is_not_inbound_is_named() -> None:
    with pytest.raises(PopulationUnknown, match="Intersection has no inbound population 'old'"):
        intersection.fn(INBOUND, IntersectionOptions(primary="old"))


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=4))
def test_the_intersection_of_keys_is_that_of_sets(populations: list[list[int]]) -> None:
    inbound = {
        str(n): pl.DataFrame({"profile_id": ids}, schema={"profile_id": pl.Int64})
        for n, ids in enumerate(populations)
    }
    outbound = intersection.fn(inbound, IntersectionOptions())
    assert set(outbound.standard["profile_id"]) == set.intersection(*map(set, populations))
    assert set(outbound.complement["profile_id"]) == set().union(*populations) - set(
        outbound.standard["profile_id"]
    )


def test_the_task_runs_alone_and_logs_its_counts(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert intersection(INBOUND).standard.height == 2
    assert "Intersection: standard: 2, complement: 2." in caplog.text
