"""Files as sources: Parquet, CSV, NDJSON, and the folder of a Delta table, read lazily.

Where every column has its type already, the filter is pushed down into the scan. Values of text files, and those of
another type than the wanted one, are read batch by batch through column definitions.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import iglob
from pathlib import Path
from typing import Literal, Self

import polars as pl
from polars.exceptions import PolarsError
from pydantic import ConfigDict, Field, model_validator

from tasks.errors import SourceMissing, SourceUnreadable
from tasks.files.shape import ROW, Dialect, ShapeRefused, columns_of, shaped
from tasks.sources.distinct import distinct_batches
from tasks.sources.ndjson import MIXED, json_lines
from tasks.sources.parquet import delta_errors, delta_scan, parquet_scan
from tasks.sources.rejects import Rejects
from tasks.sources.source import Making, Source
from tasks.sources.values import BadValue, Reading
from tasks.tables.columns import REPORT, ColumnType
from tasks.tables.conditions import condition, first_line
from tasks.tables.natives import EXACT
from tasks.tables.transitions import require_columns

FILE = "Check the file, and the options of its source."
OPTIONS = re.compile(r"\b(?:path(?= to )|separator|quote|quote_escape|encoding|other_columns|on_bad_value)\b")
"""Options of a profile file, as remedies name them."""


class ProfileFile(Source):
    """A file of profiles, or of their additional data, and how its columns are named and written."""

    model_config = ConfigDict(title="A file")

    path: Path = Field(
        default=Path("samples/profiles.parquet"),
        title="Profile file",
        description=(
            "Parquet (.parquet), delimited (.csv, .tsv, .txt, with a header; gzip too) or NDJSON (.ndjson, .jsonl)"
            " file of profiles, or the folder of a Delta table. A folder of Parquet files (a folder year=2026 in it"
            " is a column) or a pattern with * too."
        ),
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description="Names that differ, {name here: name in the file}; other columns keep theirs.",
    )
    constants: dict[str, str | bool | int | float] = Field(
        default_factory=dict,
        title="Constants",
        description="Columns that the file does not have, each with the one value that every profile gets.",
    )
    types: dict[str, ColumnType] = Field(
        default={
            "profile_id": "text",
            "email": "text",
            "birth_date": "date",
            "zip_code": "text",
            "may_contact": "boolean",
        },
        title="Types",
        description=(
            "Types by name here: text, integer, number, decimal, boolean, date, time or datetime. A column without"
            " one keeps the type that the file gives it; in a delimited file that is text."
        ),
    )
    separator: str = Field(
        default=",",
        min_length=1,
        max_length=1,
        title="Separator",
        description="Of a delimited file: between values.",
    )
    quote: str = Field(
        default='"', max_length=1, title="Quote", description="Of a delimited file: around texts; empty for none."
    )
    quote_escape: Literal["doubled", "backslash"] = Field(
        default="doubled",
        title="Quote in a text",
        description="Of a delimited file: how a quote inside a quoted text is written, twice or after a backslash.",
    )
    encoding: str = Field(
        default="utf-8", title="Encoding", description="Of a delimited file, as cp1252 or utf-16."
    )
    skip_lines: int = Field(
        default=0, ge=0, title="Lines to skip", description="Of a delimited file: lines before the header."
    )
    other_columns: Literal["error", "align"] = Field(
        default="error",
        title="Other columns",
        description=(
            "Several Parquet files, of which some have other columns: refuse them, or align them with the first"
            " (what it lacks is left out, what others lack is missing)."
        ),
    )

    @model_validator(mode="after")
    def _is_a_dialect(self) -> Self:
        self.dialect  # noqa: B018  # its errors
        return self

    @property
    def dialect(self) -> Dialect:
        """How a delimited file is written."""
        return Dialect(**{name: getattr(self, name) for name in Dialect.model_fields})

    @property
    def shown(self) -> str:
        """The file's path."""
        return str(self.path)

    @property
    def cure(self) -> str:
        """Where columns are mapped."""
        return (
            "Map columns of other names in CAMPAIGN_PROFILES__COLUMNS; give a value for every profile in"
            " CAMPAIGN_PROFILES__CONSTANTS."
        )

    def types_of_columns(self) -> pl.Schema:
        """Columns and types as the source names them. Errors: those of `profiles`."""
        with _told(self):
            reading = _reading(self, _raw(self, proved=False).schema)
        return pl.Schema({**reading.schema, **{name: _type(value) for name, value in self.constants.items()}})

    def select(self, where: str, rejects: Rejects | None = None) -> pl.LazyFrame:
        """The rows that the condition holds for, read lazily. Errors: those of `profiles`."""
        table = profiles(self, rejects)
        return table.filter(
            condition(where, table.collect_schema(), activity="The filter", where=f"'{self.shown}'", cure=self.cure)
        )

    def collected(self, table: pl.LazyFrame) -> pl.DataFrame:
        """The rows. Errors: `SourceUnreadable` (a value is not of its column's type)."""
        with _told(self):
            return table.collect()

    def batches(
        self, where: str, size: int, made: Making, *, distinct: bool, rejects: Rejects | None = None
    ) -> Iterator[pl.DataFrame]:
        """The rows, streamed. Errors: as `collected`."""
        table = made(self.select(where, rejects))
        with _told(self):
            empty = table.head(0).collect()
            batches: Iterator[pl.DataFrame] = table.collect_batches(chunk_size=size)
            if distinct:
                batches = distinct_batches(batches, self.key, size)
            yield next(batches, empty)
            yield from batches


def profiles(source: ProfileFile, rejects: Rejects | None = None) -> pl.LazyFrame:
    """The file's profiles as a lazy table, its columns named and typed as the source says.

    Errors: `SourceMissing`, `SourceUnreadable`, `ColumnsMissing` (a mapped or required column is not in the file).
    """
    with _told(source):
        raw = _raw(source, proved=True)
        reading = _reading(source, raw.schema)
        reading.refuse_or_keep(raw.faults, rejects)
        constants = [pl.lit(value, _type(value)).alias(name) for name, value in source.constants.items()]
        if reading.floats and not raw.is_numbered and set(reading.floats) == set(reading.definitions):
            # A look at these columns alone lets the scan run the condition.
            infinite = [pl.col(reading.definitions[name].key).is_infinite().any() for name in reading.floats]
            found = raw.rows.select(pl.any_horizontal(infinite)).collect(engine="streaming").item()
            reading.without([] if found else reading.floats)
        if reading.is_plain and not raw.is_numbered:
            return raw.rows.select(reading.plain()).with_columns(constants)

        # The copies that are read are there as long as the table that reads them.
        def typed(batch: pl.DataFrame, _copies: object = raw.parts) -> pl.DataFrame:
            return reading.typed(batch, batch[ROW], rejects)

        rows = raw.rows if raw.is_numbered else raw.rows.with_row_index(ROW, offset=1)
        return rows.map_batches(typed, schema=reading.schema, streamable=True).with_columns(constants)


@dataclass(frozen=True)
class _Raw:
    """A file's rows as they are."""

    rows: pl.LazyFrame
    schema: pl.Schema
    faults: pl.DataFrame
    is_numbered: bool
    """Whether the rows have the column `ROW`."""
    parts: tuple[object, ...] = ()
    """What must not be deleted while the rows are read."""


def _raw(source: ProfileFile, *, proved: bool) -> _Raw:
    """The file's rows; where not `proved`, those of text files are only good for their columns."""
    if (source.path / "_delta_log").is_dir():
        return _native(delta_scan(source.path))
    if source.path.is_dir():
        files = sorted(source.path.rglob("*.parquet"))
    elif source.path.is_file():
        files = [source.path]
    else:
        files = sorted(Path(name) for name in iglob(str(source.path), recursive=True))  # noqa: PTH207  # patterns
    if not files:
        raise SourceMissing(
            what="profile file",
            path=source.path,
            setting="CAMPAIGN_PROFILES__PATH",
            hint=", or run `make samples` for made-up profiles",
        )
    ending = files[0].with_suffix("").suffix.lower() if files[0].suffix == ".gz" else files[0].suffix.lower()
    if ending in DELIMITED:
        return _delimited(files, source.dialect, proved=proved)
    if ending in JSON_LINES:
        return _json_lines(files)
    return _native(parquet_scan(source.path, files, align=source.other_columns == "align"))


DELIMITED = {".csv", ".tsv", ".txt"}
JSON_LINES = {".ndjson", ".jsonl"}


def _native(rows: pl.LazyFrame) -> _Raw:
    return _Raw(rows, rows.collect_schema(), pl.DataFrame(schema=REPORT), is_numbered=False)


def _delimited(files: list[Path], dialect: Dialect, *, proved: bool) -> _Raw:
    labels = {file: columns_of(file, dialect) for file in files}
    first = labels[files[0]]
    for file, columns in labels.items():
        if columns != first:
            raise ShapeRefused(f"the header of '{file.name}' differs from that of '{files[0].name}'", FILE)
    schema = pl.Schema(dict.fromkeys(first, pl.String()))
    if not proved:
        return _Raw(pl.LazyFrame(schema=schema), schema, pl.DataFrame(schema=REPORT), is_numbered=False)
    parts = [shaped(file, dialect) for file in files]
    faults = pl.concat([_of_file(part.faults, file, files) for part, file in zip(parts, files, strict=True)])
    return _Raw(pl.concat([part.scan() for part in parts]), schema, faults, is_numbered=True, parts=tuple(parts))


def _of_file(faults: pl.DataFrame, file: Path, files: list[Path]) -> pl.DataFrame:
    return faults if len(files) == 1 else faults.with_columns(pl.col("reason") + f" in '{file.name}'")


def _json_lines(files: list[Path]) -> _Raw:
    parts = [json_lines(file) for file in files]
    scans = [part.scan() for part in parts]
    _check_alike(files, scans)
    rows = pl.concat(scans, how="diagonal_relaxed")
    faults = pl.concat([_of_file(part.faults, file, files) for part, file in zip(parts, files, strict=True)])
    schema = rows.collect_schema()
    schema = pl.Schema({name: schema[name] for name in schema if name != ROW})
    return _Raw(rows, schema, faults, is_numbered=True, parts=tuple(parts))


def _check_alike(files: list[Path], scans: list[pl.LazyFrame]) -> None:
    """A key's values keep what they are beside those of other files. Errors: `ShapeRefused`."""
    kinds: dict[str, dict[Path, pl.DataType]] = {}
    for file, scan in zip(files, scans, strict=True):
        for name, kind in scan.collect_schema().items():
            if kind != pl.Null():
                kinds.setdefault(name, {})[file] = kind
    for name, of_files in kinds.items():
        first, *others = of_files
        for file in others:
            if of_files[file].is_nested() != of_files[first].is_nested():
                raise ShapeRefused(
                    f"'{name}' has objects or lists in one of '{first.name}' and '{file.name}', not in both", MIXED
                )
        if any(kind.is_float() for kind in of_files.values()) and pl.String() not in of_files.values():
            for file, scan in zip(files, scans, strict=True):
                whole = of_files.get(file, pl.Null()).is_integer()
                if whole and scan.select((pl.col(name).abs() > EXACT).any()).collect().item():
                    raise ShapeRefused(
                        f"'{name}' of '{file.name}' has whole numbers beyond 2^53, and other files have fractions",
                        MIXED,
                    )


def _reading(source: ProfileFile, raw: pl.Schema) -> Reading:
    require_columns(
        pl.DataFrame(schema=raw),
        source.columns.values(),
        activity="The profile mapping (CAMPAIGN_PROFILES__COLUMNS)",
        where=f"'{source.path}'",
    )
    here = {there: name for name, there in source.columns.items()}
    names = {
        here.get(there, there): there
        for there in raw
        if there in here or there not in {*source.columns, *source.constants}
    }
    return Reading(source, raw, names, others=source.constants)


def _type(value: str | bool | float) -> pl.DataType:
    kinds = {str: pl.String(), bool: pl.Boolean(), int: pl.Int64(), float: pl.Float64()}
    return kinds[type(value)]


@contextmanager
def _told(source: ProfileFile) -> Iterator[None]:
    """Tell what a file is not in a sentence. Errors: `SourceUnreadable`."""
    cure = FILE
    try:
        yield
    except ShapeRefused as error:
        reason, cure = error.reason, error.cure
    except BadValue as error:
        reason = str(error)
        cure = "Correct it, or let on_bad_value reject such rows."
    except Exception as error:
        if not isinstance(error, (PolarsError, OSError, *delta_errors())):
            raise
        reason = first_line(error)
    else:
        return
    raise SourceUnreadable(
        what="profile file", path=source.path, reason=reason, cure=_with_settings(cure)
    ) from None


def _with_settings(cure: str) -> str:
    """A remedy that names options, with the settings that they are where the file is that of the settings."""
    named = (f"CAMPAIGN_PROFILES__{name.upper()}" for name in dict.fromkeys(OPTIONS.findall(cure)))
    settings = ", ".join(named) or ("CAMPAIGN_PROFILES__*" if cure == FILE else "")
    return f"{cure} Of the settings' file: {settings}." if settings else cure
