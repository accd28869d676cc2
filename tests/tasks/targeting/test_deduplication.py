from pathlib import Path

import polars as pl
import pytest

from tasks.errors import ColumnsMissing
from tasks.targeting.deduplication import DeduplicationOptions, deduplicate, deduplication

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
    outbound = deduplicate(TABLE, DeduplicationOptions(columns=columns, keep=keep))
    assert outbound.standard["n"].to_list() == kept
    assert outbound.complement["n"].to_list() == [n for n in range(6) if n not in kept]


def test_an_empty_table_stays_empty() -> None:
    outbound = deduplicate(TABLE.clear(), DeduplicationOptions(columns=["zip"]))
    assert outbound.standard.is_empty()
    assert outbound.standard.schema == TABLE.schema


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ColumnsMissing, match="Did you mean 'zip'"):
        deduplicate(TABLE, DeduplicationOptions(columns=["zipp"]))


def test_the_task_runs_alone_and_logs_its_counts(result_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert deduplication(TABLE, DeduplicationOptions(columns=["zip"])).standard.height == 3
    assert "3 rows kept, 3 duplicates left out" in caplog.text
