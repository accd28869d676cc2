"""Who is drawn, by sampling, control group and variant: by the member's key and the seed, however it is run."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect import flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from tasks.channels.preparation import PreparationOptions, preparation
from tasks.content.personalization import PersonalizationOptions, Templates, personalization
from tasks.runs.engine import ENGINE
from tasks.send import Send
from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, query
from tasks.targeting.segmentation import SegmentationOptions, segment, segmentation

SEND = Send(campaign="drawn", label="Drawn", business_date=date(2026, 11, 24))
PEOPLE = pl.DataFrame({"profile_id": [f"p{number}" for number in range(70)]}).with_columns(
    email=pl.col("profile_id") + "@x.example"
)
TEMPLATES = Templates(
    folder=Path("made-up"),
    parts={"subject": "subject", "html": "body.html", "text": "text"},
    sources=dict.fromkeys(("subject", "body.html", "text"), "{{ profile.profile_id }}"),
)
ONE_PART, SEVEN_PARTS = 1000, 10


def drawn(people: pl.DataFrame, seed: int, size: int, folder: Path) -> dict[str, dict[str, str]]:
    """What each member drew: in the sample or not, in the control group or not, the variant."""
    folder.mkdir()
    path = folder / "people.parquet"
    people.write_parquet(path)
    half = SegmentationOptions(segments=[{"code": "half", "limit": {"maximum": 35}}], seed=seed)
    control = PreparationOptions(control_share=0.5, control_seed=seed)
    variants = [{"code": code, "templates": TEMPLATES, "share": 0.4} for code in ("a", "b")]
    content = PersonalizationOptions(templates=TEMPLATES, send=SEND, variants=variants, seed=seed)

    @flow(name="Drawn", task_runner=ENGINE)
    def campaign() -> dict[str, dict[str, str]]:
        everybody = query(QueryOptions(source=ProfileFile(path=path, types={})))
        sample = segment(segmentation(everybody, half), "half").collect()["profile_id"].to_list()
        written = preparation(everybody, control, SEND).collect()["profile_id"].to_list()
        messages = personalization(everybody, content).collect()
        return {
            "sample": dict.fromkeys(sample, "in"),
            "control": dict.fromkeys(written, "written to"),
            "variant": dict(messages.select("profile_id", "variant").iter_rows()),
        }

    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_LOCAL_STORAGE_PATH: folder / "results"}),
    ):
        patch.chdir(folder)
        patch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))
        patch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{folder}/journal.db")
        return campaign()


@pytest.mark.slow
@settings(max_examples=2)
@given(leaver=st.sampled_from(PEOPLE["profile_id"].to_list()), seed=st.integers(0, 9))
def test_one_who_leaves_changes_nobody_elses_lot_and_another_seed_draws_anew(
    tmp_path_factory: pytest.TempPathFactory, prefect_backend: str, leaver: str, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    whole = drawn(PEOPLE, seed, ONE_PART, folder / "whole")
    assert drawn(PEOPLE, seed, SEVEN_PARTS, folder / "divided") == whole
    assert 15 < len(whole["control"]) < 55
    assert set(whole["variant"].values()) == {"a", "b", ""}
    for size in (ONE_PART, SEVEN_PARTS):
        left = drawn(PEOPLE.filter(pl.col("profile_id") != leaver).reverse(), seed, size, folder / f"left-{size}")
        for name, lots in whole.items():
            lots.pop(leaver, None)
            # The place that one who was drawn leaves in a sample of a fixed size goes to the next.
            assert lots.items() <= left[name].items()
            assert len(left[name]) == (35 if name == "sample" else len(lots))
    anew = drawn(PEOPLE, seed + 1, SEVEN_PARTS, folder / "anew")
    assert all(anew[name] != lots for name, lots in whole.items())
    assert len(set(anew["sample"]) & set(whole["sample"])) < 30
