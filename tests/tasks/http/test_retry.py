from datetime import UTC, datetime

import anyio
import pytest

from tasks.errors import PartnerUnreachable, StatusRefused
from tasks.http.exchange import Connection
from tasks.http.retry import backoff_delay, backoff_delays, retry_after_seconds, retrying

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AT_ONCE = Connection(backoff_seconds=0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("86400", 100.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("Wed, 25 Nov 2026 12:00:00 GMT", 100.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_capped(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOON, limit=100.0) == seconds


def test_backoff_doubles_up_to_its_limit_with_full_jitter() -> None:
    connection = Connection(backoff_seconds=2, backoff_limit_seconds=10)
    draws = [backoff_delays(6, connection) for _ in range(2000)]
    for place, bound in enumerate([2, 4, 8, 10, 10, 10]):
        delays = [draw[place] for draw in draws]
        assert 0 <= min(delays) < 0.1 * bound
        assert 0.9 * bound < max(delays) <= bound


def test_a_delay_is_never_shorter_than_what_was_asked_for() -> None:
    assert backoff_delay(1, AT_ONCE, at_least=7) == 7
    assert backoff_delay(1, AT_ONCE) == 0


def refused(status: int) -> StatusRefused:
    return StatusRefused(url="https://p.example/", status=status, cure="")


@pytest.mark.parametrize(
    ("failures", "attempts", "raised"),
    [
        ([], 1, None),
        ([refused(503), PartnerUnreachable(url="", reason="", retryable=True)], 3, None),
        ([refused(503)] * 9, 3, StatusRefused),
        ([refused(404)], 1, StatusRefused),
        ([KeyError("a bug")], 1, KeyError),
    ],
)
def test_one_request_is_made_again_after_what_may_pass(
    failures: list[Exception], attempts: int, raised: type[Exception] | None
) -> None:
    left, told, made = list(failures), [], []

    async def request() -> None:
        async for attempt in retrying(2, AT_ONCE, lambda error, seconds, number: told.append(number)):
            with attempt:
                made.append(1)
                if left:
                    raise left.pop(0)

    if raised is None:
        anyio.run(request)
    else:
        with pytest.raises(raised):
            anyio.run(request)
    assert len(made) == attempts
    assert told == list(range(2, attempts + 1))
