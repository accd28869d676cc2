"""Answers whose rows hold nothing but the mapping's columns, each of its type: parsed without a document.

Most answers are of this kind, and read in half the time: msgspec parses the rows straight into values of the
columns' types, and refuses whatever is different. A different answer is no matter of this module: it gives None,
and the answer is read as a document, which tells what is wrong with it, if anything is. What is read here must be
what is read there.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import orjson

from tasks.endpoint.answer.guards import depth_of
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.answer.shape import Property, key_steps, steps_of
from tasks.tables.columns import ColumnType

Plain = str | int | float | bool | None

JSON_VALUES: Mapping[ColumnType, Any] = {
    "text": str | None,
    "integer": int | None,
    "number": float | None,
    "decimal": str | None,
    "boolean": bool | None,
    "date": str | None,
    "time": str | None,
    "datetime": str | None,
}
"""What msgspec takes for the values of a column's type; numbers in columns of texts are read as documents."""

ROWS = "rows of the answer"
"""Stands for the rows where what is around them is parsed."""

PEEK = 64
"""Bytes by which the place of the rows in the body is looked for."""

Fields = tuple[tuple[str, ColumnType | None], ...]


def uniform_values(pages: Sequence[bytes], mapping: OutboundMapping) -> dict[str, list[Any]] | None:
    """The values of each column that is not ignored; None where the answer is of another kind."""
    path, fields = _way_of(mapping), _fields_of(mapping)
    if path is None or fields is None or len(path) + 2 > mapping.limits.max_depth:
        return None
    try:
        rows = [_rows_in(page, path, fields, mapping.limits.max_depth) for page in pages]
    except (msgspec.MsgspecError, ValueError, RecursionError, _OtherKind):
        return None
    # All values in one list, row after row: one pass through the rows, which do not fit a cache.
    values = list(chain.from_iterable(map(attrgetter(*_names(fields)), chain.from_iterable(rows))))
    columns = enumerate(mapping.columns.items())
    return {name: values[number :: len(fields)] for number, (name, column) in columns if not column.ignore}


class _OtherKind(Exception):
    pass


def _way_of(mapping: OutboundMapping) -> tuple[str, ...] | None:
    """Names of the properties that lead to the array of rows."""
    steps = None if mapping.flatten or mapping.parallel else steps_of(mapping.path)
    if steps is None or not all(isinstance(step, Property) for step in steps):
        return None
    return tuple(step.name for step in steps if isinstance(step, Property))


def _fields_of(mapping: OutboundMapping) -> Fields | None:
    """The property of each column, in order, with the column's type, or None for a column that is ignored."""
    fields: dict[str, ColumnType | None] = {}
    for column in mapping.columns.values():
        match key_steps(column.key):
            case (Property(name),) if name not in fields and len(name) <= mapping.limits.max_key_length:
                fields[name] = None if column.ignore else column.type
            case _:
                return None
        if column.at is not None or column.many or column.remap:
            return None
    return tuple(fields.items()) if len(fields) > 1 else None


def _names(fields: Fields) -> list[str]:
    return [f"f{number}" for number in range(len(fields))]


def _rows_in(body: bytes, path: tuple[str, ...], fields: Fields, max_depth: int) -> list[Any]:
    rows = body
    if path:
        rows = bytes(_found(_around(path).decode(body), len(path)))
        _check_around(body, rows, path, max_depth)
    return _decoder(fields).decode(rows)


def _found(value: Any, levels: int) -> Any:  # noqa: ANN401
    for _ in range(levels):
        value = value.inner
    return value


def _check_around(body: bytes, rows: bytes, path: tuple[str, ...], max_depth: int) -> None:
    """Parse all of the body but its rows, as a document is: what is not read must be JSON within the limits too."""
    start = body.find(rows[:PEEK])
    while start >= 0 and not body.startswith(rows, start):
        start = body.find(rows[:PEEK], start + 1)
    around = orjson.loads(b"".join((body[:start], orjson.dumps(ROWS), body[start + len(rows) :])))
    if depth_of(around) > max_depth:
        raise _OtherKind
    for name in path:
        around = around.get(name) if isinstance(around, dict) else None
    if around != ROWS:
        # The same bytes stand elsewhere too, and that place was left out: the rows were parsed, the other was not.
        raise _OtherKind


@lru_cache(maxsize=64)
def _around(path: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    kind: Any = msgspec.Raw
    for name in reversed(path):
        kind = msgspec.defstruct("Around", [("inner", kind)], rename={"inner": name})
    return msgspec.json.Decoder(kind)


@lru_cache(maxsize=64)
def _decoder(fields: Fields) -> msgspec.json.Decoder[list[Any]]:
    row = msgspec.defstruct(
        "Row",
        [
            (name, JSON_VALUES[kind] if kind else Plain, None)
            for name, (_, kind) in zip(_names(fields), fields, strict=True)
        ],
        rename=dict(zip(_names(fields), (name for name, _ in fields), strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
