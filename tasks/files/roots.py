"""Paths that parameters name: under a root that the operator gives, whatever links and patterns they go through."""

from collections.abc import Iterator
from glob import has_magic, iglob
from pathlib import Path

from tasks.errors import OutsideRoot


def check_under(root: Path, path: Path, *, what: str, setting: str) -> None:
    """Check that all that a path leads to is under a root that the operator gives in a setting.

    In: a file, a folder or a pattern, relative to the working folder. Links are followed before they are looked at;
    of a folder, everything in it is looked at. What is not there is left to whoever reads it.
    Errors: `OutsideRoot`, for what is elsewhere, and for what is neither a file nor a folder.
    """
    refused = OutsideRoot(what=what, path=str(path).replace("\x00", "?"), setting=setting, root=root)
    if "\x00" in str(path):
        raise refused
    allowed = root.resolve()
    for found in _reached_by(path):
        there = found.resolve()
        if not there.is_relative_to(allowed) or (there.exists() and not there.is_file() and not there.is_dir()):
            raise refused


def _reached_by(path: Path) -> Iterator[Path]:
    """The path, or what its pattern starts from, and all that it matches and holds; nothing that is elsewhere."""
    parts = path.parts
    fixed = next((place for place, part in enumerate(parts) if has_magic(part)), len(parts))
    start = Path(*parts[:fixed])
    yield start  # refused before anything is listed there
    matched = [start] if fixed == len(parts) else map(Path, iglob(str(path), recursive=True))  # noqa: PTH207
    for found in matched:
        yield found
        if found.is_dir():
            yield from found.rglob("*")
