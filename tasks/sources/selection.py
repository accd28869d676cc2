"""Selecting rows of a source, with their additional data: what Query and Incremental query have in common."""

from collections.abc import Iterator

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import ColumnTaken
from tasks.sources.database import DatabaseTable
from tasks.sources.files import ProfileFile
from tasks.sources.rejects import Rejects
from tasks.sources.source import Making, first_of_keys
from tasks.tables.conditions import EVERYTHING, condition, expressions
from tasks.tables.relations import Relation, check_key_types, link
from tasks.tables.transitions import require_columns


class AdditionalData(Relation):
    """Additional data of the selected profiles, from a source of its own."""

    source: ProfileFile | DatabaseTable = Field(title="Source", description="Where the additional data is.")


class SelectionOptions(BaseModel):
    """What to select, and what to add to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    source: ProfileFile | DatabaseTable = Field(title="Source", description="Where the profiles are.")
    where: str = Field(
        default=EVERYTHING,
        title="Filter",
        description="SQL condition over the source's columns, for example birth_date IS NOT NULL.",
    )
    remove_duplicates: bool = Field(
        default=True, title="Remove duplicates", description="Take each profile key once."
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        title="Simple fields",
        description="Columns to add, {name: SQL expression}, for example {initial: LEFT(first_name, 1)}.",
    )
    additional_data: list[AdditionalData] = Field(
        default_factory=list,
        title="Additional data",
        description="Linked rows, collections (the last transaction) and aggregates of other sources to add.",
    )

    @property
    def distinct_key(self) -> str:
        """Column of which no value is selected twice; empty where duplicates stay."""
        return self.source.key if self.remove_duplicates else ""


def selected_rows(
    options: SelectionOptions,
    *,
    activity: str,
    narrowed: Making = lambda rows: rows,
    rejects: Rejects | None = None,
) -> pl.DataFrame:
    """The source's rows for which the filter holds, each key once, in the source's order, with their additions.

    `narrowed` leaves out more of them before anything is added. Rows that the source rejects go to `rejects`.

    Errors: those of the source and of `tasks.tables.relations.link`; `FilterInvalid`, `ExpressionInvalid`,
    `ColumnTaken`, `ColumnsMissing` (the filter, a field or the key names a column that the source does not have).
    """
    source = options.source
    table = _making(options, activity, narrowed)(source.select(options.where, rejects))
    if options.remove_duplicates:
        table = first_of_keys(source.key)(table)
    return _with_additions(source.collected(table), options, activity)


def selected_batches(
    options: SelectionOptions, size: int, *, activity: str, rejects: Rejects | None = None
) -> Iterator[pl.DataFrame]:
    """`selected_rows`, `size` at a time: one batch at least, if empty. Errors: as there.

    `rejects` has all rows that the source rejects once the last batch was taken.
    """
    made = _making(options, activity, lambda rows: rows)
    batches = options.source.batches(options.where, size, made, distinct=options.remove_duplicates, rejects=rejects)
    return (_with_additions(batch, options, activity) for batch in batches)


def _making(options: SelectionOptions, activity: str, narrowed: Making) -> Making:
    """What is made of the source's rows for which the filter holds, checked against its columns."""
    source = options.source
    schema = source.types_of_columns()
    condition(options.where, schema, activity=activity, where=f"'{source.shown}'", cure=source.cure)
    if options.remove_duplicates:
        require_columns(pl.DataFrame(schema=schema), [source.key], activity=activity, where=f"'{source.shown}'")
    taken = next((name for name in options.fields if name in schema), None)
    if taken is not None:
        raise ColumnTaken(activity=activity, name=taken)
    fields = expressions(options.fields, schema, activity=activity, where=f"'{source.shown}'")

    def made(rows: pl.LazyFrame) -> pl.LazyFrame:
        return narrowed(rows).with_columns(fields)

    return made


def _with_additions(profiles: pl.DataFrame, options: SelectionOptions, activity: str) -> pl.DataFrame:
    for additional in options.additional_data:
        profiles = _with_additional_data(profiles, additional, activity)
    return profiles


def _with_additional_data(profiles: pl.DataFrame, additional: AdditionalData, selecting: str) -> pl.DataFrame:
    """The profiles with their additional data; only rows of selected profiles are read into memory."""
    source, activity = additional.source, f"{selecting}, '{additional.name}'"
    schema = source.types_of_columns()
    there = list(additional.on.values())
    condition(additional.where, schema, activity=activity, where=f"'{source.shown}'", cure=source.cure)
    require_columns(profiles, additional.on, activity=activity, where="the selected profiles")
    require_columns(pl.DataFrame(schema=schema), there, activity=activity, where=f"'{source.shown}'")
    check_key_types(profiles.schema, schema, additional.on, name=additional.name)
    wanted = source.select(additional.where).join(
        profiles.lazy().select(list(additional.on)),
        left_on=there,
        right_on=list(additional.on),
        how="semi",
        maintain_order="left",  # a collection without an order has the source's
    )
    return link(profiles, source.collected(wanted), additional, activity=activity)
