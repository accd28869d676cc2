"""Activities: one decorated function of tables each. Its shape says how it meets an audience.

source   gives rows, which become an audience: in memory where they are one part, else written as parts
rows     works on each row by itself: at once on one part; on many it is checked with no rows, then planned
table    needs the whole table: its function takes and gives lazy tables, which polars streams over the parts
sink     delivers or stores: at once on one part; on many, one task run for each part (`tasks.runs.sink`)

Given plain DataFrames, an activity of any shape gives the plain result of its function.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from copy import copy
from functools import partial, wraps
from threading import Thread
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload
from uuid import uuid4

import polars as pl
from prefect import Task
from prefect.artifacts import TableArtifact
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.runtime import task_run
from prefect.states import Completed, Failed

from tasks.runs.artifacts import as_text
from tasks.runs.audience import (
    STANDARD,
    Audience,
    Plan,
    Step,
    Table,
    imported,
    part_size,
    rejects_of,
    stored,
    transitions_of,
)
from tasks.runs.counts import COUNTS, counts_of, merged
from tasks.runs.digest import digest_of
from tasks.runs.log import run_logger
from tasks.runs.results import ARROW, PER_RUN
from tasks.tables.transitions import REJECTS, Transitions

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[Concatenate[pl.DataFrame, P], R]


class Activity(Task[..., Any], Generic[P, R]):
    """A Prefect task over one function of tables."""

    def __init__(
        self,
        function: Callable[..., R],
        *,
        name: str,
        task_run_name: str | None = None,
        cache_policy: CachePolicy = PER_RUN,
    ) -> None:
        self.function = function
        self.signature = inspect.signature(function)
        self.inbound = next(iter(self.signature.parameters), "")

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return self.run(self.signature.bind(*args, **kwargs))

        super().__init__(
            run,
            name=name,
            task_run_name=task_run_name or name,
            cache_policy=cache_policy,
            result_serializer=ARROW,
        )

    def run(self, bound: inspect.BoundArguments) -> Any:  # noqa: ANN401
        """What the task run does."""
        raise NotImplementedError

    def with_options(self, **options: Any) -> Self:  # noqa: ANN401
        """The same activity with other options of Prefect's tasks. Prefect's own gives a plain task."""
        made = copy(self)
        made.__dict__.update(super().with_options(**options).__dict__)
        return made

    def submit(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Start the activity as a branch beside the flow; gives a future, to be waited for before the flow ends."""
        if self.is_one_run(args, kwargs):
            return super().submit(*args, **kwargs)
        # The engine works on an audience of many parts; its workers must not be held by who waits for them.
        as_state = kwargs.pop("return_state", False)
        made: Future[Any] = Future()
        call = partial(copy_context().run, partial(self, *args, **{**kwargs, "return_state": True}))
        Thread(target=_settle, args=(made, call), name=self.name).start()
        future = PrefectConcurrentFuture[Any](uuid4(), made)
        if not as_state:
            return future
        future.wait()
        return future.state

    def is_one_run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call with these arguments is one task run, whatever comes."""
        inbound = self.bound(args, kwargs).arguments.get(self.inbound)
        return all(
            isinstance(one, pl.DataFrame) or (isinstance(one, Audience) and one.in_memory)
            for one in (inbound.values() if isinstance(inbound, Mapping) else [inbound])
        )

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments by name, without those that are Prefect's."""
        return self.signature.bind(
            *args, **{name: value for name, value in kwargs.items() if name not in OF_PREFECT}
        )

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments by name, with the inbound rows of branches waited for."""
        for future in kwargs.get("wait_for") or ():
            future.wait()
        bound = self.bound(args, kwargs)
        if self.inbound in bound.arguments:
            bound.arguments[self.inbound] = _waited_for(bound.arguments[self.inbound])
        return bound

    def arguments(self, bound: inspect.BoundArguments) -> tuple[Any, dict[str, Any]]:
        """The inbound rows, and all other arguments; an audience among those is held in memory."""
        bound.apply_defaults()
        others = {name: _in_memory(value) for name, value in bound.arguments.items() if name != self.inbound}
        return bound.arguments[self.inbound], others

    def told(self, outbound: R) -> R:
        """A plain result, its counts logged and shown."""
        if TaskRunContext.get() is not None:
            show_counts(self.label, counts_of(outbound, self.label, this_run()))
        return outbound

    @property
    def where(self) -> str:
        """Where a part's task run finds the activity: module:name. Errors: `TypeError` where it does not."""
        where = f"{self.function.__module__}:{self.function.__name__}"
        try:
            found = imported(where)
        except (ImportError, AttributeError):
            found = None
        if getattr(found, "function", None) is not self.function:
            raise TypeError(f"The activity '{where}' must be decorated at the top level of its module.")
        return where

    @property
    def label(self) -> str:
        """Name of this task run, as counts and logs have it."""
        context = TaskRunContext.get()
        return self.name if context is None else context.task_run.name


OF_PREFECT = ("wait_for", "return_state")
"""Arguments of every task's call."""


def of_prefect(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that are Prefect's."""
    return {name: kwargs[name] for name in OF_PREFECT if name in kwargs}


def _settle(future: "Future[Any]", call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
        future.set_result(Failed(message=str(error), data=error))


def _waited_for(inbound: Any) -> Any:  # noqa: ANN401
    """The result of a branch."""
    if isinstance(inbound, Mapping):
        return {name: _waited_for(one) for name, one in inbound.items()}
    return inbound.result() if isinstance(inbound, PrefectFuture | State) else inbound


def _in_memory(value: object) -> object:
    return value.collect() if isinstance(value, Audience) else value


def at_once(outbound: Any, inbound: list[Audience], label: str, distinct: str) -> Audience:  # noqa: ANN401
    """The audience that an activity gives which ran at once, with what is known of its way."""
    run = this_run()
    counts = counts_of(outbound, label, run)
    show_counts(label, counts)
    tables = {name: Table.of(table) for name, table in transitions_of(outbound).items()}
    rejected = {run: Table.of(rejects_of(outbound))}
    return _going_out(tables, inbound, label, counts, rejected=rejected, distinct=distinct)


def _going_out(
    tables: Mapping[str, Table],
    inbound: list[Audience],
    label: str,
    counts: pl.DataFrame,
    *,
    rejected: Mapping[str, Table],
    distinct: str,
) -> Audience:
    """The transitions of an activity, each with all that is known of the way to it."""
    way = {
        "rejected": {
            **{made: table for one in inbound for made, table in one.rejected.items()},
            **{made: table for made, table in rejected.items() if table.height},
        },
        "counts": merged([*(one.counts for one in inbound), counts]),
        "distinct": distinct,
    }
    others = {
        name: Audience(table, activity=f"{label}, {name}", **way)  # type: ignore[arg-type]
        for name, table in tables.items()
        if name != STANDARD
    }
    return Audience(tables[STANDARD], activity=label, others=others, **way)  # type: ignore[arg-type]


def distinct_in_all(inbound: Iterable[Audience]) -> str:
    """The column that is distinct in each of several audiences; empty where there is none."""
    columns = {one.distinct for one in inbound}
    return columns.pop() if len(columns) == 1 else ""


def this_run() -> str:
    """Identifier of the task run."""
    return str(task_run.id or "")


def show_counts(label: str, counts: pl.DataFrame, run: str | None = None, parts: int = 1) -> None:
    """Log the counts of an activity, and show them in the UI as an artifact of its task run.

    Showing never stops the work: an API that is away is one line of the log.
    """
    told = ", ".join(f"{row['transition']}: {row['rows']:,}" for row in counts.iter_rows(named=True))
    logger = run_logger()
    logger.info("%s: %s.%s", label, told or "nothing", f" In {parts} parts." if parts > 1 else "")
    if not counts.height or FlowRunContext.get() is None:
        return
    artifact = TableArtifact(
        key=_slug(label),
        table=[
            {"transition": as_text(name), "rows": rows}
            for name, rows in counts.select("transition", "rows").iter_rows()
        ],
        description=as_text(f"Rows of {label}"),
        **({"task_run_id": run} if run else {}),
    )
    try:
        artifact.create()
    except Exception as error:  # noqa: BLE001  # httpx's, Prefect's: the work is done, only its picture is missing
        logger.warning("The counts of %s cannot be shown in the Prefect UI: %s", label, type(error).__name__)


def _slug(label: str) -> str:
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in label.lower())
    return "-".join(filter(None, kept.split("-"))) or "activity"


class RowsActivity(Activity[P, R]):
    """An activity that works on each row by itself.

    `across` is asked for what must be known of all parts before one can be worked on, such as the addresses that
    several parts have: it is given the pieces and the arguments, and gives further arguments.
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
        # A plan is no result that could be stored: it is made anew, from no rows, in every try of a run.
        planned = Task.with_options(self, cache_policy=NO_CACHE, persist_result=False)
        state = planned(*bound.args, **bound.kwargs, **{**outside, "return_state": True})
        return state if outside.get("return_state") else _data(state.result())

    def run(self, bound: inspect.BoundArguments) -> Any:  # noqa: ANN401
        """Run on the rows, or check on none and plan."""
        inbound, others = self.arguments(bound)
        if not isinstance(inbound, Audience):
            return self.told(self.function(inbound, **others))
        if inbound.in_memory:
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
        others = {**others, **self.across(inbound.pieces(), **others)}
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
    """A task that returns a state gives the state where its result is asked for."""
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
        arguments = {name: _in_memory(value) for name, value in bound.arguments.items()}
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


Batches = Mapping[str, Iterable[pl.DataFrame]]


def in_tables(
    batches: Batches,
    inbound: list[Audience],
    label: str,
    *,
    distinct: str,
    unchanged: Mapping[str, Table] | None = None,
) -> Audience:
    """The audience of an activity whose transitions come one table after another; large ones are kept as parts.

    `unchanged` are transitions that are an inbound table as it came: its parts serve. Errors: `ResultsUnwritable`;
    those of the tables.
    """
    run, kept = this_run(), unchanged or {}
    tables = {
        name: kept[name]
        if name in kept
        else stored(batch, run if name == STANDARD else f"{run}-{_slug(name)}", distinct=bool(distinct))
        for name, batch in batches.items()
    }
    rows = [(run, label, name, table.height) for name, table in tables.items()]
    counts = pl.DataFrame(rows, schema=COUNTS, orient="row")
    show_counts(label, counts, parts=len(tables[STANDARD].parts))
    rejects = tables.get("rejects")
    are_people = rejects is not None and set(REJECTS) <= set(rejects.schema)
    rejected = {run: rejects} if rejects is not None and are_people else {}
    return _going_out(tables, inbound, label, counts, rejected=rejected, distinct=distinct)


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
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.gives = gives
        self.stays_distinct = stays_distinct
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
            return at_once(made, audiences, self.label, distinct) if audiences else self.told(made)
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
    from tasks.runs.sink import materialized  # noqa: PLC0415  # a sink is an activity

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
) -> Callable[[Callable[Concatenate[Any, P], Lazily]], TableActivity[P, R]]:
    """Make an activity of a function of lazy tables, one or several by name. `gives` names its transitions.

    `stays_distinct` says, of a column that is distinct in every inbound table and the activity's arguments, whether
    it is so in each transition.
    """
    return lambda function: TableActivity(
        function,
        name=name,
        gives=gives,
        task_run_name=task_run_name,
        cache_policy=cache_policy,
        stays_distinct=stays_distinct,
    )
