"""Segmentation: divides a population into segments, each member falling into the first that takes it."""

from dataclasses import dataclass
from typing import Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.errors import ColumnTaken, PopulationUnknown
from tasks.runs.audience import Audience
from tasks.runs.shapes import Lazily, table_activity
from tasks.tables.conditions import EVERYTHING, condition, expression
from tasks.tables.lots import lot
from tasks.tables.transitions import Transitions, quoted, require_columns

PLACE = "\x00place"
"""A row's number in the inbound transition."""


class SegmentLimit(BaseModel):
    """How many of the members that match its filter a segment takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    maximum: int | None = Field(default=None, ge=0, title="Maximum size", description="At most this many members.")
    percentage: float | None = Field(
        default=None, ge=0, le=100, title="Percentage", description="This share of them, to the nearest member."
    )
    per: str = Field(
        default="",
        title="Grouping column",
        description="Apply the limit to the members of each value of this column; empty applies it to all.",
    )
    maximum_of_value: dict[str, int] = Field(
        default_factory=dict,
        title="Maximum sizes of values",
        description="Maximum sizes that differ, {value of the grouping column: maximum size}.",
    )
    order_by: str = Field(
        default="",
        title="Order by",
        description=(
            "SQL expression: the first in its order are taken, nulls last. Empty takes a random sample: those with"
            " the smallest lots."
        ),
    )
    descending: bool = Field(default=False, title="Descending", description="The largest first.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.maximum is not None and self.percentage is not None:
            raise ValueError("a maximum size and a percentage cannot both be given")
        if self.maximum_of_value and not self.per:
            raise ValueError("maximum sizes of values need a grouping column")
        return self


class Segment(BaseModel):
    """One segment: who may fall into it, how many, and its code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(min_length=1, title="Segment code", description="The code that its members get.")
    label: str = Field(default="", title="Label", description="Name of the segment as people read it.")
    where: str = Field(
        default=EVERYTHING,
        title="Filter",
        description="SQL condition over the inbound columns; TRUE takes everyone.",
    )
    limit: SegmentLimit = Field(default=SegmentLimit(), title="Limit", description="How many members it takes.")
    exclude: bool = Field(
        default=False,
        title="Exclude segment from population",
        description="Its members leave the population: they fall into no other segment nor the complement.",
    )


class SegmentationOptions(BaseModel):
    """Options of the Segmentation activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segments: list[Segment] = Field(
        min_length=1,
        title="Segments",
        description="Segments in order: a member falls into the first that takes it.",
    )
    overlap: bool = Field(
        default=False, title="Enable overlap", description="A member falls into every segment that takes it."
    )
    code_column: str = Field(
        default="segment_code", title="Code column", description="Name of the column that holds the segment code."
    )
    key: str = Field(
        default="profile_id",
        title="Key",
        description=(
            "Column that tells members apart, for random samples: each member's lot is drawn by its key, so that"
            " nobody else's changes it. Rows without a key come last."
        ),
    )
    seed: int = Field(
        default=0,
        title="Seed",
        description="For random samples: the same seed and segment code draw the same lots.",
    )

    @model_validator(mode="after")
    def _has_distinct_codes(self) -> Self:
        codes = [segment.code for segment in self.segments]
        repeated = {code for code in codes if codes.count(code) > 1}
        if repeated:
            raise ValueError(f"segment codes must differ: {quoted(sorted(repeated))}")
        return self


@dataclass(frozen=True)
class Segmented(Transitions):
    """Outbound transitions of Segmentation."""

    standard: pl.DataFrame
    """Members of the segments, all in one, with the column of the code; `segment` gives those of one."""
    complement: pl.DataFrame
    """Rows that fell into no segment; columns as inbound."""
    excluded: pl.DataFrame
    """Members of segments that are excluded from the population, with the column of the code."""
    counts: pl.DataFrame
    """Segments in order: segment_code, label, excluded, rows."""

    def segment(self, code: str) -> pl.DataFrame:
        """The members of one segment: its own transition. Errors: `PopulationUnknown`."""
        name = transition_of_segment(self.counts, code)
        return getattr(self, name).filter(pl.last() == code)  # type: ignore[no-any-return]


def segment(divided: Audience, code: str) -> Audience:
    """The members of one segment of an audience that Segmentation divided. Errors: `PopulationUnknown`."""
    name = transition_of_segment(divided.transition("counts").collect(), code)
    return divided.transition(name).where_last_is(code)


def transition_of_segment(counts: pl.DataFrame, code: str) -> str:
    """The transition that holds a segment's members: standard, or excluded. Errors: `PopulationUnknown`."""
    excluded = dict(counts.select("segment_code", "excluded").iter_rows())
    if code not in excluded:
        raise PopulationUnknown(activity="Segmentation", name=f"(segment) '{code}'", present=quoted(excluded))
    return "excluded" if excluded[code] else "standard"


@table_activity(
    "Segmentation",
    gives=Segmented,
    stays_distinct=lambda column, options: not options.overlap,  # noqa: ARG005
)
def segmentation(inbound: pl.LazyFrame, options: SegmentationOptions) -> Lazily:
    """Divide a population into segments with a code each.

    In: any table. Out: `standard` (the segments' members, with their code; `segment(divided, "vip")` is the
    transition of one), `complement` (rows in no segment), `excluded` (segments that leave the population), and
    `counts` (segment_code, label, excluded, rows); rows in inbound order within each segment. Random samples are
    drawn by the key, and repeat with the seed.
    Errors: `FilterInvalid`, `ExpressionInvalid`, `ColumnsMissing`, `ColumnTaken`.
    Source: Adobe Campaign Standard, Segmentation activity.

    Example:
        ```python
        vip = Segment(code="vip", where="zip_code = '80331'", limit=SegmentLimit(maximum=100))
        divided = segmentation(audience, SegmentationOptions(segments=[vip]))
        members = segment(divided, "vip")
        rest = divided.transition("complement")
        ```
    """
    schema = inbound.collect_schema()
    if options.code_column in schema:
        raise ColumnTaken(activity="Segmentation", name=options.code_column)
    rows = inbound.with_row_index(PLACE)
    left, taken = rows, []
    for one in options.segments:
        candidates = left if not options.overlap else rows
        where = condition(one.where, schema, activity=_activity(one), where="the inbound transition")
        members = _limited(candidates.filter(where), one, schema, options)
        taken.append(members)
        left = left.join(members.select(PLACE), on=PLACE, how="anti", maintain_order="left")
    segments = list(zip(options.segments, taken, strict=True))
    return {
        "standard": _coded([pair for pair in segments if not pair[0].exclude], schema, options),
        "complement": left.drop(PLACE),
        "excluded": _coded([pair for pair in segments if pair[0].exclude], schema, options),
        "counts": pl.concat(
            members.select(
                segment_code=pl.lit(one.code),
                label=pl.lit(one.label),
                excluded=pl.lit(one.exclude),
                rows=pl.len().cast(pl.Int64()),
            )
            for one, members in segments
        ),
    }


def _activity(segment: Segment) -> str:
    return f"Segmentation, segment '{segment.code}'"


def _coded(
    segments: list[tuple[Segment, pl.LazyFrame]], schema: pl.Schema, options: SegmentationOptions
) -> pl.LazyFrame:
    code = pl.lit(None, pl.String()).alias(options.code_column)
    nobody = schema.to_frame().lazy().with_columns(code)
    return pl.concat(
        [
            nobody,
            *(
                members.drop(PLACE).with_columns(pl.lit(segment.code).alias(options.code_column))
                for segment, members in segments
            ),
        ]
    )


def _limited(
    candidates: pl.LazyFrame, segment: Segment, schema: pl.Schema, options: SegmentationOptions
) -> pl.LazyFrame:
    limit = segment.limit
    if limit.maximum is None and limit.percentage is None and not limit.maximum_of_value:
        return candidates
    if limit.per:
        require_columns(schema, [limit.per], activity=_activity(segment), where="the inbound transition")
    group = pl.col(limit.per) if limit.per else pl.lit(0)
    drawn = candidates.select(PLACE, group.alias("\x00group"), _draw(segment, schema, options).alias("\x00draw"))
    ranked = drawn.sort("\x00draw", descending=limit.descending, nulls_last=True, maintain_order=True).select(
        PLACE, (pl.int_range(pl.len()).over("\x00group") < _size(limit)).alias("\x00in")
    )
    return candidates.join(ranked.filter("\x00in"), on=PLACE, how="semi", maintain_order="left")


def _draw(segment: Segment, schema: pl.Schema, options: SegmentationOptions) -> pl.Expr:
    """What the first are chosen by."""
    if not segment.limit.order_by:
        where = "the inbound transition (a random sample is drawn by the key)"
        require_columns(schema, [options.key], activity=_activity(segment), where=where)
        return lot(pl.col(options.key), "segment", options.seed, segment.code)
    return expression(segment.limit.order_by, schema, activity=_activity(segment), where="the inbound transition")


def _size(limit: SegmentLimit) -> pl.Expr:
    """How many are taken of a row's group."""
    members = pl.len().over("\x00group")
    if limit.percentage is not None:
        size = (members * limit.percentage / 100).round(mode="half_away_from_zero").cast(pl.Int64())
    else:
        size = members.cast(pl.Int64()) if limit.maximum is None else pl.lit(limit.maximum, pl.Int64())
    value = pl.col("\x00group").cast(pl.String())
    for name, maximum in limit.maximum_of_value.items():
        size = pl.when(value == name).then(pl.lit(maximum, pl.Int64())).otherwise(size)
    return size
