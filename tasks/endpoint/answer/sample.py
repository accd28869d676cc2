"""The mapping that a pasted sample implies: where the rows are, and the columns with their types."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import polars as pl

from tasks.endpoint.answer.column import OutboundColumn, json_type_of
from tasks.endpoint.answer.formats import FORMAT, CsvFormat, JsonFormat, NdjsonFormat, XmlFormat
from tasks.endpoint.answer.guards import ReaderLimits
from tasks.endpoint.answer.place import RowsAre, placed
from tasks.endpoint.answer.shape import (
    Each,
    Index,
    Level,
    Property,
    Steps,
    hint_of,
    kind_of,
    leaves_of,
    objects_at,
    path_of,
    rows_at,
    side_by_side,
    steps_of,
)
from tasks.endpoint.answer.xml import arrays_on
from tasks.errors import ResponseMalformed, ResponseShapeInvalid, SampleInvalid
from tasks.tables.columns import ISO_DATE, ISO_DATETIME, ISO_TIME, ColumnType, typed_table
from tasks.tables.transitions import quoted

TEXT_TYPES: Mapping[ColumnType, re.Pattern[str]] = {
    "date": re.compile(ISO_DATE),
    "datetime": re.compile(ISO_DATETIME),
    "time": re.compile(ISO_TIME),
}
"""Types that a text may turn out to be, by its ISO 8601 form alone."""
DEFAULT_LENGTH = 255
PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Leaf:
    """A plain value, or a list of them, and what it is in each of the sample's elements that have it."""

    at: str | None
    steps: Steps
    values: list[Any]
    optional: bool = False
    """Whether an element of the sample lacks it, or has null."""

    @property
    def names(self) -> list[str]:
        """Names of the properties that lead to it."""
        return [step.name for step in self.steps if isinstance(step, Property)] or ["value"]

    @property
    def way(self) -> list[str]:
        """Names and positions that lead to it, from the outermost element inwards."""
        steps = (*(steps_of(self.at or "@") or ()), *self.steps)
        return [
            step.name if isinstance(step, Property) else str(step.position)
            for step in steps
            if not isinstance(step, Each)
        ]

    @property
    def distance(self) -> tuple[bool, int]:
        """How far it is from the row: the row's own values first, then those that lie less deep."""
        return (self.at is not None, len(self.steps))


def recorded(sample: Any, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Options of an outbound mapping that the sample implies and `given` does not hold.

    Not flattened: the path is that of the only array of objects that lies in no other one, or, where there is no
    array of objects, of the only object whose arrays lie side by side; the columns are the plain values of its
    elements, nested objects' too, lists of plain values, and the plain values of the elements of outer arrays.
    Flattened: every value of the sample is a column.
    Errors: `ResponseShapeInvalid` (no candidate or several, listed; a limit is exceeded), `ResponseMalformed`.
    """
    try:
        return _recorded(sample, given)
    except ResponseShapeInvalid as error:
        raise SampleInvalid(reason=error.facts["reason"]) from None
    except ResponseMalformed as error:
        cure = "Paste an answer as it came, and name its format."
        raise ResponseMalformed(**{**error.facts, "cure": cure}) from None


def _recorded(sample: Any, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    limits = ReaderLimits.model_validate(given.get("limits") or {})
    form = FORMAT.validate_python(given.get("format") or "json")
    body = _bytes_of(sample, form)
    answer = form.document(body, limits, None, url="the sample", exact=True)
    rows_are: RowsAre = given.get("rows_are") or "array"
    if isinstance(form, XmlFormat) and not given.get("flatten"):
        path = given.get("path") or _only(candidates(answer), "repeated elements")
        given = {**given, "path": path}
        arrays = dict.fromkeys(arrays_on(path, end=not given.get("parallel")), True)
        answer = form.document(body, limits, arrays, url="the sample", exact=True)
    found: dict[str, Any] = {}
    if given.get("flatten"):
        leaves = [Leaf(None, steps, [value]) for steps, value in leaves_of(answer)]
        found["properties"] = tuple(path_of(leaf.steps) for leaf in leaves)
    else:
        if rows_are != "array":
            path = given.get("path") or _only(list(_places(answer, rows_are)), PLACES[rows_are])
            answer, _ = placed(answer, path, rows_are, parallel=False)
            given = {**given, "path": path}
        found = _place_of_rows(answer, given)
        levels = _sample_levels(answer, found["path"], parallel=found["parallel"])
        leaves = [*_leaves(levels[-1], None), *chain.from_iterable(map(_outer_leaves, levels[1:], levels[2:]))]
        elements = [element for element in levels[-1].elements if isinstance(element, dict)]
        found["properties"] = tuple(dict.fromkeys(chain.from_iterable(elements)))
        found["left_out"] = tuple(_left_out(answer, levels, leaves, [*candidates(answer)]))
    if "columns" not in given:
        found["columns"] = _columns(leaves, limits, form, flat=bool(given.get("flatten")))
    return found


AnyFormat = JsonFormat | NdjsonFormat | CsvFormat | XmlFormat


def _bytes_of(sample: Any, form: AnyFormat) -> bytes:  # noqa: ANN401
    text = sample if isinstance(sample, str) else json.dumps(sample, ensure_ascii=False)
    encoding = form.encoding if isinstance(form, CsvFormat | XmlFormat) else None
    if isinstance(form, XmlFormat) and encoding is None:
        # A pasted text is decoded already: what its declaration says is about the bytes that it was.
        text = re.sub(r"^(\ufeff?<\?xml[^>]*?)\s+encoding=(?:'[^']*'|\"[^\"]*\")", r"\1", text)
    try:
        return text.encode(encoding or "utf-8", "surrogatepass" if encoding is None else "strict")
    except UnicodeEncodeError:
        raise SampleInvalid(reason=f"the sample has characters that {encoding} cannot write") from None


def candidates(answer: Any) -> list[str]:  # noqa: ANN401
    """JMESPaths of the arrays of objects that lie in no other array of objects."""
    return [path_of(steps) for steps, value in _outermost(answer, ()) if _is_array_of_objects(value)]


def parallel_candidates(answer: Any) -> list[str]:  # noqa: ANN401
    """JMESPaths of the objects that have two or more arrays of plain values, all of one length."""
    return [path_of(steps) for steps, value in _outermost(answer, ()) if _has_parallel_arrays(value)]


def _outermost(value: Any, steps: Steps) -> Iterator[tuple[Steps, Any]]:  # noqa: ANN401
    """A value and all that lies in it, but nothing of what lies in an array of objects."""
    yield steps, value
    match value:
        case dict():
            for name, inner in value.items():
                yield from _outermost(inner, (*steps, Property(name)))
        case list() if value and all(map(_is_array_of_objects, value)):
            yield (*steps, Each(merged=True)), list(chain.from_iterable(value))
        case list() if not _is_array_of_objects(value):
            for position, inner in enumerate(value):
                yield from _outermost(inner, (*steps, Index(position)))


def _is_array_of_objects(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and bool(value) and all(isinstance(element, dict) for element in value)


def _has_parallel_arrays(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, dict):
        return False
    arrays = [inner for inner in value.values() if isinstance(inner, list)]
    return (
        len(arrays) > 1
        and len(set(map(len, arrays))) == 1
        and all(isinstance(element, PLAIN) for array in arrays for element in array)
    )


def _place_of_rows(answer: Any, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    path = given.get("path")
    parallel = given.get("parallel")
    if path is None and not parallel:
        arrays = candidates(answer)
        if arrays:
            return {"path": _only(arrays, "arrays of objects"), "parallel": False}
    if path is None:
        found = parallel_candidates(answer)
        if not found:
            raise ResponseShapeInvalid(
                reason=f"the sample has no arrays of objects to take rows from: {_shapes_met(answer)}"
            )
        path = _only(
            found, "objects whose arrays lie side by side" if found else "arrays of objects, or side by side,"
        )
        return {"path": path, "parallel": True}
    if parallel is None:
        parallel = _leads_to_parallel_arrays(answer, path)
    return {"path": path, "parallel": parallel}


PLACES: Mapping[str, str] = {
    "map": "objects of objects",
    "table": "arrays of arrays",
    "table_with_names": "arrays of arrays",
    "one_or_many": "objects",
}


def _places(answer: Any, rows_are: RowsAre) -> Iterator[str]:  # noqa: ANN401
    """Paths of the outermost places whose rows could be so."""
    for steps, value in _outermost(answer, ()):
        if not all(isinstance(step, Property) for step in steps):
            continue
        if not steps and isinstance(value, dict) and len(value) < 2:
            continue  # what everything lies in
        match rows_are:
            case "map" if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
                yield path_of(steps)
            case "table" | "table_with_names" if _is_table(value):
                yield path_of(steps)


def _is_table(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and bool(value) and all(isinstance(row, list) for row in value)


def _shapes_met(answer: Any) -> str:  # noqa: ANN401
    """What the sample has instead of an array of objects, and what reads it."""
    maps = list(_places(answer, "map"))
    tables = list(_places(answer, "table"))
    plain = [
        path_of(steps)
        for steps, value in _outermost(answer, ())
        if isinstance(value, list) and value and all(isinstance(each, PLAIN) for each in value)
    ]
    hints = [
        f"the objects in {quoted(maps)} could be rows with rows_are: map" if maps else "",
        f"the arrays in {quoted(tables)} could be rows with rows_are: table or table_with_names" if tables else "",
        f"the values of {quoted(plain)} could be rows with that path and a column with the key @" if plain else "",
        "flatten makes it one row",
    ]
    return f"the sample is {kind_of(answer)}; " + "; ".join(filter(None, hints))


def _left_out(answer: Any, levels: list[Level], leaves: list[Leaf], others: list[str]) -> Iterator[str]:  # noqa: ANN401
    """Paths of the sample that no column reads: other arrays, and values around the rows."""
    path = path_of(levels[-1].path)
    place = steps_of(path) or ()
    yield from (other for other in others if steps_of(other) != place[: len(steps_of(other) or ())])
    if isinstance(answer, dict):
        top = place[0].name if place and isinstance(place[0], Property) else None
        for steps, value in _values_within({n: v for n, v in answer.items() if n != top}, ()):
            if _is_plain(value):
                yield path_of(steps)
    read = {path_of(leaf.steps[:1]) for leaf in leaves if leaf.at is None and leaf.steps}
    names = dict.fromkeys(chain.from_iterable(each for each in levels[-1].elements if isinstance(each, dict)))
    yield from (f"{path}.{name}" for name in names if path_of((Property(name),)) not in read)


def _only(found: list[str], what: str) -> str:
    if not found:
        raise ResponseShapeInvalid(reason=f"the sample has no {what} to take rows from")
    if len(found) > 1:
        raise ResponseShapeInvalid(reason=f"the sample has several {what}: give path as one of {quoted(found)}")
    return found[0]


def _leads_to_parallel_arrays(answer: Any, path: str) -> bool:  # noqa: ANN401
    if steps_of(path) is None:
        return False
    try:
        objects = objects_at([answer], path)[-1].elements
    except ResponseShapeInvalid:
        return False
    return all(map(_has_parallel_arrays, objects))


def _sample_levels(answer: Any, path: str, *, parallel: bool) -> list[Level]:  # noqa: ANN401
    levels = objects_at([answer], path) if parallel else rows_at([answer], path)
    if not levels[-1].elements:
        raise ResponseShapeInvalid(reason=f"there is no array at '{path}' of the sample, or an empty one")
    if levels[-1].elements and all(isinstance(element, PLAIN) for element in levels[-1].elements):
        return levels
    if not all(isinstance(element, dict) for element in levels[-1].elements):
        hint = hint_of(levels[-1].elements)
        raise ResponseShapeInvalid(
            reason=f"the array at '{path}' of the sample holds values that are not objects{hint}"
        )
    if parallel:
        levels.append(side_by_side(levels[-1], set(chain.from_iterable(levels[-1].elements))))
    return levels


def _leaves(level: Level, at: str | None) -> list[Leaf]:
    """The columns that the elements of a level imply."""
    if level.elements and all(isinstance(element, PLAIN) for element in level.elements):
        return [Leaf(at, (), level.elements)]
    found: dict[Steps, list[Any]] = {}
    rows_within: set[Steps] = set()
    for element in level.elements:
        for steps, value in _values_within(element, ()):
            if _is_plain(value):
                found.setdefault(steps, []).append(value)
            else:
                rows_within.add(steps)
    # What is an array of objects, or of arrays, in one element is no column, though it be empty in another.
    found = {steps: values for steps, values in found.items() if steps not in rows_within}
    # A property that is null in one element and an object in another is the object's values.
    inner = {steps[:length] for steps in found for length in range(1, len(steps))}
    return [
        Leaf(at, steps, values, optional=len(values) < len(level.elements) or any(v is None for v in values))
        for steps, values in found.items()
        if not (steps in inner and all(value is None for value in values))
    ]


def _outer_leaves(level: Level, below: Level) -> list[Leaf]:
    """The columns that elements around the rows imply: no lists, and nothing that lies on the way to the rows."""
    if not level.path or not isinstance(level.path[-1], Each):
        return []
    way = tuple(step for step in below.path[len(level.path) :] if not isinstance(step, Each))
    return [
        leaf
        for leaf in _leaves(level, path_of(level.path))
        if not (way and leaf.steps[: len(way)] == way) and not any(isinstance(value, list) for value in leaf.values)
    ]


def _values_within(value: Any, steps: Steps) -> Iterator[tuple[Steps, Any]]:  # noqa: ANN401
    """Values and lists within an element, through objects; an empty object has none."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _values_within(inner, (*steps, Property(name)))
    elif steps:
        yield steps, value


def _is_plain(value: Any) -> bool:  # noqa: ANN401
    """Whether a value, or each of a list, is no container."""
    return all(isinstance(element, PLAIN) for element in (value if isinstance(value, list) else [value]))


def _columns(leaves: list[Leaf], limits: ReaderLimits, form: AnyFormat, *, flat: bool) -> dict[str, dict[str, Any]]:
    names = _property_names(leaves, limits) if flat else _ways(leaves)
    if isinstance(form, XmlFormat):  # link@href is what templates call link_href
        plain: list[str] = []
        for name in names:
            plain.append(_free([re.sub(r"\W+", "_", name).strip("_")], plain))
        names = plain
    return {name: _column(leaf, limits, form) for name, leaf in zip(names, leaves, strict=True)}


def _ways(leaves: list[Leaf]) -> list[str]:
    """Column ids of rows: a row's own property by its name, what lies deeper or around by the whole way to it."""
    named: dict[int, str] = {}
    for position in sorted(range(len(leaves)), key=lambda each: leaves[each].distance):
        named[position] = _free(["_".join(leaves[position].way) or "value"], named.values())
    return [named[position] for position in range(len(leaves))]


def _property_names(leaves: list[Leaf], limits: ReaderLimits) -> list[str]:
    """Column ids of a flattened answer: property names; where one is taken already, the whole way to it."""
    names: list[str] = []
    seen: set[str] = set()
    duplicates = 0
    for leaf in leaves:
        name = leaf.names[-1]
        duplicates += name in seen
        if duplicates > limits.max_duplicate_names:
            raise ResponseShapeInvalid(
                reason=f"more than {limits.max_duplicate_names} columns of the sample have a property name that"
                f" another has, '{name}' for one; trim the sample, or raise the limit max_duplicate_names"
            )
        seen.add(name)
        names.append(_free([name, "_".join(leaf.way)], names))
    return names


def _free(names: list[str], taken: Iterable[str]) -> str:
    taken = set(taken)
    numbered = (f"{names[-1]}_{number}" for number in count(2))
    return next(name for name in chain(names, numbered) if name not in taken)


def _column(leaf: Leaf, limits: ReaderLimits, form: AnyFormat) -> dict[str, Any]:
    key = path_of(leaf.steps)
    if len(key) > limits.max_key_length:
        raise ResponseShapeInvalid(
            reason=f"the column key '{key[:40]}…' has {len(key)} characters, more than {limits.max_key_length}"
        )
    values = [value for value in leaf.values if value is not None]
    lists = [isinstance(value, list) for value in values]
    # In XML an element that is there once is a text, and a list where it is there again.
    many = any(lists) if isinstance(form, XmlFormat) else bool(values) and all(lists)
    if many:
        values = [value if isinstance(value, list) else [value] for value in values]
        values = [element for value in values for element in value if element is not None]
    types = _written_type(values, form.decimal) if isinstance(form, CsvFormat | XmlFormat) else _type_of(values)
    options = {"key": key, "at": leaf.at, "many": many, "optional": leaf.optional, **types}
    return OutboundColumn.model_validate(options).model_dump(exclude_defaults=True)


def _type_of(values: list[Any]) -> dict[str, Any]:
    json_types = {json_type_of(value) for value in values}
    if json_types and json_types <= {"number", "fraction"}:
        return {"type": _number_type(values), "json_type": "number"}
    if json_types == {"boolean"}:
        return {"type": "boolean", "json_type": "boolean"}
    if json_types == {"text"}:
        return {**_text_type(values), "json_type": "text"}
    return {"type": "text"}


def _written_type(values: list[str], decimal: str) -> dict[str, Any]:
    """The type of texts in a format that has nothing else; 01234 is no number, and white space is not looked at."""
    texts = [value.strip() for value in values if value.strip()]
    whole = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
    number = re.compile(rf"-?(?:0|[1-9][0-9]*)(?:{re.escape(decimal)}[0-9]+)?")
    if texts and len(texts) == len(values):
        if all(map(whole.fullmatch, texts)):
            return {"type": "integer"}
        if all(map(number.fullmatch, texts)):
            return {"type": "number", "decimal_separator": decimal}
        if {text.lower() for text in texts} <= {"true", "false"}:
            return {"type": "boolean"}
    return _text_type(values) if values else {"type": "text"}


def _number_type(values: list[Any]) -> ColumnType:
    if any(isinstance(value, float) for value in values):
        return "number"
    return "integer" if all(-(2**63) <= value < 2**63 for value in values) else "text"


def _text_type(values: list[str]) -> dict[str, Any]:
    table = pl.DataFrame({"text": values}, schema={"text": pl.String()})
    for kind, form in TEXT_TYPES.items():
        # The form tells quickly what is none; only the reading knows the calendar.
        if not all(form.match(value.strip()) for value in values):
            continue
        definition = OutboundColumn(key="text", type=kind, on_empty="bad_value")
        if typed_table(table, {"value": definition}, activity="Sample", where="it").rejects.is_empty():
            return {"type": kind}
    longest = max(map(len, values))
    return {"type": "text"} if longest <= DEFAULT_LENGTH else {"type": "text", "max_length": 2 * longest}
