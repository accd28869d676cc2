from datetime import date
from pathlib import Path

import pytest

from tasks.errors import CampaignError, ColumnsMissing, FilterInvalid
from tasks.execution.test import BranchOptions, branch_of
from tasks.execution.test import test as choose_branch

CONDITIONS = [
    {"branch": "many", "where": "queried > 1000"},
    {"branch": "eu", "where": "region = 'EU' AND queried > 0"},
    {"branch": "late", "where": "day > DATE '2026-11-24'"},
]


@pytest.mark.parametrize(
    ("facts", "default", "branch"),
    [
        ({"queried": 1001, "region": "EU", "day": None}, "", "many"),
        ({"queried": 1000, "region": "EU", "day": None}, "", "eu"),
        ({"queried": 0, "region": "EU", "day": date(2026, 11, 25)}, "", "late"),
        ({"queried": 0, "region": None, "day": date(2026, 11, 24)}, "", ""),
        ({"queried": None, "region": None, "day": date(2026, 11, 24)}, "others", "others"),
    ],
)
def test_the_first_condition_that_holds_decides(facts: dict[str, object], default: str, branch: str) -> None:
    assert branch_of(facts, BranchOptions(conditions=CONDITIONS, default=default)) == branch


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [("querried > 1", ColumnsMissing, "Did you mean 'queried'"), ("queried", FilterInvalid, "queried")],
)
def test_every_condition_is_checked_also_those_that_are_not_reached(
    where: str, error: type[CampaignError], says: str
) -> None:
    options = BranchOptions(conditions=[{"branch": "all", "where": "TRUE"}, {"branch": "wrong", "where": where}])
    with pytest.raises(error, match=says):
        branch_of({"queried": 1}, options)


def test_the_task_runs_alone_and_logs_the_branch(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = BranchOptions(conditions=[{"branch": "many", "where": "queried > 10"}])
    assert choose_branch({"queried": 11}, options) == "many"
    assert choose_branch({"queried": 10}, options) == ""
    assert "Branch 'many' runs." in caplog.text
    assert "No branch runs." in caplog.text
