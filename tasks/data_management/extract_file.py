"""Extract file: writes a population into a file of the storage folder."""

from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tasks.files.delimited import write_delimited
from tasks.files.storage import files_table, within, written_whole
from tasks.runs.shapes import Lazily, table_activity
from tasks.settings import Settings
from tasks.tables.conditions import expression


class ExtractFileOptions(BaseModel):
    """Options of the Extract file activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(min_length=1, title="File", description="Name of the file in the storage folder.")
    format: Literal["delimited", "ndjson", "parquet"] = Field(
        default="delimited", title="Format", description="Delimited text, one JSON object a line, or Parquet."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description="What to write, {label in the file: column or SQL expression}; empty writes every column.",
    )
    sort: list[str] = Field(
        default_factory=list, title="Sort", description="SQL expressions over the inbound columns; nulls last."
    )
    descending: bool = Field(default=False, title="Descending", description="The largest first.")
    gzip: bool = Field(default=False, title="Gzip", description="Compress the file (delimited and NDJSON).")
    separator: str = Field(
        default=",", min_length=1, max_length=1, title="Separator", description="Between columns."
    )
    quote: str = Field(default='"', min_length=1, max_length=1, title="Quote", description="Around texts.")
    quote_all: bool = Field(
        default=False,
        title="Quote all",
        description="Put quotes around every value, not only where they are needed.",
    )
    header: bool = Field(default=True, title="Header", description="Begin with a line of the labels.")
    windows_lines: bool = Field(default=False, title="Windows lines", description="End lines with CR and LF.")
    byte_order_mark: bool = Field(
        default=False, title="Byte order mark", description="Begin with the mark by which Excel knows UTF-8."
    )
    date_format: str = Field(default="%Y-%m-%d", title="Date format", description="As %d/%m/%Y.")
    datetime_format: str = Field(
        default="%Y-%m-%dT%H:%M:%S", title="Date and time format", description="As %d/%m/%Y %H:%M."
    )
    decimal_comma: bool = Field(default=False, title="Decimal comma", description="Write 1,5 and not 1.5.")
    null_value: str = Field(default="", title="Null value", description="What is written for a missing value.")
    formulas: Literal["harmless", "as_is"] = Field(
        default="harmless",
        title="Formulas",
        description=(
            "harmless: a text (or label) that a spreadsheet would run as a formula, as =1+1 or +43 1 234, gets an"
            " apostrophe in front; as_is: for readers that are no spreadsheet. Only delimited files."
        ),
    )


def extracted(inbound: pl.LazyFrame, options: ExtractFileOptions) -> pl.LazyFrame:
    """The rows as they are written: sorted, the chosen columns by their labels.

    Errors: `ExpressionInvalid`, `ColumnsMissing`.
    """
    schema = inbound.collect_schema()
    order = [_parsed(text, schema) for text in options.sort]
    if order:
        inbound = inbound.sort(order, descending=options.descending, nulls_last=True, maintain_order=True)
    if options.columns:
        inbound = inbound.select(_parsed(text, schema).alias(label) for label, text in options.columns.items())
    return inbound


def _parsed(text: str, schema: pl.Schema) -> pl.Expr:
    if text in schema:
        return pl.col(text)
    return expression(text, schema, activity="Extract file", where="the inbound transition")


def write_extract(table: pl.LazyFrame, options: ExtractFileOptions, storage: Path) -> Path:
    """Write the rows of `extracted`, whole or not at all.

    Errors: `ExpressionInvalid` (nested values in a delimited file), `OutsideStorage`, `StoreUnwritable`.
    """
    path = within(storage, options.file)
    with written_whole(path) as draft:
        match options.format:
            case "delimited":
                _write_delimited(table, options, draft)
            case "ndjson":
                table.sink_ndjson(draft, compression=_compression(options), check_extension=False)
            case "parquet":
                table.sink_parquet(draft)
    return path


def _compression(options: ExtractFileOptions) -> Literal["gzip", "uncompressed"]:
    return "gzip" if options.gzip else "uncompressed"


def _write_delimited(table: pl.LazyFrame, options: ExtractFileOptions, draft: Path) -> None:
    write_delimited(
        table,
        draft,
        activity="Extract file",
        formulas=options.formulas,
        compression=_compression(options),
        check_extension=False,
        include_bom=options.byte_order_mark,
        include_header=options.header,
        separator=options.separator,
        quote_char=options.quote,
        quote_style="always" if options.quote_all else "necessary",
        line_terminator="\r\n" if options.windows_lines else "\n",
        date_format=options.date_format,
        datetime_format=options.datetime_format,
        decimal_comma=options.decimal_comma,
        null_value=options.null_value,
    )


@table_activity("Extract file", task_run_name="Extract file {options.file}", gives=pl.DataFrame)
def extract_file(inbound: pl.LazyFrame, options: ExtractFileOptions) -> Lazily:
    """Write a population into a file of the storage folder, replacing an earlier one.

    In: any table. Out, without population: file (its name in the storage folder), bytes, rows; one row.
    Errors: `ExpressionInvalid`, `ColumnsMissing`, `OutsideStorage`, `StoreUnwritable`.
    Source: Adobe Campaign Standard, Extract file activity.

    Example:
        ```python
        columns = {"Customer": "profile_id", "E-mail": "LOWER(email)"}
        file = extract_file(audience, ExtractFileOptions(file="report.csv", columns=columns))
        ```
    """
    storage = Settings.load().storage.folder
    path = write_extract(extracted(inbound, options), options, storage)
    rows = inbound.select(pl.len()).collect().item()
    return {"standard": files_table(storage, [path]).with_columns(rows=pl.lit(rows, pl.Int64())).lazy()}
