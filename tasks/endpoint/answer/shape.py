"""Where things are in an answer: JMESPath, with the elements on the way to a row kept beside it.

JMESPath has no way back from a row to what it lies in. A path that only goes down (properties, indexes, `[]`,
`[*]`) is therefore walked here, level by level; every array on the way is a level. Any other path is
left to JMESPath, and its rows lie in nothing but the whole answer.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from tasks.errors import ConfigurationError, ResponseShapeInvalid
from tasks.tables.transitions import quoted

BARE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Property:
    """A step to a property of an object."""

    name: str


@dataclass(frozen=True)
class Index:
    """A step to one element of an array."""

    position: int


@dataclass(frozen=True)
class Each:
    """A step to every element of an array; `merged`: elements that are arrays give theirs instead."""

    merged: bool = False


Step = Property | Index | Each
Steps = tuple[Step, ...]

WHOLE_ANSWER = "@"
"""JMESPath of the value itself: as a path the whole answer, as a key the row."""


@dataclass(frozen=True)
class Level:
    """The elements of the arrays at one place of the way, or the answers themselves at its beginning."""

    path: Steps
    elements: list[Any]
    counts: list[int]
    """How many of the elements lie in each element of the level above."""


def expression(path: str) -> ParsedResult:
    """The compiled JMESPath. Errors: `ConfigurationError`."""
    try:
        return jmespath.compile(path)
    except JMESPathError as error:
        reason = f"'{path}' is not a JMESPath ({' '.join(str(error).split())})"
        raise ConfigurationError(setting="outbound path", reason=reason) from None


@lru_cache(maxsize=4096)
def steps_of(path: str) -> Steps | None:
    """The steps of a JMESPath that only goes down; None for any other. Errors: `ConfigurationError`."""
    return _steps(expression(path).parsed)


def _steps(node: Mapping[str, Any]) -> Steps | None:
    # The tree that JMESPath's parser gives; its kinds of nodes are those of the JMESPath specification.
    steps: Steps | None = None
    match node:
        case {"type": "identity" | "current"}:
            steps = ()
        case {"type": "field", "value": name}:
            steps = (Property(name),)
        case {"type": "index", "value": position}:
            steps = (Index(position),)
        case {"type": "subexpression" | "index_expression", "children": parts}:
            steps = _joined(*map(_steps, parts))  # a.b.c is one node of three
        case {"type": "projection", "children": [{"type": "flatten", "children": [left]}, right]}:
            steps = _joined(_steps(left), (Each(merged=True),), _steps(right))
        case {"type": "projection", "children": [left, right]}:
            steps = _joined(_steps(left), (Each(),), _steps(right))
    return steps


def _joined(*parts: Steps | None) -> Steps | None:
    joined: Steps = ()
    for part in parts:
        if part is None:
            return None
        joined += part
    return joined


def path_of(steps: Sequence[Step]) -> str:
    """The JMESPath of some steps; `@` for none."""
    path = ""
    for step in steps:
        match step:
            case Property(name):
                path += f".{name_in_path(name)}" if path else name_in_path(name)
            case Index(position):
                path += f"[{position}]"
            case Each():
                path += "[]"
    return path or WHOLE_ANSWER


def name_in_path(name: str) -> str:
    """A property name as JMESPath writes it: bare, or in quotes where it is no identifier."""
    return name if BARE_NAME.fullmatch(name) else json.dumps(name)


def levels_of(path: str) -> list[str]:
    """JMESPaths of the elements that the rows at `path` lie in, from the whole answer inwards, and of the rows."""
    steps = steps_of(path)
    if steps is None:
        return [WHOLE_ANSWER]
    return [WHOLE_ANSWER] + [path_of(steps[: at + 1]) for at, step in enumerate(steps) if isinstance(step, Each)]


def rows_at(answers: list[Any], path: str) -> list[Level]:
    """The levels from the answers to the rows at `path`; the last level holds the rows.

    Rows are the elements of the arrays that the path ends at, or what it leads to from each element of the last
    array on the way (`edges[].node`). An element on the way whose array is null has no rows. Errors:
    `ConfigurationError` (no JMESPath), `ResponseShapeInvalid` (no array where one should be).
    """
    steps = steps_of(path)
    if steps is None:
        return _rows_found(answers, path)
    levels, values = _walked(answers, steps)
    if steps and isinstance(steps[-1], Each):
        return levels
    if len(levels) > 1 and not any(type(value) is list for value in values):
        _require_way(levels[-1], steps[len(levels[-1].path) :])
        return [*levels, _found(values, steps)]
    return [*levels, _elements(levels[-1], values, (*steps, Each()), answers)]


def objects_at(answers: list[Any], path: str) -> list[Level]:
    """The levels from the answers to the objects that `path` leads to; the last level holds the objects.

    Errors: `ConfigurationError`, `ResponseShapeInvalid` (no array on the way, no object at its end).
    """
    steps = steps_of(path)
    if steps is None:
        reason = f"'{path}' does more than going down, so that arrays side by side cannot be found"
        raise ConfigurationError(setting="outbound path", reason=reason)
    levels, values = _walked(answers, steps)
    found = _found(values, steps)
    for value in found.elements:
        if type(value) is not dict:
            raise ResponseShapeInvalid(reason=f"there is no object at '{path}'; {_met(value, answers)}")
    return [*levels, found]


def _walked(answers: list[Any], steps: Steps) -> tuple[list[Level], list[Any]]:
    levels = [Level((), answers, [len(answers)])]
    values = answers
    for at, step in enumerate(steps):
        if isinstance(step, Each):
            levels.append(_elements(levels[-1], values, steps[: at + 1], answers))
            values = levels[-1].elements
        else:
            values = _all_stepped(values, step)
    return levels, values


def _rows_found(answers: list[Any], path: str) -> list[Level]:
    found = [searched(expression(path), answer, path) for answer in answers]
    return [Level((), answers, [len(answers)]), _elements_of(found, (Each(),), path, answers)]


def searched(path: ParsedResult, value: Any, shown: str) -> Any:  # noqa: ANN401
    """What a JMESPath finds in a value. Errors: `ResponseShapeInvalid` where it does not fit the value."""
    try:
        return path.search(value)
    except (JMESPathError, ArithmeticError, AttributeError, TypeError, ValueError) as error:
        reason = f"'{shown}' does not fit the answer ({' '.join(str(error).split())})"
        raise ResponseShapeInvalid(reason=reason) from None


def _stepped(value: Any, step: Step) -> Any:  # noqa: ANN401
    match step:
        case Property(name):
            return value.get(name) if type(value) is dict else None
        case Index(position) if type(value) is list and -len(value) <= position < len(value):
            return value[position]
        case _:
            return None


def _elements(above: Level, values: list[Any], path: Steps, answers: list[Any]) -> Level:
    shown = path_of(path).removesuffix("[]") or WHOLE_ANSWER
    if len(above.path):
        _require_way(above, path[len(above.path) : -1])
        values = [[] if value is None or value is False or value in ("", {}) else value for value in values]
    return _elements_of(values, path, shown, answers)


def _require_way(level: Level, way: Steps) -> None:
    """Check that any of a level's elements has the property that a way leads to, be it null.

    Elements that have no array at all are those of a quiet day: they have no rows.
    """
    if not way or not level.elements or any(_has(element, way) for element in level.elements):
        return
    inner = (value for element in level.elements if type(element) is dict for value in element.values())
    if any(type(value) is list for value in inner):
        reason = f"no object at '{path_of(level.path)}' has '{path_of(way)}'"
        raise ResponseShapeInvalid(reason=reason)


def _has(value: Any, way: Steps) -> bool:  # noqa: ANN401
    for step in way[:-1]:
        value = _stepped(value, step)
    match way[-1]:
        case Property(name):
            return type(value) is dict and name in value
        case _:
            return type(value) is list


def _elements_of(arrays: list[Any], path: Steps, shown: str, answers: list[Any]) -> Level:
    for array in arrays:
        if type(array) is not list:
            raise ResponseShapeInvalid(
                reason=f"there is no array at '{shown}'; {_met(array, answers)}{hint_of(array)}"
            )
    last = path[-1]
    if isinstance(last, Each) and last.merged and any(type(value) is list for array in arrays for value in array):
        arrays = [_merged(array) for array in arrays]
    return Level(path, list(chain.from_iterable(arrays)), list(map(len, arrays)))


def _merged(array: list[Any]) -> list[Any]:
    return list(chain.from_iterable(value if type(value) is list else [value] for value in array))


def _met(value: Any, answers: list[Any]) -> str:  # noqa: ANN401
    if value is None and len(answers) > 0 and type(answers[0]) is dict:
        return f"the answer is an object with {some_of(answers[0])}"
    return f"there is {kind_of(value)}"


def hint_of(value: Any) -> str:  # noqa: ANN401
    """Which option reads a value that is no array of objects; an empty text where none does."""
    if type(value) is dict and value:
        if all(type(inner) is dict for inner in value.values()):
            return "; rows_are: map reads its values as rows, with the key as the column @key"
        return "; rows_are: one_or_many reads it as one row"
    if type(value) is list and value and all(type(inner) is list for inner in value):
        return "; rows_are: table reads them by position, table_with_names by the names in the first one"
    if type(value) is list and value and not any(type(inner) is dict for inner in value):
        return "; one column with the key @ reads them"
    return ""


def kind_of(value: Any) -> str:  # noqa: ANN401
    """What a JSON value is, as a sentence says it."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "an array"
        case _:
            return f"an object with {some_of(value)}"


def some_of(names: Collection[str]) -> str:
    """Property names as a sentence shows them; only the first of many, and the beginning of long ones."""
    first = [name if len(name) <= 60 else f"{name[:60]}…" for name in islice(names, 20)]
    return quoted(first) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _found(values: list[Any], path: Steps) -> Level:
    there = [value is not None for value in values]
    return Level(path, [value for value in values if value is not None], list(map(int, there)))


@lru_cache(maxsize=4096)
def key_steps(key: str) -> Steps | None:
    """The steps of a column's key; None where it is a JMESPath that does more than going down.

    A key that is no JMESPath at all (`zip-code`) is the name of a property.
    """
    try:
        steps = _steps(jmespath.compile(key).parsed)
    except JMESPathError:
        return (Property(key),)
    return None if steps is None or any(isinstance(step, Each) for step in steps) else steps


def values_at(elements: list[Any], keys: Iterable[str]) -> dict[str, list[Any]]:
    """For each of some columns' keys the value that every element has there; None where it has none."""
    steps = {key: key_steps(key) for key in keys}
    own = {key: way[0].name for key, way in steps.items() if way and len(way) == 1 and isinstance(way[0], Property)}
    values = _all_properties(elements, own)
    return values | {key: _values_at(elements, key) for key in steps if key not in values}


def _all_properties(elements: list[Any], names: Mapping[str, str]) -> dict[str, list[Any]]:
    """Values of properties, if every element is an object that has all of them; otherwise nothing.

    One pass through the elements takes half the time of one pass for each property: they do not fit a cache.
    """
    if len(names) < 2:
        return {}
    try:
        flat = list(chain.from_iterable(map(itemgetter(*names.values()), elements)))
    except (KeyError, TypeError, IndexError):
        return {}
    return {key: flat[position :: len(names)] for position, key in enumerate(names)}


def _values_at(elements: list[Any], key: str) -> list[Any]:
    steps = key_steps(key)
    if steps is None:
        compiled = expression(key)
        return [searched(compiled, element, key) for element in elements]
    for step in steps:
        elements = _all_stepped(elements, step)
    return elements


def _all_stepped(elements: list[Any], step: Step) -> list[Any]:
    if isinstance(step, Property):
        try:
            return list(map(itemgetter(step.name), elements))
        except (KeyError, TypeError, IndexError):
            pass  # not every element is an object that has the property
    return [_stepped(element, step) for element in elements]


def is_anywhere(elements: list[Any], key: str) -> bool:
    """Whether any element has the property that a key leads to, be it null; of a wider JMESPath: a value."""
    steps = key_steps(key)
    if steps is None:
        return any(value is not None for value in _values_at(elements, key))
    return not steps or any(_has(element, steps) for element in elements)


def side_by_side(objects: Level, names: set[str]) -> Level:
    """The rows that objects of parallel arrays hold: each position of the arrays, plain values repeated.

    Only the properties `names` are read. Errors: `ResponseShapeInvalid` (no array, or arrays of several lengths).
    """
    rows = [_positions(each, names, path_of(objects.path)) for each in objects.elements]
    return Level(objects.path, list(chain.from_iterable(rows)), list(map(len, rows)))


def _positions(element: dict[str, Any], names: set[str], shown: str) -> list[dict[str, Any]]:
    arrays = {name: value for name, value in element.items() if name in names and type(value) is list}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
        reason = (
            f"the arrays at '{shown}' are not of one length: {found}" if found else f"no arrays are at '{shown}'"
        )
        raise ResponseShapeInvalid(reason=reason)
    repeated = {name: value for name, value in element.items() if name in names and name not in arrays}
    return [{**repeated, **dict(zip(arrays, values, strict=True))} for values in zip(*arrays.values(), strict=True)]


def leaves_of(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:  # noqa: ANN401
    """Every plain value within a value, each with the way to it."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from leaves_of(inner, (*steps, Property(name)))
        case list():
            for position, inner in enumerate(value):
                yield from leaves_of(inner, (*steps, Index(position)))
        case _:
            yield steps, value
