"""Execution options: how an activity, or a branch, is run: paused before, skipped, ignored on error."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Timer
from typing import Literal, ParamSpec, TypeVar

import polars as pl
from prefect import get_run_logger, pause_flow_run, suspend_flow_run
from prefect.events import emit_event
from prefect.runtime import deployment, flow_run
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import CampaignError, ColumnTaken, PopulationUnknown
from tasks.runs.audience import STANDARD, Audience
from tasks.tables.transitions import Transitions, quoted

P = ParamSpec("P")
R = TypeVar("R")

LATE_EVENT = "campaign.activity.late"
"""Event that is sent when an activity takes longer than its maximum duration; an automation can tell people."""

POLL_SECONDS = 2
"""How often a run that is paused in its process looks whether it was resumed."""


class ExecutionOptions(BaseModel):
    """Execution options of an activity or a branch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    execution: Literal["normal", "paused", "skipped"] = Field(
        default="normal",
        title="Execution",
        description=(
            "paused: the run pauses before it and goes on when a person resumes it; skipped: it is not executed,"
            " and gives nothing."
        ),
    )
    on_error: Literal["fail", "ignore_branch"] = Field(
        default="fail",
        title="On error",
        description="fail: an expected failure fails the run; ignore_branch: it is logged, the branch is empty.",
    )
    maximum_duration: timedelta | None = Field(
        default=None,
        title="Maximum duration",
        description="When it takes longer, a warning is logged and an event is sent.",
    )
    pause_timeout: timedelta = Field(
        default=timedelta(days=7), title="Longest pause", description="A run that is not resumed fails after this."
    )
    segment_codes: dict[str, str] = Field(
        default_factory=dict,
        title="Segment codes",
        description="Codes to put on outbound transitions, {transition: code}, in the column segment_code.",
    )
    comment: str = Field(
        default="", title="Comment", description="What the people who keep the workflow should know."
    )


def executed(
    options: ExecutionOptions, activity: Callable[P, R], /, *arguments: P.args, **named: P.kwargs
) -> R | None:
    """Run an activity, or a function that is a branch, as the options say. Call it in the flow itself.

    Out: what it gives, with segment codes; None when it was skipped, or failed and is ignored. Bugs are never
    ignored. Errors: those of the activity; `PopulationUnknown`, `ColumnTaken` (segment codes).

    Example:
        ```python
        options = ExecutionOptions(on_error="ignore_branch", segment_codes={"complement": "twice"})
        kept = executed(options, deduplication, audience, DeduplicationOptions(columns=["email"]))
        ```
    """
    name = str(getattr(activity, "name", None) or getattr(activity, "__name__", "branch"))
    if options.execution == "skipped":
        get_run_logger().info("'%s' is skipped.", name)
        return None
    if options.execution == "paused":
        _pause(name, options)
    try:
        with _told_when_late(name, options):
            result = activity(*arguments, **named)
    except CampaignError as error:
        if options.on_error == "fail":
            raise
        get_run_logger().warning("'%s' failed, and its branch is ignored: %s", name, error)
        return None
    return with_segment_codes(result, options.segment_codes)


def _pause(name: str, options: ExecutionOptions) -> None:
    """A deployment's run leaves its process while it is paused; any other run waits in it."""
    seconds, key = int(options.pause_timeout.total_seconds()), f"before {name}"
    if deployment.id is not None and flow_run.parent_flow_run_id is None:
        suspend_flow_run(timeout=seconds, key=key)
    else:
        pause_flow_run(timeout=seconds, poll_interval=POLL_SECONDS, key=key)


@contextmanager
def _told_when_late(name: str, options: ExecutionOptions) -> Iterator[None]:
    if options.maximum_duration is None:
        yield
        return
    log, run_id = get_run_logger(), str(flow_run.id)

    def tell() -> None:
        log.warning("'%s' takes longer than %s.", name, options.maximum_duration)
        emit_event(
            event=LATE_EVENT,
            resource={"prefect.resource.id": f"prefect.flow-run.{run_id}"},
            payload={"activity": name},
        )

    timer = Timer(options.maximum_duration.total_seconds(), tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def with_segment_codes(result: R, codes: Mapping[str, str], column: str = "segment_code") -> R:
    """The result with a code on each of the named transitions; a single table is the transition `standard`.

    Errors: `PopulationUnknown` (no such transition), `ColumnTaken`.
    """
    if not codes:
        return result
    if isinstance(result, pl.DataFrame):
        return _coded({"standard": result}, codes, column)["standard"]  # type: ignore[return-value]  # R is a table
    if isinstance(result, Audience):
        return _coded_audience(result, codes, column)  # type: ignore[return-value]  # R is an audience
    if isinstance(result, Transitions):
        return replace(result, **_coded(result.tables(), codes, column))  # type: ignore[type-var]  # a dataclass
    raise PopulationUnknown(activity="Execution options", name=quoted(codes), present="a result that is no table")


def _coded_audience(audience: Audience, codes: Mapping[str, str], column: str) -> Audience:
    transitions = {STANDARD: audience, **audience.others}
    _coded({name: one.schema.to_frame() for name, one in transitions.items()}, codes, column)
    coded = {
        name: one.with_text(column, codes[name]) if name in codes else one for name, one in transitions.items()
    }
    standard = coded.pop(STANDARD)
    return standard.with_others(coded)


def _coded(tables: Mapping[str, pl.DataFrame], codes: Mapping[str, str], column: str) -> dict[str, pl.DataFrame]:
    for name in codes:
        if name not in tables:
            raise PopulationUnknown(activity="Execution options", name=f"'{name}'", present=quoted(tables))
        if column in tables[name].columns:
            raise ColumnTaken(activity="Execution options", name=column)
    return {name: tables[name].with_columns(pl.lit(code).alias(column)) for name, code in codes.items()}
