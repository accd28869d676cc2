"""Partitions as a run and another tool find them in the result storage."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import boto3
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from polars.testing import assert_frame_equal
from prefect import flow, task
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from tasks.runs.partitions import Outcome, Part, Partitions, stored_partitions, transition_counts

from tasks import partitions
from tasks.errors import CampaignError, PartitionGone, ResultsUnwritable, SourceUnreadable
from tasks.runs.results import ARROW, PER_RUN
from tasks.settings import PartitionOptions
from tasks.sources.files import ProfileFile
from tasks.tables.transitions import Transitions
from tasks.targeting.deduplication import DeduplicationOptions, deduplicate_partitions, deduplication
from tasks.targeting.query import QueryOptions, query, query_partitions

PROFILES = pl.DataFrame(
    {
        "profile_id": [f"P{number % 23}" for number in range(25)],
        "zip_code": [f"{number % 4}" for number in range(25)],
        "visits": range(25),
    }
)


@dataclass(frozen=True)
class Split(Transitions):
    standard: pl.DataFrame
    rejects: pl.DataFrame


@pytest.fixture
def source(tmp_path: Path) -> ProfileFile:
    path = tmp_path / "profiles.parquet"
    PROFILES.write_parquet(path, row_group_size=3)
    return ProfileFile(path=path, types={})


@pytest.fixture
def in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFileSystem:
    """A result storage without a run."""
    storage = LocalFileSystem(basepath=str(tmp_path / "storage"))
    monkeypatch.setattr(partitions, "result_storage", lambda: storage)
    return storage


@task(cache_policy=PER_RUN, result_serializer=ARROW)
def rows_of(part: Part) -> pl.DataFrame:
    return part.read()


@pytest.mark.parametrize(
    ("where", "size"),
    [("visits >= 0", 1), ("visits >= 0", 10), ("visits > 7", 7), ("visits > 7", 100), ("visits < 0", 10)],
)
def test_partitions_are_the_query_s_rows_in_its_order(
    source: ProfileFile, result_folder: Path, where: str, size: int
) -> None:
    options = QueryOptions(source=source, where=where, fields={"twice": "visits * 2"})

    @flow
    def campaign() -> Partitions:
        audience = query_partitions(options, PartitionOptions(size=size))
        read.extend(part.read() for part in audience)
        return audience

    read: list[pl.DataFrame] = []
    audience = campaign()
    whole = query.fn(options)
    assert_frame_equal(pl.concat(read), whole)
    assert audience.height == whole.height
    assert [part.rows for part in audience] == [table.height for table in read]
    assert all(table.height == size for table in read[:-1])
    files = sorted((result_folder / "partitions").rglob("*.arrow"))
    assert [pl.read_ipc(file).height for file in files] == [table.height for table in read]


def test_partitions_of_a_source_with_additional_data_have_it(source: ProfileFile, result_folder: Path) -> None:
    options = QueryOptions(
        source=source,
        additional_data=[
            {
                "name": "last",
                "source": source,
                "on": {"zip_code": "zip_code"},
                "cardinality": "many",
                "order_by": ["visits"],
                "lines": 1,
            }
        ],
    )

    @flow
    def campaign() -> list[pl.DataFrame]:
        return [part.read() for part in query_partitions(options, PartitionOptions(size=4))]

    assert_frame_equal(pl.concat(campaign()), query.fn(options))


def test_a_source_that_turns_out_unreadable_is_told_as_by_the_query(tmp_path: Path, result_folder: Path) -> None:
    path = tmp_path / "profiles.parquet"
    PROFILES.write_parquet(path)
    path.write_bytes(path.read_bytes()[:40] + b"\0" * 40 + path.read_bytes()[80:])

    @flow
    def campaign() -> None:
        query_partitions(QueryOptions(source=ProfileFile(path=path, types={})), PartitionOptions())

    with pytest.raises(SourceUnreadable, match=r"profiles.parquet"):
        campaign()


@given(
    codes=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30),
    size=st.integers(1, 9),
    keep=st.integers(0, 3),
    which=st.sampled_from(["any", "smallest", "largest", "non_empty"]),
)
def test_deduplication_keeps_the_same_rows_in_one_piece_and_in_partitions(
    tmp_path_factory: pytest.TempPathFactory, codes: list[str | None], size: int, keep: int, which: str
) -> None:
    table = pl.DataFrame(
        {"n": range(len(codes)), "code": codes, "by": [number * 7 % 5 for number in range(len(codes))]},
        schema={"n": pl.Int64(), "code": pl.String(), "by": pl.Int64()},
    )
    by = "" if which == "any" else "NULLIF(by, 0)"
    options = DeduplicationOptions(columns=["code"], keep=keep, which=which, by=by)
    storage = LocalFileSystem(basepath=str(tmp_path_factory.getbasetemp() / "deduplication"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "result_storage", lambda: storage)
        slices = list(table.iter_slices(size)) or [table]
        kept = deduplicate_partitions(stored_partitions(slices, "run", distinct=True), options)
    assert_frame_equal(kept, deduplication.fn(table, options).standard)


def test_a_partition_that_is_gone_is_told_in_a_sentence(in_memory: LocalFileSystem) -> None:
    with pytest.raises(PartitionGone, match=r"'partitions/x/000001.arrow'.*Start a new run") as raised:
        Part(run="x", number=1, rows=1, file="partitions/x/000001.arrow").read()
    assert isinstance(raised.value, CampaignError)


def test_a_result_storage_that_cannot_be_written_is_told_in_a_sentence(
    in_memory: LocalFileSystem, tmp_path: Path
) -> None:
    (tmp_path / "storage").write_text("a file")
    with pytest.raises(ResultsUnwritable, match="PREFECT_LOCAL_STORAGE_PATH"):
        stored_partitions([PROFILES], "run", distinct=True)


def test_partitions_with_duplicates_are_of_no_common_run(in_memory: LocalFileSystem) -> None:
    first, second = stored_partitions([PROFILES, PROFILES], "run", distinct=False)
    assert first.run != second.run
    assert len({part.run for part in stored_partitions([PROFILES, PROFILES], "run", distinct=True)}) == 1


def test_an_outcome_is_small_and_outcomes_add_up() -> None:
    rejects = pl.DataFrame({"profile_id": ["1"], "email": ["a@x"], "reason": ["why"], "more": [1]})
    messages = pl.DataFrame(dict.fromkeys(("profile_id", "email", "subject", "html", "text"), ["x" * 50] * 5000))
    one = Outcome.of({"Personalization": Split(messages, rejects), "Query": messages}, messages)
    both = Outcome.joined([one, one])
    assert one.messages.height == both.messages.height == 20
    assert len(ARROW.dumps(one)) < 20_000
    assert (both.rows("Personalization"), both.rows("Personalization", "rejects")) == (10_000, 2)
    assert both.rejects.columns == ["profile_id", "email", "reason"]
    assert transition_counts({"Partitions": both}).rows() == [
        ("Personalization", "standard", 10_000),
        ("Personalization", "rejects", 2),
        ("Query", "standard", 10_000),
    ]


def test_partitions_are_counted_as_the_audience_that_they_are(in_memory: LocalFileSystem) -> None:
    audience = stored_partitions([PROFILES, PROFILES.head(3)], "run", distinct=True)
    assert transition_counts({"Query": audience}).rows() == [("Query", "standard", 28)]


def test_a_retried_run_works_on_the_partitions_that_are_missing(source: ProfileFile, result_folder: Path) -> None:
    worked: list[int] = []

    @task(cache_policy=PER_RUN, result_serializer=ARROW)
    def work(part: Part) -> pl.DataFrame:
        worked.append(part.number)
        if part.number == 2 and worked.count(2) == 1:
            raise ValueError("the first time")
        return part.read()

    @flow(retries=1)
    def campaign() -> int:
        audience = query_partitions(QueryOptions(source=source), PartitionOptions(size=10))
        return sum(table.height for table in work.map(audience).result())

    assert campaign() == 23
    assert sorted(worked) == [1, 2, 2, 3]


@pytest.fixture
def bucket() -> Callable[[], RemoteFileSystem]:
    """A bucket of moto's S3 server on loopback, as Prefect's storage."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
    client.create_bucket(Bucket="results")
    yield RemoteFileSystem(
        basepath="s3://results/campaigns",
        settings={
            "key": "key",
            "secret": "secret",
            "client_kwargs": {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"},
        },
    )
    server.stop()


def test_partitions_and_their_results_are_kept_in_a_bucket_where_the_storage_is_one(
    source: ProfileFile, result_folder: Path, bucket: RemoteFileSystem
) -> None:
    bucket.save("results-in-a-bucket", overwrite=True)
    stored = RemoteFileSystem.load("results-in-a-bucket")

    @flow(result_storage=stored, persist_result=True)
    def campaign() -> int:
        audience = query_partitions(QueryOptions(source=source), PartitionOptions(size=10))
        return sum(table.height for table in rows_of.map(audience).result())

    assert campaign() == 23
    names = [file.rpartition("/")[2] for file in stored.filesystem.find("results/campaigns/partitions")]
    assert sorted(names) == ["000001.arrow", "000002.arrow", "000003.arrow"]
    assert not (result_folder / "partitions").exists()
