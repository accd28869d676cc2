"""Partitions: an audience as files of the result storage, so that memory does not grow with it.

A partition is a reference (`Part`); its rows are an Arrow file in the result storage that Prefect is configured
with, local or remote, and whoever works on it reads that one file. What happens to a partition is one task run over
the pure functions of the activities, whose result is a small `Outcome`: messages are never results. A resumed run
finds the parts and the outcomes that are there, and does the rest.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, Self, TypeVar, cast

import polars as pl
from prefect import Task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from tasks.errors import PartitionGone, ResultsUnwritable
from tasks.messages.send_folder import REJECT_COLUMNS
from tasks.runs.results import ARROW, result_storage
from tasks.tables.transitions import Transitions

P = ParamSpec("P")
R = TypeVar("R")

FIRST_MESSAGES = 20
"""How many messages of a partition its outcome shows."""


COUNTS = {"activity": pl.String(), "transition": pl.String(), "rows": pl.Int64()}
REJECTS = dict.fromkeys(REJECT_COLUMNS, pl.String())
PARTS = {"run": pl.String(), "number": pl.Int64(), "rows": pl.Int64(), "file": pl.String()}


class Part(BaseModel):
    """A reference to one partition's rows."""

    model_config = ConfigDict(frozen=True)

    run: str
    """No profile is in two partitions of the same run."""
    number: int
    rows: int
    file: str
    """Path of the Arrow file in the result storage."""
    alone: bool = False
    """Whether it is the whole audience."""

    def read(self) -> pl.DataFrame:
        """The partition's rows. Errors: `PartitionGone`."""
        try:
            content: bytes = result_storage().read_path(self.file)  # type: ignore[assignment]
            return pl.read_ipc(io.BytesIO(content))
        except Exception as error:  # noqa: BLE001  # each storage has errors of its own
            raise PartitionGone(file=self.file, reason=str(error) or type(error).__name__) from None


@dataclass(frozen=True)
class Partitions(Transitions):
    """An audience as partitions."""

    parts: pl.DataFrame
    """Columns run, number, rows, file of each part, in the audience's order."""

    @property
    def height(self) -> int:
        """Rows of all partitions."""
        return int(self.parts["rows"].sum())

    def __iter__(self) -> Iterator[Part]:
        """References to the partitions."""
        alone = self.parts.height == 1
        return (Part(**row, alone=alone) for row in self.parts.iter_rows(named=True))


@dataclass(frozen=True)
class Outcome(Transitions):
    """What became of a partition, or of all of them."""

    activities: pl.DataFrame
    """Rows of every activity's transitions: activity, transition, rows."""
    rejects: pl.DataFrame
    """Who got no message: profile_id, email, reason."""
    messages: pl.DataFrame
    """The first messages: email, subject, html, text."""

    @classmethod
    def of(cls, outbound: Mapping[str, pl.DataFrame | Transitions], messages: pl.DataFrame) -> Self:
        """The outcome of the activities that a partition went through, in their order.

        A copy, as small as it looks: a table's first rows would keep the memory of the whole table.
        """
        rejects = [
            rejected.select(REJECT_COLUMNS)
            for result in outbound.values()
            if isinstance(result, Transitions) and (rejected := result.tables().get("rejects")) is not None
        ]
        outcome = cls(
            activities=transition_counts(outbound),
            rejects=pl.concat([pl.DataFrame(schema=REJECTS), *rejects]),
            messages=messages.select("email", "subject", "html", "text").head(FIRST_MESSAGES),
        )
        return cast("Self", ARROW.loads(ARROW.dumps(outcome)))

    @classmethod
    def joined(cls, outcomes: Iterable[Self]) -> Self:
        """The outcome of all partitions."""
        parts = list(outcomes)
        return cls(
            activities=pl.concat([part.activities for part in parts])
            .group_by("activity", "transition", maintain_order=True)
            .agg(pl.col("rows").sum()),
            rejects=pl.concat([part.rejects for part in parts]),
            messages=pl.concat([part.messages for part in parts]).head(FIRST_MESSAGES),
        )

    def rows(self, activity: str, transition: str = "standard") -> int:
        """How many rows a transition had."""
        return int(self.activities.filter(activity=activity, transition=transition)["rows"].sum())


def transition_counts(outbound: Mapping[str, pl.DataFrame | Transitions]) -> pl.DataFrame:
    """Rows of every outbound transition: activity, transition, rows.

    A struct column of a table, or a list of structs, adds the row "standard, with <column>": how many rows the
    content was found for.
    Partitions count as the audience that they are, an outcome as the activities that it tells of.
    """
    counts = [row for activity, result in outbound.items() for row in _counts(activity, result)]
    return pl.DataFrame(counts, schema=COUNTS, orient="row")


def _counts(activity: str, result: pl.DataFrame | Transitions) -> Iterator[tuple[str, str, int]]:
    if isinstance(result, Outcome):
        yield from result.activities.iter_rows()
        return
    if isinstance(result, Partitions):
        yield activity, "standard", result.height
        return
    tables = result.tables() if isinstance(result, Transitions) else {"standard": result}
    for name, table in tables.items():
        yield activity, name, table.height
        for column, kind in table.schema.items():
            if isinstance(kind, pl.Struct) or (isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct)):
                yield activity, f"{name}, with {column}", rows_with_content(table, [column])


def rows_with_content(table: pl.DataFrame, columns: list[str]) -> int:
    """How many rows have all of these columns of additional data: a row, or a collection that is not empty."""
    there = [
        pl.col(name).list.len() > 0 if isinstance(table.schema[name], pl.List) else pl.col(name).is_not_null()
        for name in columns
    ]
    return table.filter(there).height if there else table.height


def within(part: Part, activity: Task[P, R]) -> Callable[P, R]:
    """An activity as it runs on a partition, its result handed on and not kept.

    On the only partition it is a task run of its own. On one of several it is part of the partition's task run,
    whose log it writes to: a task run for each activity of each partition made a million profiles take 7 % longer.
    """
    return activity.with_options(persist_result=False, cache_policy=NO_CACHE) if part.alone else activity.fn


def stored_partitions(tables: Iterable[pl.DataFrame], run: str, *, distinct: bool) -> Partitions:
    """Write each table as a partition of `run` into the result storage, in the place of an earlier one.

    `distinct` says that no profile is in two of the tables. Errors: `ResultsUnwritable`.
    """
    parts = [
        _stored(table, run if distinct else f"{run}.{number}", number, f"partitions/{run}/{number:06}.arrow")
        for number, table in enumerate(tables, 1)
    ]
    return Partitions(pl.DataFrame(parts, schema=PARTS))


def _stored(table: pl.DataFrame, run: str, number: int, file: str) -> dict[str, Any]:
    try:
        result_storage().write_path(file, content=ARROW.dumps(table))  # type: ignore[unused-coroutine]
    except Exception as error:  # noqa: BLE001  # each storage has errors of its own
        raise ResultsUnwritable(file=file, reason=str(error) or type(error).__name__) from None
    return {"run": run, "number": number, "rows": table.height, "file": file}
