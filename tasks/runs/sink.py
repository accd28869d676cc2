"""Sinks: where an audience leaves the workflow, or is stored.

On one part a sink is one task run. On many, each part is a task run on the engine, in which all planned steps and
the sink's work are done on the part in memory; then a closing run, which also comes after a failed part, makes what
is of the whole: counts, rejects, manifest. A run that is tried again does the parts that are missing.

A part's result is found again by the plan, the sink's arguments, and the part: its file, the run that made it, its
number. So a run that is tried again with other templates or options works on every part anew, and the record of the
send keeps anyone from getting a second message; the audience stays the one that the run's query gave, whatever the
size of parts or the source is by then.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Concatenate, cast, get_type_hints

import polars as pl
from prefect import get_run_logger, task, unmapped
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.results import get_result_store
from prefect.states import Completed, Failed

from tasks.runs.activity import Activity, P, R, at_once, of_prefect, show_counts, this_run
from tasks.runs.audience import (
    FIRST_MESSAGES,
    STANDARD,
    Audience,
    Part,
    Plan,
    Table,
    first_messages,
    imported,
    kept_file,
    rejects_of,
    transitions_of,
)
from tasks.runs.counts import COUNTS, counts_of, merged, summed
from tasks.runs.digest import digest_of
from tasks.runs.log import run_logger
from tasks.runs.published import publish, reject_reasons
from tasks.runs.results import ARROW, PER_RUN, ReadableResults
from tasks.send import Send
from tasks.tables.transitions import REJECTS, Transitions, quoted

REPEATED = "the profile has another message in this send"
KEY = "profile_id"
PART = "\x00part"


@dataclass(frozen=True)
class PartDone(Transitions):
    """The result of a part's task run: small, whatever the part."""

    counts: pl.DataFrame
    """run, activity, transition, rows."""
    files: pl.DataFrame
    """Tables in the result storage: transition, rows, file, and `made`, of rejects of a step what made them."""
    messages: pl.DataFrame
    """The first messages: email, subject, html, text."""


FILES = {"transition": pl.String(), "made": pl.String(), "rows": pl.Int64(), "file": pl.String()}
REJECTED = ""
"""In the place of a transition: what is in the file are rejects on the way."""


class PartFailed(Exception):
    """A sink's work that broke off: what was done, and why not all. The run fails with `error`."""

    def __init__(self, done: Transitions, error: Exception) -> None:
        self.done = done
        self.error = error
        super().__init__(str(error))


@dataclass(frozen=True)
class Closing:
    """What a sink's closing is given: what became of all parts together."""

    audience: Audience
    """The sink's outbound transitions."""
    failure: Exception | None
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


_CURRENT: ContextVar[Part | None] = ContextVar("part", default=None)


def current_part() -> Part:
    """The part that a sink's function works on; outside an audience the only one."""
    return _CURRENT.get() or Part(run=this_run(), number=1, rows=0, file="", alone=True)


@contextmanager
def _at(part: Part) -> Iterator[None]:
    before = _CURRENT.set(part)
    try:
        yield
    finally:
        _CURRENT.reset(before)


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
        rows, error, run = audience.collect(), None, this_run()
        part = Part(run=run, number=1, rows=rows.height, file="", alone=True)
        with _at(part):
            try:
                outbound: Any = self.function(rows, **others)
            except PartFailed as failed:
                outbound, error = failed.done, failed.error
        sent = at_once(outbound, [audience], self.label, audience.distinct)
        sent.counts = pl.concat([sent.counts, _inbound(run, self.label, rows.height)])
        sent.shown = first_messages(rows)
        self.closed(sent, error, others)
        if error is not None:
            raise error
        return sent

    def closed(self, sent: Audience, failure: Exception | None, others: Mapping[str, Any]) -> None:
        """Close; after a failure that is what is told, whatever becomes of the closing."""
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
        where, keys, label = self.where, self.key(**others), _label(self, bound)
        repeated = None if keys == [audience.distinct] else _repeated(audience, keys)
        key = digest_of([where, audience.plan.key, others, repeated])
        futures: Any = done_with_part.with_options(
            name=f"{self.name} part",
            task_run_name=f"{label} part {{part.number}}",
            retries=self.retries,
            retry_delay_seconds=self.retry_delay_seconds,
            retry_condition_fn=self.retry_condition_fn,
        ).map(
            list(audience.table.parts),
            unmapped(audience.plan),
            unmapped(where),
            unmapped(others),
            unmapped(label),
            unmapped(key),
            unmapped(repeated),
        )
        try:
            states = _finished(futures)
        except BaseException:
            # Cancelled or interrupted: what is of the whole is made for the parts that are done.
            self._close_parts(audience, [_state_now(future) for future in futures], others, label, key)
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
            result if isinstance(result, PartDone) else _broken_off(key, part)
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

    `key` gives, of the activity's arguments, the columns by which rows are the same member: of those that several
    parts have, the first part's counts, as of several rows of one part the first does.
    """
    return lambda function: SinkActivity(
        function, name=name, task_run_name=task_run_name, cache_policy=cache_policy, key=key
    )


@dataclass
class SamePart(CachePolicy):
    """Cache policy: the same plan and sink on the same part of the same run."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> str | None:
        """Key of the part's result."""
        part: Part = inputs["part"]
        return f"part-{inputs['key']}-{part.key}"


@task(
    name="Part",
    task_run_name="Part {part.number}",
    cache_policy=ReadableResults(policy=SamePart()),
    result_serializer=ARROW,
    persist_result=True,
)
def done_with_part(  # noqa: PLR0917  # Prefect maps by name
    part: Part,
    plan: Plan,
    where: str,
    arguments: Mapping[str, Any],
    label: str,
    key: str,
    repeated: pl.DataFrame | None,
) -> PartDone:
    """Run the planned steps and a sink's work on one part. Errors: those of the activities."""
    rows, again = _once(part.read(), part, repeated)
    passed = plan.passed(rows)
    error: Exception | None = None
    with _at(part):
        try:
            outbound = imported(where).function(passed.rows, **arguments)
        except PartFailed as failed:
            outbound, error = failed.done, failed.error
    tables = [(name, "", table) for name, table in transitions_of(outbound).items()]
    rejects = {**passed.rejects, key: pl.concat([again, rejects_of(outbound)])}
    tables += [(REJECTED, made, table) for made, table in rejects.items() if table.height]
    files = [
        (name, made, table.height, kept_file(table, f"{_folder(key, part)}/{made[:16] or name}.arrow"))
        for name, made, table in tables
    ]
    counts = [passed.counts, counts_of(outbound, label, key), _inbound(key, label, passed.rows.height)]
    done = PartDone(
        counts=pl.concat(counts),
        files=pl.DataFrame(files, schema=FILES, orient="row"),
        messages=first_messages(passed.rows),
    )
    if error is not None:
        kept_file(cast("pl.DataFrame", done), f"{_folder(key, part)}/{BROKEN_OFF}")
        raise error
    return done


BROKEN_OFF = "broken-off.arrow"


def _folder(key: str, part: Part) -> str:
    return f"partitions/{part.run}/{key[:16]}/{part.number:06}-{part.key[:8]}"


def _inbound(run: str, label: str, rows: int) -> pl.DataFrame:
    return pl.DataFrame([(run, label, "inbound", rows)], schema=COUNTS, orient="row")


def _broken_off(key: str, part: Part) -> PartDone | None:
    """What a part did whose run failed, as far as it could tell."""
    store = get_result_store().result_storage
    try:
        return cast("PartDone", ARROW.loads(store.read_path(f"{_folder(key, part)}/{BROKEN_OFF}")))  # type: ignore[union-attr, arg-type]
    except Exception:  # noqa: BLE001  # it never came so far
        return None


def _repeated(audience: Audience, keys: list[str]) -> pl.DataFrame | None:
    """Keys that several parts have, each with the part whose row counts: the key's columns, and part."""
    if not keys or not set(keys) <= set(audience.table.schema):
        return None
    of_parts = [
        piece.select(keys).unique().with_columns(pl.lit(part.number).alias(PART))
        for part, piece in zip(audience.table.parts, audience.table.pieces(), strict=True)
    ]
    found = pl.concat(of_parts).drop_nulls(keys).group_by(keys).agg(pl.col(PART).min(), parts=pl.len())
    found = found.filter(pl.col("parts") > 1).drop("parts").sort(keys)
    return found if found.height else None


def _once(rows: pl.DataFrame, part: Part, repeated: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The part's rows without those whose key an earlier part has, and these as rejects."""
    if repeated is None:
        return rows, pl.DataFrame(schema=REJECTS)
    elsewhere = repeated.filter(pl.col(PART) != part.number)
    keys = [name for name in repeated.columns if name != PART]
    again = rows.join(elsewhere, on=keys, how="semi", maintain_order="left")
    known = [
        (pl.col(name).cast(pl.String()) if name in rows.columns else pl.lit(None, pl.String())).alias(name)
        for name in (KEY, "email")
    ]
    rejects = again.select(*known, reason=pl.lit(REPEATED))
    return rows.join(elsewhere, on=keys, how="anti", maintain_order="left"), rejects


def _finished(futures: list[PrefectFuture[Any]]) -> list[State[Any] | None]:
    for future in futures:
        future.wait()
    return [future.state for future in futures]


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
    failure: Exception | None,
) -> Audience:
    """Make what is of the whole: the sink's closing, and the counts of every planned activity."""
    sink: SinkActivity[..., Any] = imported(where)
    known = [(part, told) for part, told in zip(audience.table.parts, done, strict=True) if told is not None]
    counts = summed([told.counts for _, told in known])
    for step in filter(lambda step: step.made, audience.plan.steps):
        show_counts(step.label, counts.filter(run=step.made), step.run, parts=len(known))
    show_counts(label, counts.filter(run=key), parts=len(known))
    names = _names(sink.function)
    tables = {name: _table_of(known, name) for name in names}
    for name in _totals(sink.function):
        tables[name] = Table.of(tables[name].collect().sum())
    made = dict.fromkeys(made for _, told in known for made in told.files["made"] if made)
    rejected = {
        **audience.rejected,
        **{one: _table_of(known, REJECTED, one, pl.Schema(REJECTS)) for one in made},
    }
    merged_counts = merged([audience.counts, counts])
    others = {
        name: Audience(
            table,
            activity=f"{label}, {name}",
            rejected=rejected,
            counts=merged_counts,
            distinct=audience.distinct,
        )
        for name, table in tables.items()
        if name != STANDARD
    }
    sent = Audience(
        tables[STANDARD],
        activity=label,
        others=others,
        rejected=rejected,
        counts=merged_counts,
        distinct=audience.distinct,
        shown=pl.concat([first_messages(None), *(told.messages for _, told in known)]).head(FIRST_MESSAGES),
    )
    sink.closed(sent, failure, arguments)
    return sent


def _names(function: Callable[..., object]) -> list[str]:
    """The transitions that a sink has, whatever became of its parts."""
    gives = get_type_hints(function)["return"]
    return [field.name for field in fields(gives)] if is_dataclass(gives) else [STANDARD]


def _table_of(
    known: list[tuple[Part, PartDone]],
    transition: str,
    made: str = "",
    schema: pl.Schema | None = None,
) -> Table:
    """The table whose parts are the files of a transition, each as of the part that it was made of."""
    parts = tuple(
        part.model_copy(update={"rows": rows, "file": file})
        for part, told in known
        for rows, file in told.files.filter(transition=transition, made=made).select("rows", "file").iter_rows()
    )
    if not parts:
        return Table.of(pl.DataFrame())
    return Table(schema or parts[0].read().schema, None, parts)


def _totals(function: Callable[..., object]) -> tuple[str, ...]:
    """Transitions of a sink that are no rows but numbers, which add up over parts."""
    return getattr(get_type_hints(function)["return"], "totals", ())


def _label(activity: Activity[Any, Any], bound: inspect.BoundArguments) -> str:
    return str(activity.task_run_name).format(**bound.arguments)


@sink_activity("Parts", key=list)
def _parts(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the rows of a part as they are."""
    return rows


@sink_activity("Counting pass", key=list)
def _counting(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep none of the rows."""
    return rows.clear()


def materialized(audience: Audience) -> Audience:
    """The audience with its planned steps run, its rows kept as parts. Errors: those of the planned activities."""
    run_logger().info(
        "%s run now on %d parts: the next activity needs the whole table.",
        quoted(step.label for step in audience.plan.steps if step.made),
        len(audience.table.parts),
    )
    made = _parts(audience)
    return Audience(
        made.table,
        activity=audience.activity,
        rejected=made.rejected,
        counts=made.counts.filter(pl.col("activity") != _parts.name),
        distinct=audience.distinct,
    )


def counted(audience: Audience) -> Audience:
    """The audience with the counts of its planned steps, after a pass on the engine that keeps no rows.

    Errors: those of the planned activities.
    """
    run_logger().info(
        "A counting pass: %s run on %d parts, and their rows are not kept.",
        quoted(step.label for step in audience.plan.steps if step.made),
        len(audience.table.parts),
    )
    made = _counting(audience)
    of_pass = pl.col("activity") == _counting.name
    return Audience(
        audience.table,
        activity=audience.activity,
        plan=audience.plan,
        schema=audience.schema,
        others=audience.others,
        rejected=made.rejected,
        counts=made.counts.filter(~of_pass),
        distinct=audience.distinct,
        shown=made.shown,
        passed=int(made.counts.filter(of_pass, transition="inbound")["rows"].sum()),
    )
