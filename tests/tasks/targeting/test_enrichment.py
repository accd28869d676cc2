from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tasks.errors import CampaignError, CardinalityViolated, ColumnsMissing, ColumnTaken, KeyTypesDiffer
from tasks.targeting.enrichment import EnrichmentOptions, enrich, enrichment

PRIMARY = pl.DataFrame({"id": [1, 2, 3, 4], "zip_code": ["b", "a", None, "b"]})
COUPONS = pl.DataFrame({"zip": ["a", "b", None], "code": ["A1", "B1", "N1"]})
ON = {"zip_code": "zip"}


def options(**changed: object) -> EnrichmentOptions:
    return EnrichmentOptions(**{"name": "coupons", "on": ON, **changed})


def test_each_row_gets_its_one_row_or_null_in_its_own_order() -> None:
    enriched = enrich(PRIMARY, COUPONS, options())
    assert_frame_equal(enriched.drop("coupons"), PRIMARY)
    b, a = {"zip": "b", "code": "B1"}, {"zip": "a", "code": "A1"}
    assert enriched["coupons"].to_list() == [b, a, None, b]


def test_no_content_at_all_leaves_every_row() -> None:
    assert enrich(PRIMARY, COUPONS.clear(), options())["coupons"].to_list() == [None] * 4


def test_content_may_have_columns_named_as_the_primary_set() -> None:
    enriched = enrich(PRIMARY, COUPONS.rename({"zip": "zip_code"}), options(on={"zip_code": "zip_code"}))
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
        enrich(primary, additional, options(**changed))


def test_the_task_runs_alone_and_logs_its_counts(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert enrichment(PRIMARY, COUPONS, options()).height == 4
    assert "3 of 4 rows have 'coupons'" in caplog.text
