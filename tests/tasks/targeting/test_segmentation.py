from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from tasks.errors import (
    CampaignError,
    ColumnsMissing,
    ColumnTaken,
    ExpressionInvalid,
    FilterInvalid,
    PopulationUnknown,
)
from tasks.runs.results import ArrowSerializer
from tasks.targeting.segmentation import SegmentationOptions, Segmented, segmentation

PEOPLE = pl.DataFrame(
    {
        "id": range(8),
        "age": [15, 22, 31, 40, 55, None, 22, 70],
        "state": ["CA", "NY", "CA", "CA", "NY", "CA", "NY", None],
    }
)


def divided(*segments: dict[str, object], **options: object) -> Segmented:
    return segmentation.fn(PEOPLE, SegmentationOptions(segments=list(segments), **{"key": "id", **options}))


def ids(outbound: Segmented, code: str) -> list[int]:
    return outbound.segment(code)["id"].to_list()


YOUNG = {"code": "young", "where": "age < 30"}
CALIFORNIA = {"code": "ca", "where": "state = 'CA'"}


def test_a_member_falls_into_the_first_segment_that_takes_it() -> None:
    outbound = divided(YOUNG, CALIFORNIA)
    assert ids(outbound, "young") == [0, 1, 6]
    assert ids(outbound, "ca") == [2, 3, 5]
    assert outbound.complement["id"].to_list() == [4, 7]
    assert outbound.standard["segment_code"].to_list() == ["young"] * 3 + ["ca"] * 3
    assert outbound.counts.rows() == [("young", "", False, 3), ("ca", "", False, 3)]


def test_overlap_puts_a_member_into_every_segment_that_takes_it() -> None:
    outbound = divided(YOUNG, CALIFORNIA, overlap=True)
    assert ids(outbound, "ca") == [0, 2, 3, 5]
    assert outbound.complement["id"].to_list() == [4, 7]


def test_an_excluded_segment_leaves_the_population() -> None:
    outbound = divided({**YOUNG, "exclude": True}, CALIFORNIA)
    assert outbound.excluded["id"].to_list() == ids(outbound, "young") == [0, 1, 6]
    assert outbound.standard["id"].to_list() == [2, 3, 5]
    assert outbound.complement["id"].to_list() == [4, 7]


def test_the_code_column_can_be_named() -> None:
    outbound = divided(YOUNG, code_column="cell")
    assert outbound.standard.columns == ["id", "age", "state", "cell"]
    assert ids(outbound, "young") == [0, 1, 6]


@pytest.mark.parametrize(
    ("limit", "taken"),
    [
        ({"maximum": 3, "order_by": "age"}, [0, 1, 6]),
        ({"maximum": 2, "order_by": "age", "descending": True}, [4, 7]),
        ({"maximum": 7, "order_by": "age"}, [0, 1, 2, 3, 4, 6, 7]),
        ({"percentage": 25, "order_by": "id"}, [0, 1]),
        ({"percentage": 31.25, "order_by": "id"}, [0, 1, 2]),
        ({"percentage": 0, "order_by": "id"}, []),
        ({"percentage": 100}, list(range(8))),
        ({"maximum": 1, "per": "state", "order_by": "-id"}, [5, 6, 7]),
        ({"percentage": 50, "per": "state", "order_by": "id"}, [0, 1, 2, 4, 7]),
        ({"maximum": 1, "per": "state", "maximum_of_value": {"CA": 2, "NY": 0}, "order_by": "id"}, [0, 2, 7]),
        ({"per": "state", "maximum_of_value": {"CA": 1}, "order_by": "id"}, [0, 1, 4, 6, 7]),
    ],
)
def test_a_limit_takes_the_first_of_the_order(limit: dict[str, object], taken: list[int]) -> None:
    outbound = divided({"code": "some", "limit": limit}, {"code": "others"})
    assert ids(outbound, "some") == taken
    assert ids(outbound, "others") == [n for n in range(8) if n not in taken]


def test_a_random_sample_is_of_the_size_and_repeats_with_its_seed() -> None:
    crowd = pl.DataFrame({"id": range(1000)})

    def sample(seed: int) -> list[int]:
        options = SegmentationOptions(segments=[{"code": "test", "limit": {"percentage": 10}}], key="id", seed=seed)
        return segmentation.fn(crowd, options).segment("test")["id"].to_list()

    assert len(sample(1)) == 100
    assert sample(1) == sample(1) == sorted(sample(1))
    assert sample(1) != sample(2)
    assert sample(1) != list(range(100))


@pytest.mark.parametrize("limit", [{"maximum": 100}, {"percentage": 10}, {"maximum": 30, "per": "town"}])
def test_one_who_leaves_changes_nobody_elses_lot(limit: dict[str, object]) -> None:
    crowd = pl.DataFrame({"profile_id": [f"p{number}" for number in range(1000)]}).with_columns(
        town=pl.int_range(pl.len()) % 3
    )

    def sample(people: pl.DataFrame, *before: dict[str, object]) -> list[str]:
        options = SegmentationOptions(segments=[*before, {"code": "test", "limit": limit}], overlap=True)
        return segmentation.fn(people, options).segment("test")["profile_id"].to_list()

    drawn = sample(crowd)
    assert len(drawn) in {90, 100}
    for leaver in (drawn[0], "p0", "p999"):
        left = sample(crowd.filter(pl.col("profile_id") != leaver))
        assert set(drawn) - {leaver} <= set(left)
    assert sorted(sample(crowd.reverse())) == sorted(drawn)
    assert sample(crowd, {"code": "another"}) == drawn


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(0, 10), st.booleans())
def test_nobody_is_lost_and_nobody_is_doubled(numbers: list[int], maximum: int, exclude: bool) -> None:
    people = pl.DataFrame({"n": numbers}, schema={"n": pl.Int64}).with_row_index("id")
    options = SegmentationOptions(
        segments=[
            {"code": "low", "where": "n < 7", "limit": {"maximum": maximum}, "exclude": exclude},
            {"code": "even", "where": "n % 2 = 0", "limit": {"percentage": 50}},
        ],
        key="id",
    )
    outbound = segmentation.fn(people, options)
    placed = pl.concat(table.select("id") for table in (outbound.standard, outbound.complement, outbound.excluded))
    assert sorted(placed["id"]) == list(range(len(numbers)))
    assert outbound.segment("low").height == min(maximum, sum(n < 7 for n in numbers))


@pytest.mark.parametrize(
    ("segment", "options", "error", "says"),
    [
        ({"code": "x", "where": "agee < 3"}, {}, ColumnsMissing, "segment 'x'.*Did you mean 'age'"),
        ({"code": "x", "where": "age"}, {}, FilterInvalid, "age"),
        ({"code": "x", "limit": {"maximum": 1, "per": "town"}}, {}, ColumnsMissing, "'town'"),
        ({"code": "x", "limit": {"maximum": 1, "order_by": "age +"}}, {}, ExpressionInvalid, r"age \+"),
        ({"code": "x", "limit": {"maximum": 1}}, {"key": "profile_id"}, ColumnsMissing, "drawn by the key"),
        ({"code": "x"}, {"code_column": "age"}, ColumnTaken, "'age'"),
    ],
)
def test_a_segment_that_cannot_be_made_is_named(
    segment: dict[str, object], options: dict[str, object], error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        divided(segment, **options)


@pytest.mark.parametrize(
    ("segments", "says"),
    [
        ([YOUNG, YOUNG], "codes must differ: 'young'"),
        ([{"code": "x", "limit": {"maximum": 1, "percentage": 5}}], "cannot both be given"),
        ([{"code": "x", "limit": {"maximum_of_value": {"CA": 1}}}], "need a grouping column"),
    ],
)
def test_segments_that_contradict_each_other_are_refused(segments: list[dict[str, object]], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SegmentationOptions(segments=segments)


def test_a_segment_that_was_not_asked_for_is_an_error() -> None:
    with pytest.raises(PopulationUnknown, match="'yuong'"):
        divided(YOUNG).segment("yuong")


def test_the_task_runs_alone_logs_its_counts_and_can_be_stored(
    result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbound = segmentation(PEOPLE, SegmentationOptions(segments=[YOUNG, CALIFORNIA]))
    assert "complement: 2, excluded: 0" in caplog.text
    again = ArrowSerializer().loads(ArrowSerializer().dumps(outbound))
    assert_frame_equal(again.segment("ca"), outbound.segment("ca"))
