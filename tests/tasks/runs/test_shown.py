"""What is shown of a delivery are messages that were delivered: none that was refused, or could not be made."""

from dataclasses import dataclass

import polars as pl

from tasks.runs.audience import FIRST_MESSAGES, LOOKED_AT, first_delivered
from tasks.tables.transitions import Transitions

ROWS = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3"],
        "email": ["a@x.example", None, "c@x.example"],
        **{part: ["x", "y", "z"] for part in ("subject", "html", "text")},
    }
)


@dataclass(frozen=True)
class Told(Transitions):
    standard: pl.DataFrame
    complement: pl.DataFrame


def test_refused_messages_are_not_shown_as_delivered() -> None:
    told = Told(ROWS.select("profile_id").head(1), ROWS.select("profile_id").tail(1))
    assert first_delivered(ROWS, told)["profile_id"].to_list() == ["1", "3"]
    nobody = ROWS.select("profile_id").clear()
    assert first_delivered(ROWS, Told(nobody, nobody)).is_empty()


def test_delivered_messages_are_shown_though_many_before_them_were_refused() -> None:
    rows = pl.select(profile_id=pl.int_range(LOOKED_AT + 100).cast(pl.String()), email=pl.lit("a@x.example"))
    rows = rows.with_columns(pl.lit("x").alias(part) for part in ("subject", "html", "text"))
    delivered = rows.select("profile_id")[LOOKED_AT - 5 :]
    shown = first_delivered(rows, Told(delivered, delivered.clear()))
    assert shown["profile_id"].to_list() == delivered["profile_id"].head(FIRST_MESSAGES).to_list()


def test_of_a_sink_that_gave_nothing_nothing_is_shown_and_of_one_that_keeps_rows_the_first() -> None:
    assert first_delivered(ROWS, None).is_empty()
    assert first_delivered(ROWS, ROWS).height == 3
