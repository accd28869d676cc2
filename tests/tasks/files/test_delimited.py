"""What a spreadsheet would run is harmless in every file that one may open."""

from datetime import date

import polars as pl
import pytest

from tasks.errors import ExpressionInvalid
from tasks.files.delimited import delimited

FORMULAS = [
    "=1+1",
    "+43 1 234",
    "-2+3",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\nx",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    " =1+1",
    "\u00a0=1",
    "\u200b=1",
    "\ufeff=1",
    "\x00=1",
]
KINDS = {"text": pl.String(), "categories": pl.Categorical(), "enum": pl.Enum(FORMULAS)}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_formula_gets_an_apostrophe_whatever_its_columns_type(kind: pl.DataType) -> None:
    content = delimited(pl.DataFrame({"x": pl.Series(FORMULAS, dtype=kind)}), activity="Test", quote_style="always")
    assert pl.read_csv(content, infer_schema=False)["x"].to_list() == [f"'{formula}" for formula in FORMULAS]


def test_labels_are_harmless_too_and_stay_different() -> None:
    assert delimited(pl.DataFrame({"=a": [1], "'=a": [2]}), activity="Test") == b"'=a,''=a\n1,2\n"


def test_what_is_no_formula_is_written_as_it_is() -> None:
    table = pl.DataFrame({"n": [-5], "t": ["a=b"], "d": [date(2026, 1, 1)], "b": [True], "empty": [None]})
    assert delimited(table, activity="Test") == b"n,t,d,b,empty\n-5,a=b,2026-01-01,true,\n"


@pytest.mark.parametrize("values", [[["=1"]], [{"a": "=1"}], [b"=1"]], ids=["list", "struct", "bytes"])
def test_nested_values_and_bytes_are_refused_by_name(values: list[object]) -> None:
    with pytest.raises(ExpressionInvalid, match=r"Test cannot use the expression 'x'.*nested, or bytes"):
        delimited(pl.DataFrame({"x": values}), activity="Test")
