"""The folders that campaigns write into."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

PARTITIONS = "partitions"
LOCKS = ".locks"


@dataclass(frozen=True)
class Store:
    """One kind of files."""

    name: str
    folder: Path
    is_cache: bool = False
    """Whether a file that is gone is made again by the next run."""

    def files(self) -> Iterator[Path]:
        """Every file of it, in order; a link that leads out of the folder is none."""
        if not self.folder.is_dir():
            return
        root = self.folder.resolve()
        for path in sorted(self.folder.rglob("*")):
            within = path.relative_to(self.folder).parts
            is_part = self.name == PARTITIONS or within[0] not in {PARTITIONS, LOCKS}
            if is_part and path.is_file() and path.resolve().is_relative_to(root):
                yield path


def stores_of(folders: Mapping[str, Path]) -> list[Store]:
    """The stores of these folders, by name, and those of Prefect's results on this machine."""
    results = Path(PREFECT_LOCAL_STORAGE_PATH.value())
    known: dict[Path, Store] = {}
    for name, folder in folders.items():
        known.setdefault(folder.resolve(), Store(name, folder))
    return [
        *known.values(),
        Store("results", results, is_cache=True),
        Store(PARTITIONS, results / PARTITIONS, is_cache=True),
    ]
