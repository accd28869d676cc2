"""The reference pages say what the code does: they are made from it, and PostgreSQL is asked for the examples."""

from types import ModuleType

import polars as pl
import pytest
import sqlalchemy as sa

from tasks.sources import reference as values
from tasks.tables.conditions import reference as conditions
from tasks.tables.conditions.reading import Reading
from tasks.tables.conditions.tree import Kind
from tests.postgresql import SERVER, engine_of


@pytest.mark.parametrize("reference", [values, conditions])
def test_the_page_is_the_one_that_the_code_makes(reference: ModuleType) -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run `make reference`"


NEIGHBOURS = (
    "'a%c' LIKE 'a\\%c'",
    "'a\\c' LIKE 'a\\\\c'",
    "'a_c' LIKE 'a!_c' ESCAPE '!'",
    "'abc' LIKE 'a%' ESCAPE ''",
    "'a\nb' LIKE 'a_b'",
    "'' LIKE '%'",
    "'' LIKE ''",
    "NULL BETWEEN 1 AND 2",
    "5 BETWEEN NULL AND 2",
    "3 NOT BETWEEN 5 AND NULL",
    "CASE 1 WHEN NULL THEN 'a' ELSE 'b' END",
    "CASE WHEN FALSE THEN 1 END",
    "COALESCE(NULL, NULL)",
    "NULLIF(1, 1.0)",
    "1 IS DISTINCT FROM NULL",
    "1 = 1.0",
    "NULL IN (1, 2)",
    "1 IN (NULL)",
    "SUBSTRING('abc' FROM 0 FOR 2)",
    "SUBSTRING('abc' FROM -1)",
    "SUBSTRING('abc', 2, 0)",
    "SUBSTRING('👍é' FROM 2)",
    "EXTRACT(YEAR FROM DATE '0001-01-01')",
    "EXTRACT(QUARTER FROM DATE '2026-12-31')",
    "EXTRACT(ISOYEAR FROM DATE '2027-01-01')",
    "DATE '2026-03-31' + INTERVAL '1 month'",
    "DATE '2026-03-31' + INTERVAL '1 month 1 day'",
    "DATE '2026-03-31' + INTERVAL '-1 month'",
    "DATE '2024-02-29' - INTERVAL '1 year'",
    "DATE '2026-01-31' + INTERVAL '1 month' + INTERVAL '1 month'",
    "DATE '2026-11-25' - 30",
    "DATE '2026-11-25' + INTERVAL '36 hours'",
    "INTERVAL '1 day' + DATE '2026-11-25'",
    "TIMESTAMP '2026-11-25 12:00' - INTERVAL '90 minutes'",
    "INTERVAL '1' DAY + DATE '2026-11-25'",
    "-5 % 3",
    "5 % -3",
    "-7 / 2",
    "7 / -2",
    "2 * 1.50",
    "1.50 + 1",
    "2.5 - 3",
    "-2.5",
    "ABS(-2.50)",
    "FLOOR(-2.5)",
    "CEIL(-2.5)",
    "ROUND(2.675, 2)",
    "ROUND(-0.5)",
    "ROUND(0.5)",
    "CAST(TRUE AS INTEGER)",
    "CAST(TRUE AS TEXT)",
    "CAST(DATE '2026-01-01' AS TEXT)",
    "CAST(-2.5 AS BIGINT)",
    "CAST(CAST(-0.5 AS DOUBLE PRECISION) AS BIGINT)",
    "TRIM(LEADING '0' FROM '007')",
    "BTRIM('xyaxy', 'xy')",
    "LTRIM('aab', 'a')",
    "LENGTH('')",
    "CHAR_LENGTH('👨\u200d👩\u200d👧')",
    "'' = NULL",
    "'a' = 'a '",
    "'ä' = 'ä'",
    "TIMESTAMPTZ '2026-03-29 01:00:00+00' AT TIME ZONE 'Europe/Berlin' > DATE '2026-03-29'",
    "TIMESTAMPTZ '2026-03-29 00:59:59+00' AT TIME ZONE 'Europe/Berlin'",
    "TIMESTAMPTZ '2026-10-25 02:00:00+02' = TIMESTAMPTZ '2026-10-25 01:00:00+01'",
    "TIMESTAMPTZ '2026-10-25 00:00:00Z' + INTERVAL '2 hours'",
    "DATE '2026-11-25' = TIMESTAMP '2026-11-25 00:00:00'",
    "DATE '2026-11-25' IN ('2026-11-25')",
    "LEFT('abc', 5)",
    "LEFT('abc', 0)",
    "RIGHT('abc', -1)",
    "CONCAT(NULL, NULL)",
    "'a' || 'b' || 'c'",
    "GREATEST(NULL, NULL)",
    "LEAST(DATE '2026-01-01', NULL)",
    "MOD(-7, 3)",
    "STARTS_WITH('abc', '')",
    "NOT NULL",
    "NULL = NULL",
    "TRUE AND NULL IS NULL",
    "TRUE OR FALSE AND FALSE",
    "NOT TRUE = FALSE",
    "2 + 3 * 4 % 5",
    "1 <> 2 AND NOT 3 > 4",
    "1 ISNULL",
    "1 IS NOT NULL",
    "0.1 + 0.2 = 0.3",
)


@pytest.mark.parametrize("kind", conditions.LITERALS)
def test_a_literal_of_the_page_is_of_its_type(kind: Kind) -> None:
    for text in conditions.LITERALS[kind].split(", "):
        assert Reading(text, pl.Schema()).tree().kind is kind


@pytest.mark.parametrize("text", [*conditions.EXAMPLES, *NEIGHBOURS])
def test_an_example_of_the_page_is_the_same_in_postgresql(text: str) -> None:
    query = sa.text(f"SELECT {text.replace(':', chr(92) + ':')}")
    try:
        with engine_of(f"{SERVER}/postgres").connect() as connection:
            value = connection.execute(query).scalar_one()
    except sa.exc.OperationalError:
        pytest.skip("there is no PostgreSQL server")
    said = (
        {None: "NULL", True: "TRUE", False: "FALSE"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )
    assert conditions.value_of(text) == said
