"""Whether a partner says that an answer is all there is, or that there is more: marks in its header and body.

Partners mark it by many names. A mark is looked for in the objects around the rows, never in a row: a next address
or cursor, a flag such as `has_more`, a total above the rows that came. What is found never invents a request for
another page; it says whether an end that pagination (or its absence) came to is one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tasks.http.links import links_in

NEXT = frozenset(
    {
        "next",
        "nextpage",
        "nexturl",
        "nexturi",
        "nexthref",
        "nextlink",
        "nextpageurl",
        "nextpagelink",
        "nextpagetoken",
        "nexttoken",
        "nextcursor",
        "nextoffset",
        "nextrecordsurl",
        "nextpageid",
        "nextstart",
        "nextstartindex",
        "nextid",
        "nextmaxid",
        "nextkey",
        "nextmarker",
        "resumptiontoken",
        "odatanextlink",
        "continuation",
        "continuationtoken",
    }
)
MORE = frozenset(
    {"hasmore", "hasnext", "hasnextpage", "hasmorepages", "hasmoreresults", "more", "moreresults", "moreavailable"}
    | {"truncated", "istruncated"}
)
CUT = frozenset({"incompleteresults", "exceededtransferlimit"})
"""True: rows were left out. False says nothing of further pages."""
LAST = frozenset({"last", "islast", "lastpage", "islastpage", "done", "complete", "iscomplete"})
TOTAL = frozenset(
    {
        "total",
        "totalcount",
        "totalresults",
        "totalelements",
        "totalitems",
        "totalrecords",
        "totalrows",
        "totalsize",
        "totalhits",
        "recordstotal",
        "numfound",
        "nbhits",
        "odatacount",
    }
)
COUNT = frozenset({"count", "resultcount"})
"""Totals with some partners (Django), the rows of the page with others: they tell of more, never of all."""
TOTAL_PAGES = frozenset({"totalpages", "nbpages", "pagecount", "pagestotal", "numpages", "lastpage", "pages"})

DEEPEST = 3
RANGE = re.compile(r"(?:[a-z]+[ =])?[0-9]+-([0-9]+)/([0-9]+)", re.IGNORECASE)
OWN_FIELD = re.compile(r"^x-(?:wp-|pagination-|paging-)?")
TOTAL_FIELDS = frozenset(
    {"x-total-count", "x-total", "total-count", "x-wp-total", "x-pagination-total-count", "x-pagination-total"}
    | {"x-total-results", "x-total-records", "x-total-items"}
)
LINKS = frozenset({"link", "links", "_links"})
TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class Marks:
    """What an answer says about its end: why there is more (part of a sentence), or that this is all."""

    more: str = ""
    all: bool = False

    @property
    def sentence(self) -> str:
        """What the partner said, as a finding tells it."""
        if self.more:
            return f"the partner says that there is more ({self.more})"
        return "the partner said that this was all" if self.all else "the partner did not say whether this was all"


def marks_of(document: Any, headers: httpx.Headers, rows: int, pages: int, *, whole: bool) -> Marks:  # noqa: ANN401
    """The marks of the newest page; `rows` and `pages` are those that came in all, this page's included.

    `whole`: the whole answer is one row, so that only its header can tell of more.
    """
    relations = {relation for link in links_in(headers.get_list("Link")) for relation in link.relations}
    if "next" in relations:
        return Marks(more="its Link header names a next page")
    says_all = bool(relations & {"prev", "previous", "first", "last"})
    if whole:
        return Marks(all=says_all)
    for mark in _of_header(headers, rows, pages):
        if mark.more:
            return mark
        says_all = says_all or mark.all
    for shown, name, value in _around(document, (), 0):
        mark = _mark(shown, name, value, rows, pages)
        if mark.more:
            return mark
        says_all = says_all or mark.all
    return Marks(all=says_all)


def _of_header(headers: httpx.Headers, rows: int, pages: int) -> Iterator[Marks]:
    """Marks of header fields: a range of all rows (`0-24/3573`), `X-Total-Count`, `X-Next-Page` and their like."""
    found = RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is not None:
        shown = f"its Content-Range is {found[0]}"
        yield Marks(more=shown) if int(found[1]) + 1 < int(found[2]) else Marks(all=True)
    for field, text in headers.items():
        name = re.sub(r"[^a-z]", "", OWN_FIELD.sub("", field.lower()))
        value = _meant(text)
        if field.lower() in TOTAL_FIELDS or (OWN_FIELD.match(field.lower()) and name in NEXT | MORE | TOTAL_PAGES):
            yield _mark(field, name, value, rows, pages)


def _meant(value: Any) -> Any:  # noqa: ANN401
    """A number or truth that is written as a text."""
    if not isinstance(value, str):
        return value
    return int(value) if value.isascii() and value.isdecimal() else TRUTHS.get(value.lower(), value)


def _around(value: Any, way: tuple[str, ...], depth: int) -> Iterator[tuple[str, str, Any]]:  # noqa: ANN401
    """Properties of the objects around the rows: how one is shown, its bare name, its value."""
    if type(value) is not dict or depth > DEEPEST:
        return
    for name, inner in value.items():
        if name.lower() in LINKS and type(inner) is list:
            yield from _links(".".join((*way, name)), inner)
        yield ".".join((*way, name)), re.sub(r"[^a-z]", "", name.lower()), inner
        yield from _around(inner, (*way, name), depth + 1)


def _links(shown: str, links: list[Any]) -> Iterator[tuple[str, str, Any]]:
    """The next address in a list of links, each with its relation: `{"rel": "next", "href": ...}`."""
    for link in links:
        if type(link) is dict and "next" in (link.get("rel"), link.get("relation")):
            yield shown, "next", link


def _mark(shown: str, name: str, value: Any, rows: int, pages: int) -> Marks:  # noqa: ANN401
    mark = Marks()
    if name in NEXT:
        return _of_next(shown, value)
    value = _meant(value)
    number = value if type(value) is int else None
    if name in MORE and type(value) is bool:
        mark = Marks(more=f"'{shown}' is true") if value else Marks(all=True)
    elif name in CUT and value is True:
        mark = Marks(more=f"'{shown}' is true")
    elif name in LAST and type(value) is bool:
        mark = Marks(all=True) if value else Marks(more=f"'{shown}' is false")
    elif name in TOTAL | COUNT and number is not None:
        if number > rows:
            mark = Marks(more=f"'{shown}' is {number}, and {rows} rows came")
        elif name in TOTAL and number == rows:
            mark = Marks(all=True)
    elif name in TOTAL_PAGES and number is not None:
        mark = Marks(more=f"'{shown}' is {number}") if number > pages else Marks(all=True)
    return mark


def _of_next(shown: str, value: Any) -> Marks:  # noqa: ANN401
    if isinstance(value, Mapping):
        value = value.get("href") or value.get("url")
        if not isinstance(value, str):
            return Marks()  # the next match, say
    if value is None or value is False or value == "":
        return Marks(all=True)
    return Marks(more=f"'{shown}' names what comes next") if isinstance(value, str | int) else Marks()
