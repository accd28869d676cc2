"""The one entry point of the answer reader: the bytes of an answer, page by page, become typed tables."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from tasks.endpoint.answer.body import Body
from tasks.endpoint.answer.column import JsonType, OutboundColumn, json_type_of
from tasks.endpoint.answer.contract import (
    Finding,
    changed_type,
    judged,
    missing_column,
    new_properties,
    unreadable_column,
)
from tasks.endpoint.answer.guards import Number
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.answer.place import is_error, placed
from tasks.endpoint.answer.shape import (
    WHOLE_ANSWER,
    Level,
    Property,
    hint_of,
    is_anywhere,
    key_steps,
    leaves_of,
    levels_of,
    objects_at,
    path_of,
    rows_at,
    side_by_side,
    steps_of,
    values_at,
)
from tasks.errors import ResponseShapeInvalid, ValueRefused
from tasks.http.partner_words import words_of
from tasks.tables.columns import TypedTable, lists_of, typed_table
from tasks.tables.transitions import Transitions


@dataclass(frozen=True)
class Answer(Transitions):
    """A partner's answer, read through an outbound mapping."""

    standard: pl.DataFrame
    """Rows: the columns of the mapping, typed."""
    rejects: pl.DataFrame
    """Rejected lines: row (from 1, counted through all pages), column, reason, value."""
    replaced: pl.DataFrame
    """Bad values that were ignored, cut or replaced by the default; columns as in `rejects`."""
    findings: pl.DataFrame
    """What differs from the sample and is neither accepted nor an error: kind, column, action, detail."""


class DigitsNeeded(Exception):
    """A float must be read as it was written, and the quick parse does not know how it was."""


def read_answer(pages: Sequence[bytes], mapping: OutboundMapping, *, url: str) -> Answer:
    """Read the bodies of an answer, one per page, into one table.

    Numbers in text columns are read as they were written, integers in their shortest form. A property that some
    rows lack is null there; of one that an object names twice, the last counts. An answer without content (204)
    is no page: no page at all gives no rows. Errors: `ResponseMalformed` and `ResponseShapeInvalid`, for the
    guards of `exact_document`, for a shape that is not the mapping's, and for what its contract calls an error.
    """
    return read_bodies([Body(page, mapping, url) for page in pages], mapping)


def read_bodies(bodies: Sequence[Body], mapping: OutboundMapping) -> Answer:
    """As `read_answer`, of bodies that may be parsed already."""
    if _only_goes_down(mapping):
        try:
            return _read_rows([body.quick for body in bodies], mapping)
        except DigitsNeeded:
            pass
    return _read_rows([body.exact for body in bodies], mapping)


def elements_of(body: Body, mapping: OutboundMapping) -> list[Any]:
    """The elements of a page that are its rows, whatever they hold: a page may lack what the whole answer has.

    Errors: those of `exact_document`, `ResponseShapeInvalid` (no array at the path).
    """
    document = body.exact if steps_of(mapping.path) is None else body.quick
    return _rows([document], mapping).levels[-1].elements


@dataclass(frozen=True)
class _Raw:
    values: pl.Series
    findings: list[Finding]


@dataclass(frozen=True)
class _Rows:
    levels: list[Level]
    places: list[str]
    properties: list[str]
    """Names of the rows' properties; flattened: keys of the answer's values."""
    nothing: str = ""
    """Why there is nothing where the rows should be, if there is nothing in any of the answers."""

    def level_of(self, column: OutboundColumn) -> int:
        return len(self.levels) - 1 if column.at is None else self.places.index(column.at)

    def to_rows(self, values: pl.Series, level: int) -> pl.Series:
        """Values of a level's elements, repeated for each row within them."""
        for below in self.levels[level + 1 :]:
            counts = pl.Series(below.counts, dtype=pl.UInt32())
            positions = pl.int_range(0, len(counts), dtype=pl.UInt32, eager=True)
            values = values.gather(positions.repeat_by(counts).explode(empty_as_null=False))
        return values


def _only_goes_down(mapping: OutboundMapping) -> bool:
    """Whether no JMESPath compares or computes, for which every number must be exact."""
    keys = [column.key for column in mapping.columns.values()]
    return steps_of(mapping.path) is not None and all(key_steps(key) is not None for key in keys)


def _read_rows(documents: list[Any], mapping: OutboundMapping) -> Answer:
    rows = _rows(documents, mapping)
    columns = {name: column for name, column in mapping.columns.items() if not column.ignore}
    nothing = [Finding("empty", "", rows.nothing)] if rows.nothing else []
    findings = [*_new(rows, mapping), *_errors(rows, mapping), *nothing]
    return _answer(_raw_columns(columns, rows), findings, mapping)


def _answer(raw: dict[str, _Raw], findings: list[Finding], mapping: OutboundMapping) -> Answer:
    differences = [*findings, *chain.from_iterable(column.findings for column in raw.values())]
    judged(differences, mapping.contract)
    columns = {name: mapping.columns[name] for name in raw}
    table = _typed(raw, columns, getattr(mapping.format, "decimal", None))
    unreadable = _unreadable(raw, columns, table)
    return Answer(
        standard=table.standard,
        rejects=table.rejects,
        replaced=table.replaced,
        findings=judged([*differences, *unreadable], mapping.contract),
    )


def _rows(documents: list[Any], mapping: OutboundMapping) -> _Rows:
    if mapping.flatten:
        leaves = {path_of(steps): None for document in documents for steps, _ in leaves_of(document)}
        return _Rows([Level((), documents, [len(documents)])], [WHOLE_ANSWER], list(leaves))
    keys = [column.key for column in mapping.columns.values() if column.at is None and not column.ignore]
    places = levels_of(mapping.path)
    each = [placed(document, mapping.path, mapping.rows_are, parallel=mapping.parallel) for document in documents]
    documents, reasons = [document for document, _ in each], [reason for _, reason in each]
    if mapping.parallel:
        levels = objects_at(documents, mapping.path)
        properties = _names_in(levels[-1].elements, mapping)
        levels.append(side_by_side(levels[-1], _names_read(keys, properties)))
        nothing = next(filter(None, reasons), "") if not levels[-1].elements else ""
        return _Rows(levels, places, properties, nothing)
    levels = rows_at(documents, mapping.path)
    nothing = next(filter(None, reasons), "") if documents and not levels[-1].elements else ""
    # Rows that are read as they are (`@`) may be plain values.
    plain = set(keys) == {WHOLE_ANSWER} and not mapping.properties
    return _Rows(levels, places, [] if plain else _names_in(levels[-1].elements, mapping), nothing)


def _names_in(elements: list[Any], mapping: OutboundMapping) -> list[str]:
    if not set(map(type, elements)) <= {dict}:
        reason = f"the array at '{mapping.path}' holds values that are not objects{hint_of(elements)}"
        raise ResponseShapeInvalid(reason=reason)
    names = set().union(*elements)
    longest = max(map(len, names), default=0)
    if longest > mapping.limits.max_key_length:
        reason = f"a property name has {longest} characters, more than {mapping.limits.max_key_length}"
        raise ResponseShapeInvalid(reason=reason)
    return sorted(names)


def _names_read(keys: list[str], present: list[str]) -> set[str]:
    """First properties of the keys; all that are present where a key does more than going down."""
    ways = [key_steps(key) for key in keys]
    if any(way is None for way in ways):
        return set(present)
    return {way[0].name for way in ways if way and isinstance(way[0], Property)}


def _new(rows: _Rows, mapping: OutboundMapping) -> list[Finding]:
    if not mapping.properties:
        return []
    keys = [column.key for column in mapping.columns.values() if column.at is None]
    read = set(keys) if mapping.flatten else _names_read(keys, [])
    return new_properties(rows.properties, {*mapping.properties, *read})


def _errors(rows: _Rows, mapping: OutboundMapping) -> list[Finding]:
    """The first row that is an error: it says so, and has nothing that a column reads."""
    if mapping.flatten or mapping.parallel:
        return []
    keys = [column.key for column in mapping.columns.values() if column.at is None and not column.ignore]
    read = _names_read(keys, rows.properties)
    errors = {name for name in rows.properties if is_error(name)} - read - set(mapping.properties)
    if not errors:
        return []
    found = [
        (number, row, name)
        for number, row in enumerate(rows.levels[-1].elements, start=1)
        if type(row) is dict and not read & row.keys()
        for name in sorted(errors & row.keys())[:1]
        if row[name]
    ]
    if not found:
        return []
    number, row, name = found[0]
    detail = f"row {number} is an error, and has none of the columns: {words_of(row)} ('{name}')"
    more = "" if len(found) == 1 else f"; so are {len(found) - 1} more rows"
    return [Finding("missing", "", detail + more)]


def _raw_columns(columns: dict[str, OutboundColumn], rows: _Rows) -> dict[str, _Raw]:
    keys: dict[int, set[str]] = {}
    for column in columns.values():
        keys.setdefault(rows.level_of(column), set()).add(column.key)
    values = {level: values_at(rows.levels[level].elements, keys[level]) for level in keys}
    return {
        name: _raw_column(name, column, rows, values[rows.level_of(column)][column.key])
        for name, column in columns.items()
    }


def _raw_column(name: str, column: OutboundColumn, rows: _Rows, values: list[Any]) -> _Raw:
    level = rows.level_of(column)
    elements = rows.levels[level].elements
    raw = _raw(name, column, values)
    missing = []
    if _is_missing(column, elements, raw.values):
        present = rows.properties if level == len(rows.levels) - 1 else sorted({*_names_of(elements)})
        missing = [missing_column(name, column, path_of(rows.levels[level].path), present)]
    return _Raw(rows.to_rows(raw.values, level), [*raw.findings, *missing])


def _raw(name: str, column: OutboundColumn, values: list[Any]) -> _Raw:
    series, json_types = _lists(values, column) if column.many else _plain(values, column)
    changed = changed_type(name, column, json_types)
    return _Raw(series, [changed] if changed else [])


def _is_missing(column: OutboundColumn, elements: list[Any], values: pl.Series) -> bool:
    if column.optional or not elements or not _is_all_null(values):
        return False
    return not is_anywhere(elements, column.key)


def _names_of(elements: list[Any]) -> Iterator[str]:
    return chain.from_iterable(element for element in elements if type(element) is dict)


JsonTypes = dict[str, int]
"""JSON types of some values, each with the position of the first element that has it."""


def _plain(values: list[Any], column: OutboundColumn) -> tuple[pl.Series, JsonTypes]:
    """The values as a series of texts, or of the column's type where they are so in JSON already."""
    try:
        native, json_type = _native(values, column)
    except (TypeError, ValueError, OverflowError, PolarsError):
        texts = [_text_of(value, column) for value in values]
        return pl.Series(texts, dtype=pl.String()), _json_types([value] for value in values)
    return native, {} if _is_all_null(native) else {json_type: 0}


def _is_all_null(values: pl.Series) -> bool:
    return values.null_count() == len(values)


def _lists(values: list[Any], column: OutboundColumn) -> tuple[pl.Series, JsonTypes]:
    """The values as a series of lists of texts; a plain value is a list of one."""
    lists = [value if type(value) is list else [] if value is None else [value] for value in values]
    counts = [None if value is None else len(inner) for value, inner in zip(values, lists, strict=True)]
    inner = list(chain.from_iterable(lists))
    try:
        texts, json_types = pl.Series(inner, dtype=pl.String(), strict=True), {"text": 0}
    except TypeError:
        texts = pl.Series([_text_of(value, column) for value in inner], dtype=pl.String())
        json_types = _json_types(lists)
    if _is_all_null(texts):
        json_types = {}
    plain = next((at for at, value in enumerate(values) if type(value) is not list and value is not None), None)
    if plain is not None:
        json_types = {"plain": plain, **json_types}
    return lists_of(texts, pl.Series(counts, dtype=pl.UInt32())), json_types


def _json_types(elements: Iterable[list[Any]]) -> JsonTypes:
    """The types of the values that each element has; null is of any type."""
    found: JsonTypes = {}
    for position, values in enumerate(elements):
        for value in values:
            found.setdefault(json_type_of(value), position)
    return {json_type: position for json_type, position in found.items() if json_type != "null"}


def _native(values: list[Any], column: OutboundColumn) -> tuple[pl.Series, JsonType]:
    """The values, if all are of the JSON type that the column's type has, and that type. Errors: `TypeError`."""
    match column.type:
        case "integer" | "number" if not column.remap:
            return _numbers(values, column), "number"
        case "boolean" if not column.remap:
            return pl.Series(values, dtype=pl.Boolean(), strict=True), "boolean"
        case _:
            return pl.Series(values, dtype=pl.String(), strict=True), "text"


def _numbers(values: list[Any], column: OutboundColumn) -> pl.Series:
    types = set(map(type, values)) - {type(None)}
    if types <= {int}:
        return pl.Series(values, dtype=pl.Int64(), strict=True).cast(column.value_type)
    if column.type == "number" and types <= {float, int, Number}:
        if int in types:
            values = [None if value is None else float(value) for value in values]
        return pl.Series(values, dtype=pl.Float64(), strict=True)
    raise TypeError("not all values are numbers of the column's type")


def _text_of(value: Any, column: OutboundColumn) -> str | None:  # noqa: ANN401
    match value:
        case None | str():
            return value
        case bool() | int():
            return json.dumps(value)
        case Number():
            return value.written.replace(".", column.decimal_separator)
        case float():
            raise DigitsNeeded
        case _:
            if any(type(inner) is float for _, inner in leaves_of(value)):
                raise DigitsNeeded
            return json.dumps(value, ensure_ascii=False)


def _typed(raw: dict[str, _Raw], columns: dict[str, OutboundColumn], decimal: str | None) -> TypedTable:
    # A key may stand for other things at other places of the answer; a column's name does not.
    named = {name: column.model_copy(update={"key": name}) for name, column in columns.items()}
    if decimal is not None:
        named = {
            name: column
            if "decimal_separator" in column.model_fields_set
            else column.model_copy(update={"decimal_separator": decimal})
            for name, column in named.items()
        }
    table = pl.DataFrame({name: column.values for name, column in raw.items()})
    try:
        return typed_table(table, named, activity="External API", where="the answer")
    except ValueRefused as refused:
        reason = "row {row}: '{column}' {reason}".format(**refused.facts)
        raise ResponseShapeInvalid(reason=reason) from None


def _unreadable(raw: dict[str, _Raw], columns: dict[str, OutboundColumn], table: TypedTable) -> list[Finding]:
    """Columns of which every value is bad; a text is never wholly bad, and a missing value is none."""
    findings = []
    bad_values = pl.concat([table.rejects, table.replaced]).filter(pl.col("value").is_not_null())
    for (name,), bad in bad_values.group_by("column", maintain_order=True):
        values = raw[name].values
        if columns[name].type != "text" and bad.height == len(values) - values.null_count():
            findings.append(unreadable_column(name, columns[name], bad.item(0, "reason"), bad.height))
    return findings
