"""One part's task run: the planned steps, then a sink's function, on the rows of the part in memory.

A part's result is found again by the plan, the sink's arguments, and the part: its file, the run that made it, its
number. So a run that is tried again with other templates or options works on every part anew, and the record of the
send keeps anyone from getting a second message. The audience stays the one that the run's query gave, also after a
change of the source or of the size of parts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import polars as pl
from prefect import task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.results import get_result_store

from tasks.runs.audience import Plan, first_delivered, imported, rejects_of, transitions_of
from tasks.runs.counts import COUNTS, counts_of
from tasks.runs.members import Moves
from tasks.runs.outbound import this_run
from tasks.runs.results import ARROW, ReadableResults
from tasks.runs.stopping import end_if_stopped
from tasks.runs.table import Part, kept_file
from tasks.tables.transitions import Transitions


@dataclass(frozen=True)
class PartDone(Transitions):
    """The result of a part's task run. It is small, whatever the part."""

    counts: pl.DataFrame
    """run, activity, transition, rows."""
    files: pl.DataFrame
    """Tables in the result storage: transition, rows, file, and `made`, of rejects of a step what made them."""
    messages: pl.DataFrame
    """The first messages: email, subject, html, text."""


FILES = {"transition": pl.String(), "made": pl.String(), "rows": pl.Int64(), "file": pl.String()}
REJECTED = ""
"""In the place of a transition: the file has rejects of the way."""
BROKEN_OFF = "broken-off.arrow"


class PartFailed(Exception):
    """A sink's function stopped in the middle: what it did, and why not all. The run fails with `error`.

    That a run was stopped is such an error too.
    """

    def __init__(self, done: Transitions, error: BaseException) -> None:
        self.done = done
        self.error = error
        super().__init__(str(error))


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


def tried(
    function: Callable[..., Any], rows: pl.DataFrame, arguments: Mapping[str, Any], part: Part
) -> tuple[Any, BaseException | None]:
    """A sink's function on the rows of a part: what it gives, None if nothing, and why it failed, if so.

    A cancelled run is a failure too: what is known of the part is written down before the run ends.
    """
    with _at(part):
        try:
            return function(rows, **arguments), None
        except PartFailed as failed:
            return failed.done, failed.error
        except BaseException as error:  # noqa: BLE001  # raised again by the caller, after the closing
            return None, error


def inbound_count(run: str, label: str, rows: int) -> pl.DataFrame:
    """How many rows came to a sink, as a row of counts."""
    return pl.DataFrame([(run, label, "inbound", rows)], schema=COUNTS, orient="row")


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
def part_run(  # noqa: PLR0917  # Prefect maps by name
    part: Part,
    moves: Moves | None,
    plan: Plan,
    where: str,
    arguments: Mapping[str, Any],
    label: str,
    key: str,
) -> PartDone:
    """Run the planned steps and a sink's function on one part.

    Errors: those of the activities.
    """
    end_if_stopped()
    rows = part.read()
    passed = plan.passed(rows if moves is None else moves.of(rows, part))
    outbound, error = tried(imported(where).function, passed.rows, arguments, part)
    tables = [] if outbound is None else [(name, "", table) for name, table in transitions_of(outbound).items()]
    rejects = {**passed.rejects, key: rejects_of(outbound)}
    tables += [(REJECTED, made, table) for made, table in rejects.items() if table.height]
    files = [
        (name, made, table.height, kept_file(table, f"{_folder(key, part)}/{made[:16] or name}.arrow"))
        for name, made, table in tables
    ]
    counts = [passed.counts, counts_of(outbound, label, key), inbound_count(key, label, passed.rows.height)]
    done = PartDone(
        counts=pl.concat(counts),
        files=pl.DataFrame(files, schema=FILES, orient="row"),
        messages=first_delivered(passed.rows, outbound),
    )
    if error is not None:
        kept_file(done, f"{_folder(key, part)}/{BROKEN_OFF}")
        raise error
    return done


def broken_off(key: str, part: Part) -> PartDone | None:
    """What a part did whose run failed, as far as it was written down."""
    store = get_result_store().result_storage
    try:
        return cast("PartDone", ARROW.loads(store.read_path(f"{_folder(key, part)}/{BROKEN_OFF}")))  # type: ignore[union-attr, arg-type]
    except Exception:  # noqa: BLE001  # it never came so far
        return None


def _folder(key: str, part: Part) -> str:
    return f"partitions/{part.run}/{key[:16]}/{part.number:06}-{part.key[:8]}"
