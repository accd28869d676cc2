"""Content tables: rows that are the same for all profiles with the same key, kept apart from the audience.

What a template makes of such rows alone is rendered once for each key, and joined to the messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from tasks.errors import ColumnTaken, KeyTypesDiffer
from tasks.tables.transitions import require_columns


@dataclass(frozen=True)
class Content:
    """The rows of a content table, grouped by the columns that link it to the profiles."""

    name: str
    relation: Mapping[str, str]
    """Column of the profiles to column of the content."""
    groups: pl.DataFrame
    """The linking columns, `number` (which group it is) and `rows` (the list of its rows)."""

    @property
    def number(self) -> str:
        """Column of a slice that says which group a profile has."""
        return f"\x01{self.name}"

    @property
    def rows(self) -> str:
        """Column that holds the list of rows; it has the name of the field."""
        return f"content.{self.name}"

    def numbered(self, profiles: pl.DataFrame) -> pl.DataFrame:
        """The profiles with the number of their group, null where the content has no row for them."""
        there = list(self.relation.values())
        side = self.groups.select(*(pl.col(column).alias(f"\x01{column}") for column in there), self.number)
        keys = [f"\x01{column}" for column in there]
        return profiles.join(side, left_on=list(self.relation), right_on=keys, how="left", maintain_order="left")

    def fetched(self, profiles: pl.DataFrame) -> pl.DataFrame:
        """Numbered profiles with the list of their rows, an empty one where there is none."""
        lists = self.groups.select(self.number, self.rows)
        joined = profiles.join(lists, on=self.number, how="left", maintain_order="left")
        return joined.with_columns(pl.col(self.rows).fill_null(pl.lit([], dtype=lists.schema[self.rows])))


def content_of(name: str, table: pl.DataFrame, relation: Mapping[str, str], profiles: pl.Schema) -> Content:
    """A content table as templates use it. Errors: `ColumnsMissing`, `ColumnTaken`, `KeyTypesDiffer`."""
    require_columns(profiles.to_frame(), relation, activity="Personalization", where="the inbound transition")
    require_columns(table, relation.values(), activity="Personalization", where=f"'{name}'")
    if name in profiles:
        raise ColumnTaken(activity="Personalization", name=name)
    for here, there in relation.items():
        if profiles[here] != table.schema[there]:
            raise KeyTypesDiffer(
                name=name, here=here, here_type=profiles[here], there=there, there_type=table.schema[there]
            )
    content = Content(name, relation, pl.DataFrame())
    keys = list(relation.values())
    groups = (
        table.drop_nulls(keys)
        .select(*keys, pl.struct(pl.all()).alias(content.rows))
        .group_by(keys, maintain_order=True)
        .agg(content.rows)
        .with_row_index(content.number)
    )
    return Content(name, relation, groups)
