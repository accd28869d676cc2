"""The reference pages say what the code does: they are made from it, and PostgreSQL is asked for the examples."""

from types import ModuleType

import pytest
import sqlalchemy as sa

from tasks.sources import reference as values
from tasks.tables.conditions import reference as conditions
from tests.postgresql import SERVER, engine_of


@pytest.mark.parametrize("reference", [values, conditions])
def test_the_page_is_the_one_that_the_code_makes(reference: ModuleType) -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run `make reference`"


@pytest.mark.parametrize("text", conditions.EXAMPLES)
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
