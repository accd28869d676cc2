"""Audience: the people of a workflow, in memory if they fit in one part, else in parts.

A part is a reference to an Arrow file in the result storage that Prefect is configured with, local or remote. An
activity that works row by row is planned on an audience of many parts: its step waits until a sink, or an activity
that needs the whole table, runs all planned steps part by part on the engine. Authors of flows see none of this:
the same text runs on one part and on many.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Self, cast

import polars as pl

from tasks.errors import TransitionUnknown
from tasks.privacy import without
from tasks.runs.counts import COUNTS, counts_of, merged
from tasks.runs.digest import digest_of
from tasks.runs.table import PARTS, Part, Table, lazily
from tasks.send import CODES_SHOWN
from tasks.tables.transitions import REJECT_COLUMNS, REJECTS, Transitions, nearest, quoted

STANDARD = "standard"
PARTED = " in parts"
"""Ends the name of a stored table that holds references to parts."""


class Step:
    """An activity that is planned: it runs with each part, and its counts belong to its own task run."""

    def __init__(
        self,
        activity: str,
        label: str,
        arguments: Mapping[str, Any],
        transition: str,
        *,
        made: str = "",
        run: str = "",
    ) -> None:
        self.activity = activity
        """Where it is imported from, as module:name."""
        self.label = label
        self.arguments = arguments
        """All but the inbound rows; the same for every part."""
        self.transition = transition
        self.made = made
        """What tells its counts and rejects from those of other steps, the same in every try of a run; empty for a
        step that is no activity."""
        self.run = run
        """The task run in which it was planned."""

    def of_transition(self, name: str) -> "Step":
        """The same activity, going on with another of its outbound transitions."""
        return Step(self.activity, self.label, self.arguments, name, made=self.made, run=self.run)

    def outbound(self, rows: pl.DataFrame) -> Any:  # noqa: ANN401
        """What the activity's function gives for some rows. Errors: those of the activity."""
        return imported(self.activity).function(rows, **self.arguments)

    @cached_property
    def key(self) -> str:
        """Digest of the activity, its arguments and the transition."""
        return digest_of([self.activity, self.transition, self.arguments])


def imported(where: str) -> Any:  # noqa: ANN401
    """What stands at module:name."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Passed:
    """What the planned steps made of one part."""

    rows: pl.DataFrame
    counts: pl.DataFrame
    rejects: dict[str, pl.DataFrame]
    """By what made them."""


class Plan:
    """Steps in order, as they are run on each part."""

    def __init__(self, steps: tuple[Step, ...] = ()) -> None:
        self.steps = steps

    def passed(self, rows: pl.DataFrame) -> Passed:
        """Run the steps on one part's rows. Errors: those of the activities."""
        counts, rejects = pl.DataFrame(schema=COUNTS), dict[str, pl.DataFrame]()
        for step in self.steps:
            outbound = step.outbound(rows)
            if step.made:
                counts = pl.concat([counts, counts_of(outbound, step.label, step.made)])
                rejects[step.made] = rejects_of(outbound)
            rows = transitions_of(outbound)[step.transition]
        return Passed(rows, counts, rejects)

    @cached_property
    def key(self) -> str:
        """Digest of all steps."""
        return digest_of([step.key for step in self.steps])


def transitions_of(outbound: pl.DataFrame | Transitions) -> dict[str, pl.DataFrame]:
    """Outbound transitions by name; a table alone is the transition `standard`."""
    return {STANDARD: outbound} if isinstance(outbound, pl.DataFrame) else outbound.transitions()


def rejects_of(outbound: object) -> pl.DataFrame:
    """The people among the rejects: profile_id, email, reason; none where rejects are no people."""
    rejects = outbound.tables().get("rejects") if isinstance(outbound, Transitions) else None
    if rejects is None or not set(REJECTS) <= set(rejects.columns):
        return pl.DataFrame(schema=REJECTS)
    return rejects.select(pl.col(name).cast(kind) for name, kind in REJECTS.items())


FIRST_MESSAGES = 20
"""How many messages an audience shows."""
LOOKED_AT = 10 * FIRST_MESSAGES
MESSAGE = ("profile_id", "email", "subject", "html", "text")

HIDES_CODES = "hides_codes"
"""Whether a message is shown without the codes that it has."""
SHOWN = {**dict.fromkeys(MESSAGE, pl.String()), HIDES_CODES: pl.Boolean()}


def first_messages(rows: pl.DataFrame | None) -> pl.DataFrame:
    """A copy of the first messages of a table, if it has any: a slice would keep the memory of the whole."""
    if rows is None or not set(MESSAGE) <= set(rows.columns):
        return pl.DataFrame(schema=SHOWN)
    first = rows.head(FIRST_MESSAGES)
    if CODES_SHOWN in rows.columns:
        shown = _without_codes(first)
    else:
        shown = first.select(*MESSAGE, pl.lit(value=False).alias(HIDES_CODES))
    return pl.DataFrame(shown.to_dict(as_series=False), schema=shown.schema)


def _without_codes(messages: pl.DataFrame) -> pl.DataFrame:
    """Messages as they are shown to who runs campaigns: the codes of their receivers are nobody else's."""
    shown = []
    for row in messages.select(*MESSAGE, CODES_SHOWN).iter_rows(named=True):
        secrets = [one["code"] for one in row.pop(CODES_SHOWN) if one["number"]]
        parts = {part: without(row[part], secrets) for part in MESSAGE[2:]}
        if secrets and all(parts[part] == row[part] for part in parts):
            parts = dict.fromkeys(parts, "…")  # a filter has changed what it shows
        shown.append({**row, **parts, HIDES_CODES: bool(secrets)})
    return pl.DataFrame(shown, schema=SHOWN)


def first_delivered(rows: pl.DataFrame, outbound: object) -> pl.DataFrame:
    """The first messages that a sink delivered, now or before; of a sink that tells no people, the first messages.

    Nobody is shown a message that was refused, or that nobody could make.
    """
    if outbound is None:
        return first_messages(None)
    tables = transitions_of(cast("pl.DataFrame | Transitions", outbound))
    told = [tables[name]["profile_id"] for name in (STANDARD, "complement") if "profile_id" in tables.get(name, {})]
    if isinstance(outbound, pl.DataFrame) or not told or "profile_id" not in rows.columns:
        return first_messages(rows)
    delivered = pl.concat([one.cast(pl.String()) for one in told])
    for some in (rows.head(LOOKED_AT), rows):  # of most parts the first are enough: the others are not copied
        profiles = some["profile_id"].cast(pl.String())
        here = delivered.filter(delivered.is_in(profiles.implode()))  # few, of whom a set is soon made
        found = some.filter(profiles.is_in(here.implode()))
        if found.height >= FIRST_MESSAGES:
            break
    return first_messages(found)


class Inline:
    """A step that is no activity: it has no task run, and is not counted."""

    def __init__(self, function: Callable[..., pl.DataFrame]) -> None:
        self.function = function


def _where_last_is(rows: pl.DataFrame, value: str) -> pl.DataFrame:
    return rows.filter(pl.last() == value)


def _with_text(rows: pl.DataFrame, column: str, value: str) -> pl.DataFrame:
    return rows.with_columns(pl.lit(value).alias(column))


WHERE_LAST_IS = Inline(_where_last_is)
WITH_TEXT = Inline(_with_text)


class Audience(Transitions):
    """A population, with the rejects and counts of the activities so far.

    `standard` is the audience itself; the activity's other outbound transitions are attributes: `complement`,
    `rejects`, `unknown`. Errors of these: `TransitionUnknown`.
    """

    def __init__(
        self,
        table: Table,
        *,
        activity: str,
        plan: Plan | None = None,
        schema: pl.Schema | None = None,
        others: "Mapping[str, Audience] | None" = None,
        rejected: "Mapping[str, Table] | None" = None,
        counts: pl.DataFrame | None = None,
        distinct: str = "",
        shown: pl.DataFrame | None = None,
        passed: int | None = None,
    ) -> None:
        self.table = table
        self.activity = activity
        """Label of the activity that gave it."""
        self.plan = plan or Plan()
        self.schema = schema or table.schema
        """Columns and types after the planned steps."""
        self.others = dict(others or {})
        self.rejected = dict(rejected or {})
        """Everyone whom activities on the way rejected, as far as they have run: profile_id, email, reason; by what
        made them, so that branches that meet again tell each once."""
        self.counts = pl.DataFrame(schema=COUNTS) if counts is None else counts
        """Rows of every transition on the way, as far as they have run: run, activity, transition, rows."""
        self.distinct = distinct
        """Column whose values are distinct, apart from nulls; empty where none is known."""
        self.shown = first_messages(table.frame) if shown is None else shown
        """The first messages, where the activity gave or took any: email, subject, html, text."""
        self.passed = passed
        """How many rows the planned steps leave, where a counting pass has found out."""

    @classmethod
    def of(cls, frame: pl.DataFrame, *, activity: str = "") -> Self:
        """An audience of a table in memory."""
        return cls(Table.of(frame), activity=activity)

    def after(self, others: "Iterable[Audience]") -> "Audience":
        """The same people, with the rejects and counts of the ways to other audiences too."""
        met = [*others]
        return Audience(
            self.table,
            activity=self.activity,
            plan=self.plan,
            schema=self.schema,
            others=self.others,
            rejected={**self.rejected, **{made: table for one in met for made, table in one.rejected.items()}},
            counts=merged([self.counts, *(one.counts for one in met)]),
            distinct=self.distinct,
            shown=self.shown,
            passed=self.passed,
        )

    def __repr__(self) -> str:
        """Shape only: rows are people."""
        planned = "".join(f" -> {step.label}" for step in self.plan.steps)
        return f"<Audience of {self.activity}: {self.table.height} rows{planned}>"

    @property
    def in_memory(self) -> bool:
        """Whether it is one part: its activities run immediately."""
        return self.table.frame is not None

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        return self.schema.names()

    @property
    def standard(self) -> Self:
        """The audience itself, as the transition `standard`."""
        return self

    def transition(self, name: str) -> "Audience":
        """An outbound transition of the activity that gave it. Errors: `TransitionUnknown`."""
        if name == STANDARD:
            return self
        if name not in self.others:
            present = [STANDARD, *self.others]
            raise TransitionUnknown(
                activity=self.activity, name=name, present=quoted(present), cure=nearest([name], present)
            )
        return self.others[name]

    def where_last_is(self, value: str) -> "Audience":
        """The rows whose last column, such as a segment's code, has a value; planned where there are many parts."""
        return self._then("WHERE_LAST_IS", value=value)

    def with_text(self, column: str, value: str) -> "Audience":
        """The audience with a further column that holds one text; planned where there are many parts."""
        return self._then("WITH_TEXT", column=column, value=value)

    def _then(self, inline: str, **arguments: str) -> "Audience":
        step = Step(f"{__name__}:{inline}", self.activity, arguments, STANDARD)
        if self.table.frame is not None:
            rows = step.outbound(self.table.frame)
            return self.going_on(Table.of(rows), self.plan, rows.schema, self.others)
        schema = step.outbound(self.schema.to_frame()).schema
        return self.going_on(self.table, Plan((*self.plan.steps, step)), schema, self.others)

    def with_others(self, others: "Mapping[str, Audience]") -> "Audience":
        """The same audience, with other transitions beside it."""
        return self.going_on(self.table, self.plan, self.schema, others)

    def going_on(
        self, table: Table, plan: Plan, schema: pl.Schema, others: "Mapping[str, Audience] | None" = None
    ) -> "Audience":
        """The same way, with other rows."""
        return Audience(
            table,
            activity=self.activity,
            plan=plan,
            schema=schema,
            others=others,
            rejected=self.rejected,
            counts=self.counts,
            distinct=self.distinct,
        )

    def __getattr__(self, name: str) -> "Audience":
        if name.startswith("_") or "others" not in self.__dict__:
            raise AttributeError(name)
        try:
            return self.transition(name)
        except TransitionUnknown as error:
            raise AttributeError(str(error)) from None

    @property
    def height(self) -> int:
        """How many rows it has; where steps are planned this takes a counting pass, which the log says."""
        passed = self.counted().passed
        return self.table.height if passed is None else passed

    def counted(self) -> "Audience":
        """The audience with the counts of its planned steps, which takes a counting pass that keeps no rows."""
        if not self.plan.steps or self.passed is not None:
            return self
        from tasks.runs.passes import counted  # noqa: PLC0415  # a counting pass is a sink

        return counted(self)

    def rejects_so_far(self) -> pl.LazyFrame:
        """Everyone whom activities on the way rejected: profile_id, email, reason."""
        return pl.concat(
            [
                pl.LazyFrame(schema=REJECTS),
                *(table.scan().select(REJECT_COLUMNS) for table in self.rejected.values()),
            ]
        )

    def pieces(self, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        """Its rows with the planned steps run, or some of their columns, one part in memory at a time."""
        if not self.plan.steps:
            return self.table.pieces(columns)
        passed = (self.plan.passed(piece).rows for piece in self.table.pieces())
        return passed if columns is None else (rows.select(columns) for rows in passed)

    def scan(self) -> pl.LazyFrame:
        """Its rows, with the planned steps run, as a lazy table that reads one part at a time."""
        return lazily(self.pieces, self.schema) if self.plan.steps else self.table.scan()

    def collect(self, columns: Iterable[str] | None = None) -> pl.DataFrame:
        """Its rows in memory, or some of its columns. For what is small: nothing limits the memory it takes."""
        chosen = self.columns if columns is None else list(columns)
        return pl.concat([self.schema.to_frame().select(chosen), *self.pieces(chosen)])

    def head(self, rows: int) -> pl.DataFrame:
        """Its first rows."""
        found = self.schema.to_frame()
        for piece in self.pieces():
            found = pl.concat([found, piece.head(rows - found.height)])
            if found.height >= rows:
                break
        return found

    @property
    def key(self) -> str:
        """Digest of its rows or parts, and of its plan: what results of activities are found again by."""
        return digest_of([self.table.key, self.plan.key, *(table.key for table in self.rejected.values())])

    # How it is stored as the result of a task run: tables by name, without a plan.

    def tables(self) -> dict[str, pl.DataFrame]:
        """Tables that it can be made of again. Only for an audience without planned steps."""
        tables = {
            _of_way("about"): pl.DataFrame({"activity": [self.activity], "distinct": [self.distinct]}),
            _of_way("counts"): self.counts,
            _of_way("shown"): self.shown,
        }
        for place, (made, rejected) in enumerate(self.rejected.items()):
            tables |= _stored_as(_of_way(f"rejected {place} {made}"), rejected)
        for name, one in {STANDARD: self, **self.others}.items():
            tables |= _stored_as(name, one.table)
        return tables

    @classmethod
    def from_tables(cls, **tables: pl.DataFrame) -> Self:
        """The audience that gave the tables."""
        parted = {name.removesuffix(PARTED): tables.pop(name) for name in list(tables) if name.endswith(PARTED)}
        found = {
            name: Table(rows.schema, None, _parts(parted[name])) if name in parted else Table.of(rows)
            for name, rows in tables.items()
        }
        way = {name.removeprefix(WAY): found.pop(name) for name in list(found) if name.startswith(WAY)}
        about, counts, shown = (way.pop(name).collect() for name in ("about", "counts", "shown"))
        rejected = {name.split(" ", 2)[2]: table for name, table in way.items()}
        activity, distinct = about.select("activity", "distinct").row(0)

        def one(name: str, label: str, shown: pl.DataFrame | None = None) -> dict[str, Any]:
            return {
                "table": found[name],
                "activity": label,
                "rejected": rejected,
                "counts": counts,
                "distinct": distinct,
                "shown": shown,
            }

        others = {name: Audience(**one(name, f"{activity}, {name}")) for name in found if name != STANDARD}
        return cls(**one(STANDARD, activity, shown), others=others)


WAY = "of the way: "
"""Begins the names of stored tables that are no transitions."""


def _of_way(name: str) -> str:
    return f"{WAY}{name}"


def _stored_as(name: str, table: Table) -> dict[str, pl.DataFrame]:
    """A table in memory, or its schema and the references to its parts."""
    if table.frame is not None:
        return {name: table.frame}
    parts = [part.model_dump(exclude={"alone"}) for part in table.parts]
    return {name: table.schema.to_frame(), f"{name}{PARTED}": pl.DataFrame(parts, schema=PARTS)}


def _parts(table: pl.DataFrame) -> tuple[Part, ...]:
    return tuple(Part(**row) for row in table.iter_rows(named=True))
