"""Pushdown: the parts of a condition that a database runs, because it means the same by them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tasks.tables.conditions.conditions import Condition
from tasks.tables.conditions.tree import Kind, Node

Dialect = Literal["postgresql", "sqlite"]

POSTGRESQL_COLUMNS: Mapping[Kind, str] = {
    # One order of texts, whatever the database's collation, and also of what it compares in another way (citext).
    Kind.TEXT: '(CAST({0} AS TEXT) COLLATE "C")',
    Kind.DOUBLE: "NULLIF(CAST({0} AS DOUBLE PRECISION), 'NaN')",
    Kind.NUMERIC: "NULLIF({0}, 'NaN')",
    Kind.INTEGER: "{0}",
    Kind.BOOLEAN: "{0}",
    Kind.DATE: "{0}",
    Kind.MOMENT: "{0}",
    Kind.INSTANT: "{0}",
}
SQLITE_COLUMNS: Mapping[Kind, str] = {Kind.TEXT: "({0} COLLATE BINARY)", Kind.INTEGER: "{0}"}
"""SQLite has no booleans and dates: what stands for them is found out by reading it."""
COLUMNS: Mapping[str, Mapping[Kind, str]] = {"postgresql": POSTGRESQL_COLUMNS, "sqlite": SQLITE_COLUMNS}
SQLITE_VALUES: Mapping[Kind, str] = {Kind.TEXT: "text", Kind.INTEGER: "integer"}
"""A column of SQLite holds values of any type: rows with others are not left out by it."""
TYPES: Mapping[Kind, str] = {
    Kind.WHOLE: "NUMERIC",
    Kind.NUMERIC: "NUMERIC",
    Kind.DOUBLE: "DOUBLE PRECISION",
    Kind.TEXT: "TEXT",
    Kind.DATE: "DATE",
    Kind.MOMENT: "TIMESTAMP",
    Kind.INSTANT: "TIMESTAMPTZ",
    Kind.INTEGER: "BIGINT",
    Kind.BOOLEAN: "BOOLEAN",
}
EXACT_CASTS = {
    (Kind.INTEGER, Kind.WHOLE),
    (Kind.INTEGER, Kind.NUMERIC),
    (Kind.INTEGER, Kind.DOUBLE),
    (Kind.WHOLE, Kind.NUMERIC),
    (Kind.DATE, Kind.MOMENT),
    (Kind.MOMENT, Kind.DATE),
}
"""Casts of PostgreSQL that neither fail nor depend on its settings."""


@dataclass(frozen=True)
class Pushdown:
    """What a database runs of a condition (`sql`; without it rows are the same, but more of them are read)."""

    sql: str
    """Conditions in the database's SQL, or nothing when it runs none of it."""
    run: int
    """How many of the condition's parts the database runs."""
    parts: int
    """Of how many, joined by AND."""

    @property
    def shown(self) -> str:
        """One sentence."""
        if not self.sql:
            return "The database runs none of the condition: all rows are read, and it is run on them here."
        return (
            f"The database runs {self.run} of {self.parts} parts of the condition: {self.sql}."
            " The whole condition is run here on the rows that it gives."
        )


def pushed_down(
    condition: Condition, dialect: Dialect, columns: Collection[str], zones: Mapping[str, str] | None = None
) -> Pushdown:
    """What the database runs of the condition.

    In: `columns`, those whose type here is their type in the database; `zones`, those whose moments are UTC here,
    and there of a zone, of whose repeated hour the second is meant (PostgreSQL). The rows that it gives are those
    for which the condition may hold: the whole condition is then run on them here.
    """
    parts = list(_parts(condition.tree))
    sql = [_part(part, dialect, columns, zones or {}) for part in parts]
    run = [text for text in sql if text]
    return Pushdown(sql=" AND ".join(run), run=len(run), parts=len(parts))


def _parts(tree: Node) -> Iterator[Node]:
    if tree.rule.name == "AND":
        for part in tree.args:
            yield from _parts(part)
    else:
        yield tree


def _part(part: Node, dialect: Dialect, columns: Collection[str], zones: Mapping[str, str]) -> str | None:
    if not part.columns <= {*columns, *zones} or (part.is_constant and part.value is True):
        return None
    sql = _sql(part, dialect, zones)
    if sql is None:
        return sql
    # Rows of which the database may mean something else are not left out by it.
    others = (
        [_is_skipped(name, zones[name]) for name in sorted(part.columns & set(zones))]
        if dialect == "postgresql"
        else [
            f"typeof({_quoted(name)}) NOT IN ('{SQLITE_VALUES[kind]}', 'null')"
            for name, kind in sorted(_kinds(part).items())
        ]
    )
    return f"({' OR '.join([*others, sql])})" if others else sql


def _is_skipped(name: str, zone: str) -> str:
    """Whether the zone's clock never shows the moment."""
    return f"({_quoted(name)} AT TIME ZONE {_text(zone)}) AT TIME ZONE {_text(zone)} <> {_quoted(name)}"


def _kinds(node: Node) -> dict[str, Kind]:
    if node.is_column:
        return {node.value[0]: node.kind}
    return {name: kind for argument in node.args for name, kind in _kinds(argument).items()}


def _sql(node: Node, dialect: Dialect, zones: Mapping[str, str]) -> str | None:
    """The node in the database's SQL, or nothing where the database means something else."""
    if node.is_column and node.value[0] in zones:
        return f"(({_quoted(node.value[0])} AT TIME ZONE {_text(zones[node.value[0]])}) AT TIME ZONE 'UTC')"
    if node.is_column:
        template = COLUMNS[dialect].get(node.kind)
        return template.format(_quoted(node.value[0])) if template else None
    if node.is_constant:
        return _constant(node, dialect)
    args = [_sql(argument, dialect, zones) for argument in node.args]
    if any(argument is None for argument in args):
        return None
    texts = [argument for argument in args if argument is not None]
    if node.rule.name == "CAST":
        exact = dialect == "postgresql" and (node.args[0].kind, node.kind) in EXACT_CASTS and not node.value
        return f"CAST({texts[0]} AS {TYPES[node.kind]})" if exact else None
    sql = node.rule.postgresql if dialect == "postgresql" else node.rule.sqlite
    return sql.format(*texts) if isinstance(sql, str) else sql and sql(node, texts)


def _constant(node: Node, dialect: Dialect) -> str | None:
    if node.kind is Kind.INTERVAL:
        months, days, micros = node.value
        return f"INTERVAL '{months} months {days} days {micros} microseconds'" if dialect == "postgresql" else None
    if dialect == "sqlite":
        return _sqlite_constant(node)
    if node.value is None:
        return f"CAST(NULL AS {TYPES[node.kind]})" if node.kind in TYPES else "NULL"
    if node.kind in {Kind.INTEGER, Kind.WHOLE}:
        return _number(node.value)
    if node.kind is Kind.BOOLEAN:
        return str(node.value).upper()
    text = f"CAST({_text(str(node.value))} AS {TYPES[node.kind]})"
    return f'({text} COLLATE "C")' if node.kind is Kind.TEXT else text


def _sqlite_constant(node: Node) -> str | None:
    if node.value is None:
        return "NULL"
    match node.kind:
        case Kind.INTEGER:
            return _number(node.value)
        case Kind.BOOLEAN:
            return "1" if node.value else "0"
        case Kind.TEXT:
            return _text(node.value)
        case _:
            return None


def _number(value: int) -> str:
    return str(value) if value >= 0 else f"({value})"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
