"""Python searches for unreachable objects less often during a send, and as before after the last of them."""

import gc
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tasks.delivery.garbage import NEW_OBJECTS, rarer_searches


@pytest.fixture(autouse=True)
def _threshold() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_until_the_last_send_ends_it_searches_less_often() -> None:
    gc.set_threshold(700, 11, 12)
    first, second = ExitStack(), ExitStack()
    first.enter_context(rarer_searches())
    second.enter_context(rarer_searches())
    assert gc.get_threshold() == (NEW_OBJECTS, 11, 12)
    first.close()
    assert gc.get_threshold() == (NEW_OBJECTS, 11, 12)
    second.close()
    assert gc.get_threshold() == (700, 11, 12)


def test_it_ends_with_an_error_too() -> None:
    gc.set_threshold(700, 11, 12)
    with pytest.raises(ZeroDivisionError), rarer_searches():
        raise ZeroDivisionError
    assert gc.get_threshold() == (700, 11, 12)


@pytest.mark.parametrize("own", [0, 3 * NEW_OBJECTS])
def test_what_searches_more_rarely_still_stays_so(own: int) -> None:
    gc.set_threshold(own, 11, 12)
    with rarer_searches():
        assert gc.get_threshold() == (own, 11, 12)
    assert gc.get_threshold() == (own, 11, 12)
