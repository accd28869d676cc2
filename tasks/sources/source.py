"""The shape of every source of rows, and the options that say what its values mean."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.sources.rejects import Rejects
from tasks.tables.columns import ColumnDefinition, ColumnType
from tasks.tables.natives import RepeatedHour
from tasks.tables.transitions import quoted
from tasks.tables.zones import ZoneName

Making = Callable[[pl.LazyFrame], pl.LazyFrame]
"""Turns a source's rows into the requested table."""


class ValueOptions(BaseModel):
    """What the values of a source mean: the same for every kind of source."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    types: dict[str, ColumnType] = Field(
        default_factory=dict,
        title="Types",
        description=(
            "Types by name here: text, integer, number, decimal, boolean, date, time or datetime. A column without"
            " one keeps the type that the source gives it; in a delimited file that is text."
        ),
    )
    formats: dict[str, str] = Field(
        default_factory=dict,
        title="Formats",
        description="Formats of dates, times and datetimes by name here, for example {birth_date: %d.%m.%Y}.",
    )
    latest_year: int | None = Field(
        default=None,
        title="Latest year",
        description="The latest year that a two-digit year (%y) can be: 2026 reads 27 as 1927.",
    )
    decimal_separator: str = Field(
        default=".", min_length=1, max_length=1, title="Decimal separator", description="Character before decimals."
    )
    thousands_separator: str = Field(
        default="", max_length=1, title="Thousands separator", description="Character between groups of three."
    )
    scale: int = Field(default=2, ge=0, le=38, title="Scale", description="Digits after the point of decimals.")
    remap: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        title="Remapping",
        description=(
            "Values to replace by name here, {name: {raw value: value}}: {may_contact: {Y: true, N: false}}."
        ),
    )
    zone: ZoneName | None = Field(
        default=None,
        title="Time zone",
        description=(
            "Time zone of moments that have none, as Europe/Berlin, and whose midnight a moment must be to be read"
            " as a date. Empty: UTC. Never the server's."
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
    on_empty: Literal["by_type", "null", "bad_value"] = Field(
        default="null", title="Empty value", description="An empty text is a missing value, or a bad one."
    )
    on_bad_value: Literal["error", "reject", "null"] = Field(
        default="error",
        title="Bad value",
        description=(
            "What becomes of a row with a value that cannot be read, or with too few or too many values: error"
            " refuses the source; reject leaves the row out and reports it; null takes it without the value, but"
            " a row of the wrong length is still rejected."
        ),
    )

    @model_validator(mode="after")
    def _tells_its_types(self) -> Self:
        untyped = [name for name in self.formats if name not in self.types]
        if untyped:
            raise ValueError(f"a format needs a type, which {quoted(untyped)} has not in types")
        for name, kind in self.types.items():
            self.definition(name, name, kind)
        return self

    def definition(self, name: str, key: str, kind: ColumnType, *, scale: int | None = None) -> ColumnDefinition:
        """How a column of the name here is read. Errors: `ValueError` (its format does not tell its type)."""
        has_year = "%y" in self.formats.get(name, "")
        return ColumnDefinition(
            key=key,
            type=kind,
            max_length=None,
            format=self.formats.get(name),
            latest_year=self.latest_year if has_year else None,
            decimal_separator=self.decimal_separator,
            thousands_separator=self.thousands_separator,
            scale=self.scale if scale is None else scale,
            remap=self.remap.get(name, {}),
            zone=self.zone,
            repeated_hour=self.repeated_hour,
            on_empty=self.on_empty if kind != "text" or self.on_empty == "bad_value" else "by_type",
            on_bad_value="null" if self.on_bad_value == "null" else "reject",
        )


class Source(ValueOptions, ABC):
    """A table outside: its columns' types can be asked for, and the rows that a condition holds for."""

    key: str = Field(
        default="profile_id",
        title="Key",
        description="Column that tells profiles apart; of profiles with the same key the first is taken.",
    )
    required: list[str] = Field(
        default_factory=list,
        title="Required columns",
        description="Columns, by name here, without which the source is refused.",
    )

    @property
    @abstractmethod
    def shown(self) -> str:
        """The source as logs and errors name it; never a password."""

    @property
    @abstractmethod
    def cure(self) -> str:
        """What to do when a condition names a column that the source does not have."""

    @abstractmethod
    def types_of_columns(self) -> pl.Schema:
        """The columns and their types, without reading the rows. Errors: those of the kind of source."""

    @abstractmethod
    def select(self, where: str, rejects: Rejects | None = None) -> pl.LazyFrame:
        """The rows for which the SQL condition `where` holds, in the source's order; those left out to `rejects`.

        The condition has been checked against `types_of_columns`. Errors: those of the kind of source.
        """

    @abstractmethod
    def collected(self, table: pl.LazyFrame) -> pl.DataFrame:
        """The rows of a table that was made from `select`. Errors: those of the kind of source."""

    @abstractmethod
    def batches(
        self, where: str, size: int, made: Making, *, distinct: bool, rejects: Rejects | None = None
    ) -> Iterator[pl.DataFrame]:
        """`collected(made(select(where)))`, at most `size` rows at a time: one batch at least, if empty.

        `distinct` takes each key once. Memory does not grow with the rows, as far as the kind of source can.
        Errors: those of the kind of source.
        """


def first_of_keys(key: str) -> Making:
    """Takes the first row of each key, and every row without one."""
    return lambda rows: rows.filter(pl.col(key).is_null() | pl.col(key).is_first_distinct())


TYPE_OF: Mapping[type[pl.DataType], ColumnType] = {
    pl.String: "text",
    pl.Boolean: "boolean",
    pl.Date: "date",
    pl.Time: "time",
    pl.Datetime: "datetime",
    pl.Decimal: "decimal",
}


def type_of(kind: pl.DataType) -> ColumnType:
    """The type of a column definition that is nearest to a type of polars."""
    if kind.is_integer():
        return "integer"
    return "number" if kind.is_float() else TYPE_OF.get(type(kind), "text")
