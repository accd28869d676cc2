"""How long an answer may be used again, by the header that a partner sends."""

from datetime import UTC, datetime

import httpx
import pytest

from tasks.http.freshness import Freshness, freshness_of, freshness_of_all, revalidated

NOW = datetime(2026, 11, 24, 7, 30, tzinfo=UTC)
DATE = ("Date", "Tue, 24 Nov 2026 07:30:00 GMT")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([("Cache-Control", "public")], None),
        ([("Cache-Control", "max-age=60")], 60),
        ([("Cache-Control", 'Private , Max-Age="60"')], 60),
        ([("Cache-Control", "public"), ("Cache-Control", "max-age=60")], 60),
        ([("Cache-Control", 'ext="max-age=9", max-age=60')], 60),
        ([("Cache-Control", "max-age=60, s-maxage=5")], 60),  # the latter is for shared caches
        ([("Cache-Control", "max-age=60"), ("Expires", "Tue, 24 Nov 2026 09:30:00 GMT")], 60),
        ([("Cache-Control", "max-age=60, max-age=10")], 10),
        ([("Cache-Control", "max-age=soon")], 0),
        ([("Cache-Control", "max-age=-1")], 0),
        ([("Cache-Control", "max-age=60"), ("Age", "20")], 38),  # and 2 seconds under way
        ([("Cache-Control", "max-age=60"), ("Age", "90")], 0),
        ([("Cache-Control", "max-age=60"), ("Age", "soon")], 58),
        ([("Cache-Control", "max-age=60"), ("Date", "Tue, 24 Nov 2026 07:29:50 GMT")], 50),
        ([("Cache-Control", "no-cache, max-age=60")], 0),
        ([("Cache-Control", 'no-cache="Set-Cookie", max-age=60')], 0),
        ([DATE, ("Expires", "Tue, 24 Nov 2026 07:31:00 GMT")], 60),
        ([("Expires", "Tue, 24 Nov 2026 07:20:00 GMT")], 0),
        ([("Expires", "0")], 0),
        ([("Cache-Control", "max-age=60"), ("Vary", "*")], 0),
        ([("Cache-Control", "max-age=60"), ("Vary", "Accept, X-Trace")], 0),
        ([("Cache-Control", "max-age=60"), ("Vary", "Accept-Encoding")], 60),
    ],
)
def test_seconds_for_which_an_answer_is_fresh(headers: list[tuple[str, str]], seconds: float | None) -> None:
    took = 2.0 if any(name == "Age" for name, _ in headers) else 0.0
    assert freshness_of(httpx.Headers(headers), NOW, took, frozenset({"x-trace"})).seconds == seconds


def test_what_is_kept_and_what_must_be_asked_for_again() -> None:
    said = httpx.Headers({"Cache-Control": "no-store, must-revalidate", "ETag": 'W/"1"'})
    freshness = freshness_of(said, NOW)
    assert (freshness.is_kept, freshness.must_revalidate) == (False, True)
    assert freshness.conditions == {"If-None-Match": 'W/"1"'}
    assert Freshness(etag='"\u00e9"').conditions == {}


def test_pages_are_fresh_together_and_a_304_keeps_the_validators() -> None:
    pages = [Freshness(seconds=60, etag='"1"'), Freshness(seconds=None), Freshness(seconds=5, must_revalidate=True)]
    assert freshness_of_all(pages) == Freshness(seconds=5, must_revalidate=True)
    assert freshness_of_all([]) == Freshness()
    assert revalidated(pages[0], Freshness(seconds=9)) == Freshness(seconds=9, etag='"1"')
