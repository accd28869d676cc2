"""How the pages of an answer follow each other: from what a page was to what the next asks for. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tasks.errors import ResponseShapeInvalid


@dataclass(frozen=True)
class Step:
    """What a page asks for: parameters to send, or an address to use instead of the endpoint's."""

    number: int = 1
    rows_before: int = 0
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    url: str | None = None


@dataclass(frozen=True)
class Page:
    """What came back: how many rows it has, the address it came from, its headers, and a look into its body."""

    rows: int
    url: str
    headers: httpx.Headers
    value_at: Callable[[str], Any]

    def whole_number_at(self, path: str) -> int:
        """The whole number at a JMESPath. Errors: `ResponseShapeInvalid`."""
        found = self.value_at(path)
        if isinstance(found, int) and not isinstance(found, bool):
            return found
        raise ResponseShapeInvalid(reason=f"there is no whole number at '{path}', where the total should be")


class _Pagination(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pages: int = Field(
        default=100, ge=1, title="Page limit", description="An answer of more pages than this is refused."
    )

    def first(self) -> Step:
        """What the first page asks for."""
        return Step()

    def following(self, step: Step, page: Page) -> Step | None:
        """What the page after `page`, which `step` asked for, asks for; None where it was the last.

        Errors: `ResponseShapeInvalid`: a cursor or a total of the wrong type, or a next page that is the same
        again or lies on another host.
        """
        raise NotImplementedError


class PageNumber(_Pagination):
    """Pages by number: `?page=1`, `?page=2`, ... until one is empty, or shorter than the size."""

    kind: Literal["page"] = "page"
    parameter: str = Field(default="page", title="Parameter", description="Name of the page number.")
    start: int = Field(default=1, title="First page", description="Number of the first page.")
    size_parameter: str = Field(
        default="", title="Size parameter", description="Name of the page size; may be empty."
    )
    size: int | None = Field(
        default=None, ge=1, title="Size", description="Rows of a page. If it is known, a shorter page is the last."
    )
    total_pages: str = Field(
        default="", title="Total pages", description="JMESPath of the number of pages in the answer; may be empty."
    )

    def first(self) -> Step:
        """The first page."""
        return Step(parameters=self._parameters(self.start))

    def following(self, step: Step, page: Page) -> Step | None:
        """The next number."""
        short = self.size is not None and page.rows < self.size
        last = bool(self.total_pages) and step.number >= page.whole_number_at(self.total_pages)
        if page.rows == 0 or short or last:
            return None
        return Step(step.number + 1, step.rows_before + page.rows, self._parameters(self.start + step.number))

    def _parameters(self, number: int) -> dict[str, JsonValue]:
        size = {self.size_parameter: self.size} if self.size_parameter and self.size is not None else {}
        return {self.parameter: number, **size}


class Offset(_Pagination):
    """Pages by offset and limit: `?skip=0&limit=30`, `?skip=30&limit=30`, ... until the total, or an empty page."""

    kind: Literal["offset"] = "offset"
    parameter: str = Field(default="offset", title="Offset parameter", description="Name of the offset.")
    limit_parameter: str = Field(default="limit", title="Limit parameter", description="Name of the limit.")
    limit: int = Field(default=100, ge=1, title="Limit", description="Rows to ask for at a time.")
    total: str = Field(
        default="", title="Total", description="JMESPath of the number of rows in the answer; may be empty."
    )

    def first(self) -> Step:
        """The rows from 0."""
        return Step(parameters=self._parameters(0))

    def following(self, step: Step, page: Page) -> Step | None:
        """The rows after those there are. A page may be shorter than the limit while the total is not reached."""
        rows = step.rows_before + page.rows
        last = rows >= page.whole_number_at(self.total) if self.total else page.rows < self.limit
        if page.rows == 0 or last:
            return None
        return Step(step.number + 1, rows, self._parameters(rows))

    def _parameters(self, offset: int) -> dict[str, JsonValue]:
        return {self.parameter: offset, self.limit_parameter: self.limit}


class Cursor(_Pagination):
    """Pages by a cursor that each answer gives, until one gives none (absent, null, false or empty)."""

    kind: Literal["cursor"] = "cursor"
    path: str = Field(title="Path", description="JMESPath of the next cursor in the answer: a text or a number.")
    parameter: str = Field(default="cursor", title="Parameter", description="Name under which it is sent.")

    def following(self, step: Step, page: Page) -> Step | None:
        """The page of the cursor."""
        cursor = page.value_at(self.path)
        if cursor is None or cursor is False or cursor == "":
            return None
        if isinstance(cursor, bool) or not isinstance(cursor, str | int):
            raise ResponseShapeInvalid(reason=f"the cursor at '{self.path}' is neither a text nor a whole number")
        if step.parameters.get(self.parameter) == cursor:
            raise ResponseShapeInvalid(reason=f"the cursor at '{self.path}' is the same again: no end would come")
        return Step(step.number + 1, step.rows_before + page.rows, {self.parameter: cursor})


class LinkHeader(_Pagination):
    """Pages by the `Link: <...>; rel="next"` header (RFC 8288), followed on the same host only."""

    kind: Literal["link"] = "link"

    def following(self, step: Step, page: Page) -> Step | None:
        """The page that the header names."""
        link = httpx.Response(200, headers=page.headers).links.get("next", {}).get("url")
        if not link:
            return None
        here = httpx.URL(page.url)
        there = here.join(link)
        if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
            # The credentials are for this host alone.
            raise ResponseShapeInvalid(reason="the Link header's next page lies on another host")
        if there == here:
            raise ResponseShapeInvalid(reason="the Link header's next page is the same again: no end would come")
        return Step(step.number + 1, step.rows_before + page.rows, url=str(there))


Pagination = Annotated[PageNumber | Offset | Cursor | LinkHeader, Field(discriminator="kind")]
