"""Passes over an audience of many parts that are no activity of a flow: they run the planned steps and no more."""

import polars as pl

from tasks.runs.audience import Audience
from tasks.runs.log import run_logger
from tasks.runs.sink import sink_activity
from tasks.tables.transitions import quoted


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
