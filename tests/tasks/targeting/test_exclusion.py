from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from prefect import flow

from tasks.errors import CampaignError, ColumnsMissing, KeyTypesDiffer, PopulationUnknown
from tasks.runs.engine import ENGINE
from tasks.sources.files import ProfileFile
from tasks.targeting.exclusion import ExclusionOptions, exclusion
from tasks.targeting.query import QueryOptions, query

TARGET = pl.DataFrame({"profile_id": ["4", "1", None, "2"], "email": ["d", "a", "n", None]})
STAFF = pl.DataFrame({"profile_id": ["1", None], "email": ["x", None]})
BOUNCED = pl.DataFrame({"address": ["d", None]})


@pytest.mark.parametrize(
    ("others", "options", "kept"),
    [
        ({"staff": STAFF}, {}, ["4", None, "2"]),
        ({}, {}, ["4", "1", None, "2"]),
        ({"bounced": BOUNCED}, {"rules": {"bounced": {"email": "address"}}}, ["1", None, "2"]),
        ({"staff": STAFF, "bounced": BOUNCED}, {"rules": {"bounced": {"email": "address"}}}, [None, "2"]),
        ({"staff": STAFF}, {"reconcile_on": "chosen_columns", "columns": ["email"]}, ["4", "1", None, "2"]),
        ({"same": TARGET.tail(2)}, {"reconcile_on": "shared_columns"}, ["4", "1"]),
        ({"staff": STAFF.clear()}, {}, ["4", "1", None, "2"]),
    ],
)
def test_the_others_members_are_taken_out_and_kept_as_the_complement(
    others: dict[str, pl.DataFrame], options: dict[str, object], kept: list[str | None]
) -> None:
    outbound = exclusion.fn({"target": TARGET, **others}, ExclusionOptions(**options))
    assert outbound.standard["profile_id"].to_list() == kept
    assert_frame_equal(pl.concat([outbound.standard, outbound.complement]), TARGET, check_row_order=False)


def test_the_primary_set_may_be_any_of_them() -> None:
    outbound = exclusion.fn({"staff": STAFF, "target": TARGET}, ExclusionOptions(primary="target"))
    assert outbound.complement["profile_id"].to_list() == ["1"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"rules": {"bounced": {"email": "adress"}}}, ColumnsMissing, "Did you mean 'address'"),
        ({"rules": {"bounced": {"mail": "address"}}}, ColumnsMissing, "'mail'"),
        ({"rules": {"others": {"email": "address"}}}, PopulationUnknown, "'others'"),
        ({"rules": {"bounced": {"n": "address"}}}, KeyTypesDiffer, "'n' is Int64 and 'address' is String"),
        ({}, ColumnsMissing, "'bounced' has only 'address'"),
    ],
)
def test_a_rule_that_cannot_hold_is_named(
    options: dict[str, object], error: type[CampaignError], says: str
) -> None:
    target = TARGET.with_columns(n=pl.int_range(4, dtype=pl.Int64))
    with pytest.raises(error, match=says):
        exclusion.fn({"target": target, "bounced": BOUNCED}, ExclusionOptions(**options))


def test_the_task_runs_alone_and_logs_its_counts(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert exclusion({"target": TARGET, "staff": STAFF}).standard.height == 3
    assert "Exclusion: standard: 3, complement: 1." in caplog.text


@pytest.mark.parametrize(("few", "planned"), [(2, ["Exclusion"]), (5, [])])
def test_few_are_excluded_row_by_row_and_many_in_a_pass(
    tmp_path: Path, result_folder: Path, monkeypatch: pytest.MonkeyPatch, few: int, planned: list[str]
) -> None:
    """Nothing is read and written again for a set that is in memory; who is excluded is the same."""
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", "3")
    path = tmp_path / "people.parquet"
    pl.DataFrame({"profile_id": [str(number) for number in range(8)]}).write_parquet(path)

    @flow(name="Excluding", task_runner=ENGINE)
    def excluding() -> tuple[list[str], list[str], list[str]]:
        people = query(QueryOptions(source=ProfileFile(path=path, types={})))
        some = query(QueryOptions(source=ProfileFile(path=path, types={}), where=f"profile_id < '{few}'"))
        left = exclusion({"people": people, "some": some})
        steps = [step.label for step in left.plan.steps]
        return steps, left.collect()["profile_id"].to_list(), left.complement.collect()["profile_id"].to_list()

    everybody = [str(number) for number in range(8)]
    assert excluding() == (planned, everybody[few:], everybody[:few])
