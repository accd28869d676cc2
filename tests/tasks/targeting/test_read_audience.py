from pathlib import Path

import polars as pl
import pytest
from prefect import flow

from tasks.errors import CampaignError, ColumnsMissing, FilterInvalid
from tasks.targeting.read_audience import ReadAudienceOptions, read_audience, stored_audience

VIP = pl.DataFrame({"profile_id": ["1", "2"], "tier": ["gold", "silver"]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    VIP.write_parquet(tmp_path / "VIP.parquet")
    return tmp_path


@pytest.mark.parametrize(("where", "ids"), [("TRUE", ["1", "2"]), ("tier = 'gold'", ["1"]), ("tier IS NULL", [])])
def test_the_filter_chooses_members(folder: Path, where: str, ids: list[str]) -> None:
    audience = stored_audience(ReadAudienceOptions(folder=folder, name="VIP", where=where)).collect()
    assert audience["profile_id"].to_list() == ids


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [("teir = 'x'", ColumnsMissing, "Did you mean 'tier'"), ("tier", FilterInvalid, "tier")],
)
def test_a_filter_that_cannot_be_run_is_shown(
    folder: Path, where: str, error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        stored_audience(ReadAudienceOptions(folder=folder, name="VIP", where=where)).collect()


def test_the_task_reads_what_is_there_now_and_logs_its_count(
    folder: Path, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ReadAudienceOptions(folder=folder, name="VIP")

    @flow
    def before_and_after() -> tuple[int, int]:
        before = read_audience(options).height
        VIP.head(1).write_parquet(folder / "VIP.parquet")
        return before, read_audience(options).height

    assert before_and_after() == (2, 1)
    assert "Read audience VIP: standard: 2." in caplog.text
