"""Rendering: the parts of the messages of an audience, slice by slice, over whole columns where that can be."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import polars as pl

from tasks.content._checks import template_findings
from tasks.content._plain import plain_texts
from tasks.errors import TemplatesEndless, TemplatesInvalid
from tasks.lowering.plan import Plan
from tasks.lowering.statements import Lowering
from tasks.lowering.vectors import CannotLower
from tasks.templates.apart import Recipe, rendered_apart
from tasks.templates.environment import CampaignEnvironment
from tasks.templates.fields import (
    BRACES,
    ELEMENT,
    WHITE_SPACE,
    Fact,
    Facts,
    Fields,
    Path,
    Slice,
    instance,
    struct_types,
)
from tasks.templates.reading import PARTS, Templates
from tasks.templates.rows import LARGEST_PART, too_large
from tasks.templates.uses import required_uses, resolved_uses

SLICE = 20_000
"""Profiles that are rendered together: some 50 MB of messages, so that memory stays flat."""

PLANS_KEPT = 120
"""Lowered parts that are kept: slices of which other things are known need others."""

LONGEST_VALUE = 100_000
"""Bytes of a text of a profile or of content; a longer one rejects the profile."""
MOST_ENDED = 20
"""Messages of a run that may go beyond their budget: each is a reject, one more ends the run."""
MOST_SECONDS = 3600.0
"""Seconds of a processor that all messages which are rendered row by row may take in a run."""

SHORT_HTML = 300
"""Bytes of an HTML part of which it is looked whether a reader would see anything."""
NOT_SHOWN = (
    r"(?is)<!--.*?-->|<(style|title|head|script)\b.*?</(style|title|head|script)>"
    r"|<(?:[^i>]|i[^m>])[^>]*>|<i>|&nbsp;|&#160;"
)
"""Markup that shows nothing by itself; an image does."""
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
    told: tuple[str, ...] = ()
    """Findings of whoever has changed the templates before."""
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
        self._plans: dict[tuple[str, Facts], Plan | CannotLower] = {}
        self._lock = Lock()
        self._seconds, self._ended = 0.0, 0
        self._apart = {path: full for path, full in self.used.items() if ELEMENT not in path}

    def findings(self) -> list[str]:
        """What the author should look at, though messages can be sent."""
        found = list(self.told)
        for guard in (made.guard for made in self._environments.values() if made.guard):
            found += guard.unencoded
            found += template_findings("\n".join(self.templates.sources[name] for name in guard.trees))
        return found

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
        reason = _refused(profiles, [".".join(path) for path in self._paths])
        parts: list[pl.Series] = []
        for part in PARTS:
            if part in self.templates.parts:
                text, why = self._part(part, profiles, reason)
            else:
                text, why = plain_texts(parts[-1]), None
            if part == "subject":
                text, why = _checked_subject(text, why)
            parts.append(text.alias(part))
            for fault in (why, _too_large(part, text), _blank(part, text)):
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
        names = sorted({".".join(full) for full in self._apart.values()} & set(profiles.rows.columns))
        rows = profiles.rows.select(pl.int_range(pl.len()).alias("\x00row"), *names).filter(waiting)
        made = rendered_apart(self._recipe(part), rows)
        where = waiting.arg_true()
        texts, reasons = (pl.Series([None], dtype=pl.String()).new_from_index(0, len(waiting)) for _ in range(2))
        self._count(part, plan, rows.height, time.perf_counter() - started)
        self._spend(plan, made.seconds, made.ended)
        return texts.scatter(where, made.texts), reasons.scatter(where, made.reasons)

    def _recipe(self, part: str) -> Recipe:
        name = self.templates.parts[part]
        return Recipe(
            part,
            name,
            self.templates.sources,
            html=part == "html",
            locale=self.locale,
            marks_branches=self.marks_branches,
            constants=self.fields.constants,
            used=self._apart,
        )

    def _spend(self, why: CannotLower, seconds: float, ended: int) -> None:
        with self._lock:
            self._seconds += seconds
            self._ended += ended
            too_much = None
            if self._ended > MOST_ENDED:
                too_much = f"more than {MOST_ENDED} messages went beyond their budget"
            elif self._seconds > MOST_SECONDS:
                too_much = f"they took more than {MOST_SECONDS:.0f} seconds of a processor"
        if too_much:
            raise TemplatesEndless(
                folder=self.templates.folder, what=too_much, construct=why.construct, where=why.where
            )

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
        pl.when(pl.col("text").str.contains(LINE_BREAK)).then(pl.lit("the subject has a line break")).alias("fault")
    )
    faults = checked.get_column("fault")
    if faults.null_count() < faults.len():
        reason = faults if reason is None else _first(reason, faults)
    return checked.get_column("text"), reason


def _refused(profiles: Slice, names: list[str]) -> pl.Series | None:
    """Which profiles have a value that no message can show: it is too long, or an unfilled template."""
    rows = profiles.rows
    faults: list[pl.Expr] = []
    lengths = {name: _of_texts(pl.col(name), rows.schema[name], _length) for name in names if name in rows.columns}
    sizes = {name: length for name, length in lengths.items() if length is not None}
    longest = rows.select(length.max().alias(name) for name, length in sizes.items())
    for name, length in sizes.items():
        if (longest[name].item() or 0) > LONGEST_VALUE:
            reason = pl.lit(f"the value of {name} has more than {LONGEST_VALUE} bytes")
            faults.append(pl.when(length > LONGEST_VALUE).then(reason))
    braces = {".".join(path).split(f".{ELEMENT}")[0] for path, fact in profiles.facts if fact.braces}
    for name in sorted(braces & set(sizes)):
        left = _of_texts(pl.col(name), rows.schema[name], _has_braces)
        reason = pl.lit(f"the value of {name} has {' or '.join(BRACES)}: a template that was not filled in")
        faults.append(pl.when(left == 1).then(reason))
    return rows.select(pl.coalesce(faults)).to_series() if faults else None


def _length(text: pl.Expr) -> pl.Expr:
    return text.str.len_bytes()


def _has_braces(text: pl.Expr) -> pl.Expr:
    return text.str.contains_any(list(BRACES)).cast(pl.UInt32())


def _of_texts(value: pl.Expr, kind: pl.DataType, measure: Callable[[pl.Expr], pl.Expr]) -> pl.Expr | None:
    """The largest measure of the texts in each value, None where a type has no text."""
    if isinstance(kind, pl.String):
        return measure(value)
    if isinstance(kind, pl.List):
        inner = _of_texts(pl.element(), instance(kind.inner), measure)
        return None if inner is None else value.list.eval(inner).list.max()
    if isinstance(kind, pl.Struct):
        each = [_of_texts(value.struct.field(name), inner, measure) for name, inner in struct_types(kind).items()]
        texts = [found for found in each if found is not None]
        return pl.max_horizontal(texts) if texts else None
    return None


def _blank(part: str, text: pl.Series) -> pl.Series | None:
    """Which messages have a part in which there is nothing to read."""
    # What is long has something to read; to look through all of it would take longer than to make it.
    looked = text.str.len_bytes() < SHORT_HTML if part == "html" else text < "!"
    if not looked.any():
        return None
    shown = text.filter(looked)
    shown = shown.str.replace_all(NOT_SHOWN, " ") if part == "html" else shown
    blank = shown.str.strip_chars(WHITE_SPACE) == ""
    if not blank.any():
        return None
    rows = looked.arg_true().filter(blank)
    nothing = pl.Series([None], dtype=pl.String()).new_from_index(0, len(text))
    return nothing.scatter(rows, f"the {part} is empty")


def _too_large(part: str, text: pl.Series) -> pl.Series | None:
    """Which messages no mail program would show."""
    large = text.str.len_bytes() > LARGEST_PART
    if not large.any():
        return None
    return pl.select(pl.when(large).then(pl.lit(too_large(part)))).to_series()


def _first(earlier: pl.Series, later: pl.Series) -> pl.Series:
    return earlier.zip_with(earlier.is_not_null(), later)
