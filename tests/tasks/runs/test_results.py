"""Stored results, as a retried run and as another tool find them."""

import base64
import io
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from prefect import flow, task
from prefect.cache_policies import INPUTS

from tasks.errors import StatusRefused
from tasks.runs.results import ARROW, PER_RUN, ArrowSerializer, ReadableResults
from tasks.tables.transitions import Transitions

TABLE = pl.DataFrame(
    {
        "name": ["Ada", None, "山田"],
        "day": [date(2000, 2, 29), None, date(2026, 11, 24)],
        "tags": [["a"], [], None],
        "coupon": [{"code": "1"}, None, {"code": None}],
    }
)


@dataclass(frozen=True)
class Split(Transitions):
    standard: pl.DataFrame
    rejects: pl.DataFrame


def test_a_table_is_an_arrow_file_that_any_reader_opens() -> None:
    blob = ArrowSerializer().dumps(TABLE)
    assert blob.startswith(b"ARROW1")
    assert_frame_equal(pl.read_ipc(io.BytesIO(blob)), TABLE)
    assert_frame_equal(ArrowSerializer().loads(blob), TABLE)


@pytest.mark.parametrize(
    "rejects", [TABLE, TABLE.clear(), pl.DataFrame({"reason": []}, schema={"reason": pl.String()})]
)
def test_named_transitions_come_back_as_themselves(rejects: pl.DataFrame) -> None:
    blob = ArrowSerializer().dumps(Split(TABLE, rejects))
    assert blob.startswith(b"ARROW1")
    again = ArrowSerializer().loads(blob)
    assert isinstance(again, Split)
    assert_frame_equal(again.standard, TABLE)
    assert_frame_equal(again.rejects, rejects)


def test_no_result_is_a_pickle() -> None:
    for result in (TABLE, Split(TABLE, TABLE), 7, StatusRefused(url="u", status=503, cure="")):
        assert ArrowSerializer().dumps(result)[:6] == b"ARROW1" or ArrowSerializer().dumps(result)[:1] in b'{7"'


def test_equal_calls_in_one_run_are_done_once(result_folder: Path) -> None:
    ran: list[int] = []

    @task(cache_policy=PER_RUN, result_serializer=ARROW)
    def make(size: int) -> pl.DataFrame:
        ran.append(size)
        return pl.DataFrame({"n": range(size)})

    @flow
    def twice() -> None:
        assert_frame_equal(make(3), make(3))

    twice()
    assert ran == [3]
    stored = [path for path in result_folder.iterdir() if path.suffix != ".json"]
    assert [path.read_bytes()[:6] for path in stored] == [b"ARROW1"]
    twice()
    assert ran == [3, 3], "another run is another matter"


def gone(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix != ".json":
            path.unlink()


def cut_short(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix != ".json":
            path.write_bytes(path.read_bytes()[:100])


def moved(folder: Path) -> None:
    """Metadata keeps the absolute path of its result; Prefect alone fails on one outside its storage."""
    elsewhere = folder.with_name("elsewhere")
    shutil.move(folder, elsewhere)
    folder.mkdir()
    for path in elsewhere.iterdir():
        (folder / path.name).write_bytes(path.read_bytes().replace(bytes(folder), bytes(elsewhere)))


class Ran:
    """A pickle that does something when it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (Path("pickle-was-read"),))


def pickled(folder: Path) -> None:
    """Metadata that asks for pickle, beside a pickle."""
    for path in folder.iterdir():
        if path.suffix == ".json":
            path.write_text(path.read_text().replace('"arrow"', '"pickle"'))
        else:
            path.write_bytes(base64.encodebytes(pickle.dumps(Ran())))


def pickle_beside_our_metadata(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix != ".json":
            path.write_bytes(pickle.dumps(Ran()))


def other_file(folder: Path) -> None:
    (folder / "other").write_bytes(ArrowSerializer().dumps(pl.DataFrame({"n": range(9)})))
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace(path.name.removesuffix(".meta.json"), "other"))


def some_class(folder: Path) -> None:
    """JSON that asks for a class that is not one of ours."""
    for path in folder.iterdir():
        if path.suffix != ".json":
            path.write_text('{"__class__": "antigravity.fly", "data": {}}')


def some_call(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix != ".json":
            path.write_text('{"__exc_type__": "os.system", "message": "touch pickle-was-read"}')


@pytest.mark.parametrize(
    "spoil", [gone, cut_short, moved, pickled, pickle_beside_our_metadata, other_file, some_class, some_call]
)
def test_a_result_that_cannot_be_read_is_a_miss_and_made_again_once(
    result_folder: Path, spoil: Callable[[Path], None], in_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []

    @task(cache_policy=ReadableResults(policy=INPUTS), result_serializer=ARROW)
    def make(size: int) -> pl.DataFrame:
        ran.append(size)
        return pl.DataFrame({"n": range(size)})

    @flow
    def once() -> int:
        return make(3).height

    assert once() == 3
    assert ran == [3]
    spoil(result_folder)
    assert once() == once() == 3
    assert ran == [3, 3]
    assert spoil is moved or "A stored result is passed over: " in caplog.text
    assert not (in_folder / "pickle-was-read").exists()
    assert "antigravity" not in sys.modules


def test_a_run_that_failed_goes_on_from_its_stored_results(result_folder: Path) -> None:
    ran: list[str] = []

    @task(cache_policy=PER_RUN, result_serializer=ARROW)
    def select() -> Split:
        ran.append("select")
        return Split(TABLE, TABLE.clear())

    @task(cache_policy=PER_RUN, result_serializer=ARROW)
    def send(table: pl.DataFrame) -> pl.DataFrame:
        ran.append("send")
        if ran.count("send") == 1:
            raise ConnectionError("the disk was full")
        return table

    @flow(retries=1)
    def campaign() -> pl.DataFrame:
        return send(select().standard)

    assert_frame_equal(campaign(), TABLE)
    assert ran == ["select", "send", "send"]
