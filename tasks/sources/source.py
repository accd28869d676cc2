"""The shape of every source of rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

Making = Callable[[pl.LazyFrame], pl.LazyFrame]
"""Makes of a table of a source's rows the table that is wanted."""

FieldType = Literal["text", "date", "datetime", "boolean", "integer", "number"]

TYPES: Mapping[FieldType, pl.DataType] = {
    "text": pl.String(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us"),
    "boolean": pl.Boolean(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
}


class Source(BaseModel, ABC):
    """A table outside: its columns' types can be asked for, and the rows that a condition holds for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    key: str = Field(
        default="profile_id",
        title="Key",
        description="Column that tells profiles apart; of profiles with the same key the first is taken.",
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
    def select(self, where: str) -> pl.LazyFrame:
        """The rows for which the SQL condition `where` holds, in the source's order.

        The condition has been checked against `types_of_columns`. Errors: those of the kind of source.
        """

    @abstractmethod
    def collected(self, table: pl.LazyFrame) -> pl.DataFrame:
        """The rows of a table that was made from `select`. Errors: those of the kind of source."""

    @abstractmethod
    def batches(self, where: str, size: int, made: Making, *, distinct: bool) -> Iterator[pl.DataFrame]:
        """`collected(made(select(where)))`, at most `size` rows at a time: one batch at least, if empty.

        `distinct` says that `made` takes each key once. Memory does not grow with the rows, as far as the kind of
        source can. Errors: those of the kind of source.
        """


def as_type(column: str, present: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """The column as the type wanted of it: texts as ISO 8601 dates and moments, `true` and `false`."""
    if present == wanted:
        return pl.col(column)
    if present == pl.String():
        if wanted == pl.Date():
            return pl.col(column).str.to_date("%Y-%m-%d")
        if isinstance(wanted, pl.Datetime):
            return pl.col(column).str.to_datetime(time_unit="us")
        if wanted == pl.Boolean():
            return pl.col(column).str.to_lowercase() == "true"
    return pl.col(column).cast(wanted)
