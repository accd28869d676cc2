"""Delimited text that people may open in a spreadsheet: the one writer of CSV."""

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import polars as pl

from tasks.errors import ExpressionInvalid
from tasks.tables.transitions import quoted

FORMULA_STARTS = r"^[\s\p{C}]*[=+\-@＝＋－＠]|^[\t\r\n]"
"""How a text begins that a spreadsheet would run as a formula, in any width that it takes."""
TEXTS = (pl.String, pl.Categorical, pl.Enum)


def delimited(table: pl.DataFrame, *, activity: str, **form: Any) -> bytes:  # noqa: ANN401
    """The bytes of `write_delimited`."""
    content = BytesIO()
    write_delimited(table, content, activity=activity, **form)
    return content.getvalue()


def write_delimited(
    table: pl.DataFrame | pl.LazyFrame,
    target: Path | BytesIO,
    *,
    activity: str,
    formulas: Literal["harmless", "as_is"] = "harmless",
    **form: Any,  # noqa: ANN401
) -> None:
    """Write a table as delimited text, in the form that polars' `sink_csv` is told.

    In: columns of any flat type. A text or label that a spreadsheet would run as a formula gets an apostrophe in
    front, unless formulas are left as they are. Errors: `ExpressionInvalid` for a column of nested values or bytes,
    which delimited text cannot hold; `OSError`.
    """
    schema = table.collect_schema()
    for name, kind in schema.items():
        if kind.is_nested() or kind in (pl.Binary, pl.Object):
            raise ExpressionInvalid(
                activity=activity,
                expression=name,
                reason="its values are nested, or bytes, which a delimited file cannot hold; choose one field",
                present=quoted(schema),
            )
    harmless = table.lazy() if formulas == "as_is" else _harmless(table.lazy(), schema)
    harmless.sink_csv(target, **form)


def _harmless(table: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    texts = table.with_columns(
        _harmless_text(pl.col(name).cast(pl.String())).alias(name) for name, kind in schema.items() if kind in TEXTS
    )
    labels: list[str] = []
    for label in pl.DataFrame({"label": schema.names()}).select(_harmless_text(pl.col("label"))).to_series():
        labels.append(label if label not in labels else f"'{label}")
    return texts.rename(dict(zip(schema.names(), labels, strict=True)))


def _harmless_text(text: pl.Expr) -> pl.Expr:
    return pl.when(text.str.contains(FORMULA_STARTS)).then(pl.lit("'") + text).otherwise(text)
