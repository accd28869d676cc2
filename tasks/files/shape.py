"""The shape of a delimited text file, proved before any value is read: every record has each column once.

A line that fits one strict grammar is a record, and polars reads it as this module does. Other lines are looked at
one by one: a record over several lines is put together, whatever else is a fault of that line alone. Where a file
has faults, is compressed, or is in another encoding, what is read is a private copy of its whole records.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal

import polars as pl
from polars.exceptions import ComputeError, NoDataError
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.http.bounded import GZIP_MAGIC, Damaged, OverBound, read_pieces
from tasks.tables.columns import REPORT
from tasks.tables.transitions import quoted

ROW = "\x00row"
"""Column of a record's number in its file, from 1, the header not counted."""
HEAD = 1024 * 1024
"""The header is in so many of a file's first bytes."""
MOST_COLUMNS = 4096
MOST_LINES = 100
"""Lines that one record may go over."""
WIDEST_GRAMMAR = 200
"""Columns up to which the grammar is one expression; in wider files, lines with quotes are looked at one by one."""
MOST_FAULTS = 100_000
SHOWN = 200
"""Characters of a line that a report of its fault keeps."""
SEPARATORS = {";": "a semicolon", "\t": "a tab", "|": "a bar", ",": "a comma"}
SEPARATOR_LINE = re.compile(r"^sep=(.)$", re.IGNORECASE)
UTF_8 = {"utf-8", "utf-8-sig"}
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""How text of a wide encoding begins; the longer first."""
SIGNATURES = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"(\xb5/\xfd": "compressed with Zstandard",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    GZIP_MAGIC: "compressed with gzip",
    b"PAR1": "a Parquet file",
    b"SQLite format 3\x00": "a SQLite database",
    b"%PDF": "a PDF document",
}
"""How files begin that are of another kind."""
MARKUP = {re.compile(rb"(?i)<(!doctype|html|\?xml)"): "HTML or XML", re.compile(rb"\[?\s*\{\s*[\"}]"): "JSON"}
"""How texts begin that are of another kind."""


class Dialect(BaseModel):
    """How a delimited text file is written."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    separator: str = Field(
        default=",", min_length=1, max_length=1, title="Separator", description="Between values."
    )
    quote: str = Field(default='"', max_length=1, title="Quote", description="Around texts; empty for none.")
    quote_escape: Literal["doubled", "backslash"] = Field(
        default="doubled",
        title="Quote in a text",
        description='How a quote inside a quoted text is written: doubled ("") or after a backslash (\\").',
    )
    skip_lines: int = Field(
        default=0, ge=0, title="Lines to skip", description="Lines before the header or the data."
    )
    encoding: str = Field(
        default="utf-8", title="Encoding", description="Encoding of the file, as cp1252, utf-16 or latin-1."
    )

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, name: str) -> str:
        try:
            "".encode(name)
        except LookupError:
            raise ValueError(f"'{name}' is not an encoding; write one like utf-8 or cp1252") from None
        return codecs.lookup(name).name


class ShapeRefused(Exception):
    """The file is not what its options say. `reason` goes after "it cannot be read:", `cure` is a sentence."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cure = cure


@dataclass(frozen=True)
class Shaped:
    """A file whose shape is proved."""

    dialect: Dialect
    path: Path
    """What is read: the file, or a copy of its whole records."""
    columns: tuple[str, ...]
    skip: int
    """Lines of it before the first record."""
    faults: pl.DataFrame
    """Records that are not whole, as a table of `REPORT`."""
    left_out: pl.Series = field(default_factory=lambda: pl.Series([], dtype=pl.Int64()))
    """Numbers of the file's records that the copy has not, in order."""
    folder: TemporaryDirectory[str] | None = None
    """Where the copy is, as long as this is."""

    def scan(self) -> pl.LazyFrame:
        """The whole records, values as texts, with their numbers as the column `ROW`."""
        table = pl.scan_csv(
            self.path,
            has_header=False,
            schema=dict.fromkeys(self.columns, pl.String()),
            separator=self.dialect.separator,
            quote_char=self.dialect.quote or None,
            skip_lines=self.skip,
            row_index_name=ROW,
            row_index_offset=1,
            glob=False,
        ).with_columns(pl.col(ROW).cast(pl.Int64()))
        if self.left_out.is_empty():
            return table
        # A record's number is its number here and that of the records before it that were left out.
        before = self.left_out - pl.int_range(1, len(self.left_out) + 1, eager=True)
        return table.with_columns(pl.col(ROW) + pl.lit(before).search_sorted(pl.col(ROW) - 1, side="right"))


def shaped(path: Path, dialect: Dialect, *, header: bool = True, limit: int | None = None) -> Shaped:
    """Prove the shape of a file; without a header its columns are 1, 2 and so on.

    `limit` is how many bytes a compressed file may have once it is not. Errors: `ShapeRefused`, `OSError`.
    """
    folder: TemporaryDirectory[str] | None = None
    with path.open("rb") as file:
        start = file.read(len(GZIP_MAGIC))
        file.seek(0)
        size = path.stat().st_size
        if limit is not None and size > limit:
            raise ShapeRefused(f"it has more than {limit} bytes", "Divide the file, or raise max_bytes.")
        if start == GZIP_MAGIC:
            folder = TemporaryDirectory(prefix="campaign-")
            path = unpacked(file, Path(folder.name, "unpacked.csv"), limit or size * 100)
    columns, skip = _header(path, dialect, header=header)
    suspicious = dialect.encoding not in UTF_8 or dialect.quote_escape == "backslash"
    if not suspicious and not header:
        suspicious = _head(path).startswith(codecs.BOM_UTF8)
    if not suspicious:
        try:
            suspicious = _has_odd_lines(path, dialect, len(columns), skip)
        except ComputeError:
            raise _not_text(path, dialect) from None
    if suspicious:
        return _copied(path, dialect, columns, skip)
    return Shaped(dialect, path, columns, skip, pl.DataFrame(schema=REPORT), folder=folder)


def columns_of(path: Path, dialect: Dialect) -> tuple[str, ...]:
    """The labels of a file's header. Errors: `ShapeRefused`, `OSError`."""
    return _header(path, dialect, header=True)[0]


def other_kind(start: bytes) -> str:
    """What a file of these first bytes is, where it is of another kind than delimited text; else an empty text."""
    start = start.removeprefix(codecs.BOM_UTF8).lstrip()
    found = [kind for magic, kind in SIGNATURES.items() if start.startswith(magic)]
    return next(iter([*found, *(kind for form, kind in MARKUP.items() if form.match(start))]), "")


def unpacked(file: IO[bytes], path: Path, limit: int) -> Path:
    """A compressed file's content as a file of at most so many bytes. Errors: `ShapeRefused`."""
    try:
        with path.open("wb") as copy:
            for piece in read_pieces(file, limit):  # type: ignore[arg-type]
                copy.write(piece)
    except (OverBound, Damaged) as error:
        raise ShapeRefused(f"it {error}", "Divide the file, or raise max_bytes.") from None
    return path


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(HEAD)
    if start[:2] != GZIP_MAGIC:
        return start
    with path.open("rb") as file:
        try:
            return next(read_pieces(file, 100 * HEAD), b"")
        except (OverBound, Damaged) as error:
            raise ShapeRefused(f"it {error}", "Write the file again.") from None


def _header(path: Path, dialect: Dialect, *, header: bool) -> tuple[tuple[str, ...], int]:
    """The columns, and how many lines are before the first record."""
    head = _head(path)
    if not head:
        raise ShapeRefused("it is empty", "Give a file with a header.")
    kind = other_kind(head)
    if kind:
        raise ShapeRefused(f"it is not delimited text: it is {kind}", "Give the file as delimited text.")
    _check_encoding(head, dialect)
    text = head.decode(_decoder(dialect), errors="ignore").removeprefix("\ufeff")
    if "\n" not in text and "\r" in text:
        raise ShapeRefused("its lines end with CR alone", "Write the file with lines that end with LF or CR LF.")
    lines = text.split("\n")
    skip = dialect.skip_lines
    told = SEPARATOR_LINE.match(lines[min(skip, len(lines) - 1)].rstrip("\r"))
    if told and told[1] != dialect.separator:
        raise ShapeRefused(
            f"its first line says that values are between {SEPARATORS.get(told[1], repr(told[1]))}",
            f"Set separator to {told[1]!r}.",
        )
    skip += bool(told)
    if not text and head.strip(codecs.BOM_UTF8):
        raise ShapeRefused(f"it is not {dialect.encoding} text", "Check its encoding.")
    if skip >= len(lines) or not "".join(lines[skip:]).strip():
        raise ShapeRefused("it is empty", "Give a file with a header.")
    grammar = _Grammar(dialect, 1)
    first, used = grammar.record(lines[skip:])
    if first is None:
        first = lines[skip].rstrip("\r")
        if len(text) >= HEAD // 4 and "\n" not in text:
            raise ShapeRefused(f"its header is longer than {HEAD} bytes", "Check that it is a delimited file.")
        raise ShapeRefused(
            f"its header (line {skip + 1}) {grammar.reason(first)}",
            "Write it again, or set quote and quote_escape.",
        )
    labels = grammar.values(first)
    if len(labels) > MOST_COLUMNS:
        raise ShapeRefused(
            f"its header has more than {MOST_COLUMNS} columns", "Check its separator, or leave columns out."
        )
    _check_separator(labels, first, dialect)
    if not header:
        return tuple(str(number) for number in range(1, len(labels) + 1)), skip
    repeated = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
    if repeated:
        raise ShapeRefused(
            f"its header has the label {quoted(repeated)} more than once", "Give every column a label of its own."
        )
    return tuple(labels), skip + used


def _check_encoding(head: bytes, dialect: Dialect) -> None:
    seems = next((name for mark, name in MARKS.items() if head.startswith(mark)), "")
    start = head[:4096]
    half = len(start) // 4
    if not seems and half:
        seems = "utf-16-be" if start[::2].count(0) > half else "utf-16-le" if start[1::2].count(0) > half else ""
    if seems and not dialect.encoding.startswith(seems[:6]):
        raise ShapeRefused(f"it seems to be {seems[:6].upper()} text", f"Set encoding to {seems}.")
    if not seems and dialect.encoding in {"utf-16", "utf-32"}:
        raise ShapeRefused(
            f"it does not begin with the byte order mark that {dialect.encoding} text has",
            f"Set encoding to {dialect.encoding}-le or {dialect.encoding}-be, or to utf-8, if that is what it is.",
        )


def _check_separator(labels: list[str], first: str, dialect: Dialect) -> None:
    if len(labels) > 1:
        return
    counts = {other: first.count(other) for other in SEPARATORS if other != dialect.separator}
    seems = max(counts, key=lambda other: counts[other])
    if counts[seems]:
        raise ShapeRefused(
            f"its first line has one value, and it seems that values are between {SEPARATORS[seems]}",
            f"Set separator to {seems!r}.",
        )


def _not_text(path: Path, dialect: Dialect) -> ShapeRefused:
    """Says which line is not of the encoding, and what the file seems to be."""
    decoder = _decoder(dialect)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):  # noqa: B007
            try:
                line.decode(decoder)
            except UnicodeDecodeError:
                break
        else:
            return ShapeRefused("it is no text", "Check the file, and the options of its format.")
    seems = "latin-1" if any(byte in line for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)) else "cp1252"
    name = {"cp1252": "Windows-1252", "latin-1": "Latin-1"}[seems]
    return ShapeRefused(
        f"line {number} is not {dialect.encoding} text, it may be {name}",
        f"Set encoding to {seems}, if that is what it is, or write the file in UTF-8.",
    )


def _decoder(dialect: Dialect) -> str:
    return "utf-8-sig" if dialect.encoding in UTF_8 else dialect.encoding


def _has_odd_lines(path: Path, dialect: Dialect, width: int, skip: int) -> bool:
    line = pl.col("line")
    lines = pl.scan_lines(path, glob=False).slice(skip)
    if width > WIDEST_GRAMMAR:
        odd = line.str.count_matches(dialect.separator, literal=True) != width - 1
        if dialect.quote:
            odd |= line.str.contains(dialect.quote, literal=True)
    else:
        odd = ~line.str.contains(f"^{_Grammar(dialect, width).whole}$") | (line == "")
    try:
        return bool(lines.select(odd.any()).collect(engine="streaming").item())
    except NoDataError:
        return False


class _Grammar:
    """What one record looks like."""

    def __init__(self, dialect: Dialect, width: int) -> None:
        self._dialect = dialect
        self._width = width
        separator, quote = re.escape(dialect.separator), re.escape(dialect.quote)
        plain = rf"[^{quote}{separator}\r]*"
        inside = rf"(?:[^{quote}]|{quote}{quote})*"
        if dialect.quote_escape == "backslash":
            inside = rf"(?:[^{quote}\\]|\\.)*"
        value = f"(?:{quote}{inside}{quote}|{plain})" if quote else plain
        self.whole = f"{value}(?:{separator}{value}){{{width - 1}}}"
        self._any = re.compile(f"{value}(?:{separator}{value})*", re.DOTALL)
        self._value = re.compile(value, re.DOTALL)
        self._open = re.compile(f"(?:{value}{separator})*{quote}{inside}", re.DOTALL) if quote else None

    def record(self, lines: list[str]) -> tuple[str | None, int]:
        """The record that the lines begin with, and over how many lines it goes; None where there is none."""
        whole = lines[0]
        for used in range(1, min(len(lines), MOST_LINES) + 1):
            text = whole.rstrip("\r")
            if self._any.fullmatch(text):
                # A quote after a backslash in a record of several lines: they would be merged.
                is_merged = (
                    used > 1 and self._dialect.quote_escape == "doubled" and f"\\{self._dialect.quote}" in text
                )
                return (None, 1) if is_merged else (text, used)
            if self._open is None or used == len(lines) or not self._open.fullmatch(text):
                break
            whole = f"{whole}\n{lines[used]}"  # a line's end in a value is the value's
        return None, 1

    def values(self, record: str) -> list[str]:
        """The values of a record, without quotes."""
        found, place = [], 0
        quote = self._dialect.quote
        while place <= len(record):
            match = self._value.match(record, place)
            text = match[0] if match else ""
            place += len(text) + 1
            if quote and text.startswith(quote):
                text = text[1:-1]
                text = text.replace(quote * 2, quote) if self._dialect.quote_escape == "doubled" else text
                text = re.sub(r"\\(.)", r"\1", text) if self._dialect.quote_escape == "backslash" else text
            found.append(text)
        return found

    def reason(self, line: str) -> str:
        """Why a line is no record."""
        quote = self._dialect.quote
        if self._dialect.quote_escape == "doubled" and f"\\{quote}" in line:
            return "has a quote after a backslash, which quote_escape 'backslash' reads"
        if self._open is not None and self._open.fullmatch(line):
            return "has a quote that is not closed"
        if "\r" in line.rstrip("\r"):
            return "has a carriage return inside a value"
        return "has a quote inside a value"


def _copied(path: Path, dialect: Dialect, columns: tuple[str, ...], skip: int) -> Shaped:
    """A copy in UTF-8 of the records that are whole."""
    folder = TemporaryDirectory(prefix="campaign-")
    copy = Path(folder.name, "whole.csv")
    faults: list[tuple[int, None, str, str]] = []
    left_out: list[int] = []
    grammar = _Grammar(dialect, len(columns))
    plain = dialect.quote_escape == "doubled"
    try:
        with path.open(encoding=_decoder(dialect), newline="\n") as file, copy.open("w", encoding="utf-8") as whole:
            for number, (line, text, reason) in enumerate(_records(file, grammar, skip, columns), start=1):
                if reason is None:
                    whole.write((text if plain else _requoted(grammar.values(text), dialect)) + "\n")
                    continue
                left_out.append(number)
                if reason:
                    faults.append((number, None, f"{reason} (line {line})", text[:SHOWN]))
                if len(faults) > MOST_FAULTS:
                    raise ShapeRefused(
                        f"more than {MOST_FAULTS} of its lines are no whole records",
                        "Check separator, quote and quote_escape.",
                    )
    except UnicodeError:
        raise _not_text(path, dialect) from None
    copy.chmod(0o600)
    return Shaped(
        dialect,
        copy,
        columns,
        0,
        pl.DataFrame(faults, schema=REPORT, orient="row"),
        pl.Series(left_out, dtype=pl.Int64()),
        folder,
    )


def _records(
    file: IO[str], grammar: _Grammar, skip: int, columns: tuple[str, ...]
) -> Iterator[tuple[int, str, str | None]]:
    """Each record: its line, its text and why it is not whole (an empty reason for a blank line, None if it is)."""
    waiting: list[str] = []
    line = 0
    is_done = False
    while True:
        while not is_done and len(waiting) < MOST_LINES:
            following = file.readline()
            is_done = not following
            if following:
                waiting.append(following.removesuffix("\n"))
        if not waiting:
            return
        if line < skip:
            line += 1
            del waiting[0]
            continue
        text, used = grammar.record(waiting)
        first = waiting[0].rstrip("\r")
        if not first.strip():
            yield line + 1, first, ""
        elif text is None:
            yield line + 1, first, grammar.reason(first)
        else:
            width = len(grammar.values(text))
            wrong = f"has {width} values in a file of {len(columns)} columns"
            yield line + 1, text, None if width == len(columns) else wrong
        line += used
        del waiting[:used]


def _requoted(values: list[str], dialect: Dialect) -> str:
    quote = dialect.quote
    return dialect.separator.join(
        f"{quote}{value.replace(quote, quote * 2)}{quote}"
        if any(mark in value for mark in (quote, dialect.separator, "\n", "\r"))
        else value
        for value in values
    )
