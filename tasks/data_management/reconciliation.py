"""Reconciliation: links rows of unidentified data to the profiles that are known."""

from dataclasses import dataclass
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import ColumnTaken
from tasks.runs.shapes import row_activity
from tasks.tables.relations import check_key_types
from tasks.tables.transitions import Transitions, require_columns

PLACE = "\x00place"
"""A row's number in the inbound data."""
PROFILE = "\x00profile"
"""A profile's number among the profiles."""
AMBIGUOUS = "more than one profile matches"


class ReconciliationOptions(BaseModel):
    """Options of the Reconciliation activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    criteria: list[dict[str, str]] = Field(
        min_length=1,
        title="Criteria",
        description=(
            "Ways to know a profile, {column of the data: column of the profiles}, all columns of one having to be"
            " equal. They are tried in order, until one finds a profile."
        ),
    )
    ignore_case: bool = Field(
        default=False,
        title="Ignore case",
        description="Compare texts without regard to case and outer white space.",
    )
    add: dict[str, str] = Field(
        default={"profile_id": "profile_id"},
        min_length=1,
        title="Add",
        description="Columns of the profile to add to its row, {name here: column of the profiles}.",
    )
    unmatched: Literal["ignore", "keep"] = Field(
        default="ignore",
        title="Unmatched rows",
        description="Rows that no profile matches are left out, or kept with nothing in the added columns.",
    )


@dataclass(frozen=True)
class Reconciled(Transitions):
    """Outbound transitions of Reconciliation."""

    standard: pl.DataFrame
    """Rows with the columns of their profile; rows without one too where they are kept."""
    complement: pl.DataFrame
    """Rows that no profile matches, where they are ignored; columns as inbound."""
    rejects: pl.DataFrame
    """Rows that more than one profile matches, with the reason; columns as inbound, and reason."""


def reconcile(data: pl.DataFrame, profiles: pl.DataFrame, options: ReconciliationOptions) -> Reconciled:
    """Link each row to its one profile by the first criterion that finds any, in inbound order.

    A null equals nothing. Errors: `ColumnsMissing`, `ColumnTaken`, `KeyTypesDiffer`.
    """
    _check(data, profiles, options)
    rows, known = data.with_row_index(PLACE), profiles.with_row_index(PROFILE)
    left, found = (
        rows,
        [pl.DataFrame(schema={PLACE: pl.UInt32(), PROFILE: pl.UInt32(), "\x00matches": pl.UInt32()})],
    )
    for criterion in options.criteria:
        matches = _matches(left, known, criterion, ignore_case=options.ignore_case)
        found.append(matches)
        left = left.join(matches, on=PLACE, how="anti", maintain_order="left")
    links = pl.concat(found, how="vertical_relaxed")
    one = links.filter(pl.col("\x00matches") == 1)
    added = known.select(PROFILE, *(pl.col(there).alias(here) for here, there in options.add.items()))
    linked = rows.join(
        one.join(added, on=PROFILE).drop(PROFILE, "\x00matches"), on=PLACE, how="left", maintain_order="left"
    )
    matched = pl.col(PLACE).is_in(one[PLACE].implode())
    ambiguous = pl.col(PLACE).is_in(links.filter(pl.col("\x00matches") > 1)[PLACE].implode())
    kept = ~ambiguous if options.unmatched == "keep" else matched
    return Reconciled(
        standard=linked.filter(kept).drop(PLACE),
        complement=rows.filter(~kept & ~ambiguous).drop(PLACE),
        rejects=rows.filter(ambiguous).drop(PLACE).with_columns(reason=pl.lit(AMBIGUOUS)),
    )


def _check(data: pl.DataFrame, profiles: pl.DataFrame, options: ReconciliationOptions) -> None:
    activity = "Reconciliation"
    for criterion in options.criteria:
        require_columns(data, criterion, activity=activity, where="the inbound data")
        require_columns(profiles, criterion.values(), activity=activity, where="the profiles")
        check_key_types(data.schema, profiles.schema, criterion, name="The profiles")
    require_columns(profiles, options.add.values(), activity=activity, where="the profiles")
    taken = next((name for name in options.add if name in data.columns), None)
    if taken is not None:
        raise ColumnTaken(activity=activity, name=taken)


def _matches(
    rows: pl.DataFrame, profiles: pl.DataFrame, criterion: dict[str, str], *, ignore_case: bool
) -> pl.DataFrame:
    """The rows that have profiles by the criterion: the row's number, that of its first profile, how many."""
    keys = [f"\x00key{number}" for number in range(len(criterion))]
    here = [_compared(rows, column, ignore_case).alias(key) for key, column in zip(keys, criterion, strict=True)]
    there = [
        _compared(profiles, column, ignore_case).alias(key)
        for key, column in zip(keys, criterion.values(), strict=True)
    ]
    by_key = (
        profiles.select(PROFILE, *there)
        .drop_nulls(keys)
        .group_by(keys)
        .agg(pl.col(PROFILE).min(), pl.len().alias("\x00matches"))
    )
    return rows.select(PLACE, *here).join(by_key, on=keys, how="inner").select(PLACE, PROFILE, "\x00matches")


def _compared(table: pl.DataFrame, column: str, ignore_case: bool) -> pl.Expr:
    if ignore_case and table.schema[column] == pl.String():
        return pl.col(column).str.strip_chars().str.to_lowercase()
    return pl.col(column)


@row_activity("Reconciliation")
def reconciliation(data: pl.DataFrame, profiles: pl.DataFrame, options: ReconciliationOptions) -> Reconciled:
    """Link rows of unidentified data, such as a loaded file, to known profiles.

    In: the data, and the profiles (a Query), each of them once; an audience of profiles is held in memory.
    Out: `standard` (the rows with the profile's
    columns), `complement` (rows without a profile, where they are ignored), `rejects` (rows that more than one
    profile matches, with the reason). Errors: `ColumnsMissing`, `ColumnTaken`, `KeyTypesDiffer`.
    Source: Adobe Campaign Standard, Reconciliation activity.

    Example:
        ```python
        purchases = pl.DataFrame({"mail": ["ADA@people.test"], "amount": [20.0]})
        options = ReconciliationOptions(criteria=[{"mail": "email"}], ignore_case=True)
        of_known_people = reconciliation(purchases, audience, options)
        ```
    """
    return reconcile(data, profiles, options)
