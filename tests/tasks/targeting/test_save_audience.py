from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tasks.errors import (
    AudienceMissing,
    AudienceTaken,
    CampaignError,
    ColumnsMissing,
    ColumnTypesDiffer,
    SourceUnreadable,
    StoreUnwritable,
)
from tasks.targeting.read_audience import ReadAudienceOptions, stored_audience
from tasks.targeting.save_audience import SaveAudienceOptions, SavedAudience, save_audience

TODAY = date(2026, 11, 24)
VIP = pl.DataFrame({"profile_id": ["1", "2"], "tier": ["gold", "silver"]})
MORE = pl.DataFrame({"profile_id": ["2", "3", "3"], "tier": ["gold", "new", "again"]})


@pytest.fixture
def saved(tmp_path: Path) -> object:
    def store(table: pl.DataFrame, mode: str = "create", **options: object) -> SavedAudience:
        return save_audience.fn(
            table, SaveAudienceOptions(folder=tmp_path / "a", name="VIP", mode=mode, **options), TODAY
        )

    return store


def read(folder: Path, name: str = "VIP") -> pl.DataFrame:
    return stored_audience(ReadAudienceOptions(folder=folder / "a", name=name)).collect()


@pytest.mark.parametrize(
    ("mode", "tiers", "added"),
    [("replace", ["gold", "new", "again"], 3), ("complete", ["gold", "silver", "new"], 1)],
)
def test_a_stored_audience_is_replaced_or_completed(
    saved: object, tmp_path: Path, mode: str, tiers: list[str], added: int
) -> None:
    saved(VIP)
    outbound = saved(MORE, mode)
    assert_frame_equal(outbound.standard, MORE)
    assert outbound.audience.row(0) == ("VIP", len(tiers), added)
    assert read(tmp_path)["tier"].to_list() == tiers


@pytest.mark.parametrize("mode", ["create", "replace", "complete"])
def test_every_mode_begins_an_audience(saved: object, tmp_path: Path, mode: str) -> None:
    saved(VIP, mode)
    assert_frame_equal(read(tmp_path), VIP)


def test_completing_twice_adds_nobody_twice(saved: object, tmp_path: Path) -> None:
    for _ in range(2):
        saved(VIP, "complete")
    assert read(tmp_path).height == 2


def test_new_columns_come_in_when_an_audience_is_completed(saved: object, tmp_path: Path) -> None:
    saved(VIP)
    saved(MORE.with_columns(city=pl.lit("Wien")), "complete")
    assert read(tmp_path)["city"].to_list() == [None, None, "Wien"]


def test_the_business_date_goes_into_the_name(saved: object, tmp_path: Path) -> None:
    assert saved(VIP, "create_dated").audience.item(0, "audience") == "VIP_2026-11-24"
    assert_frame_equal(read(tmp_path, "VIP_2026-11-24"), VIP)


@pytest.mark.parametrize("mode", ["create", "create_dated"])
def test_an_audience_is_created_once(saved: object, tmp_path: Path, mode: str) -> None:
    saved(VIP, mode)
    with pytest.raises(AudienceTaken, match="CMP-118"):
        saved(MORE, mode)
    assert read(tmp_path, "VIP" if mode == "create" else "VIP_2026-11-24").height == 2


@pytest.mark.parametrize(
    ("table", "options", "error"),
    [
        (MORE.with_columns(tier=pl.lit(1)), {}, ColumnTypesDiffer),
        (MORE.drop("profile_id"), {}, ColumnsMissing),
        (MORE.with_columns(id=pl.col("profile_id")), {"key": "id"}, ColumnsMissing),
    ],
)
def test_what_cannot_be_added_leaves_the_audience_as_it_was(
    saved: object, tmp_path: Path, table: pl.DataFrame, options: dict[str, str], error: type[CampaignError]
) -> None:
    saved(VIP)
    with pytest.raises(error):
        saved(table, "complete", **options)
    assert_frame_equal(read(tmp_path), VIP)


def test_a_folder_that_cannot_be_written_is_named(saved: object, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file, no folder")
    with pytest.raises(StoreUnwritable, match="CMP-119"):
        saved(VIP)


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "", "a\\b"])
def test_a_name_cannot_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        SaveAudienceOptions(name=name)


def test_a_spoiled_file_is_named(saved: object, tmp_path: Path) -> None:
    saved(VIP)
    (tmp_path / "a" / "VIP.parquet").write_bytes(b"noise")
    with pytest.raises(SourceUnreadable, match=r"VIP\.parquet"):
        saved(MORE, "complete")
    with pytest.raises(SourceUnreadable, match=r"VIP\.parquet"):
        read(tmp_path)


def test_an_audience_that_is_not_there_is_named_with_the_nearest(saved: object, tmp_path: Path) -> None:
    saved(VIP)
    with pytest.raises(AudienceMissing, match="Did you mean 'VIP'"):
        read(tmp_path, "VIPs")


def test_the_task_runs_alone_and_logs_its_counts(
    tmp_path: Path, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = SaveAudienceOptions(folder=tmp_path / "a", name="VIP")
    assert save_audience(VIP, options, TODAY).standard.height == 2
    assert "Save audience VIP: standard: 2, audience: 1." in caplog.text
