"""The body of one page of an answer, parsed when it is first looked at, and once."""

from functools import cached_property
from typing import Any

from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.answer.shape import expression, key_steps, searched, values_at


class Body:
    """A page's bytes, read as the mapping's format. Errors of what it gives: those of `Format.document`."""

    def __init__(self, content: bytes, mapping: OutboundMapping, url: str) -> None:
        self.content = content
        self.mapping = mapping
        self.url = url

    @cached_property
    def quick(self) -> Any:  # noqa: ANN401
        """The document, its numbers as 64-bit ones."""
        return self._document(exact=False)

    @cached_property
    def exact(self) -> Any:  # noqa: ANN401
        """The document, every number with all its digits."""
        return self.quick if self.mapping.format.is_text else self._document(exact=True)

    def _document(self, *, exact: bool) -> Any:  # noqa: ANN401
        mapping = self.mapping
        arrays = mapping.places_of_arrays
        return mapping.format.document(self.content, mapping.limits, arrays, url=self.url, exact=exact)

    def value_at(self, path: str) -> Any:  # noqa: ANN401
        """What is at a JMESPath, or at the property of that name where it is none: a cursor, say."""
        steps = key_steps(path)
        if steps is None:
            return searched(expression(path), self.exact, path)
        return values_at([self.exact], [path])[path][0]
