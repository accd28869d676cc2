"""Save audience: stores a population under a name."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import polars as pl
from polars.exceptions import PolarsError
from pydantic import Field

from tasks.errors import AudienceTaken, ColumnTypesDiffer, SourceUnreadable
from tasks.files.audiences import AudienceOptions
from tasks.files.parquet import create_parquet, replace_parquet
from tasks.runs.shapes import Lazily, table_activity
from tasks.tables.conditions import first_line
from tasks.tables.transitions import Transitions, require_columns


class SaveAudienceOptions(AudienceOptions):
    """Options of the Save audience activity."""

    mode: Literal["create", "create_dated", "replace", "complete"] = Field(
        default="create",
        title="Mode",
        description=(
            "create: a new audience, an error if there is one; create_dated: a new one with the business date in"
            " its name; replace: replacing an earlier one; complete: add those whom it does not have yet."
        ),
    )
    key: str = Field(
        default="profile_id",
        title="Key",
        description="Column that tells members apart, where an audience is completed.",
    )


@dataclass(frozen=True)
class SavedAudience(Transitions):
    """Outbound transitions of Save audience."""

    standard: pl.DataFrame
    """The inbound population."""
    audience: pl.DataFrame
    """One row, without population: the name of the stored audience, its rows, and how many of them are new."""


def save(inbound: pl.LazyFrame, options: SaveAudienceOptions, business_date: date) -> pl.DataFrame:
    """Store the population under its name, whole or not at all. Out: audience, rows, added; one row.

    Errors: `AudienceTaken`, `ColumnsMissing` (the key), `ColumnTypesDiffer`, `SourceUnreadable`, `StoreUnwritable`.
    """
    dated = options.mode == "create_dated"
    name = f"{options.name}_{business_date.isoformat()}" if dated else options.name
    path, before = options.path_of(name), 0
    if options.mode == "complete" and path.exists():
        stored = _stored(options)
        before = _rows(path)
        replace_parquet(_completed(stored, inbound, options), path)
    elif options.mode in ("replace", "complete"):
        replace_parquet(inbound, path)
    else:
        _create(inbound, path, name)
    rows = _rows(path)
    return pl.DataFrame({"audience": [name], "rows": [rows], "added": [rows - before]})


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _create(inbound: pl.LazyFrame, path: Path, name: str) -> None:
    try:
        create_parquet(inbound, path)
    except FileExistsError:
        raise AudienceTaken(name=name, folder=path.parent) from None


def _stored(options: SaveAudienceOptions) -> pl.LazyFrame:
    path = options.path_of(options.name)
    try:
        stored = pl.scan_parquet(path)
        stored.collect_schema()
    except (PolarsError, OSError) as error:
        raise SourceUnreadable(
            what="audience", path=path, reason=first_line(error), cure="Save it with the mode replace."
        ) from None
    return stored


def _completed(stored: pl.LazyFrame, inbound: pl.LazyFrame, options: SaveAudienceOptions) -> pl.LazyFrame:
    require_columns(inbound, [options.key], activity="Save audience", where="the inbound transition")
    require_columns(stored, [options.key], activity="Save audience", where=f"'{options.name}'")
    kinds = inbound.collect_schema()
    for column, kind in stored.collect_schema().items():
        if kinds.get(column, kind) != kind:
            types = f"{kind} in '{options.name}', {kinds[column]} in the inbound transition"
            raise ColumnTypesDiffer(activity="Save audience", column=column, types=types)
    new = inbound.join(stored.select(options.key), on=options.key, how="anti", maintain_order="left")
    key = pl.col(options.key)
    return pl.concat([stored, new.filter(key.is_null() | key.is_first_distinct())], how="diagonal")


@table_activity("Save audience", task_run_name="Save audience {options.name}", gives=SavedAudience)
def save_audience(inbound: pl.LazyFrame, options: SaveAudienceOptions, business_date: date) -> Lazily:
    """Store a population under a name.

    In: any table; the business date, which `create_dated` puts into the name. Out: `standard`, the population as it
    came, and `audience` (audience, rows, added). Completing an audience twice adds each member once.
    Errors: `AudienceTaken`, `ColumnsMissing`, `ColumnTypesDiffer`, `SourceUnreadable`, `StoreUnwritable`.
    Source: Adobe Campaign Standard, Save audience activity.

    Example:
        ```python
        saved = save_audience(audience, SaveAudienceOptions(name="VIP", mode="replace"), today)
        ```
    """
    return {"standard": inbound, "audience": save(inbound, options, business_date).lazy()}
