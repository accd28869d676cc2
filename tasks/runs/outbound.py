"""What an activity gives: its transitions as audiences, with their counts logged and shown."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
from prefect.artifacts import TableArtifact
from prefect.context import FlowRunContext
from prefect.runtime import task_run

from tasks.runs.artifacts import as_text
from tasks.runs.audience import STANDARD, Audience, rejects_of, transitions_of
from tasks.runs.counts import COUNTS, counts_of, merged
from tasks.runs.log import run_logger
from tasks.runs.table import Table, stored
from tasks.tables.transitions import REJECTS


def at_once(outbound: Any, inbound: list[Audience], label: str, distinct: str) -> Audience:  # noqa: ANN401
    """The outbound audience of an activity that ran at once."""
    run = this_run()
    counts = counts_of(outbound, label, run)
    show_counts(label, counts)
    tables = {name: Table.of(table) for name, table in transitions_of(outbound).items()}
    rejected = {run: Table.of(rejects_of(outbound))}
    return going_out(tables, inbound, label, counts, rejected=rejected, distinct=distinct)


def going_out(
    tables: Mapping[str, Table],
    inbound: list[Audience],
    label: str,
    counts: pl.DataFrame,
    *,
    rejected: Mapping[str, Table],
    distinct: str,
) -> Audience:
    """The transitions of an activity as audiences, each with the rejects and counts of all activities before it."""
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

    A failure to show them is logged and does not fail the work.
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
    return going_out(tables, inbound, label, counts, rejected=rejected, distinct=distinct)
