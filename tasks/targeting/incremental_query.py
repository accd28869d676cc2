"""Incremental query: a query that leaves out whom earlier runs have given already."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Self

import polars as pl
from polars.exceptions import PolarsError
from pydantic import Field, model_validator

from tasks.errors import ColumnTypesDiffer, ConfigurationError, SourceUnreadable
from tasks.files.audiences import AUDIENCE_NAME
from tasks.files.parquet import replace_parquet
from tasks.runs.shapes import source_activity
from tasks.settings import merged
from tasks.sources.selection import SelectionOptions, selected_rows
from tasks.tables.conditions import first_line
from tasks.tables.transitions import require_columns

MOMENT = "%Y%m%dT%H%M%S.%fZ"
"""A run's moment in UTC as the name of its part of the history: names sort as the moments do."""


class IncrementalQueryOptions(SelectionOptions):
    """Options of the Incremental query activity."""

    history: Path = Field(
        default=Path("histories"), title="History folder", description="Where it is kept whom each run has given."
    )
    name: str = Field(
        pattern=AUDIENCE_NAME,
        title="History name",
        description="Name of this query's history, its own in the folder.",
    )
    mode: Literal["exclude_earlier", "date_field"] = Field(
        default="exclude_earlier",
        title="Mode",
        description=(
            "exclude_earlier: leave out whom earlier runs gave; date_field: take those whose date field is at or"
            " after the last run, and before this one."
        ),
    )
    date_field: str = Field(default="", title="Date field", description="Column of a date or moment.")
    since: datetime | None = Field(
        default=None, title="Last run", description="Overrides the last run's date, for the mode date_field."
    )
    keep_days: int | None = Field(
        default=None,
        ge=1,
        title="History in days",
        description="Runs that are older are forgotten: whom they gave may be given again. Empty forgets nothing.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.mode == "date_field") != bool(self.date_field):
            raise ValueError("'date_field' goes with the mode date_field, and must be given there")
        if self.since is not None and self.mode != "date_field":
            raise ValueError("'since' goes with the mode date_field")
        return self

    def part_of(self, run_at: datetime) -> Path:
        """The file that keeps whom the run of a moment gave."""
        return self.history / self.name / f"{run_at.astimezone(UTC).strftime(MOMENT)}.parquet"


def earlier_runs(options: IncrementalQueryOptions, run_at: datetime) -> dict[datetime, Path]:
    """The history's runs before `run_at` that are not forgotten, in order, each with its file."""
    oldest = run_at - timedelta(days=options.keep_days) if options.keep_days else datetime.min.replace(tzinfo=UTC)
    runs = {
        datetime.strptime(path.stem, MOMENT).replace(tzinfo=UTC): path
        for path in sorted((options.history / options.name).glob("*.parquet"))
    }
    return {moment: path for moment, path in runs.items() if oldest <= moment < run_at}


def select_new(options: IncrementalQueryOptions, run_at: datetime) -> pl.DataFrame:
    """Whom the query selects and no earlier run gave. The same moment gives the same again.

    In: `run_at`, with its time zone: dates, and moments without a zone, in the date field are taken as of it.
    Errors: those of `tasks.sources.selection.selected_rows`, `ColumnTypesDiffer` (the date field is no date),
    `ConfigurationError` (`run_at` has no time zone).
    """
    if run_at.tzinfo is None:
        raise ConfigurationError(setting="run_at", reason="it has no time zone, so it is no moment")
    earlier = earlier_runs(options, run_at)
    if options.mode == "date_field":
        return _between(options, options.since or max(earlier, default=None), run_at)
    given = _given(list(earlier.values()), options)
    return selected_rows(
        options,
        activity="Incremental query",
        narrowed=lambda rows: rows.join(given, on=options.source.key, how="anti", maintain_order="left"),
    )


def _given(parts: list[Path], options: IncrementalQueryOptions) -> pl.LazyFrame:
    schema = options.source.types_of_columns()
    table = pl.DataFrame(schema=schema)
    require_columns(table, [options.source.key], activity="Incremental query", where=f"'{options.source.shown}'")
    kind = schema[options.source.key]
    if not parts:
        return table.lazy().select(options.source.key)
    try:
        return pl.read_parquet(parts).lazy().select(pl.col(options.source.key).cast(kind))
    except (PolarsError, OSError) as error:
        raise SourceUnreadable(
            what="history",
            path=options.history / options.name,
            reason=first_line(error),
            cure="Remove it to begin anew, or choose another history name.",
        ) from None


def _between(options: IncrementalQueryOptions, since: datetime | None, run_at: datetime) -> pl.DataFrame:
    """The query's rows whose date field is at or after `since` and before `run_at`."""
    column, schema = options.date_field, options.source.types_of_columns()
    table = pl.DataFrame(schema=schema)
    require_columns(table, [column], activity="Incremental query", where=f"'{options.source.shown}'")
    kind = schema[column]
    if isinstance(kind, pl.Datetime) and kind.time_zone:
        within = pl.col(column) < run_at
        if since is not None:
            within &= pl.col(column) >= (since if since.tzinfo else since.replace(tzinfo=run_at.tzinfo))
        return selected_rows(options, activity="Incremental query", narrowed=lambda rows: rows.filter(within))
    bounds = [f'"{column}" < {_literal(run_at, run_at, kind, column)}']
    if since is not None:
        bounds.insert(0, f'"{column}" >= {_literal(since, run_at, kind, column)}')
    # In the filter itself, so that the source runs it too.
    where = " AND ".join([f"({options.where})", *bounds])
    return selected_rows(merged(options, where=where), activity="Incremental query")


def _literal(moment: datetime, run_at: datetime, kind: pl.DataType, column: str) -> str:
    local = moment.astimezone(run_at.tzinfo) if moment.tzinfo else moment
    if kind == pl.Date():
        return f"DATE '{local.date().isoformat()}'"
    if isinstance(kind, pl.Datetime):
        return f"TIMESTAMP '{local.replace(tzinfo=None).isoformat(sep=' ')}'"
    raise ColumnTypesDiffer(
        activity="Incremental query", column=column, types=f"{kind}, neither a date nor a moment"
    )


def remember(given: pl.DataFrame, options: IncrementalQueryOptions, run_at: datetime) -> None:
    """Keep whom the run gave, and forget the runs that are older than the history. Errors: `StoreUnwritable`."""
    replace_parquet(given.select(options.source.key), options.part_of(run_at))
    if options.keep_days:
        oldest = options.part_of(run_at - timedelta(days=options.keep_days)).name
        for path in (options.history / options.name).glob("*.parquet"):
            if path.name < oldest:
                path.unlink()


@source_activity(
    "Incremental query",
    task_run_name="Incremental query {options.name}",
    distinct=lambda options, run_at: options.distinct_key,  # noqa: ARG005
)
def incremental_query(options: IncrementalQueryOptions, run_at: datetime) -> pl.DataFrame:
    """Select whom a condition holds for and no earlier run has given.

    In: the query, and the moment of the run with its time zone (the flow run's scheduled start, usually). A run of
    the same moment, started again, gives the same members again.
    Out: as Query. Errors: as Query, `ColumnTypesDiffer`, `StoreUnwritable`.
    Source: Adobe Campaign Standard, Incremental query activity.
    """
    selected = select_new(options, run_at)
    remember(selected, options, run_at)
    return selected
