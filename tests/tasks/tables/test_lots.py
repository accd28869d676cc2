import polars as pl
import pytest

from tasks.tables.lots import lot

KEYS = pl.DataFrame({"key": [f"p{number}" for number in range(20_000)]})


def drawn(purpose: str = "sample", *salt: object) -> pl.Series:
    return KEYS.select(lot(pl.col("key"), purpose, *salt)).to_series()


def test_lots_are_even_and_below_one() -> None:
    lots = drawn()
    assert lots.is_between(0, 1, closed="left").all()
    assert [round(lots.quantile(q), 1) for q in (0.1, 0.5, 0.9)] == [0.1, 0.5, 0.9]


@pytest.mark.parametrize(("one", "other"), [(("a",), ("b",)), (("a", 1), ("a", 2)), (("a", 1, 23), ("a", 12, 3))])
def test_lots_of_another_purpose_or_seed_are_independent(one: tuple[str], other: tuple[str]) -> None:
    both = (drawn(*one) < 0.5) & (drawn(*other) < 0.5)
    assert both.mean() == pytest.approx(0.25, abs=0.02)


def test_a_lot_is_the_same_for_ever() -> None:
    keys = pl.DataFrame({"key": ["1", None]})
    assert keys.select(lot(pl.col("key"), "sample", 7)).to_series().to_list() == [FIRST, None]
    assert pl.DataFrame({"key": [1]}).select(lot(pl.col("key"), "sample", 7)).item() == FIRST


FIRST = 0.664062033053739
