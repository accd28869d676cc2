"""The shapes of activities whose result is an audience: source, rows and table. Sinks are in `tasks.runs.sink`."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Concatenate, cast, overload

import polars as pl
from prefect import Task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.states import Completed

from tasks.runs.activity import Activity, Function, P, R, in_memory, of_prefect
from tasks.runs.audience import STANDARD, Audience, Plan, Step, transitions_of
from tasks.runs.digest import digest_of
from tasks.runs.outbound import at_once, distinct_in_all, in_tables, this_run
from tasks.runs.results import PER_RUN
from tasks.runs.table import part_size
from tasks.tables.transitions import Transitions


class RowsActivity(Activity[P, R]):
    """An activity that works on each row by itself.

    `across` finds what must be known of all parts before the first is worked on, such as the addresses that several
    parts have. In: what gives the rows part by part, as often as it is called, and the arguments. Out: arguments in
    the place of theirs.
    """

    def __init__(self, function: Function[P, R], *, across: Callable[..., dict[str, Any]], **options: Any) -> None:  # noqa: ANN401
        self.across = across
        super().__init__(function, **options)

    @overload  # type: ignore[override]
    def __call__(self, inbound: Audience, *args: P.args, **kwargs: P.kwargs) -> Audience: ...

    @overload
    def __call__(self, inbound: pl.DataFrame, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run at once, or plan the activity for the parts of an audience."""
        bound, outside = self.given(args, kwargs), of_prefect(kwargs)
        inbound = bound.arguments.get(self.inbound)
        if not isinstance(inbound, Audience) or inbound.in_memory:
            return super().__call__(*bound.args, **bound.kwargs, **outside)
        # A plan is not stored as a result: each try of a run makes it again, from no rows.
        planned = Task.with_options(self, cache_policy=NO_CACHE, persist_result=False)
        state = planned(*bound.args, **bound.kwargs, **{**outside, "return_state": True})
        return state if outside.get("return_state") else _data(state.result())

    def run(self, bound: inspect.BoundArguments) -> Any:  # noqa: ANN401
        """Run on the rows, or check on none and plan."""
        inbound, others = self.arguments(bound)
        if not isinstance(inbound, Audience):
            others |= self.across(lambda: iter([inbound]), **others)
            return self.with_counts_shown(self.function(inbound, **others))
        if inbound.in_memory:
            others |= self.across(inbound.pieces, **others)
            made = self.function(inbound.collect(), **others)
            return at_once(made, [inbound], self.label, inbound.distinct)
        planned = self.planned(inbound, others)
        return Completed(
            name="Planned", message=f"Runs with each of {len(inbound.table.parts)} parts.", data=planned
        )

    def planned(self, inbound: Audience, others: Mapping[str, Any]) -> Audience:
        """The audience with this activity as its next step. Every check that needs no rows is made.

        Errors: those of the activity.
        """
        outbound = transitions_of(cast("Any", self.function(inbound.schema.to_frame(), **others)))
        others = {**others, **self.across(inbound.pieces, **others)}
        step = Step(self.where, self.label, others, STANDARD, run=this_run())
        step.made = digest_of([inbound.table.key, inbound.plan.key, step.key])

        def going_on(name: str, others: Mapping[str, Audience]) -> Audience:
            return Audience(
                inbound.table,
                activity=self.label if name == STANDARD else f"{self.label}, {name}",
                plan=Plan((*inbound.plan.steps, step.of_transition(name))),
                schema=outbound[name].schema,
                others=others,
                rejected=inbound.rejected,
                counts=inbound.counts,
                distinct=inbound.distinct,
            )

        return going_on(STANDARD, {name: going_on(name, {}) for name in outbound if name != STANDARD})


def _data(result: Any) -> Any:  # noqa: ANN401
    """The data of a result that is itself a state."""
    return result.result() if hasattr(result, "state_details") else result


class SourceActivity(Activity[P, R]):
    """An activity that gives rows: all at once, or as tables one after another, each at most a part's size.

    Several transitions come by name, and are read one after another: rejects are known when the rows were read.
    """

    def __init__(self, function: Callable[P, R], *, distinct: Callable[..., str], **options: Any) -> None:  # noqa: ANN401
        self.distinct = distinct
        super().__init__(function, **options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Audience:  # type: ignore[override]
        """Give the rows as an audience."""
        return cast("Audience", super().__call__(*args, **kwargs))

    def is_one_run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """A source always is."""
        return True

    def run(self, bound: inspect.BoundArguments) -> Audience:
        """Give the rows, in memory where they are one part, else kept as parts."""
        bound.apply_defaults()
        arguments = {name: in_memory(value) for name, value in bound.arguments.items()}
        outbound: Any = self.function(**arguments)
        distinct = self.distinct(**arguments)
        if isinstance(outbound, Mapping):
            return in_tables(outbound, [], self.label, distinct=distinct)
        if not isinstance(outbound, pl.DataFrame | Transitions):
            return in_tables({STANDARD: outbound}, [], self.label, distinct=distinct)
        batches = {name: _sliced(table) for name, table in transitions_of(outbound).items()}
        return in_tables(batches, [], self.label, distinct=distinct)


def _sliced(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    return table.iter_slices(part_size()) if table.height else iter([table])


Lazily = Mapping[str, pl.LazyFrame]
"""Outbound transitions by name, as a function of lazy tables gives them."""


class TableActivity(Activity[P, R]):
    """An activity that needs the whole table; its function takes lazy tables and gives them by transition."""

    def __init__(
        self,
        function: Callable[..., Lazily],
        *,
        gives: type[R],
        stays_distinct: Callable[..., bool],
        by_rows: Callable[..., Callable[..., Any] | None],
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.gives = gives
        self.stays_distinct = stays_distinct
        self.by_rows = by_rows
        super().__init__(function, **options)  # type: ignore[arg-type]

    def made(self, tables: dict[str, pl.DataFrame]) -> Any:  # noqa: ANN401
        """Tables in memory as what the activity gives."""
        return tables[STANDARD] if self.gives is pl.DataFrame else cast("Any", self.gives).from_tables(**tables)

    @overload  # type: ignore[override]
    def __call__(self, inbound: Audience, *args: P.args, **kwargs: P.kwargs) -> Audience: ...

    @overload
    def __call__(self, inbound: Mapping[str, Audience], *args: P.args, **kwargs: P.kwargs) -> Audience: ...

    @overload
    def __call__(self, inbound: pl.DataFrame, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __call__(self, inbound: Mapping[str, pl.DataFrame], *args: P.args, **kwargs: P.kwargs) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the activity; steps that are planned on the inbound audiences are run before, on the engine."""
        bound = self.given(args, kwargs)
        row_by_row = self.by_rows(**bound.arguments)
        if row_by_row is not None:
            return row_by_row(**of_prefect(kwargs))
        inbound = bound.arguments[self.inbound]
        if isinstance(inbound, Mapping):
            ready: Any = {name: _materialized(table) for name, table in inbound.items()}
        else:
            ready = _materialized(inbound)
        bound.arguments[self.inbound] = ready
        return super().__call__(*bound.args, **bound.kwargs, **of_prefect(kwargs))

    def run(self, bound: inspect.BoundArguments) -> Any:  # noqa: ANN401
        """Run over the inbound tables, lazily."""
        inbound, others = self.arguments(bound)
        tables = inbound if isinstance(inbound, Mapping) else {"": inbound}
        audiences = [table for table in tables.values() if isinstance(table, Audience)]
        lazy = {name: _lazy(table) for name, table in tables.items()}
        outbound = cast("Lazily", self.function(lazy if isinstance(inbound, Mapping) else lazy[""], **others))
        column = distinct_in_all(audiences)
        distinct = column if column and self.stays_distinct(column, **others) else ""
        if all(one.in_memory for one in audiences):  # true of plain tables, too
            made = self.made(_collected(outbound))
            return at_once(made, audiences, self.label, distinct) if audiences else self.with_counts_shown(made)
        batches = {name: streamed(table) for name, table in outbound.items()}
        unchanged = {
            name: tables[place].table
            for name, table in outbound.items()
            for place, given in lazy.items()
            if given is table and isinstance(tables[place], Audience)
        }
        return in_tables(batches, audiences, self.label, distinct=distinct, unchanged=unchanged)


def _materialized(table: Any) -> Any:  # noqa: ANN401
    if not isinstance(table, Audience) or not table.plan.steps:
        return table
    from tasks.runs.passes import materialized  # noqa: PLC0415  # a pass is a sink, which is an activity

    return materialized(table)


def _lazy(table: Audience | pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    return table.scan() if isinstance(table, Audience) else table.lazy()


def streamed(table: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """A lazy table, streamed in pieces of at most a part's size; one piece at least, if empty."""
    size = part_size()
    held = table.collect_schema().to_frame()
    for batch in table.collect_batches(chunk_size=size, engine="streaming"):
        held = pl.concat([held, batch])
        while held.height > size:
            yield held.head(size)
            held = held.slice(size)
    yield held


def _collected(outbound: Lazily) -> dict[str, pl.DataFrame]:
    """Lazy transitions in memory, all of them computed together."""
    return dict(zip(outbound, pl.collect_all(list(outbound.values())), strict=True))


def source_activity(
    name: str,
    *,
    task_run_name: str | None = None,
    cache_policy: CachePolicy = PER_RUN,
    distinct: Callable[..., str] = lambda **_: "",
) -> Callable[[Callable[P, R]], SourceActivity[P, R]]:
    """Make an activity of a function that gives rows.

    `distinct` gives, of its arguments, the column of which no value comes twice; an empty text where there is none.
    """
    return lambda function: SourceActivity(
        function, name=name, task_run_name=task_run_name, cache_policy=cache_policy, distinct=distinct
    )


def row_activity(
    name: str,
    *,
    task_run_name: str | None = None,
    cache_policy: CachePolicy = PER_RUN,
    across: Callable[..., dict[str, Any]] = lambda _, **__: {},
) -> Callable[[Function[P, R]], RowsActivity[P, R]]:
    """Make an activity of a function that works on each row by itself."""
    return lambda function: RowsActivity(
        function, name=name, task_run_name=task_run_name, cache_policy=cache_policy, across=across
    )


def table_activity(
    name: str,
    *,
    gives: type[R],
    task_run_name: str | None = None,
    cache_policy: CachePolicy = PER_RUN,
    stays_distinct: Callable[..., bool] = lambda column, **_: True,  # noqa: ARG005
    by_rows: Callable[..., Callable[..., Any] | None] = lambda **_: None,
) -> Callable[[Callable[Concatenate[Any, P], Lazily]], TableActivity[P, R]]:
    """Make an activity of a function of lazy tables, one or several by name. `gives` names its transitions.

    `stays_distinct` says, of a column that is distinct in every inbound table and the activity's arguments, whether
    it is so in each transition. `by_rows` gives, of the arguments, the call of an activity that does the same row
    by row where the audience has many parts and all else is in memory; None where it cannot.
    """
    return lambda function: TableActivity(
        function,
        name=name,
        gives=gives,
        task_run_name=task_run_name,
        cache_policy=cache_policy,
        stays_distinct=stays_distinct,
        by_rows=by_rows,
    )
