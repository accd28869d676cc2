"""Incremental query: a query that leaves out members whom earlier runs already returned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

import polars as pl
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from pydantic import Field, model_validator

from tasks.errors import ColumnTypesDiffer, ConfigurationError
from tasks.files.audiences import AUDIENCE_NAME
from tasks.files.kept import kept
from tasks.runs.results import PER_RUN, ReadableResults
from tasks.runs.shapes import source_activity
from tasks.runs.table import part_size
from tasks.settings import merged
from tasks.sources.rejects import SOURCE_REJECTS, Rejects
from tasks.sources.selection import SelectionOptions, selected_rows
from tasks.sources.source import first_of_keys
from tasks.tables.transitions import require_columns
from tasks.targeting._history import Call, History, Known

ACTIVITY = "Incremental query"
NOTHING = timedelta(0)


class IncrementalQueryOptions(SelectionOptions):
    """Options of the Incremental query activity."""

    history: Path = Field(
        default=Path("histories"),
        title="History folder",
        description="Where the members of earlier runs are kept, below the folder of kept files.",
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
            "exclude_earlier: leave out members of earlier runs; date_field: take those whose date field is at or"
            " after the last run, and before this one."
        ),
    )
    date_field: str = Field(
        default="",
        title="Date field",
        description=(
            "Column of a date or moment. Moments without a zone are of the source's zone; of the hour that its"
            " clock shows twice the second is meant, so that none is left out."
        ),
    )
    lag: timedelta = Field(
        default=NOTHING,
        ge=NOTHING,
        title="Lag",
        description=(
            "How late a row may appear, for the mode date_field: rows of so much time before the last run are"
            " looked at again, and those that were given are left out."
        ),
    )
    since: datetime | None = Field(
        default=None, title="Last run", description="Overrides the last run's date, for the mode date_field."
    )
    keep_days: int | None = Field(
        default=None,
        ge=1,
        title="History in days",
        description="Older runs are forgotten: their members may be returned again. Empty forgets nothing.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.mode == "date_field") != bool(self.date_field):
            raise ValueError("'date_field' goes with the mode date_field, and must be given there")
        if self.since is not None and self.mode != "date_field":
            raise ValueError("'since' goes with the mode date_field")
        if self.lag and (self.mode != "date_field" or self.since is not None):
            raise ValueError("'lag' goes with the mode date_field, without 'since'")
        if self.keep_days and self.lag > timedelta(days=self.keep_days):
            raise ValueError("'lag' is longer than the history in days")
        return self

    @property
    def kept(self) -> History:
        """The history."""
        return History(kept(self.history) / self.name)

    @property
    def keep(self) -> timedelta | None:
        """For how long it is kept whom a run gave."""
        return timedelta(days=self.keep_days) if self.keep_days else None

    @property
    def told_apart_by(self) -> list[str]:
        """Columns by which a row is the same row in every run."""
        return list(dict.fromkeys([self.source.key, *filter(None, [self.date_field])]))


@dataclass(frozen=True)
class Selected:
    """What an incremental query gives."""

    rows: pl.DataFrame
    told_apart: pl.DataFrame
    """What the history keeps of them, and of the duplicates that were left out."""


@dataclass
class StillHeld(CachePolicy):
    """Cache policy: a run that is tried again gets the same people, unless they were given to another since."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,  # noqa: ANN401
    ) -> str | None:
        """Key of the query's result."""
        key = PER_RUN.policy.compute_key(
            task_ctx=task_ctx, inputs=inputs, flow_parameters=flow_parameters, **kwargs
        )
        options: IncrementalQueryOptions = inputs["options"]
        times = options.kept.asked_again(Call.of(options), inputs["run_at"])
        return f"{key}-{times}" if key and times else key


def select_new(
    options: IncrementalQueryOptions, run_at: datetime, known: Known, rejects: Rejects | None = None
) -> Selected:
    """Whom the query selects and no earlier run gave; whom this very run gave before, it gives again.

    In: `run_at`, with its time zone: the days of a date field are those of that zone.
    Errors: those of `tasks.sources.selection.selected_rows`, `ColumnTypesDiffer` (the date field is no date),
    `SourceUnreadable` (the history).
    """
    asked = _with_moments_told(options)
    schema = asked.source.types_of_columns()
    where = f"'{asked.source.shown}'"
    require_columns(pl.DataFrame(schema=schema), asked.told_apart_by, activity=ACTIVITY, where=where)
    kinds = pl.Schema({name: schema[name] for name in asked.told_apart_by})
    narrow = asked.where
    if asked.mode == "date_field":
        narrow = _between(asked, kinds[asked.date_field], _last_run(asked, run_at, known), run_at)
    if known.own is not None:
        parts, how = [known.own], "semi"
    else:
        parts, how = [] if asked.since else list(known.others), "anti"
    given = asked.kept.read(parts, kinds)

    def narrowed(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.join(given, on=list(kinds), how=how, maintain_order="left")  # type: ignore[arg-type]

    found = selected_rows(
        merged(asked, where=narrow, remove_duplicates=False), activity=ACTIVITY, narrowed=narrowed, rejects=rejects
    )
    told_apart = found.select(asked.told_apart_by).drop_nulls(asked.source.key)
    if asked.remove_duplicates:
        found = first_of_keys(asked.source.key)(found.lazy()).collect()
    return Selected(_with_keys(found, asked.source.key, rejects), told_apart)


def _with_moments_told(options: IncrementalQueryOptions) -> IncrementalQueryOptions:
    """The options, by which the hour that a clock shows twice is the second: no row is older than it says.

    So a run that is between the two leaves such a row to the next one, and none is behind the last run.
    """
    source = options.source
    if options.mode != "date_field" or source.zone is None or source.repeated_hour != "bad_value":
        return options
    return merged(options, source=merged(source, repeated_hour="second"))


def _with_keys(rows: pl.DataFrame, key: str, rejects: Rejects | None) -> pl.DataFrame:
    """The rows that have a key; nobody can tell whether the others were given before."""
    without = rows.filter(pl.col(key).is_null())
    if rejects is not None and without.height:
        reason = "has no key, so that nobody can tell whether an earlier run gave it"
        report = dict.fromkeys(SOURCE_REJECTS) | {"column": key, "reason": reason}
        rejects.add(pl.DataFrame([report] * without.height, schema=SOURCE_REJECTS))
    return rows.drop_nulls(key)


def _last_run(options: IncrementalQueryOptions, run_at: datetime, known: Known) -> datetime | None:
    """From when on rows are looked at."""
    if options.since is not None:
        return options.since if options.since.tzinfo else options.since.replace(tzinfo=run_at.tzinfo)
    moment = run_at if known.own is None else known.own.moment
    last = max((part.moment for part in known.others if part.moment < moment), default=None)
    return None if last is None else last - options.lag


def _between(options: IncrementalQueryOptions, kind: pl.DataType, since: datetime | None, run_at: datetime) -> str:
    """The condition, and that the date field is at or after `since` and before `run_at`: the source runs it too."""
    column = f'"{options.date_field.replace(chr(34), chr(34) * 2)}"'

    def literal(moment: datetime) -> str:
        if kind == pl.Date():
            return f"DATE '{moment.astimezone(run_at.tzinfo).date().isoformat()}'"
        if isinstance(kind, pl.Datetime):
            utc = moment.astimezone(UTC)
            name, told = ("TIMESTAMPTZ", utc) if kind.time_zone else ("TIMESTAMP", utc.replace(tzinfo=None))
            return f"{name} '{told.isoformat(sep=' ')}'"
        raise ColumnTypesDiffer(
            activity=ACTIVITY, column=options.date_field, types=f"{kind}, neither a date nor a moment"
        )

    bounds = [] if since is None else [f"{column} >= {literal(since)}"]
    return " AND ".join([f"({options.where})", *bounds, f"{column} < {literal(run_at)}"])


@source_activity(
    ACTIVITY,
    task_run_name="Incremental query {options.name}",
    distinct=lambda options, run_at: options.distinct_key,  # noqa: ARG005
    cache_policy=ReadableResults(policy=StillHeld()),
)
def incremental_query(options: IncrementalQueryOptions, run_at: datetime) -> Mapping[str, Iterator[pl.DataFrame]]:
    """Select the members who match a condition and whom no earlier run has returned.

    In: the query, and the moment of the run with its time zone (usually the flow run's scheduled start). A retry
    for the same moment returns the same members, if they still match the condition.
    The members whom a flow run returned are remembered once it has completed. If it failed, crashed or was
    cancelled, the next run returns them again; where some of them already got their message, retry that run.
    Out: as Query; `rejects` also has the rows without a key.
    Errors: as Query, `ColumnTypesDiffer`, `ConfigurationError` (`run_at` has no time zone), `HistoryUndecided` (an
    earlier flow run has not ended), `StoreUnwritable`.
    Source: Adobe Campaign Standard, Incremental query activity.

    Example:
        ```python
        options = IncrementalQueryOptions(source=settings.profiles, name="newcomers", where="may_contact")
        newcomers = incremental_query(options, run_at)
        ```
    """
    if run_at.tzinfo is None:
        raise ConfigurationError(setting="run_at", reason="it has no time zone, so it is no moment")
    history, call, rejects = options.kept, Call.of(options), Rejects()
    with history.locked():
        known = history.known_to(call, run_at, options.keep)
        selected = select_new(options, run_at, known, rejects)
        if known.own is None:
            history.write(selected.told_apart, call, run_at)
        if options.keep:
            history.forget(run_at.astimezone(UTC) - options.keep)
    rows = selected.rows
    return {
        "standard": rows.iter_slices(part_size()) if rows.height else iter([rows]),
        "rejects": rejects.shown(options.source.shown),
    }
