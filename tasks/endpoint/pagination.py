"""How the pages of an answer follow each other: from what a page was to what the next asks for. No I/O.

README.md lists the kinds of dlt, Airbyte and Singer with ours beside each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from tasks.endpoint.completeness import Marks
from tasks.errors import PagesInvalid
from tasks.http.links import links_in
from tasks.http.network import public_url

PROBE_ENDS = frozenset({400, 404, 416})
"""Statuses that end an answer whose last page was asked for only to be sure."""


@dataclass(frozen=True)
class Step:
    """What a page asks for: parameters to send, or an address to use instead of the endpoint's."""

    number: int = 1
    rows_before: int = 0
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    url: str | None = None
    had_full_page: bool = False
    """Whether a page before it had as many rows as were asked for."""
    is_probe: bool = False
    """The page before was shorter than asked for, and nothing said that it was the last."""


@dataclass(frozen=True)
class Page:
    """What came back: how many rows it has, the address it came from, its headers, and a look into its body."""

    rows: int
    url: str
    headers: httpx.Headers
    value_at: Callable[[str], Any]
    marks: Marks = field(default_factory=Marks)

    def whole_number_at(self, path: str) -> int:
        """The whole number at a path. Errors: `PagesInvalid`."""
        found = self.value_at(path)
        if isinstance(found, int) and not isinstance(found, bool):
            return found
        raise PagesInvalid(reason=f"there is no whole number at '{path}', where the total should be")

    def is_short(self, asked: int | None) -> bool:
        """Whether it has fewer rows than were asked for, and is the last unless the answer says otherwise."""
        return asked is not None and self.rows < asked and not self.marks.more


class _Pagination(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pages: int = Field(
        default=100, ge=1, title="Page limit", description="An answer of more pages than this is refused."
    )
    more: str = Field(
        default="",
        title="More",
        description=(
            "JMESPath of a value that says whether there are more pages (has_more): absent, null, false, 0 or empty"
            " ends the answer. May be empty."
        ),
    )
    past_end_statuses: frozenset[int] = Field(
        default=frozenset(),
        title="Statuses past the end",
        description="HTTP statuses of a later page, such as 404, that say that the page before was the last.",
    )

    @property
    def page_rows(self) -> int | None:
        """How many rows a page is asked to have, if it is asked."""
        return None

    def first(self) -> Step:
        """What the first page asks for."""
        return Step()

    def following(self, step: Step, page: Page) -> Step | None:
        """What the page after `page`, which `step` asked for, asks for; None where it was the last.

        Errors: `PagesInvalid`: a cursor or a total of the wrong type, or a next page that lies elsewhere.
        """
        if self.more and not page.value_at(self.more):
            return None
        return self._next(step, page)

    def _next(self, step: Step, page: Page) -> Step | None:
        raise NotImplementedError

    def _is_last(self, step: Step, page: Page) -> bool:
        """Whether a page is the last by its rows alone: an empty one, or one that is shorter than those before.

        The first page is shorter than asked for with partners that cap what can be asked for, too.
        """
        sure = step.had_full_page or page.marks.all or bool(self.more)
        return page.rows == 0 or (page.is_short(self.page_rows) and sure)

    def _step(self, step: Step, page: Page, parameters: Mapping[str, JsonValue]) -> Step:
        return Step(
            number=step.number + 1,
            rows_before=step.rows_before + page.rows,
            parameters=parameters,
            had_full_page=step.had_full_page or (self.page_rows is not None and page.rows >= self.page_rows),
            is_probe=page.is_short(self.page_rows),
        )


class PageNumber(_Pagination):
    """Pages by number: `?page=1`, `?page=2`, ... until one is empty, or shorter than the size."""

    model_config = ConfigDict(title="By page number")

    kind: Literal["page"] = Field(default="page", title="Kind", description="How the next page is asked for.")
    parameter: str = Field(default="page", title="Parameter", description="Name of the page number.")
    start: int = Field(default=1, title="First page", description="Number of the first page.")
    size_parameter: str = Field(
        default="", title="Size parameter", description="Name of the page size; may be empty."
    )
    size: int | None = Field(
        default=None,
        ge=1,
        title="Size",
        description="Rows of a page. A shorter page is the last, unless the answer says that there is more.",
    )
    total_pages: str = Field(
        default="", title="Total pages", description="JMESPath of the number of pages in the answer; may be empty."
    )

    @property
    def page_rows(self) -> int | None:
        """The size."""
        return self.size

    def first(self) -> Step:
        """The first page."""
        return Step(parameters=self._parameters(self.start))

    def _next(self, step: Step, page: Page) -> Step | None:
        if self.total_pages:
            if step.number >= page.whole_number_at(self.total_pages):
                return None
            return self._after(step, page)
        return None if self._is_last(step, page) else self._after(step, page)

    def _after(self, step: Step, page: Page) -> Step:
        return self._step(step, page, self._parameters(self.start + step.number))

    def _parameters(self, number: int) -> dict[str, JsonValue]:
        size = {self.size_parameter: self.size} if self.size_parameter and self.size is not None else {}
        return {self.parameter: number, **size}


class Offset(_Pagination):
    """Pages by offset and limit: `?skip=0&limit=30`, `?skip=30&limit=30`, ... until the total, or an empty page."""

    model_config = ConfigDict(title="By offset")

    kind: Literal["offset"] = Field(default="offset", title="Kind", description="How the next page is asked for.")
    parameter: str = Field(default="offset", title="Offset parameter", description="Name of the offset.")
    start: int = Field(default=0, ge=0, title="First offset", description="Offset of the first row: 0, or 1.")
    limit_parameter: str = Field(default="limit", title="Limit parameter", description="Name of the limit.")
    limit: int = Field(default=100, ge=1, title="Limit", description="Rows to ask for at a time.")
    total: str = Field(
        default="", title="Total", description="JMESPath of the number of rows in the answer; may be empty."
    )

    @property
    def page_rows(self) -> int | None:
        """The limit."""
        return self.limit

    def first(self) -> Step:
        """The first rows."""
        return Step(parameters=self._parameters(0))

    def _next(self, step: Step, page: Page) -> Step | None:
        rows = step.rows_before + page.rows
        last = rows >= page.whole_number_at(self.total) if self.total else self._is_last(step, page)
        if page.rows == 0 or last:
            return None
        return self._step(step, page, self._parameters(rows))

    def _parameters(self, rows: int) -> dict[str, JsonValue]:
        return {self.parameter: self.start + rows, self.limit_parameter: self.limit}


class Cursor(_Pagination):
    """Pages by a cursor that each answer gives, until one gives none (absent, null, false or empty)."""

    model_config = ConfigDict(title="By cursor")

    kind: Literal["cursor"] = Field(default="cursor", title="Kind", description="How the next page is asked for.")
    path: str = Field(
        default="",
        title="Path",
        description=(
            "JMESPath of the next cursor in the answer: a text or a number. `data[-1].id` is the last row's, with"
            " `more` to say where the end is."
        ),
    )
    header: str = Field(
        default="",
        title="Header",
        description="Name of the answer's header that has the cursor, instead of a path.",
    )
    parameter: str = Field(default="cursor", title="Parameter", description="Name under which it is sent.")

    @model_validator(mode="after")
    def _is_in_one_place(self) -> "Cursor":
        if bool(self.path) == bool(self.header):
            raise ValueError("a cursor is found at a path of the answer or in a header: give one of them")
        return self

    def _next(self, step: Step, page: Page) -> Step | None:
        cursor = page.headers.get(self.header) if self.header else page.value_at(self.path)
        place = f"in the header '{self.header}'" if self.header else f"at '{self.path}'"
        if cursor is None or cursor is False or cursor == "":
            return None
        if isinstance(cursor, bool) or not isinstance(cursor, str | int):
            raise PagesInvalid(reason=f"the cursor {place} is neither a text nor a whole number")
        if step.parameters.get(self.parameter) == cursor:
            raise PagesInvalid(reason=f"the cursor {place} is the same again: no end would come")
        return Step(step.number + 1, step.rows_before + page.rows, {self.parameter: cursor})


class _NextAddress(_Pagination):
    http_as_https: bool = Field(
        default=False,
        title="http as https",
        description="Follow a next address that begins with http:// on the same host with https://.",
    )

    def _at(self, address: str, step: Step, page: Page, where: str) -> Step:
        """The page at an address that an answer names: relative or absolute, of the same scheme, host and port."""
        here = httpx.URL(page.url)
        try:
            there = here.join(address)
        except (httpx.InvalidURL, ValueError):
            raise PagesInvalid(reason=f"{where} is no address") from None
        same_host = there.host == here.host
        if same_host and there.scheme == "http" and here.scheme == "https":
            if not self.http_as_https:
                raise PagesInvalid(
                    reason=f"{where} begins with http:// on the same host, and credentials are never sent over it;"
                    " pagination.http_as_https follows it with https://"
                )
            there = there.copy_with(scheme="https", port=here.port)
        if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
            # The credentials are for this host alone.
            raise PagesInvalid(reason=f"{where} lies on another host: {public_url(str(there))}")
        if there == here:
            raise PagesInvalid(reason=f"{where} is the same again: no end would come")
        return Step(step.number + 1, step.rows_before + page.rows, url=str(there))


class LinkHeader(_NextAddress):
    """Pages by the `Link: <...>; rel="next"` header (RFC 8288), followed on the same host only."""

    model_config = ConfigDict(title="By the Link header")

    kind: Literal["link"] = Field(default="link", title="Kind", description="How the next page is asked for.")

    def _next(self, step: Step, page: Page) -> Step | None:
        links = links_in(page.headers.get_list("Link"))
        target = next((link.target for link in links if "next" in link.relations), None)
        return None if target is None else self._at(target, step, page, "the Link header's next page")


class NextAddress(_NextAddress):
    """Pages by the next page's address in the body, relative or absolute, followed on the same host only."""

    model_config = ConfigDict(title="By the next address")

    kind: Literal["next"] = Field(default="next", title="Kind", description="How the next page is asked for.")
    path: str = Field(
        title="Path", description="JMESPath of the address, for example paging.next, or @odata.nextLink as it is."
    )

    def _next(self, step: Step, page: Page) -> Step | None:
        address = page.value_at(self.path)
        if address is None or address is False or address == "":
            return None
        if not isinstance(address, str):
            raise PagesInvalid(reason=f"there is no address at '{self.path}'")
        return self._at(address, step, page, f"the next page at '{self.path}'")


Pagination = Annotated[PageNumber | Offset | Cursor | LinkHeader | NextAddress, Field(discriminator="kind")]
