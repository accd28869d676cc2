import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl
import pytest

from tasks.errors import StoreUnwritable
from tasks.files.storage import created_whole, make_private, private_draft, written_whole

Writer = Callable[[Path], AbstractContextManager[Path]]


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def places() -> list[Path]:
    return sorted(path for path in Path().rglob("*") if path.is_file())


@pytest.mark.parametrize("writer", [written_whole, created_whole, private_draft])
def test_a_file_and_its_draft_are_private_from_their_birth(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with writer(Path("kept", "by day", "people.csv")) as draft:
        assert mode(draft) == 0o600
        assert places() == [draft]
        pl.DataFrame({"name": ["Ada"]}).write_csv(draft)
        assert mode(draft) == 0o600
    assert {mode(folder) for folder in (Path("kept"), Path("kept", "by day"))} == {0o700}
    assert places() == ([] if writer is private_draft else [Path("kept", "by day", "people.csv")])
    assert {mode(path) for path in places()} <= {0o600}


@pytest.mark.parametrize("writer", [written_whole, created_whole])
def test_a_writer_that_fails_leaves_what_was_there(writer: Writer, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    if writer is written_whole:
        path.write_text("before")
    with pytest.raises(ZeroDivisionError), writer(path) as draft:
        draft.write_text(f"half {1 // 0}")
    assert [file.read_text() for file in tmp_path.iterdir()] == (["before"] if writer is written_whole else [])


def test_two_writers_of_one_process_have_drafts_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    with written_whole(path) as one:
        with written_whole(path) as other:
            one.write_text("one")
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"


def test_a_file_that_is_there_is_not_created_again(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("before")
    with pytest.raises(FileExistsError), created_whole(path) as draft:
        draft.write_text("after")
    assert path.read_text() == "before"


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    with (
        pytest.raises(StoreUnwritable, match="Not a directory"),
        written_whole(tmp_path / "kept" / "people.csv"),
    ):
        pass


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    make_private(tmp_path / "open" / "kept")
    assert [mode(tmp_path / "open"), mode(tmp_path / "open" / "kept")] == [0o755, 0o700]
