"""A source's raw rows as typed rows: every kind of source reads its values here, through column definitions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from tasks.sources.rejects import SOURCE_REJECTS, Rejects
from tasks.sources.source import Source, type_of
from tasks.tables.columns import ColumnDefinition, ColumnType, typed_table
from tasks.tables.natives import BEYOND, beyond
from tasks.tables.transitions import require_columns

HINTS: Mapping[str, str] = {
    r"^\d{1,2}\.\d{1,2}\.\d{4}$": "it may be a date of the format %d.%m.%Y",
    r"^\d{1,2}\.\d{1,2}\.\d{2}$": "it may be a date of the format %d.%m.%y",
    r"^\d{1,2}/\d{1,2}/\d{4}$": "it may be a date of the format %d/%m/%Y or %m/%d/%Y",
    r"^\d{8}$": "it may be a date of the format %Y%m%d",
    r"^\d{4}-\d\d-\d\d[T ]": "it may be a datetime",
    r"^\d{1,2}\.\d{1,2}\.\d{4} ": "it may be a datetime of the format %d.%m.%Y %H:%M",
}
"""What a text that is no ISO date may be."""


@dataclass(frozen=True)
class BadValue(Exception):
    """A bad row of a source that allows none."""

    row: int
    column: str | None
    reason: str

    def __str__(self) -> str:
        of_column = f" of the column '{self.column}'" if self.column else ""
        return f"row {self.row}{of_column} {self.reason}"


class Reading:
    """How the raw columns of a source become its columns."""

    def __init__(
        self,
        source: Source,
        raw: pl.Schema,
        names: Mapping[str, str],
        *,
        others: Iterable[str] = (),
        declared: Mapping[str, pl.DataType] | None = None,
    ) -> None:
        """`names` are the columns here, each with its raw column; `others` are there too; `declared` are types.

        Errors: `ColumnsMissing`.
        """
        self._source = source
        present = pl.DataFrame(schema=[*names, *others])
        require_columns(present, source.required, activity="The audience", where=f"'{source.shown}'")
        self.names = names
        self.definitions: dict[str, ColumnDefinition] = {}
        self.schema = pl.Schema()
        for name, there in names.items():
            kind, told = raw[there], (declared or {}).get(name, raw[there])
            wanted = source.types.get(name)
            if wanted is None and (
                name in source.remap
                or name in source.formats
                or _told_in(source, kind)
                or not _is_alike(kind, told)
            ):
                wanted = type_of(told)
            self.schema[name] = told
            if wanted is not None:
                scale = told.scale if isinstance(told, pl.Decimal) and name not in source.types else source.scale
                definition = source.definition(name, there, wanted, scale=scale)
                self.schema[name] = definition.value_type
                if not _is_ready(kind, definition):
                    self.definitions[name] = definition
        self._raw = raw
        self.told = [name for name, definition in self.definitions.items() if self._is_told(definition)]
        """Moments without a zone that are read in the source's, and nothing else of them is altered."""

    def _is_told(self, definition: ColumnDefinition) -> bool:
        kind = self._raw[definition.key]
        is_altered = definition.alters_text or definition.format is not None or definition.on_empty == "bad_value"
        is_moment = isinstance(kind, pl.Datetime) and kind.time_zone is None and kind.time_unit == "us"
        return definition.type == "datetime" and is_moment and not is_altered

    def without(self, names: Iterable[str]) -> None:
        """Take columns as they come, whose values were looked at."""
        for name in names:
            del self.definitions[name]

    @property
    def floats(self) -> list[str]:
        """Columns of numbers that are bad where they are infinite, and else as they come."""
        return [
            name
            for name, definition in self.definitions.items()
            if definition.type == "number"
            and self._raw[definition.key] == definition.value_type
            and not definition.alters_text
            and definition.on_empty != "bad_value"
        ]

    @property
    def is_plain(self) -> bool:
        """Whether every value is taken as it comes."""
        return not self.definitions

    def plain(self) -> list[pl.Expr]:
        """The columns that are taken as they come. What is not a number is a missing value."""
        return [
            self._plain(name, there).alias(name)
            for name, there in self.names.items()
            if name not in self.definitions
        ]

    def _plain(self, name: str, there: str) -> pl.Expr:
        if self._raw[there].is_float():
            return pl.col(there).fill_nan(None)
        return pl.col(there) if self._raw[there] == self.schema[name] else pl.col(there).cast(self.schema[name])

    def typed(self, rows: pl.DataFrame, numbers: pl.Series, rejects: Rejects | None) -> pl.DataFrame:
        """Raw rows as typed rows; those with bad values go to `rejects`. Errors: `BadValue`."""
        rows, numbers = self._of_calendar(rows, numbers, rejects)
        if self.is_plain:
            return rows.select(self.plain())
        taken = rows.with_columns(self.plain())
        table = typed_table(
            taken,
            self.definitions,
            activity="The source",
            where=f"'{self._source.shown}'",
            as_they_are={name: name for name in self.names if name not in self.definitions},
        )
        if table.rejects.height:
            place = table.rejects["row"] - 1
            report = table.rejects.with_columns(row=numbers.gather(place).cast(pl.Int64()))
            self.refuse_or_keep(report, rejects, self._keys(rows).gather(place))
        return table.standard.select(list(self.names))

    def _of_calendar(
        self, rows: pl.DataFrame, numbers: pl.Series, rejects: Rejects | None
    ) -> tuple[pl.DataFrame, pl.Series]:
        """The rows, and their numbers, without dates of other years than people's: PostgreSQL's infinity is one."""
        for name, there in self.names.items():
            kind = self._raw[there]
            if name in self.definitions or not isinstance(kind, pl.Date | pl.Datetime):
                continue
            bad = rows.select(beyond(pl.col(there), kind).fill_null(value=False)).to_series()
            if not bad.any():
                continue
            if self._source.on_bad_value == "null":
                rows = rows.with_columns(pl.when(~bad).then(there).alias(there))
                continue
            report = (
                numbers.filter(bad)
                .cast(pl.Int64())
                .to_frame("row")
                .with_columns(
                    pl.lit(name).alias("column"), pl.lit(BEYOND).alias("reason"), pl.lit("...").alias("value")
                )
            )
            self.refuse_or_keep(report, rejects, self._keys(rows).filter(bad))
            rows, numbers = rows.filter(~bad), numbers.filter(~bad)
        return rows, numbers

    def refuse_or_keep(self, report: pl.DataFrame, rejects: Rejects | None, keys: pl.Series | None = None) -> None:
        """Keep rejected rows, or refuse the source for the first of them. Errors: `BadValue`."""
        if report.is_empty():
            return
        if self._source.on_bad_value == "error":
            first = report.sort("row").row(0, named=True)
            raise BadValue(
                first["row"], first["column"], first["reason"] + self._hint(first["column"], first["value"])
            )
        if rejects is not None:
            key = pl.lit(None, pl.String()) if keys is None else keys
            rejects.add(report.with_columns(profile_id=key).select(*SOURCE_REJECTS))

    def _keys(self, rows: pl.DataFrame) -> pl.Series:
        there = self.names.get(self._source.key)
        return (
            rows[there].cast(pl.String(), strict=False)
            if there is not None
            else pl.Series([None], dtype=pl.String()).new_from_index(0, rows.height)
        )

    def _hint(self, column: str | None, value: str | None) -> str:
        """What the value seems to be, with the option that reads it; never the value: it may be somebody's."""
        definition = self.definitions.get(column or "")
        if definition is None or value is None:
            return ""
        hint = _seems(definition.type, value.strip(), column or "")
        return f"; {hint}" if hint else ""


def _seems(kind: ColumnType, value: str, column: str) -> str:
    if kind in {"date", "datetime"}:
        told = next((said for form, said in HINTS.items() if re.match(form, value)), "")
        return f"{told}: set it in formats" if "format" in told else told and f"{told}: set it in types"
    if kind in {"number", "decimal", "integer"} and re.match(r"^-?[\d.]*\d,\d+$", value):
        dot = " and thousands_separator to '.'" if "." in value else ""
        return f"it may have a decimal comma: set decimal_separator to ','{dot}"
    if kind in {"number", "decimal", "integer"} and re.match(r"^-?\d{1,3}(,\d{3})+\.\d+$", value):
        return "it may have commas between thousands: set thousands_separator to ','"
    if kind == "boolean" and value.lower() in {"y", "n", "yes", "no", "j", "ja", "nein", "oui", "non", "on", "off"}:
        return f"set remap to {{{column}: {{...: true, ...: false}}}}"
    return ""


def _told_in(source: Source, kind: pl.DataType) -> bool:
    return isinstance(kind, pl.Datetime) and source.zone is not None and kind.time_zone is None


def _is_ready(kind: pl.DataType, definition: ColumnDefinition) -> bool:
    """Whether a raw column needs no look at its values."""
    if definition.alters_text or definition.on_empty == "bad_value":
        return False
    if not _is_alike(kind, definition.value_type):
        return False
    if kind.is_float() or kind == pl.Time():
        return False
    return not (definition.type == "datetime" and definition.zone)


def _is_alike(kind: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether every value of one type is one of the other."""
    is_narrow = kind.is_integer() and kind not in {pl.UInt64(), pl.Int128(), pl.UInt128()} and wanted == pl.Int64()
    return kind == wanted or is_narrow
