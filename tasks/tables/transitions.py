"""Transitions between activities: a polars DataFrame, or a frozen dataclass that names several."""

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import ClassVar

import polars as pl

from tasks.errors import ColumnsMissing


class Transitions:
    """Base of the frozen dataclasses that name an activity's outbound transitions, each a DataFrame.

    Subclasses are known by name so that a stored result can be read back without pickle.
    """

    known: ClassVar[dict[str, type["Transitions"]]] = {}

    def __init_subclass__(cls) -> None:
        Transitions.known[cls.__name__] = cls

    def tables(self) -> dict[str, pl.DataFrame]:
        """Outbound transitions by name, in the order in which they are declared."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def require_columns(table: pl.DataFrame, needed: Iterable[str], *, activity: str, where: str) -> None:
    """Check that `table` has the columns `needed`.

    Errors: `ColumnsMissing`, naming the columns and the nearest ones that are there.
    """
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise ColumnsMissing(
            activity=activity,
            where=where,
            missing=quoted(missing),
            present=quoted(table.columns),
            cure=nearest(missing, table.columns) or "Add or rename the column.",
        )


def quoted(names: Iterable[str]) -> str:
    """Names as a sentence shows them: `'a', 'b'`; `nothing` when there are none."""
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def nearest(unknown: Iterable[str], known: Iterable[str]) -> str:
    """`Did you mean 'zip_code'?` for the names that have a near relative among `known`, else an empty text."""
    candidates = list(known)
    found = [match for name in unknown for match in get_close_matches(name, candidates, n=1)]
    return f"Did you mean {quoted(dict.fromkeys(found))}?" if found else ""
