"""Sinks: where an audience leaves the workflow, or is stored.

On one part a sink is one task run. On many, each part is a task run on the engine (`tasks.runs.part`), in which all
planned steps and the sink's function are done on the part in memory. The closing then makes what is of the whole:
counts, rejects, manifest. It always runs: after a failed part, a failed function and a cancelled run too. A run
that is tried again does the parts that are missing.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Concatenate, cast, get_type_hints

import polars as pl
from prefect import get_run_logger, task, unmapped
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from tasks.runs.activity import Activity, P, R, of_prefect
from tasks.runs.audience import (
    FIRST_MESSAGES,
    STANDARD,
    Audience,
    first_delivered,
    first_messages,
    imported,
    rejects_of,
    transitions_of,
)
from tasks.runs.counts import COUNTS, summed
from tasks.runs.digest import digest_of
from tasks.runs.members import moves_of
from tasks.runs.outbound import at_once, going_out, show_counts, this_run
from tasks.runs.part import FILES, REJECTED, PartDone, broken_off, inbound_count, part_run, tried
from tasks.runs.published import publish, reject_reasons
from tasks.runs.results import PER_RUN
from tasks.runs.stopping import STOPPING_SECONDS, stoppable
from tasks.runs.table import Part, Table
from tasks.send import Send
from tasks.tables.transitions import REJECTS, Transitions

KEY = "profile_id"


@dataclass(frozen=True)
class Closing:
    """What a sink's closing is given: what became of all parts together."""

    audience: Audience
    """The sink's outbound transitions."""
    failure: BaseException | None
    """Why not all parts were done, if so."""

    @property
    def messages(self) -> pl.DataFrame:
        """The first messages: email, subject, html, text."""
        return self.audience.shown

    @property
    def rejects(self) -> pl.LazyFrame:
        """Everyone whom an activity on the way rejected, the sink's rejects among them."""
        return self.audience.rejects_so_far()

    def rows(self, transition: str = "standard") -> int:
        """How many rows an outbound transition of the sink has."""
        return self.audience.transition(transition).table.height

    @property
    def inbound_rows(self) -> int:
        """How many rows came to the sink."""
        counted = self.audience.counts.filter(activity=self.audience.activity, transition="inbound")
        return int(counted["rows"].sum())


def as_audience(inbound: Audience | Transitions | pl.DataFrame) -> Audience:
    """What comes to a sink as an audience; of plain transitions, with their rejects."""
    if isinstance(inbound, Audience):
        return inbound
    rejects = rejects_of(inbound)
    rejected = {"inbound": Table.of(rejects)} if rejects.height else {}
    return Audience(Table.of(transitions_of(inbound)["standard"]), activity="", rejected=rejected)


class SinkActivity(Activity[P, R]):
    """An activity that delivers or stores an audience."""

    def __init__(self, function: Callable[..., R], *, key: Callable[..., list[str]], **options: Any) -> None:  # noqa: ANN401
        self.close: Callable[..., None] = lambda *_, **__: None
        self.key = key
        super().__init__(function, **options)

    def closing(self, function: Callable[..., None]) -> Callable[..., None]:
        """Decorator: what is done once, after all parts. It gets the `Closing` and the sink's arguments."""
        self.close = function
        return function

    def __call__(self, *args: Any, **kwargs: Any) -> Audience:  # type: ignore[override]  # noqa: ANN401
        """Deliver or store the audience. Out: the outbound transitions, as an audience.

        Errors: those of the planned activities and of the sink, after the closing.
        """
        bound, outside = self.given(args, kwargs), of_prefect(kwargs)
        audience = bound.arguments[self.inbound] = as_audience(bound.arguments[self.inbound])
        if audience.in_memory:
            return cast("Audience", super().__call__(*bound.args, **bound.kwargs, **outside))
        if not outside.get("return_state"):
            return self._in_parts(audience, bound)
        try:
            return cast("Audience", Completed(data=self._in_parts(audience, bound)))
        except Exception as error:  # noqa: BLE001  # as Prefect does
            return cast("Audience", Failed(message=str(error), data=error))

    def run(self, bound: inspect.BoundArguments) -> Audience:
        """Deliver one part, and close."""
        inbound, others = self.arguments(bound)
        audience = as_audience(inbound)
        rows, run = audience.collect(), this_run()
        part = Part(run=run, number=1, rows=rows.height, file="", alone=True)
        outbound, error = tried(self.function, rows, others, part)
        if outbound is None and error is not None:
            nothing = {name: Table.of(pl.DataFrame()) for name in _names(self.function)}
            none = pl.DataFrame(schema=COUNTS)
            sent = going_out(nothing, [audience], self.label, none, rejected={}, distinct=audience.distinct)
        else:
            sent = at_once(outbound, [audience], self.label, audience.distinct)
        sent.counts = pl.concat([sent.counts, inbound_count(run, self.label, rows.height)])
        sent.shown = first_delivered(rows, outbound)
        self.run_closing(sent, error, others)
        if error is not None:
            raise error
        return sent

    def run_closing(self, sent: Audience, failure: BaseException | None, others: Mapping[str, Any]) -> None:
        """Close; after a failure, the failure is reported, whatever becomes of the closing."""
        try:
            self.close(Closing(sent, failure), **others)
            # A run that fails comes to no Report: its artifacts are made here.
            send = next((value for value in others.values() if isinstance(value, Send)), None)
            if failure is not None and send is not None:
                publish(send, sent.counts, reject_reasons(sent.rejects_so_far()), sent.shown)
        except Exception as error:
            if failure is None:
                raise
            get_run_logger().error("After the failure, not all could be written down either: %s", error)

    def _in_parts(self, audience: Audience, bound: inspect.BoundArguments) -> Audience:
        _, others = self.arguments(bound)
        where, label, key = self.where, _label(self, bound), ""
        futures: list[PrefectFuture[Any]] = []
        try:
            audience = _with_columns(audience, self.key(**others))
            moves = moves_of(audience, self.key(**others))
            key = digest_of([where, audience.plan.key, others, moves and moves.key])
            of_part = part_run.with_options(
                name=f"{self.name} part",
                task_run_name=f"{label} part {{part.number}}",
                retries=self.retries,
                retry_delay_seconds=self.retry_delay_seconds,
                retry_condition_fn=self.retry_condition_fn,
            )
            with stoppable():
                futures = of_part.map(
                    list(audience.table.parts),
                    unmapped(moves),
                    unmapped(audience.plan),
                    unmapped(where),
                    unmapped(others),
                    unmapped(label),
                    unmapped(key),
                )
                states = _finished(futures)
        except BaseException:
            # Cancelled, or the engine cannot be reached: what is of the whole is made for the parts that are done.
            _wait_for(futures)
            known = [_state_now(future) for future in futures]
            self._close_parts(audience, known or [None] * len(audience.table.parts), others, label, key)
            raise
        sent, failures = self._close_parts(audience, states, others, label, key)
        if failures:
            raise failures[0]
        return sent

    def _close_parts(
        self, audience: Audience, states: list[State[Any] | None], others: dict[str, Any], label: str, key: str
    ) -> tuple[Audience, list[Exception]]:
        results = [_result(state) for state in states]
        failures = [result for result in results if isinstance(result, Exception)]
        unfinished = sum(result is None for result in results)
        failure = failures[0] if failures else Unfinished(unfinished) if unfinished else None
        if failure is not None:
            get_run_logger().error(
                "%d of %d parts failed, the first with: %s",
                len(failures) + unfinished,
                len(audience.table.parts),
                failure,
            )
        closing = closing_run.with_options(name=self.name, task_run_name=label)
        done = [
            result if isinstance(result, PartDone) else broken_off(key, part)
            for part, result in zip(audience.table.parts, results, strict=True)
        ]
        return closing(audience, done, self.where, others, label, key, failure), failures


class Unfinished(Exception):
    """The run ends while parts are not done."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        super().__init__(f"{parts} parts were not done when the run ended")


def sink_activity(
    name: str,
    *,
    task_run_name: str | None = None,
    cache_policy: CachePolicy = PER_RUN,
    key: Callable[..., list[str]] = lambda *_, **__: [KEY],
) -> Callable[[Callable[Concatenate[pl.DataFrame, P], R]], SinkActivity[P, R]]:
    """Make an activity of a function that delivers or stores the rows of one part.

    `key` gives, of the activity's arguments, the columns by which rows are the same member. The function gets all
    rows of a member together, in their order, whatever the parts: see `tasks.runs.members`.
    """
    return lambda function: SinkActivity(
        function, name=name, task_run_name=task_run_name, cache_policy=cache_policy, key=key
    )


def _finished(futures: list[PrefectFuture[Any]]) -> list[State[Any] | None]:
    for future in futures:
        future.wait()
    return [future.state for future in futures]


def _wait_for(futures: list[PrefectFuture[Any]]) -> None:
    """Wait until the parts have heard that the run was stopped."""
    last_moment = time.monotonic() + STOPPING_SECONDS
    for future in futures:
        with suppress(Exception):  # it is not done by then, or its engine is gone
            future.wait(timeout=max(last_moment - time.monotonic(), 0.0))


def _state_now(future: PrefectFuture[Any]) -> State[Any] | None:
    try:
        return future.state if future.state.is_final() else None
    except Exception:  # noqa: BLE001  # an engine that is going away
        return None


def _result(state: State[Any] | None) -> PartDone | Exception | None:
    if state is None:
        return None
    result = state.result(raise_on_failure=False)
    if isinstance(result, PartDone | Exception):
        return result
    return RuntimeError(state.message or state.name)


@task(name="Closing", cache_policy=NO_CACHE, persist_result=False)
def closing_run(  # noqa: PLR0917
    audience: Audience,
    done: list[PartDone | None],
    where: str,
    arguments: Mapping[str, Any],
    label: str,
    key: str,
    failure: BaseException | None,
) -> Audience:
    """Make what is of the whole: the sink's closing, and the counts of every planned activity."""
    sink: SinkActivity[..., Any] = imported(where)
    known = [(part, told) for part, told in zip(audience.table.parts, done, strict=True) if told is not None]
    counts = summed([told.counts for _, told in known])
    for step in filter(lambda step: step.made, audience.plan.steps):
        show_counts(step.label, counts.filter(run=step.made), step.run, parts=len(known))
    show_counts(label, counts.filter(run=key), parts=len(known))
    files = _files_of(known)
    tables = {name: _table_of(files.get((name, ""), [])) for name in _names(sink.function)}
    for name in _totals(sink.function):
        tables[name] = Table.of(tables[name].collect().sum())
    rejected = {
        made: _table_of(parts, pl.Schema(REJECTS)) for (name, made), parts in files.items() if name == REJECTED
    }
    sent = going_out(tables, [audience], label, counts, rejected=rejected, distinct=audience.distinct)
    sent.shown = pl.concat([first_messages(None), *(told.messages for _, told in known)]).head(FIRST_MESSAGES)
    sink.run_closing(sent, failure, arguments)
    return sent


def _with_columns(audience: Audience, columns: list[str]) -> Audience:
    """The audience with columns that a planned step makes in its parts, so that rows can be told apart by them."""
    if not set(columns) & (set(audience.columns) - set(audience.table.schema)):
        return audience
    from tasks.runs.passes import materialized  # noqa: PLC0415  # a pass is a sink

    return materialized(audience)


def _names(function: Callable[..., object]) -> list[str]:
    """The transitions that a sink has, whatever became of its parts."""
    gives = get_type_hints(function)["return"]
    return [field.name for field in fields(gives)] if is_dataclass(gives) else [STANDARD]


def _files_of(known: list[tuple[Part, PartDone]]) -> dict[tuple[str, str], list[Part]]:
    """The files of all parts, by transition and what made them, each as of the part that it was made of.

    In one pass: nothing else goes on while the parts of a large audience are put together.
    """
    found: dict[tuple[str, str], list[Part]] = {}
    for part, told in known:
        for name, made, rows, file in told.files.select(*FILES).iter_rows():
            found.setdefault((name, made), []).append(part.model_copy(update={"rows": rows, "file": file}))
    return found


def _table_of(parts: list[Part], schema: pl.Schema | None = None) -> Table:
    """The table of some files."""
    if not parts:
        return Table.of(pl.DataFrame())
    return Table(schema or parts[0].read().schema, None, tuple(parts))


def _totals(function: Callable[..., object]) -> tuple[str, ...]:
    """Transitions of a sink that are no rows but numbers, which add up over parts."""
    return getattr(get_type_hints(function)["return"], "totals", ())


def _label(activity: Activity[Any, Any], bound: inspect.BoundArguments) -> str:
    return str(activity.task_run_name).format(**bound.arguments)
