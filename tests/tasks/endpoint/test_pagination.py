from dataclasses import replace
from typing import Any

import httpx
import jmespath
import pytest

from tasks.endpoint.completeness import Marks
from tasks.endpoint.pagination import Cursor, LinkHeader, NextAddress, Offset, Page, PageNumber, Step
from tasks.errors import ResponseShapeInvalid

URL = "https://partner.example/rows?x=1"


def page(rows: int, body: object = None, link: str = "") -> Page:
    def value_at(path: str) -> Any:
        return jmespath.search(path, body)

    return Page(rows, URL, httpx.Headers({"Link": link} if link else {}), value_at)


STEPS = [
    (PageNumber(), [page(9), page(1), page(0)], [{"page": 1}, {"page": 2}, {"page": 3}]),
    (
        PageNumber(parameter="p", start=0, size_parameter="size", size=5),
        [page(5), page(4)],
        [{"p": 0, "size": 5}, {"p": 1, "size": 5}],
    ),
    (PageNumber(total_pages="meta.pages"), [page(3, {"meta": {"pages": 1}})], [{"page": 1}]),
    (
        Offset(parameter="skip", limit=5),
        [page(5), page(4)],
        [{"skip": 0, "limit": 5}, {"skip": 5, "limit": 5}],
    ),
    (
        Offset(limit=5, total="total"),
        [page(3, {"total": 7}), page(4, {"total": 7})],
        [{"offset": 0, "limit": 5}, {"offset": 3, "limit": 5}],
    ),
    (Offset(limit=5), [page(5), page(0)], [{"offset": 0, "limit": 5}, {"offset": 5, "limit": 5}]),
    (
        Cursor(path="next", parameter="after"),
        [page(1, {"next": "b"}), page(0, {"next": 7}), page(1, {"next": ""})],
        [{}, {"after": "b"}, {"after": 7}],
    ),
    (Cursor(path="meta.next"), [page(1, {"meta": None})], [{}]),
    (Cursor(path="next"), [page(1, {"next": False})], [{}]),
]


@pytest.mark.parametrize(("pagination", "pages", "asked"), STEPS)
def test_pages_follow_each_other_to_the_last(
    pagination: PageNumber | Offset | Cursor, pages: list[Page], asked: list[dict[str, object]]
) -> None:
    step: Step | None = pagination.first()
    for number, (came, parameters) in enumerate(zip(pages, asked, strict=True), start=1):
        assert step is not None
        assert (step.number, dict(step.parameters)) == (number, parameters)
        step = pagination.following(step, came)
    assert step is None


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ('<https://partner.example/rows?page=2>; rel="next"', "https://partner.example/rows?page=2"),
        ('</rows?page=2>; rel="next", </rows?page=9>; rel="last"', "https://partner.example/rows?page=2"),
        ('<?page=2>; rel="next"', "https://partner.example/rows?page=2"),
        ('</rows>; rel="prev"', None),
        ("", None),
    ],
)
def test_the_link_header_leads_to_the_next_page(link: str, url: str | None) -> None:
    step = LinkHeader().following(Step(), page(1, link=link))
    assert (step and step.url) == url


@pytest.mark.parametrize(
    ("pagination", "came", "says"),
    [
        (LinkHeader(), page(1, link='<https://elsewhere.example/>; rel="next"'), "another host"),
        (LinkHeader(), page(1, link='<http://partner.example/>; rel="next"'), "http:// on the same host"),
        (NextAddress(path="next"), page(1, {"next": "http://partner.example/?p=2"}), "http:// on the same host"),
        (NextAddress(path="next"), page(1, {"next": "//elsewhere.example/?p=2"}), "another host"),
        (NextAddress(path="next"), page(1, {"next": 7}), "no address at 'next'"),
        (LinkHeader(), page(1, link=f'<{URL}>; rel="next"'), "the same again"),
        (Cursor(path="next"), page(1, {"next": "a"}), "the same again"),
        (Cursor(path="next"), page(1, {"next": {"a": 1}}), "neither a text nor a whole number"),
        (Cursor(path="next"), page(1, {"next": True}), "neither a text nor a whole number"),
        (Offset(total="total"), page(1, {"total": "7"}), "no whole number at 'total'"),
        (PageNumber(total_pages="pages"), page(1, {}), "no whole number at 'pages'"),
    ],
)
def test_pages_that_lead_astray_are_refused(
    pagination: PageNumber | Offset | Cursor | LinkHeader | NextAddress, came: Page, says: str
) -> None:
    with pytest.raises(ResponseShapeInvalid, match=says):
        pagination.following(Step(parameters={"cursor": "a"}), came)


CAPPED = Offset(limit=100)


def test_a_first_page_that_is_short_is_the_last_only_if_the_next_is_empty() -> None:
    """Partners cap the limit: 50 rows of 100 that were asked for need not be all."""
    step = CAPPED.following(CAPPED.first(), page(50))
    assert step == Step(2, 50, {"offset": 50, "limit": 100}, is_probe=True)
    assert CAPPED.following(step, page(0)) is None


@pytest.mark.parametrize(
    ("pagination", "marks", "goes_on"),
    [
        (PageNumber(size=10), Marks(more="'has_more' is true"), True),
        (PageNumber(size=10), Marks(all=True), False),
        (Offset(limit=10), Marks(more="'total' is 99"), True),
        (Offset(limit=10), Marks(all=True), False),
        (Offset(limit=10, more="left"), Marks(), False),
    ],
)
def test_a_short_page_is_no_end_while_the_answer_says_otherwise(
    pagination: PageNumber | Offset, marks: Marks, goes_on: bool
) -> None:
    came = replace(page(7, {"left": 0}), marks=marks)
    assert (pagination.following(pagination.first(), came) is not None) is goes_on


@pytest.mark.parametrize(
    ("pagination", "body", "url"),
    [
        (NextAddress(path="paging.next"), {"paging": {"next": "?p=2"}}, "https://partner.example/rows?p=2"),
        (NextAddress(path="next"), {"next": URL.replace("x=1", "x=2")}, "https://partner.example/rows?x=2"),
        (NextAddress(path="next"), {"next": None}, None),
        (NextAddress(path="next"), {}, None),
        (
            NextAddress(path="next", http_as_https=True),
            {"next": "http://partner.example/rows?x=2"},
            "https://partner.example/rows?x=2",
        ),
        (NextAddress(path="next", more="more"), {"next": "?p=2", "more": False}, None),
    ],
)
def test_the_next_address_of_a_body_is_followed_on_the_same_host(
    pagination: NextAddress, body: object, url: str | None
) -> None:
    step = pagination.following(Step(), page(1, body))
    assert (step and step.url) == url


def test_a_cursor_can_be_in_a_header_or_be_the_last_row_s() -> None:
    came = replace(page(1), headers=httpx.Headers({"X-Next": "abc"}))
    assert Cursor(header="x-next", parameter="after").following(Step(), came).parameters == {"after": "abc"}
    stripe = Cursor(path="data[-1].id", parameter="starting_after", more="has_more")
    body = {"data": [{"id": "a"}, {"id": "b"}], "has_more": True}
    assert stripe.following(Step(), page(2, body)).parameters == {"starting_after": "b"}
    assert stripe.following(Step(), page(2, {**body, "has_more": False})) is None
