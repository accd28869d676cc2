import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tasks.sources import distinct
from tasks.sources.distinct import distinct_batches
from tasks.sources.source import first_of_keys


@pytest.fixture(autouse=True, scope="module")
def small_files() -> None:
    distinct.ROWS_OF_FILE = 7


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.none() | st.integers(0, 12), max_size=60),
    st.sampled_from([pl.Int64(), pl.String()]),
    st.integers(1, 9),
    st.sampled_from([0, 200, 100_000]),
    st.sampled_from([40, 100_000]),
)
def test_the_first_row_of_each_key_is_kept_in_its_place_on_disk_as_in_memory(
    keys: list[int | None], kind: pl.DataType, size: int, rows: int, shared: int
) -> None:
    table = pl.DataFrame({"key": pl.Series(keys, dtype=pl.Int64()).cast(kind)}).with_row_index("n")
    batches = list(table.iter_slices(5)) or [table]
    found = list(distinct_batches(batches, "key", size, rows_in_memory=rows, keys_in_memory=shared))
    assert_frame_equal(pl.concat([table.clear(), *found]), first_of_keys("key")(table.lazy()).collect())
    assert all(0 < batch.height <= size for batch in found) or table.is_empty()
