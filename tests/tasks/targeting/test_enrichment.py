from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from tasks.errors import (
    CampaignError,
    CardinalityViolated,
    ColumnsMissing,
    ColumnTaken,
    ExpressionInvalid,
    FilterInvalid,
    KeyTypesDiffer,
)
from tasks.targeting.enrichment import EnrichmentOptions, enrichment

PRIMARY = pl.DataFrame({"id": [1, 2, 3, 4], "zip_code": ["b", "a", None, "b"]})
COUPONS = pl.DataFrame({"zip": ["a", "b", None], "code": ["A1", "B1", "N1"]})
ON = {"zip_code": "zip"}
PURCHASES = pl.DataFrame(
    {"who": [1, 1, 2, 1, None], "day": [3, 9, 5, 6, 7], "amount": [10, None, 5, 20, 99], "shop": list("xyxyx")}
)


def options(**changed: object) -> EnrichmentOptions:
    return EnrichmentOptions(**{"name": "coupons", "on": ON, **changed})


def test_each_row_gets_its_one_row_or_null_in_its_own_order() -> None:
    enriched = enrichment.fn(PRIMARY, COUPONS, options())
    assert_frame_equal(enriched.drop("coupons"), PRIMARY)
    b, a = {"zip": "b", "code": "B1"}, {"zip": "a", "code": "A1"}
    assert enriched["coupons"].to_list() == [b, a, None, b]


def test_no_content_at_all_leaves_every_row() -> None:
    assert enrichment.fn(PRIMARY, COUPONS.clear(), options())["coupons"].to_list() == [None] * 4


def test_content_may_have_columns_named_as_the_primary_set() -> None:
    enriched = enrichment.fn(PRIMARY, COUPONS.rename({"zip": "zip_code"}), options(on={"zip_code": "zip_code"}))
    assert enriched.columns == ["id", "zip_code", "coupons"]


@pytest.mark.parametrize(
    ("primary", "additional", "changed", "error", "says"),
    [
        (PRIMARY, pl.concat([COUPONS, COUPONS]), {}, CardinalityViolated, r"'coupons' has 2 rows for zip 'a'"),
        (
            PRIMARY,
            COUPONS,
            {"cardinality": "exactly_one"},
            CardinalityViolated,
            "no rows for the zip_code of 1 rows",
        ),
        (PRIMARY, COUPONS, {"on": {"zip_cod": "zip"}}, ColumnsMissing, "Did you mean 'zip_code'"),
        (PRIMARY, COUPONS, {"on": {"zip_code": "zipp"}}, ColumnsMissing, "Did you mean 'zip'"),
        (PRIMARY, COUPONS, {"name": "id"}, ColumnTaken, "'id'"),
        (PRIMARY, COUPONS, {"on": {"id": "zip"}}, KeyTypesDiffer, "'id' is Int64 and 'zip' is String"),
        (PRIMARY, COUPONS, {"where": "kode = 'A1'"}, ColumnsMissing, "Did you mean 'code'"),
        (PRIMARY, COUPONS, {"where": "code"}, FilterInvalid, "code"),
        (PRIMARY, COUPONS, {"columns": ["kode"]}, ColumnsMissing, "Did you mean 'code'"),
        (PRIMARY, COUPONS, {"cardinality": "many", "order_by": ["code +"]}, ExpressionInvalid, "code +"),
        (PRIMARY, COUPONS, {"cardinality": "many", "aggregates": {"c": "code"}}, ExpressionInvalid, "one value"),
    ],
)
def test_a_relation_that_does_not_hold_is_an_error_that_names_the_key(
    primary: pl.DataFrame,
    additional: pl.DataFrame,
    changed: dict[str, object],
    error: type[CampaignError],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        enrichment.fn(primary, additional, options(**changed))


def purchases(**changed: object) -> list[object]:
    relation = options(**{"name": "purchases", "on": {"id": "who"}, "cardinality": "many", **changed})
    return enrichment.fn(PRIMARY, PURCHASES, relation)["purchases"].to_list()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"columns": ["day"]}, [[{"day": 3}, {"day": 9}, {"day": 6}], [{"day": 5}], [], []]),
        (
            {"columns": ["day"], "order_by": ["day"], "descending": True, "lines": 2},
            [[{"day": 9}, {"day": 6}], [{"day": 5}], [], []],
        ),
        (
            {"columns": ["day"], "order_by": ["day"], "descending": True, "lines": 1},
            [{"day": 9}, {"day": 5}, None, None],
        ),
        ({"columns": ["day"], "order_by": ["amount"], "lines": 1}, [{"day": 3}, {"day": 5}, None, None]),
        ({"columns": ["day"], "where": "shop = 'y'"}, [[{"day": 9}, {"day": 6}], [], [], []]),
        (
            {"aggregates": {"n": "COUNT(*)", "total": "SUM(amount)", "last": "MAX(day)"}},
            [
                {"n": 3, "total": 30, "last": 9},
                {"n": 1, "total": 5, "last": 5},
                {"n": 0, "total": None, "last": None},
                {"n": 0, "total": None, "last": None},
            ],
        ),
        ({"where": "amount > 10", "aggregates": {"n": "COUNT(*)"}}, [{"n": 1}, {"n": 0}, {"n": 0}, {"n": 0}]),
    ],
)
def test_many_linked_rows_become_a_collection_its_first_row_or_aggregates(
    changed: dict[str, object], expected: list[object]
) -> None:
    assert purchases(**changed) == expected


def test_a_filter_can_make_a_relation_unique() -> None:
    twice = pl.concat([COUPONS, COUPONS.with_columns(code=pl.lit("old"))])
    assert enrichment.fn(PRIMARY, twice, options(where="code <> 'old'"))["coupons"].null_count() == 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"lines": 1}, "'lines' only goes with the cardinality many"),
        ({"cardinality": "many", "aggregates": {"n": "COUNT(*)"}, "lines": 1}, "cannot both be given"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changed: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        options(**changed)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=12),
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 5)), st.integers(-9, 9)), max_size=20),
)
def test_aggregates_are_those_of_a_plain_reading(ids: list[int | None], rows: list[tuple[int | None, int]]) -> None:
    primary = pl.DataFrame({"id": ids}, schema={"id": pl.Int64})
    additional = pl.DataFrame(rows, schema={"who": pl.Int64, "amount": pl.Int64}, orient="row")
    relation = options(on={"id": "who"}, cardinality="many", aggregates={"n": "COUNT(*)", "total": "SUM(amount)"})
    linked = [[amount for who, amount in rows if who is not None and who == one] for one in ids]
    assert enrichment.fn(primary, additional, relation)["coupons"].to_list() == [
        {"n": len(amounts), "total": sum(amounts) if amounts else None} for amounts in linked
    ]


def test_the_task_runs_alone_and_logs_its_counts(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert enrichment(PRIMARY, COUPONS, options()).height == 4
    assert "standard: 4, standard, with coupons: 3." in caplog.text
    many = options(name="purchases", on={"id": "who"}, cardinality="many", aggregates={"n": "COUNT(*)"})
    assert enrichment(PRIMARY, PURCHASES, many).height == 4
    assert "standard: 4, standard, with purchases: 4" in caplog.text
