"""An audience as a run, a retry and another tool find it."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
from moto.server import ThreadedMotoServer
from polars.testing import assert_frame_equal
from prefect import flow
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from pydantic import BaseModel, SecretStr

from tasks.errors import CampaignError, PartitionGone, ResultsUnwritable, TransitionUnknown
from tasks.runs import table as table_module
from tasks.runs.audience import Audience, Plan, Step
from tasks.runs.counts import COUNTS
from tasks.runs.digest import digest_of
from tasks.runs.results import ARROW
from tasks.runs.table import Part, Table, kept_file, lazily, stored
from tasks.sources.files import ProfileFile
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.query import QueryOptions, query
from tasks.targeting.union import union

PEOPLE = pl.DataFrame(
    {
        "profile_id": [f"P{number}" for number in range(25)],
        "tags": [["a"], [], None, ["b", "c"], [None]] * 5,
        "coupon": [{"code": "1"}, None, {"code": None}, {"code": "2"}, None] * 5,
        "visits": range(25),
    }
)
REJECTED = pl.DataFrame(
    {"profile_id": ["P9"], "email": [None], "reason": ["no address"]}, schema_overrides={"email": pl.String()}
)
TOLD = pl.DataFrame([("r", "Query", "standard", 25)], schema=COUNTS, orient="row")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFileSystem:
    """A result storage without a run."""
    place = LocalFileSystem(basepath=str(tmp_path / "storage"))
    monkeypatch.setattr(table_module, "result_storage", lambda: place)
    return place


def in_parts(rows: pl.DataFrame) -> Table:
    return stored(rows.iter_slices(10), digest_of(rows), distinct=True)


@pytest.mark.parametrize("place", [Table.of, in_parts], ids=["in memory", "in parts"])
def test_an_audience_comes_back_from_its_stored_result_as_it_was(
    storage: LocalFileSystem, place: Callable[[pl.DataFrame], Table]
) -> None:
    rejected = {"made here": place(pl.concat([REJECTED] * 15)), "made there": Table.of(REJECTED)}
    counts = pl.DataFrame({"segment_code": ["vip"], "rows": [3]})
    way: dict[str, Any] = {"rejected": rejected, "counts": TOLD, "distinct": "profile_id"}
    before = Audience(
        place(PEOPLE),
        activity="Segmentation",
        others={
            # As an activity may name its transitions: also as the audience names what it knows of its way.
            "counts": Audience(Table.of(counts), activity="Segmentation, counts", **way),
            "complement": Audience(place(PEOPLE.reverse()), activity="Segmentation, complement", **way),
        },
        **way,
    )
    after = ARROW.loads(ARROW.dumps(before))
    assert isinstance(after, Audience)
    assert (after.activity, after.distinct, after.in_memory) == ("Segmentation", "profile_id", before.in_memory)
    assert after.key == before.key, "what it is found again by"
    assert after.table.parts == before.table.parts
    assert_frame_equal(after.collect(), PEOPLE)
    assert_frame_equal(after.transition("counts").collect(), counts)
    assert_frame_equal(after.counts, TOLD)
    for branch in (after, after.complement):
        assert_frame_equal(branch.rejects_so_far().collect(), before.rejects_so_far().collect())
    assert_frame_equal(after.complement.collect(), PEOPLE.reverse())
    if not before.in_memory:
        assert len(ARROW.dumps(before)) < 40_000, "of parts only the references are in it"


@pytest.mark.parametrize("rows", [PEOPLE.clear(), pl.DataFrame(), pl.DataFrame({"n": [None, None]})])
def test_an_audience_of_nobody_comes_back_too(rows: pl.DataFrame) -> None:
    after = ARROW.loads(ARROW.dumps(Audience.of(rows)))
    assert_frame_equal(after.collect(), rows)
    assert after.columns == rows.columns


def test_an_audience_and_its_plan_travel_to_another_process(storage: LocalFileSystem) -> None:
    step = Step("tasks.runs.audience:WITH_TEXT", "Coded", {"column": "code", "value": "x"}, "standard", made="m")
    before = Audience(in_parts(PEOPLE), activity="Query", plan=Plan((step,)))
    after = pickle.loads(pickle.dumps(before))
    assert after.key == before.key
    assert_frame_equal(after.collect(["profile_id"]), PEOPLE.select("profile_id"))


def test_its_rows_can_be_looked_at_as_a_lazy_table_in_parts(storage: LocalFileSystem) -> None:
    lazy = Audience(in_parts(PEOPLE), activity="Query").scan()
    plain = PEOPLE.lazy()
    for made in (
        lambda rows: rows.filter(pl.col("visits") > 12).select("profile_id"),
        lambda rows: rows.head(13),
        lambda rows: rows.filter(pl.col("visits") % 2 == 1).head(7),
        lambda rows: rows.head(14).filter(pl.col("visits") > 11),
        lambda rows: rows.slice(9, 3),
        lambda rows: rows.select(pl.len()),
        lambda rows: rows.group_by(pl.col("visits") % 3, maintain_order=True).len(),
    ):
        for engine in ("in-memory", "streaming"):
            assert_frame_equal(made(lazy).collect(engine=engine), made(plain).collect(engine=engine))


def test_some_columns_of_it_are_collected_before_and_after_planned_steps(storage: LocalFileSystem) -> None:
    audience = Audience(in_parts(PEOPLE), activity="Query")
    assert_frame_equal(audience.collect(["visits", "profile_id"]), PEOPLE.select("visits", "profile_id"))
    planned = audience.with_text("code", "x")
    assert_frame_equal(planned.collect(["code", "visits"]), PEOPLE.select(pl.lit("x").alias("code"), "visits"))


def test_a_transition_that_is_none_is_named_with_the_nearest(storage: LocalFileSystem) -> None:
    audience = Audience(Table.of(PEOPLE), activity="Query", others={"complement": Audience.of(PEOPLE)})
    with pytest.raises(TransitionUnknown, match="'complement'"):
        audience.transition("complemnt")
    with pytest.raises(AttributeError, match="'complement'"):
        _ = audience.complemnt


def test_a_part_that_is_gone_is_told_in_a_sentence(storage: LocalFileSystem) -> None:
    with pytest.raises(PartitionGone, match=r"'partitions/x/000001.arrow'.*Start a new run") as raised:
        Part(run="x", number=1, rows=1, file="partitions/x/000001.arrow").read()
    assert isinstance(raised.value, CampaignError)


def test_some_columns_of_a_part_are_read_in_the_order_given(storage: LocalFileSystem) -> None:
    part = in_parts(PEOPLE).parts[0]
    assert_frame_equal(part.read(["visits", "profile_id"]), PEOPLE.head(10).select("visits", "profile_id"))


def test_who_has_read_a_part_keeps_its_rows_when_it_is_written_anew(storage: LocalFileSystem) -> None:
    part = in_parts(PEOPLE).parts[0]
    before = part.read()
    assert kept_file(PEOPLE.tail(3), part.file) == part.file
    assert_frame_equal(before, PEOPLE.head(10))
    assert_frame_equal(part.read(), PEOPLE.tail(3))


def test_a_reference_to_a_file_outside_the_result_storage_is_none(storage: LocalFileSystem, tmp_path: Path) -> None:
    PEOPLE.write_ipc(tmp_path / "elsewhere.arrow")
    for file in ("../elsewhere.arrow", str(tmp_path / "elsewhere.arrow")):
        with pytest.raises(PartitionGone, match="outside the result storage"):
            Part(run="x", number=1, rows=1, file=file).read()
        with pytest.raises(ResultsUnwritable, match="outside the result storage"):
            kept_file(PEOPLE, file)


def test_a_result_storage_that_cannot_be_written_is_told_in_a_sentence(
    storage: LocalFileSystem, tmp_path: Path
) -> None:
    (tmp_path / "storage").write_text("a file")
    with pytest.raises(ResultsUnwritable, match="PREFECT_LOCAL_STORAGE_PATH"):
        in_parts(PEOPLE)


def test_parts_of_which_profiles_may_be_twice_are_of_no_common_run(storage: LocalFileSystem) -> None:
    assert len({part.run for part in stored([PEOPLE, PEOPLE], "run", distinct=False).parts}) == 2
    assert len({part.run for part in stored([PEOPLE, PEOPLE], "run", distinct=True).parts}) == 1


def test_a_source_gives_one_table_at_least() -> None:
    with pytest.raises(ValueError, match="one table at least"):
        stored([], "run", distinct=True)


class Options(BaseModel):
    secret: SecretStr = SecretStr("a")
    names: frozenset[str] = frozenset({"a", "b", "c"})
    day: date = date(2026, 11, 24)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pl.Series(range(1000)), pl.Series([*range(500), 7, *range(501, 1000)])),
        (pl.LazyFrame({"n": range(1000)}), pl.LazyFrame({"n": [*range(999), 7]})),
        (Options(), Options(secret=SecretStr("b"))),
        (Path("a"), "a"),
        (1, True),
        (["ab"], ["a", "b"]),
        ({"a": 1}, {"a": "1"}),
        (None, "None"),
    ],
)
def test_digests_tell_values_apart(one: object, other: object) -> None:
    assert digest_of(one) != digest_of(other)


def test_equal_tables_have_one_digest_whether_just_made_or_read_from_a_result() -> None:
    made = pl.concat([PEOPLE.filter(pl.col("tags").is_not_null()).head(5), PEOPLE.tail(3)])
    made = made.join(pl.DataFrame({"visits": [0, 24], "gift": ["x", None]}), on="visits", how="left")
    made = made.with_columns(first=pl.col("coupon").struct.field("code")).filter(pl.col("profile_id").is_not_null())
    assert digest_of(made) == digest_of(ARROW.loads(ARROW.dumps(made)))


@pytest.mark.slow
def test_digests_are_the_same_in_every_process(tmp_path: Path) -> None:

    program = (
        "from tests.tasks.runs.test_audience import *\n"
        "print(digest_of([Options(), PEOPLE, {'b', 'a', 'c'}, Path('x'), {'k': (1, 2.5, None)}]))"
    )
    root = Path(__file__).parents[3]
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


@pytest.fixture
def bucket(prefect_backend: str) -> Iterator[RemoteFileSystem]:
    """A bucket of moto's S3 server on loopback, as Prefect's storage."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
    client.create_bucket(Bucket="results")
    block = RemoteFileSystem(
        basepath="s3://results/campaigns",
        settings={
            "key": "key",
            "secret": "secret",
            "client_kwargs": {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"},
        },
    )
    block.save("results-in-a-bucket", overwrite=True)
    yield RemoteFileSystem.load("results-in-a-bucket")
    server.stop()


def test_parts_and_what_is_made_of_them_are_kept_in_a_bucket_where_the_storage_is_one(
    bucket: RemoteFileSystem, result_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:

    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", "10")
    PEOPLE.write_parquet(tmp_path / "people.parquet")

    @flow(result_storage=bucket, persist_result=True)
    def campaign() -> pl.DataFrame:
        audience = query(QueryOptions(source=ProfileFile(path=tmp_path / "people.parquet", types={})))
        gifts = pl.DataFrame({"visits": [3], "gift": ["x"]})
        enriched = enrichment(audience, gifts, EnrichmentOptions(name="gifts", on={"visits": "visits"}))
        return union({"enriched": enriched, "audience": audience}).collect()

    united = campaign()
    assert united["profile_id"].to_list() == PEOPLE["profile_id"].to_list()
    assert united["gifts"].drop_nulls().to_list() == [{"visits": 3, "gift": "x"}]
    assert len(bucket.filesystem.find("results/campaigns/partitions")) >= 6
    assert not (result_folder / "partitions").exists()


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_lazy_table_in_pieces_is_counted_and_numbered_as_one_in_memory(engine: str) -> None:
    table = pl.DataFrame({"a": range(9), "b": range(9), "unread": range(9)})
    asked: list[list[str] | None] = []

    def wanted(columns: list[str] | None) -> Iterator[pl.DataFrame]:
        asked.append(columns)
        return table.select(columns or pl.all()).iter_slices(2)

    pieces = lazily(wanted, table.schema)
    place = pl.LazyFrame.with_row_index
    for made in (
        lambda rows: rows.filter(pl.col("a") > 3).select("b"),
        lambda rows: rows.filter(pl.col("b") > 3).select("b").head(2),
        lambda rows: rows.select(pl.len()),
        lambda rows: rows.filter(pl.col("a") > 3).select(pl.len()),
        lambda rows: place(rows, "n").select("n"),
        lambda rows: place(rows, "n").join(
            place(rows.head(3), "n").select("n"), on="n", how="anti", maintain_order="left"
        ),
    ):
        assert_frame_equal(made(pieces).collect(engine=engine), made(table.lazy()).collect(engine=engine))
    assert asked[0] == ["a", "b"], "what the predicate needs is read too"
    assert not any("unread" in (columns or []) for columns in asked), "no column is read that nobody asked for"
