"""Load file: reads flat files of the storage folder into a table, through column definitions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import polars as pl
from polars.exceptions import NoDataError, PolarsError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.errors import ColumnsUnexpected, SourceUnreadable
from tasks.files.delimited import write_delimited
from tasks.files.shape import ROW, Dialect, ShapeRefused, shaped
from tasks.files.storage import stored, within, written_whole
from tasks.http.bounded import Damaged, OverBound, read_whole, readable_bytes
from tasks.runs.shapes import source_activity
from tasks.settings import Settings
from tasks.tables.columns import REPORT, ColumnDefinition, typed_table
from tasks.tables.conditions import first_line
from tasks.tables.transitions import Transitions, quoted, require_columns

REJECTS = {"file": pl.String(), **REPORT}
"""Columns of the rejects: file, row (from 1, the header not counted), column, reason, raw value."""


class LoadFileOptions(BaseModel):
    """Options of the Load file activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(
        default="",
        title="File",
        description="Name of the file in the storage folder; empty loads the files of the inbound transition.",
    )
    columns: dict[str, ColumnDefinition] = Field(
        min_length=1,
        title="Columns",
        description=(
            "Columns of the table, {name: definition}; a definition's key is the file's column: its label in the"
            " header, its number from 1 where there is no header, its name in 'widths'."
        ),
    )
    format: Literal["delimited", "fixed_width"] = Field(
        default="delimited", title="Format", description="Values between separators, or at fixed places of a line."
    )
    separator: str = Field(
        default=",", min_length=1, max_length=1, title="Separator", description="Between values."
    )
    quote: str = Field(default='"', max_length=1, title="Quote", description="Around texts; empty for none.")
    quote_escape: Literal["doubled", "backslash"] = Field(
        default="doubled",
        title="Quote in a text",
        description='How a quote inside a quoted text is written: doubled ("") or after a backslash (\\").',
    )
    header: bool = Field(default=True, title="Header", description="The first line has the labels of the columns.")
    widths: dict[str, int] = Field(
        default_factory=dict,
        title="Widths",
        description="Columns of a fixed width file in order, {name: characters}; trimmed.",
    )
    skip_lines: int = Field(
        default=0, ge=0, title="Lines to skip", description="Lines before the header or the data."
    )
    encoding: str = Field(
        default="utf-8", title="Encoding", description="Encoding of the file, as latin-1 or cp1252."
    )
    other_columns: Literal["ignore", "error"] = Field(
        default="ignore",
        title="Other columns",
        description=(
            "What a column of the file that has no definition is, or characters after the last of 'widths'."
        ),
    )
    max_bytes: int = Field(
        default=4 * 1024**3,
        gt=0,
        title="Largest file",
        description="Limit of a file after decompression, in bytes.",
    )
    rejects_file: str = Field(
        default="",
        title="Rejects file",
        description="Name of the file in the storage folder that keeps rejected lines; empty keeps none.",
    )

    @property
    def dialect(self) -> Dialect:
        """How a delimited file is written."""
        return Dialect(**{name: getattr(self, name) for name in Dialect.model_fields})

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.dialect  # noqa: B018  # its errors
        if (self.format == "fixed_width") != bool(self.widths):
            raise ValueError("'widths' goes with the format fixed_width, and must be given there")
        if any(width < 1 for width in self.widths.values()):
            raise ValueError("a width is at least one character")
        return self


@dataclass(frozen=True)
class Loaded(Transitions):
    """Outbound transitions of Load file."""

    standard: pl.DataFrame
    """Rows that were taken: the defined columns, typed."""
    rejects: pl.DataFrame
    """Lines that were rejected: file, row, column, reason, value."""
    replaced: pl.DataFrame
    """Bad values of rows that were taken (ignored, cut, replaced by a default): the same columns."""


def load(files: list[str], options: LoadFileOptions, storage: Path) -> Loaded:
    """Read the files, one after the other, into one table.

    Errors: `OutsideStorage`, `SourceMissing`, `SourceUnreadable`, `ColumnsMissing` (a defined column is not in a
    file), `ColumnsUnexpected`, `ValueRefused`.
    """
    loaded = [_load_one(file, options, storage) for file in files]
    return Loaded(
        standard=pl.concat([_nothing(options), *(one.standard for one in loaded)]),
        rejects=pl.concat([pl.DataFrame(schema=REJECTS), *(one.rejects for one in loaded)]),
        replaced=pl.concat([pl.DataFrame(schema=REJECTS), *(one.replaced for one in loaded)]),
    )


def _nothing(options: LoadFileOptions) -> pl.DataFrame:
    kept = {name: column.column_type for name, column in options.columns.items() if not column.ignore}
    return pl.DataFrame(schema=kept)


def _load_one(file: str, options: LoadFileOptions, storage: Path) -> Loaded:
    raw, faults = raw_table(stored(storage, file), options)
    _check_columns(raw.drop(ROW), options, file)
    rows = raw.filter(~pl.all_horizontal(pl.exclude(ROW).is_null()))
    taken = typed_table(rows, options.columns, activity="Load file", where=f"'{file}'")
    number = rows[ROW]

    def told(report: pl.DataFrame) -> pl.DataFrame:
        numbered = report.with_columns(row=number.gather(report["row"] - 1), file=pl.lit(file))
        return numbered.select(*REJECTS)

    lines = faults.with_columns(file=pl.lit(file)).select(*REJECTS)
    return Loaded(
        standard=taken.standard,
        rejects=pl.concat([told(taken.rejects), lines]).sort("row", maintain_order=True),
        replaced=told(taken.replaced),
    )


def _check_columns(raw: pl.DataFrame, options: LoadFileOptions, file: str) -> None:
    known = {definition.key for definition in options.columns.values()}
    require_columns(raw, known, activity="Load file", where=f"'{file}'")
    others = [name for name in raw.columns if name not in known]
    if others and options.other_columns == "error":
        raise ColumnsUnexpected(where=f"'{file}'", columns=quoted(others), known=quoted(known))


def raw_table(path: Path, options: LoadFileOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The file's values as texts with their rows' numbers, and its lines that are no whole rows, as of `REPORT`.

    Errors: `SourceUnreadable`.
    """
    cure = "Check the file, and the options of its format."
    try:
        if options.format == "fixed_width":
            return _fixed_width(_content(path, options), options)
        proved = shaped(path, options.dialect, header=options.header, limit=readable_bytes(options.max_bytes))
        return proved.scan().collect(), proved.faults
    except ShapeRefused as error:
        reason, cure = error.reason, error.cure
    except NoDataError:
        reason = "it is empty"
    except UnicodeError:
        reason = f"it is not {options.encoding} text"
    except (PolarsError, OSError) as error:
        reason = first_line(error)
    except (OverBound, Damaged) as error:
        reason = f"it {error}"
    raise SourceUnreadable(what="file", path=path, reason=reason, cure=cure)


def _content(path: Path, options: LoadFileOptions) -> bytes:
    """The file's text in UTF-8, decompressed, without byte order mark."""
    with path.open("rb") as file:
        content = read_whole(file, readable_bytes(options.max_bytes))
    return content.decode(options.encoding).removeprefix("\ufeff").encode()


def _fixed_width(content: bytes, options: LoadFileOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    lines = pl.read_lines(content).slice(options.skip_lines + options.header).with_row_index(ROW, offset=1)
    lines = lines.select(pl.col(ROW).cast(pl.Int64()), pl.col("line").str.strip_chars_end("\r"))
    lines = lines.filter(pl.col("line").str.strip_chars() != "")
    places: list[pl.Expr] = []
    start = last = 0
    for name, width in options.widths.items():
        places.append(pl.col("line").str.slice(start, width).str.strip_chars().alias(name))
        last, start = start, start + width
    # Blanks at the end may have been trimmed; a line without its last column has lost values.
    length = pl.col("line").str.len_chars()
    wrong = length <= last
    if options.other_columns == "error":
        wrong |= pl.col("line").str.strip_chars_end(" ").str.len_chars() > start
    before = options.skip_lines + options.header
    told = pl.format("has {} characters in a file of {} (line {})", length, pl.lit(start), pl.col(ROW) + before)
    faults = lines.filter(wrong).select(
        pl.col(ROW).alias("row"), pl.lit(None, pl.String()).alias("column"), told.alias("reason"), value="line"
    )
    return lines.filter(~wrong).select(ROW, *places), faults


def write_rejects(rejects: pl.DataFrame, options: LoadFileOptions, storage: Path) -> None:
    """Keep the rejected lines in a file, if one is asked for. Errors: `OutsideStorage`, `StoreUnwritable`."""
    if options.rejects_file:
        with written_whole(within(storage, options.rejects_file)) as draft:
            write_delimited(rejects, draft, activity="Load file")


@source_activity("Load file", task_run_name="Load file {options.file}")
def load_file(options: LoadFileOptions, files: pl.DataFrame | None = None) -> Loaded:
    """Read flat files of the storage folder into a table.

    In: the options, and the files to load where they name none: the outbound transition of Transfer file (file).
    Out: `standard` (the defined columns, typed), `rejects` (file, row, column, reason, value), which the rejects
    file keeps too, and `replaced` (bad values of rows that were taken). Gzip is known by its first bytes.
    Errors: `OutsideStorage`, `SourceMissing`, `SourceUnreadable`, `ColumnsMissing`, `ColumnsUnexpected`,
    `ValueRefused`, `StoreUnwritable`. Source: Adobe Campaign Standard, Load file activity.

    Example:
        ```python
        amount = ColumnDefinition(key="Betrag", type="decimal")
        columns = {"customer": ColumnDefinition(key="Kunde"), "amount": amount}
        loaded = load_file(LoadFileOptions(file="purchases.csv", separator=";", columns=columns))
        bad_lines = loaded.transition("rejects")
        ```
    """
    storage = Settings.load().storage.folder
    loaded = load(_named_files(options, files), options, storage)
    write_rejects(loaded.rejects, options, storage)
    return loaded


def _named_files(options: LoadFileOptions, files: pl.DataFrame | None) -> list[str]:
    if options.file:
        return [options.file]
    inbound = pl.DataFrame() if files is None else files
    require_columns(
        inbound, ["file"], activity="Load file, which names no file itself,", where="the inbound transition"
    )
    return inbound["file"].to_list()
