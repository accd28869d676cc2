"""Rendering: the parts of the messages of an audience, slice by slice, over whole columns where that can be."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import polars as pl

from tasks.errors import TemplatesInvalid
from tasks.lowering.plan import Plan
from tasks.lowering.statements import Lowering
from tasks.lowering.vectors import CannotLower
from tasks.templates.environment import CampaignEnvironment
from tasks.templates.fields import ELEMENT, WHITE_SPACE, Fact, Facts, Fields, Path, Slice
from tasks.templates.reading import PARTS, Templates
from tasks.templates.rows import render_rows
from tasks.templates.uses import required_uses, resolved_uses

SLICE = 20_000
"""Profiles that are rendered together: some 50 MB of messages, so that memory stays flat."""

PLANS_KEPT = 120
"""Lowered parts that are kept: slices of which other things are known need others."""

LONGEST_VALUE = 100_000
"""Bytes of a text of a profile or of content; a longer one rejects the profile."""
LARGEST_PART = 5_000_000
"""Bytes of a part of a message."""

LACKING = {"field": pl.String(), "where": pl.String(), "profiles": pl.Int64()}
LINE_BREAK = "[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]"
"""What ends a line for Python, and so for whoever writes the message's header."""


@dataclass
class RowByRow:
    """A part that was rendered row by row: why, for how many messages, and how long it took."""

    part: str
    construct: str
    where: str
    messages: int = 0
    seconds: float = 0.0


@dataclass
class Renderer:
    """Renders the messages of one set of templates. Errors on making it: `TemplatesInvalid`."""

    templates: Templates
    schema: pl.Schema
    campaign: Mapping[str, object]
    locale: str = "en"
    lowered: bool = True
    """False renders all row by row: slower, with the same result."""
    marks_branches: bool = False
    """Whether each branch prints where it stands, for the preview."""
    slow: dict[tuple[str, str, str], RowByRow] = field(default_factory=dict)
    """What was rendered row by row so far."""

    def __post_init__(self) -> None:
        self.fields = Fields(self.schema, self.campaign)
        self.used = resolved_uses(self.templates, self.fields)
        self._paths = sorted({full for full in self.used.values() if ELEMENT not in full})
        self._environments = {
            part: CampaignEnvironment(
                self.templates.sources,
                name if part == "html" else "",
                self.locale,
                marks_branches=self.marks_branches,
            )
            for part, name in self.templates.parts.items()
        }
        problems = [each for made in self._environments.values() for each in made.problems]
        if problems:
            raise TemplatesInvalid(folder=self.templates.folder, count=len(problems), errors="; ".join(problems))
        self._compiled = {
            part: self._environments[part].get_template(name) for part, name in self.templates.parts.items()
        }
        self._plans: dict[tuple[str, Facts], Plan | CannotLower] = {}
        self._lock = Lock()

    def lacking(self, tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
        """Fields that are printed without a default, and how many profiles lack them: field, where, profiles."""
        needed = required_uses(self.templates, self.fields)
        paths = [path for path in needed if ELEMENT not in path and path not in self.fields.constants]
        counts = dict.fromkeys(paths, 0)
        for table in tables:
            for rows in table.iter_slices(SLICE):
                values = self.fields.slice_of(rows, paths, []).rows
                for path in paths:
                    counts[path] += values.get_column(".".join(path)).null_count()
        found = [
            (".".join(path), "; ".join(dict.fromkeys(use.where for use in needed[path])), count)
            for path, count in counts.items()
            if count
        ]
        return pl.DataFrame(found, schema=LACKING, orient="row")

    def rendered(self, table: pl.DataFrame, kept: list[pl.Expr]) -> pl.DataFrame:
        """The messages of one slice: the columns `kept`, subject, html, text, and reason where there is none."""
        profiles = self.fields.slice_of(table, self._paths, kept)
        rows = profiles.rows
        reason = _too_long(rows, [".".join(path) for path in self._paths])
        parts: list[pl.Series] = []
        for part in PARTS:
            text, why = self._part(part, profiles, reason)
            if part == "subject":
                text, why = _checked_subject(text, why)
            parts.append(text.alias(part))
            for fault in (why, _too_large(part, text)):
                reason = fault if reason is None else reason if fault is None else _first(reason, fault)
        if reason is None:
            reason = pl.Series([None], dtype=pl.String()).new_from_index(0, rows.height)
        return rows.select(rows.columns[: len(kept)]).with_columns(*parts, reason.alias("reason"))

    def _part(self, part: str, profiles: Slice, reason: pl.Series | None) -> tuple[pl.Series, pl.Series | None]:
        plan = self._plan(part, profiles)
        if isinstance(plan, Plan):
            try:
                return plan.run(profiles.rows)
            except CannotLower as failed:
                failed.where = failed.where or self.templates.parts[part]
                plan = failed
        started = time.perf_counter()
        waiting = reason.is_null() if reason is not None else pl.repeat(True, profiles.rows.height, eager=True)
        texts, reasons = render_rows(self._compiled[part], profiles.rows, self.fields, self.used, waiting)
        self._count(part, plan, int(waiting.sum()), time.perf_counter() - started)
        return texts, reasons

    def _plan(self, part: str, profiles: Slice) -> Plan | CannotLower:
        key = (part, profiles.facts)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._lowered(part, dict(profiles.facts))
            if len(self._plans) >= PLANS_KEPT:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _lowered(self, part: str, facts: Mapping[Path, Fact]) -> Plan | CannotLower:
        name = self.templates.parts[part]
        if not self.lowered:
            switched_off = CannotLower("the option row_by_row")
            switched_off.where = name
            return switched_off
        try:
            return Lowering(self._environments[part], self.fields, self.used, facts).plan(name)
        except CannotLower as reason:
            return reason

    def _count(self, part: str, why: CannotLower, messages: int, seconds: float) -> None:
        with self._lock:
            entry = self.slow.setdefault((part, why.construct, why.where), RowByRow(part, why.construct, why.where))
            entry.messages += messages
            entry.seconds += seconds


def _checked_subject(text: pl.Series, reason: pl.Series | None) -> tuple[pl.Series, pl.Series | None]:
    checked = text.to_frame("text").select(pl.col("text").str.strip_chars(WHITE_SPACE))
    checked = checked.with_columns(
        pl.when(pl.col("text") == "")
        .then(pl.lit("the subject is empty"))
        .when(pl.col("text").str.contains(LINE_BREAK))
        .then(pl.lit("the subject has a line break"))
        .alias("fault")
    )
    faults = checked.get_column("fault")
    if faults.null_count() < faults.len():
        reason = faults if reason is None else _first(reason, faults)
    return checked.get_column("text"), reason


def _too_long(rows: pl.DataFrame, names: list[str]) -> pl.Series | None:
    """Which profiles have a value that is longer than any that a message shows."""
    texts = [name for name in names if rows.schema.get(name) == pl.String()]
    longest = rows.select(pl.col(name).str.len_bytes().max() for name in texts)
    long = [name for name in texts if (longest[name].item() or 0) > LONGEST_VALUE]
    if not long:
        return None
    return rows.select(
        pl.coalesce(
            pl.when(pl.col(name).str.len_bytes() > LONGEST_VALUE).then(
                pl.lit(f"the value of {name} has more than {LONGEST_VALUE} bytes")
            )
            for name in long
        )
    ).to_series()


def _too_large(part: str, text: pl.Series) -> pl.Series | None:
    """Which messages no mail program would show."""
    large = text.str.len_bytes() > LARGEST_PART
    if not large.any():
        return None
    reason = pl.lit(f"the {part} has more than {LARGEST_PART} bytes")
    return pl.select(pl.when(large).then(reason)).to_series()


def _first(earlier: pl.Series, later: pl.Series) -> pl.Series:
    return earlier.zip_with(earlier.is_not_null(), later)
