from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data_management.reconciliation import Reconciled, ReconciliationOptions, reconcile, reconciliation
from tasks.errors import CampaignError, ColumnsMissing, ColumnTaken, KeyTypesDiffer

PROFILES = pl.DataFrame(
    {
        "profile_id": ["p1", "p2", "p3", "p4", "p5"],
        "email": ["ada@x", "bob@x", "two@x", "two@x", None],
        "name": ["Ada", "Bob", "Cid", "Cid", "Eve"],
        "zip": ["1", "2", "3", "4", "5"],
    }
)
DATA = pl.DataFrame(
    {
        "mail": ["bob@x", "none@x", "two@x", None, "ADA@x "],
        "called": ["?", "Cid", "Cid", "Eve", "?"],
        "code": ["9", "4", "9", "5", "1"],
    }
)
BY_EMAIL = {"mail": "email"}
BY_NAME = {"called": "name", "code": "zip"}


def linked(*criteria: dict[str, str], **options: object) -> Reconciled:
    return reconcile(DATA, PROFILES, ReconciliationOptions(criteria=list(criteria), **options))


@pytest.mark.parametrize(
    ("criteria", "options", "profiles", "unmatched", "ambiguous"),
    [
        ([BY_EMAIL], {}, {"bob@x": "p2"}, ["none@x", None, "ADA@x "], ["two@x"]),
        ([BY_NAME], {}, {"none@x": "p4", None: "p5"}, ["bob@x", "two@x", "ADA@x "], []),
        ([BY_EMAIL, BY_NAME], {}, {"bob@x": "p2", "none@x": "p4", None: "p5"}, ["ADA@x "], ["two@x"]),
        ([BY_EMAIL], {"ignore_case": True}, {"bob@x": "p2", "ADA@x ": "p1"}, ["none@x", None], ["two@x"]),
        (
            [BY_EMAIL],
            {"unmatched": "keep"},
            {"bob@x": "p2", "none@x": None, None: None, "ADA@x ": None},
            [],
            ["two@x"],
        ),
    ],
)
def test_rows_get_their_one_profile(
    criteria: list[dict[str, str]],
    options: dict[str, object],
    profiles: dict[str | None, str | None],
    unmatched: list[str | None],
    ambiguous: list[str],
) -> None:
    outbound = linked(*criteria, **options)
    assert dict(outbound.standard.select("mail", "profile_id").iter_rows()) == profiles
    assert outbound.complement["mail"].to_list() == unmatched
    assert outbound.rejects["mail"].to_list() == ambiguous
    assert outbound.rejects["reason"].to_list() == ["more than one profile matches"] * len(ambiguous)


def test_columns_of_the_profile_can_be_chosen_and_named() -> None:
    outbound = linked(BY_EMAIL, add={"id": "profile_id", "profile_zip": "zip"})
    assert outbound.standard.select("id", "profile_zip").rows() == [("p2", "2")]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"criteria": [{"mial": "email"}]}, ColumnsMissing, "Did you mean 'mail'"),
        ({"criteria": [{"mail": "emial"}]}, ColumnsMissing, "Did you mean 'email'"),
        ({"criteria": [BY_EMAIL], "add": {"id": "profil_id"}}, ColumnsMissing, "Did you mean 'profile_id'"),
        ({"criteria": [BY_EMAIL], "add": {"code": "zip"}}, ColumnTaken, "'code'"),
        ({"criteria": [{"n": "email"}]}, KeyTypesDiffer, "'n' is Int32"),
    ],
)
def test_criteria_that_cannot_hold_are_named(
    options: dict[str, object], error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        reconcile(DATA.with_columns(n=pl.lit(1)), PROFILES, ReconciliationOptions(**options))


@given(st.lists(st.one_of(st.none(), st.integers(0, 6)), max_size=12), st.lists(st.integers(0, 6), max_size=8))
def test_every_row_goes_exactly_one_way(keys: list[int | None], known: list[int]) -> None:
    data = pl.DataFrame({"k": keys}, schema={"k": pl.Int64}).with_row_index("n")
    profiles = pl.DataFrame({"key": known}, schema={"key": pl.Int64}).with_row_index("profile_id")
    outbound = reconcile(data, profiles, ReconciliationOptions(criteria=[{"k": "key"}]))
    assert outbound.standard["n"].to_list() == [n for n, key in enumerate(keys) if known.count(key) == 1]
    assert outbound.rejects["n"].to_list() == [n for n, key in enumerate(keys) if known.count(key) > 1]
    assert outbound.complement["n"].to_list() == [n for n, key in enumerate(keys) if known.count(key) == 0]


def test_the_task_runs_alone_and_logs_its_counts(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert reconciliation(DATA, PROFILES, ReconciliationOptions(criteria=[BY_EMAIL])).standard.height == 1
    assert "Reconciliation: standard: 1, complement: 3, rejects: 1." in caplog.text
