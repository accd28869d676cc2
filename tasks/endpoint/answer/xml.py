"""XML as objects, arrays and texts, read without anything that a document could make a parser do.

An element is the property of its parent by its name as it is written, prefix included (`media:title`); elements of
one name are an array. An element without elements in it is its text, without the white space around it, or null;
its attributes stand beside it, `link@href`. An element with elements in it is an object: its attributes are `@id`,
text between them `#text`. So is an element that is a row, whatever is in it. Comments, processing instructions and
declarations of namespaces are passed over. Of repeated elements the attributes are those that are there.

Entities, whose texts can grow without end or come from elsewhere, are refused, as defusedxml does; a DOCTYPE
without them is passed over.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from xml.parsers import expat  # what is dangerous in it is refused below

from tasks.endpoint.answer.guards import ReaderLimits, too_deep
from tasks.endpoint.answer.shape import Each, Property, Steps, steps_of
from tasks.errors import ResponseMalformed, ResponseShapeInvalid
from tasks.http.partner_words import words_of
from tasks.tables.transitions import quoted

TEXT = "#text"


Arrays = Mapping[Steps, bool]
"""Places of an answer that hold an array, however many elements there are; and whether those are rows."""


def arrays_on(path: str, *, end: bool) -> Iterator[Steps]:
    """Places of arrays on the way of a path, without `[]`: where it goes through one, and its end if that is."""
    steps, names = steps_of(path) or (), names_of(path)
    before = 0
    for step in steps:
        before += isinstance(step, Property)
        if isinstance(step, Each):
            yield names[:before]
    if names and end:
        yield names


def names_of(path: str) -> Steps:
    """The properties on the way of a path, without its arrays."""
    return tuple(step for step in steps_of(path) or () if isinstance(step, Property))


class _Element:
    __slots__ = ("attributes", "children", "is_row", "name", "texts", "way")

    def __init__(self, name: str, attributes: dict[str, str], way: Steps, *, is_row: bool) -> None:
        self.name = name
        self.attributes = attributes
        self.way = way
        self.is_row = is_row
        self.texts: list[str] = []
        self.children: dict[str, Any] = {}

    @property
    def text(self) -> str | None:
        return "".join(self.texts).strip() or None


def xml_document(
    body: bytes, encoding: str | None, limits: ReaderLimits, arrays: Arrays | None, *, url: str
) -> dict[str, Any]:
    """The document of a body. Without `arrays`, which are to be found then, what has attributes is an object.

    Errors: `ResponseMalformed` (no XML, entities), `ResponseShapeInvalid` (nesting over the limit).
    """
    builder = _Builder(limits, arrays, url)
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.EntityDeclHandler = builder.entity
    parser.ExternalEntityRefHandler = builder.entity
    parser.SkippedEntityHandler = builder.entity
    try:
        parser.Parse(body, True)  # expat takes it by position alone
    except expat.ExpatError as error:
        builder.refuse(f"sent no XML ({error})")
    except (LookupError, ValueError) as error:
        builder.refuse(f"sent XML in an encoding that cannot be read ({error})")
    document = builder.top.children
    wanted = {way[0].name for way in arrays or () if isinstance(way[0], Property)}
    for root in document:
        if wanted and root not in wanted:
            # Not a spelling of nothing: another kind of document, often an error's.
            said = words_of(document[root])
            raise ResponseShapeInvalid(reason=f"the root element is '{root}', not {quoted(sorted(wanted))}: {said}")
    return document


class _Builder:
    def __init__(self, limits: ReaderLimits, arrays: Arrays | None, url: str) -> None:
        self._limits = limits
        self._arrays = arrays
        self._url = url
        self.top = _Element("", {}, (), is_row=False)
        self._open = [self.top]

    def refuse(self, reason: str) -> NoReturn:
        cure = "Check the endpoint's format, or ask the partner for XML without entities of its own."
        raise ResponseMalformed(url=self._url, reason=reason, cure=cure) from None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > self._limits.max_depth:
            raise too_deep(self._limits)
        way = (*self._open[-1].way, Property(name))
        own = {key: value for key, value in attributes.items() if key != "xmlns" and not key.startswith("xmlns:")}
        is_row = bool(own) if self._arrays is None else self._arrays.get(way, False)
        self._open.append(_Element(name, own, way, is_row=is_row))

    def end(self, name: str) -> None:  # noqa: ARG002  # expat has checked that it is the open one
        element = self._open.pop()
        above = self._open[-1]
        is_array = self._arrays is not None and element.way in self._arrays
        if element.children or element.is_row:
            value: Any = {f"@{key}": text for key, text in element.attributes.items()}
            value.update(element.children)
            if element.text is not None:
                value[TEXT] = element.text
        else:
            value = element.text
            for key, text in element.attributes.items():
                _put(above, f"{element.name}@{key}", text, is_array=False)
        _put(above, element.name, value, is_array=is_array)

    def text(self, text: str) -> None:
        self._open[-1].texts.append(text)

    def entity(self, *declared: object) -> NoReturn:
        self.refuse(f"sent XML with the entity '{str(declared[0])[:40]}', which is not read")


def _put(above: _Element, name: str, value: Any, *, is_array: bool) -> None:  # noqa: ANN401
    there = above.children.get(name)
    if type(there) is list:
        there.append(value)
    elif name in above.children:
        above.children[name] = [there, value]
    else:
        above.children[name] = [value] if is_array else value
