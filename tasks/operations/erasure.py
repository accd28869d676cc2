"""Erasure: removes one person from every file that campaigns have written, and says what was found."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tasks.files.storage import written_whole
from tasks.messages.address import normalized_address
from tasks.operations.stores import Store

FOUND = {"store": pl.String(), "place": pl.String(), "what": pl.String(), "items": pl.Int64()}
PARQUET, ARROW = b"PAR1", b"ARROW1"
DELIMITERS = ",;\t|"


class Person(NamedTuple):
    """The person to remove: by profile, by address, or both."""

    profile_id: str
    address: str

    @property
    def names(self) -> set[str]:
        """Texts that stand for the person in a table, as they are compared."""
        return {
            text for text in (self.profile_id, normalized_address(self.address) if self.address else "") if text
        }

    def is_in(self, value: object) -> bool:
        """Whether a value of a table stands for the person."""
        text = str(value)
        return text in self.names or (bool(self.address) and normalized_address(text) in self.names)

    def is_named_in(self, content: bytes) -> bool:
        """Whether the bytes of a file hold the address, in any letter case."""
        return bool(self.address) and self.address.strip().lower().encode() in content.lower()


def erased(stores: Sequence[Store], person: Person, *, dry_run: bool) -> pl.DataFrame:
    """Remove the person from each store's files, or say where they are: store, place, what, items.

    A row of a table is removed; a message, a page or a cached result with the person in it is removed whole.
    """
    rows = []
    for store in stores:
        for path in store.files():
            what, items = _erased(path, store, person, dry_run=dry_run)
            if items:
                rows.append((store.name, path.relative_to(store.folder).as_posix(), what, items))
    return pl.DataFrame(rows, schema=FOUND, orient="row")


def _erased(path: Path, store: Store, person: Person, *, dry_run: bool) -> tuple[str, int]:
    content = path.read_bytes()
    if store.is_cache:
        named = person.is_named_in(content) or person.profile_id.encode() in content
        return "file", _removed(path, dry_run=dry_run) if named and person.names else 0
    if content.startswith(PARQUET):
        return "rows", _erased_from_parquet(path, content, person, dry_run=dry_run)
    if path.suffix == ".csv":
        return "rows", _erased_from_csv(path, content, person, dry_run=dry_run)
    return "file", _removed(path, dry_run=dry_run) if person.is_named_in(content) else 0


def _removed(path: Path, *, dry_run: bool) -> int:
    if not dry_run:
        path.unlink()
    return 1


def _erased_from_parquet(path: Path, content: bytes, person: Person, *, dry_run: bool) -> int:
    table = pl.read_parquet(io.BytesIO(content))
    simple = [name for name, kind in table.schema.items() if not kind.is_nested()]
    theirs = pl.Series(
        [any(map(person.is_in, row)) for row in table.select(simple).iter_rows()], dtype=pl.Boolean()
    )
    if not dry_run and theirs.any():
        with written_whole(path) as draft:
            table.filter(~theirs).write_parquet(draft)
    return int(theirs.sum())


def _erased_from_csv(path: Path, content: bytes, person: Person, *, dry_run: bool) -> int:
    text = content.decode("utf-8-sig", "surrogateescape")
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    kept = [row for row in rows if not any(map(person.is_in, row))]
    if not dry_run and len(kept) < len(rows):
        with (
            written_whole(path) as draft,
            draft.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(kept)
    return len(rows) - len(kept)
