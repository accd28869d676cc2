"""Column definitions: how raw texts become the typed columns of a table, and what becomes of those that cannot.

Used wherever texts come from outside: the answers of External API, the files of Load file. A value goes through
white space, remapping and letter case in this order, and is then read as its type.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal, Self

import polars as pl
from polars.exceptions import PolarsError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.errors import ValueRefused
from tasks.tables.natives import (
    FINER,
    NANOSECONDS,
    RepeatedHour,
    Zone,
    beyond,
    in_utc,
    text_of,
    value_of,
    why_not,
)
from tasks.tables.transitions import Transitions, require_columns
from tasks.tables.zones import ZoneName

ColumnType = Literal["text", "integer", "number", "decimal", "boolean", "date", "time", "datetime"]

TYPES: Mapping[ColumnType, pl.DataType] = {
    "text": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "time": pl.Time(),
    "datetime": pl.Datetime("us"),
}
"""Types of values; that of a decimal depends on its scale."""

NUMERIC: frozenset[ColumnType] = frozenset({"integer", "number", "decimal"})
EXAMPLE: Mapping[ColumnType, date | time | datetime] = {
    "date": date(2026, 11, 24),
    "time": time(7, 30),
    "datetime": datetime(2026, 11, 24, 7, 30, tzinfo=UTC),
}
"""A value of each type that may have a format, to try the format with."""
EPOCHS: Mapping[str, int] = {"epoch_seconds": 6, "epoch_milliseconds": 3}
"""Formats that count from 1970 on, each with the digits that a microsecond is of it."""
TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)
DECIMAL_DIGITS = 38
AS_IS = ("as_is", "as_is")

LEAST_YEAR = 1000
"""The first year that %Y reads: a year of fewer digits is a part of one."""
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
SECONDS = r":[0-5][0-9](?:\.[0-9]{1,6}0{0,3})?"
OFFSET = r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
ISO_DATE = f"^{DATE}$"
ISO_TIME = f"^{TIME}(?:{SECONDS})?$"
ISO_DATETIME = f"^{DATE}[Tt ]{TIME}(?:{SECONDS})? ?{OFFSET}?$"
ISO_MOMENT = f"^{DATE}T{TIME}{SECONDS}(?:Z|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])$"
"""The commonest of `ISO_DATETIME`'s forms, which needs no completion."""
COMMON_MOMENTS: Mapping[str, str] = {
    f"^{DATE}{between}{TIME}:[0-5][0-9]{end}$": f"%Y-%m-%d{between}%H:%M:%S{end}"
    for between in ("T", " ")
    for end in ("", "Z")
}
"""Forms of moments that are read fastest, each with polars' name of it."""

REPORT = {"row": pl.Int64(), "column": pl.String(), "reason": pl.String(), "value": pl.String()}
"""Columns of a table of values that could not be taken: row (from 1), column, reason, raw value."""


class ColumnDefinition(BaseModel):
    """How one column is read: where it comes from, its type, and what becomes of empty and bad values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(min_length=1, title="Key", description="Where the value is: its path, or the file's column.")
    label: str = Field(default="", title="Label", description="Name of the column as people read it.")
    type: ColumnType = Field(default="text", title="Type", description="Type of the values.")
    many: bool = Field(
        default=False,
        title="List",
        description="The property is a list; the column holds lists, whose values are each read by themselves.",
    )
    ignore: bool = Field(default=False, title="Ignore", description="Leave the column out of the table.")
    max_length: int | None = Field(
        default=255, ge=1, title="Maximum length", description="Longest text, in characters; empty for no limit."
    )
    when_longer: Literal["bad_value", "cut"] = Field(
        default="bad_value", title="When longer", description="A longer text is a bad value, or is cut."
    )
    white_space: Literal["as_is", "trim", "collapse", "remove"] = Field(
        default="as_is",
        title="White space",
        description=(
            "Keep it, trim both ends, collapse each run to one space (and trim), or remove all."
            " Values of other types than text are always trimmed."
        ),
    )
    letter_case: Literal["as_is", "upper", "lower", "title"] = Field(
        default="as_is", title="Letter case", description="Letter case of the text."
    )
    remap: dict[str, str] = Field(
        default_factory=dict,
        title="Remapping",
        description="Values to replace, {raw value: value}; looked up after white space, before letter case.",
    )
    format: str | None = Field(
        default=None,
        min_length=2,
        title="Format",
        description=(
            "Format of a date, time or datetime, as %d/%m/%Y %H:%M:%S; of a datetime also epoch_seconds or"
            " epoch_milliseconds, since 1970 in UTC. Without one: ISO 8601 (2026-11-24, 07:30 or 07:30:00.5,"
            " 2026-11-24T07:30:00Z)."
        ),
    )
    zone: ZoneName | None = Field(
        default=None,
        title="Time zone",
        description=(
            "Time zone of moments that have none, and whose midnight a moment must be to be read as a date, for"
            " example Europe/Berlin. Empty is UTC, or the zone that a date's moment has."
        ),
    )
    repeated_hour: RepeatedHour = Field(
        default="bad_value",
        title="Repeated hour",
        description=(
            "What a moment without a zone is that the time zone's clock shows twice in autumn: a bad value, or the"
            " first or second of the two."
        ),
    )
    latest_year: int | None = Field(
        default=None,
        ge=1000,
        le=9999,
        title="Latest year",
        description=(
            "For a format with a two-digit year (%y): the latest year that it can be. 2026 reads 26 as 2026 and 27"
            " as 1927."
        ),
    )
    decimal_separator: str = Field(
        default=".", min_length=1, max_length=1, title="Decimal separator", description="Character before decimals."
    )
    thousands_separator: str = Field(
        default="", max_length=1, title="Thousands separator", description="Character between groups of three."
    )
    scale: int = Field(
        default=2, ge=0, le=DECIMAL_DIGITS, title="Scale", description="Digits after the point of a decimal."
    )
    on_empty: Literal["by_type", "null", "default", "bad_value"] = Field(
        default="by_type",
        title="Empty value",
        description=(
            "An empty text and a missing value become null, the default value, or count as bad values."
            " By type: an empty text is a bad value in numeric columns, all others become null."
        ),
    )
    on_bad_value: Literal["reject", "null", "default", "default_unless_remapped", "error"] = Field(
        default="reject",
        title="Bad value",
        description=(
            "What becomes of a value that cannot be read: the line is rejected, the value is ignored (null),"
            " the default value is used (always, or only when the value was not remapped; a line is rejected"
            " otherwise), or the whole table is refused."
        ),
    )
    default: str | None = Field(
        default=None, title="Default value", description="Value, as a text of the column's type, or null."
    )

    @property
    def value_type(self) -> pl.DataType:
        """Type of one value. Moments are UTC without a time zone, in microseconds."""
        return pl.Decimal(DECIMAL_DIGITS, self.scale) if self.type == "decimal" else TYPES[self.type]

    @property
    def column_type(self) -> pl.DataType:
        """Type of the column: that of a value, or lists of it."""
        return pl.List(self.value_type) if self.many else self.value_type

    @property
    def alters_text(self) -> bool:
        """Whether texts are changed before they are read, so that a value's own type does not do."""
        return bool(self.remap) or (self.type == "text" and (self.white_space, self.letter_case) != AS_IS)

    @model_validator(mode="after")
    def _separators_are_usable(self) -> Self:
        separators = self.decimal_separator + self.thousands_separator
        if self.decimal_separator == self.thousands_separator:
            raise ValueError("the decimal and the thousands separator are the same")
        if any(character.isalnum() or character in "+-" for character in separators):
            raise ValueError("a separator cannot be a letter, a digit or a sign")
        return self

    @property
    def clock(self) -> Zone:
        """The zone, and what is meant where its clock shows a moment twice."""
        return Zone(self.zone, self.repeated_hour)

    @model_validator(mode="after")
    def _two_digit_years_have_a_century(self) -> Self:
        if ("%y" in (self.format or "")) != (self.latest_year is not None):
            raise ValueError("'latest_year' goes with a format with %y, and must be given there")
        return self

    @model_validator(mode="after")
    def _format_is_usable(self) -> Self:
        if self.format is None:
            return self
        if self.type not in EXAMPLE:
            raise ValueError(f"a column of type {self.type} has no format; date, time and datetime have")
        if self.format in EPOCHS:
            if self.type != "datetime" or self.zone is not None:
                raise ValueError(f"the format {self.format} tells a datetime, and in UTC")
            return self
        example = pl.Series([EXAMPLE[self.type]])
        try:
            again = _parsed(example.dt.to_string(self.format), self)
        except PolarsError:
            again = pl.Series([None])
        # A moment may be told by its date alone: it is then the day's first.
        told = self.latest_year is None or self.latest_year >= 2026
        if again.item() is None or (told and str(again.item())[:10] != str(EXAMPLE[self.type])[:10]):
            raise ValueError(f"the format {self.format!r} does not tell a {self.type}")
        return self

    @model_validator(mode="after")
    def _default_is_of_the_type(self) -> Self:
        if self.default is not None:
            plain = self.model_copy(update={"default": None, "remap": {}, "on_bad_value": "reject"})
            faults = _read(pl.Series([self.default]), plain).faults
            if faults is not None and faults.item(0, "reason") is not None:
                raise ValueError(f"the default value {self.default!r} {faults.item(0, 'reason')}")
        return self


@dataclass(frozen=True)
class TypedTable(Transitions):
    """Raw rows read through column definitions."""

    standard: pl.DataFrame
    """Rows that were taken: the defined columns, typed."""
    rejects: pl.DataFrame
    """Lines that were rejected, each with its first bad value: columns of `REPORT`."""
    replaced: pl.DataFrame
    """Bad values of rows that were taken: ignored, cut or replaced by the default. Columns of `REPORT`."""


def typed_table(
    raw: pl.DataFrame,
    definitions: Mapping[str, ColumnDefinition],
    *,
    activity: str,
    where: str,
    as_they_are: Mapping[str, str] | None = None,
) -> TypedTable:
    """Read the raw columns through their definitions, {name of the column: definition}.

    In: a table with the definitions' keys as columns: texts (lists of texts where the definition says so), or
    values that are of the definition's type already, which are taken as they are. Rows are counted from 1.
    Out: the defined columns in their order, and then those of `as_they_are`, {name: raw column}; a row with a bad
    value that rejects its line is in `rejects` alone.
    Errors: `ColumnsMissing`; `ValueRefused` for a definition whose bad values are errors.
    """
    kept = {name: definition for name, definition in definitions.items() if not definition.ignore}
    require_columns(raw, [definition.key for definition in kept.values()], activity=activity, where=where)
    columns = {name: _column(raw[definition.key], definition) for name, definition in kept.items()}
    standard = pl.DataFrame(
        [
            *(column.values.alias(name) for name, column in columns.items()),
            *(raw[there].alias(name) for name, there in (as_they_are or {}).items()),
        ]
    )
    report = pl.concat(
        [
            pl.DataFrame(schema={**REPORT, "rejects": pl.Boolean()}),
            *(
                _report(name, raw[kept[name].key], column.faults, kept[name])
                for name, column in columns.items()
                if column.faults is not None
            ),
        ]
    )
    rejects = report.filter("rejects").unique("row", keep="first", maintain_order=True).sort("row")
    replaced = report.filter(~pl.col("rejects")).join(rejects, on="row", how="anti")
    if rejects.height:
        standard = standard.filter(~pl.int_range(1, pl.len() + 1, dtype=pl.Int64).is_in(rejects["row"].implode()))
    return TypedTable(
        standard=standard,
        rejects=rejects.drop("rejects"),
        replaced=replaced.drop("rejects").sort("row", maintain_order=True),
    )


@dataclass(frozen=True)
class _Column:
    values: pl.Series
    faults: pl.DataFrame | None = None
    """For each value its reason (null where it was taken as it is) and whether it rejects its line."""


def _report(name: str, raw: pl.Series, faults: pl.DataFrame, definition: ColumnDefinition) -> pl.DataFrame:
    found = faults.select(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row"), "reason", "rejects").filter(
        pl.col("reason").is_not_null()
    )
    if definition.on_bad_value == "error" and found["rejects"].any():
        first = found.filter("rejects").row(0, named=True)
        raise ValueRefused(row=first["row"], column=name, reason=first["reason"])
    value = raw.gather(found["row"] - 1)
    shown = value.list.join(", ") if isinstance(value.dtype, pl.List) and definition.many else _shown(value)
    return found.select("row", pl.lit(name).alias("column"), "reason", shown.alias("value"), "rejects")


def lists_of(values: pl.Series, counts: pl.Series) -> pl.Series:
    """The values in lists of so many each, in their order; null where a count is null."""
    lists = pl.DataFrame({"count": counts}).with_row_index("row")
    filled = (
        pl.DataFrame({"row": _rows_of(counts), "list": values}).group_by("row", maintain_order=True).agg("list")
    )
    none = pl.lit([], pl.List(values.dtype))
    return (
        lists.join(filled, on="row", how="left", maintain_order="left")
        .select(pl.when(pl.col("count") == 0).then(none).otherwise("list"))
        .to_series()
    )


def _rows_of(counts: pl.Series) -> pl.Series:
    """The row that each value of some lists is in."""
    rows = pl.DataFrame({"count": counts}).with_row_index("row").filter(pl.col("count") > 0)
    return rows.select(pl.col("row").repeat_by("count").explode(empty_as_null=False)).to_series()


def _column(raw: pl.Series, definition: ColumnDefinition) -> _Column:
    if not definition.many:
        return _read(raw, definition)
    if raw.dtype == definition.column_type and definition.type != "text":
        return _Column(raw)
    counts = raw.list.len()
    read = _read(raw.filter(counts > 0).explode(), definition)
    values = lists_of(read.values, counts)
    missing_is_bad = definition.on_empty == "bad_value" and raw.null_count() > 0
    if read.faults is None and not missing_is_bad:
        return _Column(values)
    return _Column(values, _faults_of_lists(read, counts, definition))


def _faults_of_lists(read: _Column, counts: pl.Series, definition: ColumnDefinition) -> pl.DataFrame:
    """For each list the first reason in it, and whether any of its values rejects the line."""
    none_found = (pl.lit(None, pl.String()).alias("reason"), pl.lit(value=False).alias("rejects"))
    found = (
        pl.DataFrame({"row": _rows_of(counts)})
        .with_columns(none_found if read.faults is None else read.faults)
        .group_by("row")
        .agg(pl.col("reason").drop_nulls().first(), pl.col("rejects").any())
    )
    missing = pl.col("count").is_null() & pl.lit(definition.on_empty == "bad_value")
    return (
        pl.DataFrame({"count": counts})
        .with_row_index("row")
        .join(found, on="row", how="left", maintain_order="left")
        .select(
            pl.when(missing).then(pl.lit("is empty")).otherwise("reason").alias("reason"),
            pl.col("rejects").fill_null(missing & pl.lit(definition.on_bad_value not in {"null", "default"})),
        )
    )


def _column_of(table: pl.DataFrame) -> _Column:
    return _Column(table["value"], table.select("reason", "rejects"))


def _read(raw: pl.Series, definition: ColumnDefinition) -> _Column:
    if _is_taken(raw, definition):
        return _Column(raw)
    values = _in_common_form(raw, definition)
    if values is None:
        return _looked_at(raw, definition)
    left = values.is_null()
    if definition.on_empty in {"by_type", "null"}:
        left &= raw.is_not_null()
    if not left.any():
        return _Column(values)
    return _filled(values, left, _looked_at(raw.filter(left), definition))


def _filled(values: pl.Series, left: pl.Series, found: _Column) -> _Column:
    """The values, and in the places that were left those that were found by a closer look."""
    place = pl.when("left").then(pl.col("left").cum_sum() - 1)
    table = pl.DataFrame({"value": values, "left": left}).with_columns(place.alias("place"))
    whole = table.select(
        pl.when("left").then(pl.lit(found.values).gather("place")).otherwise("value").alias("value")
    ).to_series()
    if found.faults is None:
        return _Column(whole)
    faults = found.faults[table["place"]].with_columns(pl.col("rejects").fill_null(value=False))
    return _Column(whole, faults)


def _in_common_form(raw: pl.Series, definition: ColumnDefinition) -> pl.Series | None:
    """Texts in the commonest forms of a type, read in bulk as `_parsed` reads them; null for every other text.

    None where the definition wants each text to be looked at.
    """
    is_plain = not (definition.remap or definition.format or definition.white_space == "remove")
    if raw.dtype != pl.String() or not is_plain:
        return None
    if definition.type == "datetime":
        return _moments_in_one_form(raw, definition.clock)
    if definition.type == "date":
        return _in_calendar(_dates(raw, definition))
    text, value = pl.col("text"), None
    if definition.type == "integer":
        value = text.cast(pl.Int64(), strict=False)
    elif definition.type == "number" and definition.decimal_separator == ".":
        number = text.cast(pl.Float64(), strict=False)
        value = pl.when(number.is_finite()).then(number)
    elif definition.type == "boolean":
        is_true = text.is_in(["true", "1"])
        value = pl.when(is_true | text.is_in(["false", "0"])).then(is_true)
    return None if value is None else raw.to_frame("text").select(value).to_series()


def _moments_in_one_form(raw: pl.Series, zone: Zone) -> pl.Series | None:
    """Moments in the form of the first, where it is a common one; null for those in another form."""
    first = raw.drop_nulls().head(1).to_list()
    forms = [form for form in COMMON_MOMENTS if first and re.search(form, first[0])]
    if not forms:
        return None
    (form,) = forms
    text = pl.when(pl.first().str.contains(form)).then(pl.first())
    moment = text.str.to_datetime(COMMON_MOMENTS[form], time_unit="us", strict=False, cache=False)
    moment = moment if form.endswith("Z$") else in_utc(moment, zone)
    return _in_calendar(raw.to_frame().select(moment).to_series())


def _looked_at(raw: pl.Series, definition: ColumnDefinition) -> _Column:
    """Values of any form, and why each that is bad is so."""
    shown = _shown(raw)
    texts = _altered(shown, definition)
    values = _native(raw, definition)
    why = None if values is None else why_not(raw.dtype, definition.value_type, definition.clock)
    bad = None
    if definition.type == "text" and values is not None:
        # Texts are altered and measured, whatever they were before; what has no text is bad, unless it is replaced.
        bad = values.is_null() & shown.is_not_null() & ~shown.is_in(list(definition.remap))
        bad, values = bad if bad.any() else None, texts
    values = _parsed(texts, definition) if values is None else values
    if bad is None and _all_taken(texts, values, definition):
        return _Column(values)
    blank = pl.col("text") == ""
    table = pl.DataFrame({"raw": shown, "text": texts, "value": values}).with_columns(
        _fault(definition, blank, why).alias("fault"),
        _cut(definition).alias("cut"),
    )
    if bad is not None:
        table = table.with_columns(
            pl.when(bad).then(pl.lit(why or _plainly_not(definition))).otherwise("fault").alias("fault")
        )
    rejects = pl.col("fault").is_not_null() & ~_defaulted(definition) & pl.lit(definition.on_bad_value != "null")
    return _column_of(
        table.select(
            _taken_value(definition, blank).alias("value"),
            pl.coalesce("fault", "cut").alias("reason"),
            rejects.alias("rejects"),
        )
    )


def _is_taken(raw: pl.Series, definition: ColumnDefinition) -> bool:
    """Whether the values are of the type already, with nothing to do about any of them."""
    if raw.dtype != definition.value_type or definition.type == "text" or definition.remap:
        return False
    if definition.on_empty not in {"by_type", "null"} and raw.null_count():
        return False
    if definition.type == "datetime" and definition.zone is not None:
        return False
    if definition.type in {"date", "datetime"}:
        return not _leaves_calendar(raw)
    if definition.type == "time":
        return not bool((raw.to_physical() % NANOSECONDS != 0).any())
    return definition.type != "number" or bool(raw.is_finite().all())


def _native(raw: pl.Series, definition: ColumnDefinition) -> pl.Series | None:
    """The values of a raw column that has a type, as those of the definition's; None where texts are to be read."""
    kind, wanted = raw.dtype, definition.value_type
    if kind in TEXT_TYPES or (definition.remap and definition.type != "text"):
        return None
    if definition.format and not kind.is_temporal():
        return None
    value = value_of(pl.col(raw.name), kind, wanted, definition.clock)
    if value is None and (kind != wanted or definition.type == "text"):
        return None
    values = raw if value is None else raw.to_frame().select(value.alias(raw.name)).to_series()
    return _in_calendar(values) if definition.type in {"date", "datetime"} else values


def _shown(raw: pl.Series) -> pl.Series:
    """The raw values as texts, which reports show."""
    if raw.dtype == pl.String():
        return raw
    return raw.to_frame("raw").select(text_of(pl.col("raw"), raw.dtype)).to_series()


def _all_taken(texts: pl.Series, values: pl.Series, definition: ColumnDefinition) -> bool:
    """Whether a quick look finds no empty value that matters, no bad one and none that is too long."""
    if definition.on_empty != "by_type" and (texts.null_count() or (texts == "").any()):
        return False
    if definition.type != "text":
        return values.null_count() == texts.null_count()
    # Counted in bytes, of which a character has at least one: quick, and at worst looked at closer.
    longest = definition.max_length
    return longest is None or not (texts.str.len_bytes() > longest).any()


def _fault(definition: ColumnDefinition, blank: pl.Expr, why: str | None = None) -> pl.Expr:
    missing = pl.col("text").is_null()
    empty = missing | blank
    nothing = pl.lit(None, pl.String())
    match definition.on_empty:
        case "bad_value":
            of_empty = pl.when(empty).then(pl.lit("is empty"))
        case "by_type" if definition.type in NUMERIC:
            of_empty = pl.when(blank).then(pl.lit("is empty"))
        case _:
            of_empty = pl.when(pl.lit(value=False)).then(nothing)
    if definition.type == "text":
        too_long = _longer(definition) if definition.when_longer == "bad_value" else pl.lit(value=False)
        return of_empty.when(too_long).then(pl.lit(f"is longer than {definition.max_length} characters"))
    return (
        of_empty.when(~empty & pl.col("value").is_null())
        .then(pl.lit(why) if why else _why_not(definition))
        .otherwise(nothing)
    )


def _longer(definition: ColumnDefinition) -> pl.Expr:
    if definition.max_length is None:
        return pl.lit(value=False)
    return pl.col("text").str.len_chars() > definition.max_length


def _cut(definition: ColumnDefinition) -> pl.Expr:
    is_cut = _longer(definition) if _cuts(definition) else pl.lit(value=False)
    return pl.when(is_cut).then(pl.lit(f"was cut to {definition.max_length} characters"))


def _cuts(definition: ColumnDefinition) -> bool:
    return definition.type == "text" and definition.when_longer == "cut"


def _why_not(definition: ColumnDefinition) -> pl.Expr:
    plain = pl.lit(_plainly_not(definition))
    match definition.type:
        case "integer":
            beyond = pl.lit("is beyond 64-bit integers")
        case "number":
            beyond = pl.lit("is beyond 64-bit floating numbers")
        case "decimal":
            plain = pl.lit(f"is not a decimal of at most {definition.scale} digits after the point")
            beyond = pl.lit(f"is beyond decimals of {DECIMAL_DIGITS} digits")
        case "time" | "datetime":
            fine = pl.col("text").str.contains(rf"\.[0-9]{{6}}0*[1-9][0-9]*{OFFSET}?$")
            return pl.when(fine).then(pl.lit(FINER)).otherwise(plain)
        case _:
            return plain
    return pl.when(pl.col("text").str.contains(_number_form(definition))).then(beyond).otherwise(plain)


def _plainly_not(definition: ColumnDefinition) -> str:
    article = "an" if definition.type == "integer" else "a"
    zone = f" of {definition.zone}" if definition.type == "datetime" and definition.zone else ""
    return f"is not {article} {definition.type}{zone}"


def _defaulted(definition: ColumnDefinition) -> pl.Expr:
    if definition.on_bad_value == "default_unless_remapped":
        return ~_spaced(pl.col("raw"), definition).is_in(list(definition.remap)).fill_null(value=False)
    return pl.lit(definition.on_bad_value == "default")


def _taken_value(definition: ColumnDefinition, blank: pl.Expr) -> pl.Expr:
    value = pl.col("value")
    if _cuts(definition) and definition.max_length is not None:
        value = value.str.slice(0, definition.max_length)
    if definition.on_empty in {"null", "default"}:
        of_empty = _default(definition) if definition.on_empty == "default" else pl.lit(None)
        value = pl.when(pl.col("text").is_null() | blank).then(of_empty).otherwise(value)
    of_bad = pl.when(_defaulted(definition)).then(_default(definition))
    return pl.when(pl.col("fault").is_not_null()).then(of_bad).otherwise(value)


def _default(definition: ColumnDefinition) -> pl.Expr:
    text = pl.Series([definition.default], dtype=pl.String())
    return pl.lit(_parsed(text, definition).item(), definition.value_type)


def _altered(raw: pl.Series, definition: ColumnDefinition) -> pl.Series:
    if definition.type == "text" and not definition.alters_text:
        return raw
    text = _spaced(pl.col("raw"), definition)
    if definition.remap:
        text = text.replace(definition.remap)
    if definition.type == "text":
        match definition.letter_case:
            case "upper":
                text = text.str.to_uppercase()
            case "lower":
                text = text.str.to_lowercase()
            case "title":
                text = text.str.to_titlecase()
    return raw.to_frame("raw").select(text).to_series()


def _spaced(text: pl.Expr, definition: ColumnDefinition) -> pl.Expr:
    match definition.white_space:
        case "remove":
            return text.str.replace_all(r"\s", "")
        case "collapse":
            return text.str.replace_all(r"\s+", " ").str.strip_chars()
        case "as_is" if definition.type == "text":
            return text
        case _:
            return text.str.strip_chars()


def _parsed(texts: pl.Series, definition: ColumnDefinition) -> pl.Series:
    """The texts as values of the definition's type; null where a text is none."""
    match definition.type:
        case "text":
            return texts
        case "integer" | "number" | "decimal":
            return _numbers(texts, definition)
        case "boolean":
            truths = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
            return texts.str.to_lowercase().replace_strict(truths, default=None, return_dtype=pl.Boolean())
        case "time":
            return _times(texts, definition)
        case "date":
            return _in_calendar(_dates(texts, definition))
        case "datetime":
            return _in_calendar(_moments(texts, definition))


def _number_form(definition: ColumnDefinition) -> str:
    point = re.escape(definition.decimal_separator)
    whole = r"[0-9]+"
    if definition.thousands_separator:
        group = re.escape(definition.thousands_separator)
        whole = rf"(?:[0-9]{{1,3}}(?:{group}[0-9]{{3}})+|[0-9]+)"
    match definition.type:
        case "integer":
            return rf"^[+-]?{whole}(?:{point}0+)?$"
        case "decimal":
            some = f"[0-9]{{1,{definition.scale}}}" if definition.scale else "0"
            return rf"^[+-]?(?:{whole}(?:{point}[0-9]{{0,{definition.scale}}}0*)?|{point}{some}0*)$"
        case _:
            return rf"^[+-]?(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?$"


def _numbers(texts: pl.Series, definition: ColumnDefinition) -> pl.Series:
    number = pl.when(pl.col("text").str.contains(_number_form(definition))).then(pl.col("text"))
    plain = number.str.strip_prefix("+")
    if definition.thousands_separator:
        plain = plain.str.replace_all(definition.thousands_separator, "", literal=True)
    plain = plain.str.replace(definition.decimal_separator, ".", literal=True)
    if definition.type == "integer":
        plain = plain.str.replace(r"\.0+$", "")
    value = plain.cast(definition.value_type, strict=False)
    if definition.type == "number":
        value = pl.when(value.is_finite()).then(value)
    return pl.DataFrame({"text": texts}).select(value).to_series()


def _times(texts: pl.Series, definition: ColumnDefinition) -> pl.Series:
    if definition.format:
        return _in_microseconds(texts.str.to_time(definition.format, strict=False))
    full = pl.when(pl.col("text").str.contains(ISO_TIME)).then(pl.col("text")).str.replace(r"^(.{5})$", "$1:00")
    return pl.DataFrame({"text": texts}).select(full.str.to_time("%H:%M:%S%.f", strict=False)).to_series()


def _dates(texts: pl.Series, definition: ColumnDefinition) -> pl.Series:
    if definition.format:
        return _of_century(texts.str.to_date(definition.format, strict=False), definition)
    if not texts.str.contains(ISO_DATE).all():
        form = pl.when(pl.col("text").str.contains(ISO_DATE)).then(pl.col("text"))
        texts = pl.DataFrame({"text": texts}).select(form).to_series()
    return texts.str.to_date("%Y-%m-%d", strict=False, cache=False)


def _of_century(days: pl.Series, definition: ColumnDefinition) -> pl.Series:
    """A two-digit year is one of the hundred until the latest; a year that was to have four digits has them."""
    day, latest = pl.col("day"), definition.latest_year
    if latest is None:
        known = pl.when(day.dt.year() >= LEAST_YEAR).then(day)
    else:
        centuries = (latest - day.dt.year()).floordiv(100)
        moved = day.dt.offset_by((centuries * 100).cast(pl.String()) + "y")
        known = pl.when(moved.dt.day() == day.dt.day()).then(moved)  # 1900 has no February 29
    return pl.DataFrame({"day": days}).select(known).to_series()


def _since_1970(texts: pl.Series, digits: int) -> pl.Series:
    """Moments told by a number of seconds or milliseconds, none of them finer than a microsecond."""
    is_number = pl.col("text").str.contains(rf"^[+-]?[0-9]{{1,15}}(?:\.[0-9]{{1,{digits}}}0*)?$")
    number = pl.when(is_number).then(pl.col("text")).str.strip_prefix("+")
    exact = number.str.replace(rf"(\.[0-9]{{{digits}}})[0-9]+$", "$1")
    microseconds = (exact.cast(pl.Decimal(DECIMAL_DIGITS, digits)) * 10**digits).cast(pl.Int64(), strict=False)
    return pl.DataFrame({"text": texts}).select(microseconds.cast(pl.Datetime("us"))).to_series()


def _moments(texts: pl.Series, definition: ColumnDefinition) -> pl.Series:
    if definition.format and definition.format in EPOCHS:
        return _since_1970(texts, EPOCHS[definition.format])
    if definition.format:
        read = texts.str.to_datetime(definition.format, time_unit="us", strict=False)
        if re.search(r"%\.?[0-9]*f", definition.format):
            read = _unless_finer(read, texts, definition.format)
        read = _of_century(read, definition)
        has_zone = isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone
        return _without_zone(read) if has_zone else _told_in(read, definition.clock)
    if not texts.str.contains(ISO_MOMENT).all():
        if definition.zone is not None:
            return _of_zone(texts, definition.clock)
        texts = _completed(texts)
    return _without_zone(texts.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False))


def _of_zone(texts: pl.Series, zone: Zone) -> pl.Series:
    """Texts of moments, of which those without an offset are told in the zone."""
    moments = _without_zone(
        _completed(texts).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    )
    has_offset = pl.col("text").str.contains(f"{OFFSET}$")
    table = pl.DataFrame({"text": texts, "moment": moments})
    return table.select(pl.when(has_offset).then("moment").otherwise(in_utc(pl.col("moment"), zone))).to_series()


def _in_microseconds(values: pl.Series) -> pl.Series:
    """Times that are none of whole microseconds are missing."""
    column = pl.col("value")
    whole = pl.when(column.to_physical() % NANOSECONDS == 0).then(column)
    return values.to_frame("value").select(whole).to_series()


def _unless_finer(moments: pl.Series, texts: pl.Series, form: str) -> pl.Series:
    """The moments without those whose time of day, which has nanoseconds, is finer than a microsecond."""
    clock = texts.str.to_time(form, strict=False)
    return moments.set((clock.to_physical() % NANOSECONDS != 0).fill_null(value=False), None)


def _told_in(moments: pl.Series, zone: Zone) -> pl.Series:
    return moments.to_frame("moment").select(in_utc(pl.col("moment"), zone)).to_series()


def _completed(texts: pl.Series) -> pl.Series:
    form = pl.when(pl.col("text").str.contains(ISO_DATETIME)).then(pl.col("text"))
    full = (
        form.str.to_uppercase()
        .str.replace(r"^(.{10})[T ](.{5})", "${1}T${2}")
        .str.replace(" ", "", literal=True)
        .str.replace(r"^(.{16})([Z+-]|$)", "${1}:00${2}")
        .str.replace(r"^(.{11}[^Z+-]+)$", "${1}Z")
    )
    return pl.DataFrame({"text": texts}).select(full).to_series()


def _without_zone(moments: pl.Series) -> pl.Series:
    zone = moments.dtype.time_zone if isinstance(moments.dtype, pl.Datetime) else None
    return moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else moments


def _in_calendar(days: pl.Series) -> pl.Series:
    """Only what Python's calendar knows too: the years 1 to 9999."""
    if not _leaves_calendar(days):
        return days
    return pl.DataFrame({"day": days}).select(pl.when(~beyond(pl.col("day"), days.dtype)).then("day")).to_series()


def _leaves_calendar(days: pl.Series) -> bool:
    return bool(days.to_frame("day").select(beyond(pl.col("day"), days.dtype).any()).item())
