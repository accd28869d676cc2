"""The reference page of conditions, made from the rules; `make reference` writes it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from tasks.tables.conditions.bounds import DEEPEST, INSTEAD, LONGEST_TEXT, MOST_WORDS, SPELLINGS
from tasks.tables.conditions.casts import CASTS
from tasks.tables.conditions.conditions import expression
from tasks.tables.conditions.functions import AGGREGATES, FUNCTIONS
from tasks.tables.conditions.kinds import kind_of
from tasks.tables.conditions.operators import LONGEST_PATTERN, OPERATORS
from tasks.tables.conditions.tree import Kind, Rule

PAGE = Path(__file__).with_name("README.md")

INTRODUCTION = """\
Filters, segments and fields are a subset of SQL with PostgreSQL's meaning, from every source. This page is made
from the rules (`make reference`); a test compares it, and asks PostgreSQL for the examples.

A text is read once, checked against the source's columns and types, and run in polars. A part that a database
means the same by is also run there (the columns PostgreSQL and SQLite; "partly" depends on the types). Anything
else is refused with its line and column."""
MEETING = """\
A written text becomes a date or moment where it is compared with one. Numbers meet in the wider of their types."""

COLUMN_TYPES: tuple[pl.DataType, ...] = (
    pl.Boolean(),
    pl.Int64(),
    pl.Float64(),
    pl.Decimal(38, 2),
    pl.String(),
    pl.Date(),
    pl.Datetime("us"),
    pl.Datetime("us", "UTC"),
    pl.Time(),
    pl.List(pl.String()),
)
LITERALS: Mapping[Kind, str] = {
    Kind.BOOLEAN: "TRUE, FALSE",
    Kind.INTEGER: "18",
    Kind.NUMERIC: "2.50",
    Kind.DOUBLE: "CAST(18 AS DOUBLE PRECISION)",
    Kind.TEXT: "'Köln'",
    Kind.DATE: "DATE '2026-11-25'",
    Kind.MOMENT: "TIMESTAMP '2026-11-25 07:30:00'",
    Kind.INSTANT: "TIMESTAMPTZ '2026-11-25 07:30:00+01:00'",
    Kind.INTERVAL: "INTERVAL '1 year 2 months 3 days'",
}
EXAMPLES = (
    "NULL AND FALSE",
    "NULL OR TRUE",
    "NOT CAST(NULL AS BOOLEAN)",
    "CAST(NULL AS BOOLEAN) IS NOT TRUE",
    "1 IN (1, NULL)",
    "2 NOT IN (1, NULL)",
    "NULL IS NOT DISTINCT FROM NULL",
    "'' IS NULL",
    "'a' || NULL",
    "CONCAT('a', NULL, 'b')",
    "COALESCE(NULL, '-')",
    "NULLIF('', '') IS NULL",
    "5 / 2",
    "-5 / 2",
    "-7 % 2",
    "ROUND(2.5)",
    "ROUND(-2.5)",
    "ROUND(2.345, 2)",
    "ROUND(CAST(2.5 AS DOUBLE PRECISION))",
    "CAST(2.5 AS BIGINT)",
    "CAST(CAST(2.5 AS DOUBLE PRECISION) AS BIGINT)",
    "'Köln' LIKE 'k%'",
    "'Köln' ILIKE 'K_LN'",
    "'10%' LIKE '10!%' ESCAPE '!'",
    "LENGTH('👍é')",
    "TRIM('  a ')",
    "TRIM(BOTH 'x' FROM 'xxaxx')",
    "SUBSTRING('abcdef' FROM 2 FOR 3)",
    "LEFT('abc', -1)",
    "3 BETWEEN 1 AND 5",
    "GREATEST(1, NULL, 3)",
    "CASE WHEN NULL THEN 1 ELSE 2 END",
    "DATE '2026-11-25' - DATE '2008-11-25'",
    "DATE '2026-11-25' + 30",
    "DATE '2024-02-29' + INTERVAL '1 year'",
    "DATE '2026-01-31' + INTERVAL '1 month'",
    "DATE '2026-03-31' - INTERVAL '1 month'",
    "EXTRACT(DOW FROM DATE '2026-11-25')",
    "EXTRACT(ISODOW FROM DATE '2026-11-29')",
    "EXTRACT(WEEK FROM DATE '2027-01-01')",
    "TIMESTAMPTZ '2026-10-25 00:30:00+00' AT TIME ZONE 'Europe/Berlin'",
    "TIMESTAMPTZ '2026-10-25 01:30:00+00' AT TIME ZONE 'Europe/Berlin'",
    "DATE '2026-11-25' < TIMESTAMP '2026-11-25 00:00:01'",
)
"""Expressions of which the page has the values. A test asks PostgreSQL, which must say the same."""
DIFFERENCES = (
    ('Texts are compared by their code points, as by `COLLATE "C"`, whatever the database\'s collation.', None),
    ("LOWER, UPPER and ILIKE are Unicode's, whatever the database's locale.", None),
    ("UPPER writes ß as two letters.", "UPPER('straße')"),
    ("A division by zero is NULL, and does not end the query.", "1 / 0"),
    ("An integer beyond 64 bits is NULL, and does not end the query.", "9223372036854775807 + 1"),
    ("A double that has no end is NULL.", "CAST(1 AS DOUBLE PRECISION) / 0"),
    ("NaN in a column is NULL. PostgreSQL has it as the largest number.", None),
    ("AVG gives a double; FIRST and LAST are added.", None),
    ("There is no current date: the run's own business date is written into the text.", None),
    ("A date or moment is compared with a moment that has a zone only AT TIME ZONE.", None),
)
"""Where the meaning is not PostgreSQL's, some with an expression whose value is shown."""


def page() -> str:
    """The page, as Markdown."""
    also = ", ".join(f"{other} for {name}" for other, name in SPELLINGS.items() if other != name)
    return "\n".join(
        [
            "# Conditions and expressions",
            "",
            INTRODUCTION,
            "",
            "## Types",
            "",
            *table(("type", "columns here", "written as"), _types()),
            "",
            MEETING,
            "",
            "## Operators",
            "",
            *table(HEADER, map(_rule, OPERATORS.values())),
            "",
            "## Functions",
            "",
            *table(HEADER, map(_rule, FUNCTIONS.values())),
            "",
            f"Also written: {also}.",
            "",
            "## Aggregates",
            "",
            "Only where a value over many linked rows is asked for.",
            "",
            *table(("", "meaning"), ((code(rule.usage), escaped(rule.meaning)) for rule in AGGREGATES.values())),
            "",
            "## CAST",
            "",
            "A text is made another type by the source (its `types`), not by a condition.",
            "",
            *table(
                ("to", "from"),
                (
                    (kind.value, ", ".join(sorted(other.value for other in others)))
                    for kind, others in CASTS.items()
                ),
            ),
            "",
            "## Examples",
            "",
            "The same in PostgreSQL.",
            "",
            *table(("expression", "value"), ((code(text), code(value_of(text))) for text in EXAMPLES)),
            "",
            "## Differences from PostgreSQL",
            "",
            *(
                f"- {said}" + (f" `{text}` is `{value_of(text)}` here." if text else "")
                for said, text in DIFFERENCES
            ),
            "",
            "## What is written in another way",
            "",
            *table(("instead of", "write"), ((code(name), escaped(said)) for name, said in INSTEAD.items())),
            "",
            "Queries, window functions, regular expressions and BETWEEN SYMMETRIC are refused.",
            "",
            "## Limits",
            "",
            f"{LONGEST_TEXT:,} characters, {MOST_WORDS:,} words and signs, {DEEPEST} parentheses in one another,"
            f" {LONGEST_PATTERN} characters of a pattern.",
            "",
        ]
    )


HEADER = ("", "meaning", "PostgreSQL", "SQLite")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table of Markdown."""
    head = list(header)
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *(list(row) for row in rows))]


def code(text: str) -> str:
    """A text as code in a table of Markdown."""
    return f"`{escaped(text)}`" if text else ""


def escaped(text: str) -> str:
    """A text in a cell of a table of Markdown."""
    return text.replace("|", "\\|")


def value_of(text: str) -> str:
    """The value of an expression without columns."""
    expr = expression(text, pl.Schema(), activity="The reference", where="no table")
    value = pl.DataFrame({"row": [0]}).select(expr.alias("value")).item()
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
    return str(value)


def _types() -> Iterable[tuple[str, str, str]]:
    columns: dict[Kind, list[str]] = {}
    for column in COLUMN_TYPES:
        columns.setdefault(kind_of(column), []).append(code(str(column)))
    for kind in (*columns, Kind.INTERVAL):
        yield kind.value, ", ".join(columns.get(kind, [])), code(LITERALS.get(kind) or "")


def _rule(rule: Rule) -> tuple[str, str, str, str]:
    runs = [
        "" if sql is None else "yes" if isinstance(sql, str) else "partly" for sql in (rule.postgresql, rule.sqlite)
    ]
    return code(rule.usage), escaped(rule.meaning), runs[0], runs[1]
