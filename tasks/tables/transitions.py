"""Transitions between activities: a polars DataFrame, or a frozen dataclass that names several."""

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import ClassVar, Self

import polars as pl

from tasks.errors import ColumnsMissing

REJECTS = {"profile_id": pl.String(), "email": pl.String(), "reason": pl.String()}
"""Columns of rejected people; `email` is the address over the channel."""
REJECT_COLUMNS = tuple(REJECTS)


class Transitions:
    """Base of the frozen dataclasses that name an activity's outbound transitions, each a DataFrame.

    Subclasses are known by name so that a stored result can be read back without pickle.
    """

    known: ClassVar[dict[str, type["Transitions"]]] = {}
    totals: ClassVar[tuple[str, ...]] = ()
    """Tables of one row of numbers, which add up over the parts of an audience."""
    unshown: ClassVar[tuple[str, ...]] = ()
    """Tables that are kept with the others and are no news: the counts leave them out."""
    activity: str = ""
    """Label of the activity that gave it, where it is known."""

    def __init_subclass__(cls) -> None:
        Transitions.known[cls.__name__] = cls

    def tables(self) -> dict[str, pl.DataFrame]:
        """Outbound transitions by name, in the order in which they are declared."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def transitions(self) -> dict[str, pl.DataFrame]:
        """What an audience can go on with: the tables, and what is made of them."""
        return self.tables()

    @classmethod
    def from_tables(cls, **tables: pl.DataFrame) -> Self:
        """The transitions that gave the tables."""
        return cls(**tables)


def require_columns(
    table: pl.DataFrame | pl.LazyFrame | pl.Schema, needed: Iterable[str], *, activity: str, where: str
) -> None:
    """Check that `table` has the columns `needed`.

    Errors: `ColumnsMissing`, naming the columns and the nearest ones that are there.
    """
    present = (table if isinstance(table, pl.Schema) else table.collect_schema()).names()
    missing = [name for name in needed if name not in present]
    if missing:
        raise ColumnsMissing(
            activity=activity,
            where=where,
            missing=quoted(missing),
            present=quoted(present),
            cure=nearest(missing, present) or "Add or rename the column.",
        )


def quoted(names: Iterable[str]) -> str:
    """Names as a sentence shows them: `'a', 'b'`; `nothing` when there are none."""
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def nearest(unknown: Iterable[str], known: Iterable[str]) -> str:
    """`Did you mean 'zip_code'?` for the names that have a near relative among `known`, else an empty text."""
    plain = {name.casefold().strip(): name for name in known}
    near = [match for name in unknown for match in get_close_matches(name.casefold().strip(), plain, n=1)]
    found = [plain[match] for match in near]
    return f"Did you mean {quoted(dict.fromkeys(found))}?" if found else ""
