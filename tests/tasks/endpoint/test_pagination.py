from typing import Any

import httpx
import jmespath
import pytest

from tasks.endpoint.pagination import Cursor, LinkHeader, Offset, Page, PageNumber, Step
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
        (LinkHeader(), page(1, link='<http://partner.example/>; rel="next"'), "another host"),
        (LinkHeader(), page(1, link=f'<{URL}>; rel="next"'), "the same again"),
        (Cursor(path="next"), page(1, {"next": "a"}), "the same again"),
        (Cursor(path="next"), page(1, {"next": {"a": 1}}), "neither a text nor a whole number"),
        (Cursor(path="next"), page(1, {"next": True}), "neither a text nor a whole number"),
        (Offset(total="total"), page(1, {"total": "7"}), "no whole number at 'total'"),
        (PageNumber(total_pages="pages"), page(1, {}), "no whole number at 'pages'"),
    ],
)
def test_pages_that_lead_astray_are_refused(
    pagination: PageNumber | Offset | Cursor | LinkHeader, came: Page, says: str
) -> None:
    with pytest.raises(ResponseShapeInvalid, match=says):
        pagination.following(Step(parameters={"cursor": "a"}), came)
