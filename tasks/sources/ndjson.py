"""Files of one JSON object a line: every line is proved to be one before any value is read."""

import codecs
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import polars as pl

from tasks.files.shape import MOST_FAULTS, ROW, SHOWN, ShapeRefused, other_kind, unpacked
from tasks.http.bounded import GZIP_MAGIC
from tasks.tables.columns import REPORT

ONE_A_LINE = "Give one JSON object a line, in UTF-8."


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
    faults: list[tuple[int, None, str, str]] = []
    blank: list[int] = []
    objects = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                whole = isinstance(orjson.loads(line.removeprefix(codecs.BOM_UTF8)), dict)
            except orjson.JSONDecodeError:
                whole = False
            if whole:
                objects += 1
            elif not line.strip():
                blank.append(number)
            else:
                faults.append(
                    (number, None, f"is no JSON object (line {number})", line[:SHOWN].decode("utf-8", "replace"))
                )
                if len(faults) > MOST_FAULTS:
                    raise ShapeRefused(
                        f"more than {MOST_FAULTS} of its lines are no JSON objects",
                        ONE_A_LINE,
                    ) from None
    if not objects:
        reason = "none of its lines is a JSON object in UTF-8" if faults else "it is empty"
        raise ShapeRefused(reason, ONE_A_LINE)
    report = pl.DataFrame(faults, schema=REPORT, orient="row")
    left_out = pl.Series(sorted([*report["row"], *blank]), dtype=pl.Int64())
    if left_out.is_empty() and not start.startswith(codecs.BOM_UTF8):
        return JsonLines(path, left_out, report)
    return _copied(path, left_out, report)


def _copied(path: Path, left_out: pl.Series, faults: pl.DataFrame) -> JsonLines:
    folder = TemporaryDirectory(prefix="campaign-")
    copy = Path(folder.name, "whole.ndjson")
    bad = set(left_out)
    with path.open("rb") as file, copy.open("wb") as whole:
        whole.writelines(
            line.removeprefix(codecs.BOM_UTF8) for number, line in enumerate(file, start=1) if number not in bad
        )
    return JsonLines(copy, left_out, faults, folder)
