"""Files of one JSON object a line: every line is proved to be one before any value is read."""

import codecs
import json
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import polars as pl

from tasks.files.shape import MOST_FAULTS, ROW, SHOWN, ShapeRefused, other_kind, unpacked
from tasks.http.bounded import GZIP_MAGIC
from tasks.tables.columns import REPORT
from tasks.tables.natives import EXACT

ONE_A_LINE = "Give one JSON object a line, in UTF-8."
MIXED = "Write the values of a key alike in every line; whole numbers beyond 2^53 as texts."
KEY = re.compile(rb'"\s*:')
SPACED = (b'" ', b'"\t', b'"\r')
NESTED = (dict, list)
SPOKEN: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    bool: "true or false",
    int: "a number",
    float: "a number",
}
MOST_SHAPES = 10_000
"""Different combinations of keys and kinds that are remembered, to look at each once."""


@dataclass(frozen=True)
class JsonLines:
    """A file, or a copy of its whole lines."""

    path: Path
    left_out: pl.Series
    faults: pl.DataFrame
    folder: TemporaryDirectory[str] | None = field(default=None)

    def scan(self) -> pl.LazyFrame:
        """The objects as rows, numbered as the file's lines are. Errors: those of polars."""
        table = pl.scan_ndjson(self.path, infer_schema_length=None).with_row_index(ROW, offset=1)
        number = pl.col(ROW).cast(pl.Int64())
        if self.left_out.len():
            before = self.left_out - pl.int_range(1, len(self.left_out) + 1, eager=True)
            number += pl.lit(before).search_sorted(number - 1, side="right")
        return table.with_columns(number.alias(ROW))


def json_lines(path: Path) -> JsonLines:
    """Prove that every line is an object. Errors: `ShapeRefused`, `OSError`."""
    with path.open("rb") as file:
        start = file.read(64)
        if start.startswith(GZIP_MAGIC):
            file.seek(0)
            folder = TemporaryDirectory(prefix="campaign-")
            plain = json_lines(unpacked(file, Path(folder.name, "unpacked.ndjson"), path.stat().st_size * 100))
            return plain if plain.folder else replace(plain, folder=folder)
    kind = other_kind(start)
    if kind not in {"", "JSON"}:
        raise ShapeRefused(f"it is no text: it is {kind}", ONE_A_LINE)
    if start.lstrip().startswith(b"["):
        raise ShapeRefused("it is one JSON array", ONE_A_LINE)
    faults: list[tuple[int, str | None, str, str]] = []
    kinds = _Kinds()
    blank: list[int] = []
    objects = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                found = orjson.loads(line.removeprefix(codecs.BOM_UTF8))
            except orjson.JSONDecodeError:
                found = None
            reason = f"is no JSON object (line {number})"
            if isinstance(found, dict):
                shape = kinds.shape(found)
                twice = _repeated_key(line, found, is_flat=not shape.nested)
                if twice is None:
                    objects += 1
                    kinds.note(number, found, shape)
                    continue
                reason = f"has the key '{twice[:SHOWN]}' twice (line {number})"
            if not line.strip():
                blank.append(number)
            else:
                faults.append((number, None, reason, line[:SHOWN].decode("utf-8", "replace")))
                if len(faults) > MOST_FAULTS:
                    raise ShapeRefused(f"more than {MOST_FAULTS} of its lines are no JSON objects", ONE_A_LINE)
    if not objects:
        reason = "none of its lines is a JSON object in UTF-8" if faults else "it is empty"
        raise ShapeRefused(reason, ONE_A_LINE)
    faults += kinds.faults()
    report = pl.DataFrame(faults, schema=REPORT, orient="row")
    left_out = pl.Series(sorted({*report["row"], *blank}), dtype=pl.Int64())
    if left_out.is_empty() and not start.startswith(codecs.BOM_UTF8):
        return JsonLines(path, left_out, report)
    return _copied(path, left_out, report)


def _repeated_key(line: bytes, found: dict[str, Any], *, is_flat: bool) -> str | None:
    """A key that the object, or one in it, has twice: readers differ in which of its values they take."""
    # A text may look like a key and make the first number larger, never smaller.
    is_spaced = any(mark in line for mark in SPACED)
    marks = len(KEY.findall(line)) if is_spaced else line.count(b'":')
    if marks == (len(found) if is_flat else _keys(found)):
        return None
    repeated: list[str] = []

    def looked_at(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        repeated.extend(name for place, name in enumerate(names) if name in names[:place])
        return dict(pairs)

    json.loads(line.removeprefix(codecs.BOM_UTF8), object_pairs_hook=looked_at)
    return repeated[0] if repeated else None


def _keys(value: Any) -> int:  # noqa: ANN401  # any value of JSON
    if isinstance(value, dict):
        return len(value) + sum(_keys(each) for each in value.values() if type(each) in NESTED)
    return sum(_keys(each) for each in value if type(each) in NESTED)


class _Shape:
    """The keys of an object and the kinds of their values."""

    def __init__(self, kinds: dict[str, type]) -> None:
        self.kinds = kinds
        self.nested = [name for name, kind in kinds.items() if kind in NESTED]
        self.whole = [name for name, kind in kinds.items() if kind is int]
        self.is_noted = False


class _Kinds:
    """The kinds of value that each key has, and the lines that are bad where a key has others too."""

    def __init__(self) -> None:
        self._of_shape: dict[tuple[object, ...], _Shape] = {}
        self._kinds: dict[str, set[type]] = {}
        self._nested: dict[str, array[int]] = {}
        self._large: dict[str, array[int]] = {}

    def shape(self, found: dict[str, Any]) -> _Shape:
        """That of an object; the same for all that are alike."""
        kinds = tuple(map(type, found.values()))
        shape = self._of_shape.get((*found, *kinds))
        if shape is None:
            of_keys = dict(zip(found, kinds, strict=True))
            shape = _Shape(of_keys)
            if len(self._of_shape) < MOST_SHAPES:
                self._of_shape[*found, *kinds] = shape
        return shape

    def note(self, number: int, found: dict[str, Any], shape: _Shape) -> None:
        """Keep what a line's object has."""
        if not shape.is_noted:
            shape.is_noted = True
            for name, kind in shape.kinds.items():
                self._kinds.setdefault(name, set()).add(kind)
        for name in shape.nested:
            self._nested.setdefault(name, array("q")).append(number)
        for name in shape.whole:
            if not -EXACT <= found[name] <= EXACT:
                self._large.setdefault(name, array("q")).append(number)

    def faults(self) -> list[tuple[int, str, str, str]]:
        """The lines whose value would become another's kind: JSON's text, or a floating number that is not it.

        Errors: `ShapeRefused`.
        """
        found: dict[int, tuple[int, str, str, str]] = {}
        for name, kinds in self._kinds.items():
            for one, other in ((dict, list), (bool, int), (bool, float)):
                if {one, other} <= kinds and not (_has_plain(kinds) if one is dict else str in kinds):
                    raise ShapeRefused(
                        f"the key '{name}' is {SPOKEN[one]} in some lines and {SPOKEN[other]} in others", MIXED
                    )
        for reason, lines, is_bad in (
            ("is an object or a list, and other lines have none", self._nested, _has_plain),
            ("is beyond the whole numbers of 2^53, and other lines have fractions", self._large, _has_fractions),
        ):
            for name, numbers in lines.items():
                if is_bad(self._kinds[name]):
                    if len(numbers) > MOST_FAULTS:
                        raise ShapeRefused(
                            f"more than {MOST_FAULTS} values of '{name}' are bad: each {reason}", MIXED
                        )
                    for number in numbers:
                        found.setdefault(number, (number, name, reason, "..."))
        return list(found.values())


def _has_plain(kinds: set[type]) -> bool:
    return bool(kinds & {str, int, float, bool})


def _has_fractions(kinds: set[type]) -> bool:
    return float in kinds and str not in kinds


def _copied(path: Path, left_out: pl.Series, faults: pl.DataFrame) -> JsonLines:
    folder = TemporaryDirectory(prefix="campaign-")
    copy = Path(folder.name, "whole.ndjson")
    bad = set(left_out)
    with path.open("rb") as file, copy.open("wb") as whole:
        whole.writelines(
            line.removeprefix(codecs.BOM_UTF8) for number, line in enumerate(file, start=1) if number not in bad
        )
    return JsonLines(copy, left_out, faults, folder)
