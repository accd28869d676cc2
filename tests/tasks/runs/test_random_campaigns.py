"""Random campaigns give the same on one part and on many: messages, files, counts and rejects."""

import mailbox
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect import flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from tasks.channels.direct_mail import DirectMailOptions, direct_mail
from tasks.channels.outbox import OutboxOptions, outbox
from tasks.channels.preparation import PreparationOptions, preparation
from tasks.content.personalization import PersonalizationOptions, Templates, personalization
from tasks.data_management.extract_file import ExtractFileOptions, extract_file
from tasks.runs.audience import Audience
from tasks.runs.engine import ENGINE
from tasks.send import Send
from tasks.sources.files import ProfileFile
from tasks.targeting.deduplication import DeduplicationOptions, deduplication
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.exclusion import exclusion
from tasks.targeting.intersection import intersection
from tasks.targeting.query import QueryOptions, query
from tasks.targeting.save_audience import SaveAudienceOptions, save_audience
from tasks.targeting.segmentation import SegmentationOptions, segment, segmentation
from tasks.targeting.union import union

SEND = Send(campaign="random", label="Random", business_date=date(2026, 11, 24))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
CONTENT = pl.DataFrame({"area": ["a", "b", "b"], "code": ["A1", "B1", "B2"], "price": [3, 2, 1]})
LINE = "{{ profile.name }}: {% for one in content.offers %}{{ one.code }} {% endfor %}"
TEMPLATES = Templates(
    folder=Path("made-up"),
    parts={"subject": "subject", "html": "body.html", "text": "text"},
    sources=dict.fromkeys(("subject", "body.html", "text"), LINE),
)
OFFERS = EnrichmentOptions(name="offers", on={"area": "area"}, cardinality="many", order_by=["price"])
HALF = SegmentationOptions(segments=[{"code": "half", "limit": {"percentage": 50}}])
BY_AREA = DeduplicationOptions(columns=["area"], keep=2, which="largest", by="score")

PERSON = st.tuples(
    st.sampled_from(["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", None]),
    st.sampled_from(["Ada", "Bob", "", None]),
    st.sampled_from(["a", "b", "c", None]),
    st.integers(0, 5),
    st.sampled_from(["x@x.example", "X@x.example", "y@x.example", "no address", "", None]),
)


def audience_of(source: ProfileFile, steps: list[str]) -> Audience:
    """The people after some activities of targeting, in the order given."""
    people = query(QueryOptions(source=source, where="score > 0", remove_duplicates=False))
    others = query(QueryOptions(source=source, where="area = 'a'", remove_duplicates=False))
    for step in steps:
        match step:
            case "deduplication":
                people = deduplication(people, BY_AREA)
            case "union":
                people = union({"people": people, "others": others})
            case "intersection":
                people = intersection({"people": people, "others": others})
            case "exclusion":
                people = exclusion({"people": people, "others": others})
            case "segmentation" if "segment_code" not in people.columns:
                people = segment(segmentation(people, HALF), "half")
            case "preparation":
                people = preparation(people, PreparationOptions(), SEND)
    return people


def left_by(people: Audience, sink: str, folder: Path) -> tuple[Audience, object]:
    """What a sink gives, and what it leaves in the folder."""
    send_folder = folder / "outbox" / "random" / "2026-11-24"
    match sink:
        case "extract file":
            given = extract_file(people, ExtractFileOptions(file="out.csv", sort=["profile_id"]))
            return given, (folder / "storage" / "out.csv").read_bytes()
        case "save audience":
            given = save_audience(people, SaveAudienceOptions(folder=folder / "kept", name="kept"), NOON.date())
            return given, pl.read_parquet(folder / "kept" / "kept.parquet").rows()
        case "direct mail":
            given = direct_mail(people, DirectMailOptions(folder=folder / "outbox"), SEND)
            files = sorted(send_folder.glob("direct-mail-*.csv"))
            lines = [line for file in files for line in file.read_text("utf-8-sig").splitlines()[1:]]
            return given, sorted(lines)
    enriched = enrichment(people, CONTENT, OFFERS)
    messages = personalization(enriched, PersonalizationOptions(templates=TEMPLATES, send=SEND))
    given = outbox(messages, OutboxOptions(folder=folder / "outbox", format=sink), SEND, NOON)
    if sink == "maildir":
        found = sorted(
            (str(message["Message-ID"]), str(message["Subject"]))
            for message in mailbox.Maildir(send_folder / "maildir")
        )
    else:
        files = sorted((send_folder / "messages").glob("*.parquet"))
        found = sorted(pl.read_parquet(files).rows()) if files else []
    return given, found


def told(people: list[tuple[Any, ...]], steps: list[str], sink: str, size: int, folder: Path) -> tuple[object, ...]:
    """A campaign with parts of a size: what it leaves, its counts and its rejects."""
    schema = {
        "profile_id": pl.String(),
        "name": pl.String(),
        "area": pl.String(),
        "score": pl.Int64(),
        "email": pl.String(),
    }
    folder.mkdir()
    path = folder / "people.parquet"
    pl.DataFrame(people, schema=schema, orient="row").write_parquet(path)

    @flow(name="Random", task_runner=ENGINE)
    def campaign() -> tuple[object, ...]:
        given, left = left_by(audience_of(ProfileFile(path=path, types={}), steps), sink, folder)
        counts = sorted(given.counts.select("activity", "transition", "rows").rows())
        return left, counts, sorted(given.rejects_so_far().collect().rows(), key=str)

    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_LOCAL_STORAGE_PATH: folder / "results"}),
    ):
        patch.chdir(folder)
        patch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))
        patch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{folder}/journal.db")
        return campaign()


@pytest.mark.slow
@settings(max_examples=6)
@given(
    people=st.lists(PERSON, max_size=14),
    steps=st.lists(
        st.sampled_from(["deduplication", "union", "intersection", "exclusion", "segmentation", "preparation"]),
        max_size=3,
        unique=True,
    ),
    sink=st.sampled_from(["maildir", "parquet", "extract file", "save audience", "direct mail"]),
    size=st.integers(1, 4),
)
def test_a_random_campaign_is_the_same_on_one_part_and_on_many(
    tmp_path_factory: pytest.TempPathFactory,
    prefect_backend: str,
    people: list[tuple[Any, ...]],
    steps: list[str],
    sink: str,
    size: int,
) -> None:
    folder = tmp_path_factory.mktemp("random")
    whole = told(people, steps, sink, 1000, folder / "whole")
    assert told(people, steps, sink, size, folder / "divided") == whole
