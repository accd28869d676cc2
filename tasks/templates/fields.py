"""Fields that templates may name, and the values that they have.

Templates see three namespaces: `profile.first_name` (a column of the audience), `content.coupons.code` (a field
of the additional data named coupons, which is a struct column or, for a collection, a list of structs) and
`campaign.label`. A name without namespace works while only one of them has it.

A null, a NaN and a blank text are a missing value, also inside lists and structs. Values have one type for each
kind: categories are text, floats are 64 bits wide (as their shortest decimal says), dates with a time have
microseconds.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, time
from decimal import Decimal
from functools import cached_property
from typing import Any

import polars as pl
from jinja2 import StrictUndefined, Undefined

from tasks.tables.transitions import nearest

Path = tuple[str, ...]

ELEMENT = "[]"
"""In a path: each element of the list before it."""

BITS = (31, 53, 64, 128)
"""Sizes that integers are told apart by: few, so that few slices need a lowering of their own."""

SPECIAL = "&<>'\""
"""Characters that mean something in HTML."""

BRACES = ("{{", "{%")
"""What a value has only where somebody else's template was not filled in."""

WHITE_SPACE = "".join(chr(point) for point in range(0x3001) if chr(point).isspace())
"""What Python takes for white space; polars knows four characters less."""


PRINTABLE = (str, int, float, Decimal, date, time, type(None), Undefined)
"""Values that have a form in a message; lists of them have, too."""


class MissingValue(StrictUndefined):
    """A value that the profile does not have: false in a condition, replaced by `default`, an error in print."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override]  # the parent's never returns
        return False

    __round__ = __abs__ = __trunc__ = StrictUndefined._fail_with_undefined_error


class Row:
    """A struct's values as attributes, so that no field's name can meet a method."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        vars(self).update(fields)

    def __str__(self) -> str:
        raise TypeError("a whole row cannot be printed; name one of its fields")

    __html__ = __str__


@dataclass(frozen=True)
class Use:
    """A field as a template names it."""

    template: str
    line: int
    path: Path
    required: bool = True
    """Whether a profile without a value gets no message: it is neither tested nor given a default."""
    assigned: bool = False
    """Whether the template gives the name a value in one of its branches; it then need not be a field."""

    via: str = ""
    """The files that lead to it, for an included or extended one."""
    isolated: bool = False
    """Whether it stands in a file that is imported without context, which sees no field."""

    @property
    def where(self) -> str:
        """File and line, as error sentences name them."""
        return f"{self.template}, line {self.line}{self.via}"


@dataclass(frozen=True)
class Fact:
    """What is known of a field's values in one slice of profiles."""

    nullable: bool = True
    clean: bool = False
    ascii: bool = False
    bits: int = 64
    braces: bool = False
    """Whether a text has one of `BRACES`."""


Facts = tuple[tuple[Path, Fact], ...]


@dataclass(frozen=True)
class Slice:
    """Profiles that are rendered together: a column per field, missing values null, and what is known of them."""

    rows: pl.DataFrame
    facts: Facts


class Fields:
    """Names that templates may use, by namespace, and the column or constant that each one is."""

    def __init__(self, schema: pl.Schema, campaign: Mapping[str, object]) -> None:
        named = {("campaign", name): value for name, value in campaign.items()}
        self.constants: dict[Path, object] = {
            path: value for path, value in named.items() if not isinstance(value, pl.Expr)
        }
        # What is each profile's own is a text, made of its columns.
        self._columns: dict[Path, pl.Expr] = {
            path: value for path, value in named.items() if isinstance(value, pl.Expr)
        }
        self.types: dict[Path, pl.DataType] = dict.fromkeys(self._columns, pl.String())
        for name, kind in schema.items():
            space = "content" if isinstance(_innermost(kind), pl.Struct) else "profile"
            self._add((space, name), pl.col(name), kind)
        self._known: dict[Path, None] = dict.fromkeys((*self.types, *self.constants))
        self._bare: dict[Path, list[Path]] = defaultdict(list)
        for path in self._known:
            for start in range(1, len(path)):
                if ELEMENT not in path[: start + 1]:
                    self._bare[path[start:]].append(path)

    def _add(self, path: Path, column: pl.Expr, kind: pl.DataType) -> None:
        if isinstance(kind, pl.Struct):
            for field in kind.fields:
                self._add((*path, field.name), column.struct.field(field.name), instance(field.dtype))
            return
        target = normal(kind)
        # The shortest decimal of a 32 bit float is what was meant, not the nearest 64 bit one.
        self._columns[path] = column if kind == target else column.cast(normal(kind, pl.String())).cast(target)
        self.types[path] = target
        if isinstance(target, pl.List):
            self.types.update(_leaves((*path, ELEMENT), instance(target.inner)))

    @cached_property
    def names(self) -> set[str]:
        """Every name that may be written, with and without namespace."""
        return {".".join(path) for path in (*self._known, *self._bare) if ELEMENT not in path}

    def resolve(self, use: Use) -> Path | str:
        """The full path of a used name, or what is wrong with it."""
        where = f"{use.where}: "
        shown = ".".join(use.path).replace(f".{ELEMENT}", ELEMENT)
        matches = self._matches(use.path)
        if use.isolated and matches:
            return f"{where}a file without context does not see '{shown}': take it in 'with context'"
        if len(matches) == 1:
            attributes = use.path[known_length(use.path, matches[0]) :]
            if attributes and not self._has_attribute(matches[0], attributes[0]):
                named = ".".join(matches[0]).replace(f".{ELEMENT}", ELEMENT)
                siblings = [path[-1] for path in self._known if path[:-1] == (*matches[0], ELEMENT)]
                siblings += [path[-1] for path in self._known if path[:-1] == matches[0]]
                return f"{where}'{named}' has no '{attributes[0]}'. {nearest(attributes[:1], siblings)}".rstrip(
                    ". "
                )
            return matches[0]
        if matches:
            choices = " or ".join(".".join(match) for match in matches)
            return f"{where}'{shown}' is ambiguous, write {choices}"
        if any(len(use.path) < len(path) and path[: len(use.path)] == use.path for path in self._known):
            return f"{where}'{shown}' is no field; name one of its fields, as in {shown}.name"
        return f"{where}'{shown}' is unknown. {nearest([shown], self.names)}".rstrip(". ")

    def _matches(self, path: Path) -> list[Path]:
        # Longest first, so that `profile.email.x` is looked up whole before a method of its value is thought of.
        for length in range(len(path), 0, -1):
            if path[:length] in self._known:
                return [path[:length]]
            if found := self._bare.get(path[:length]):
                return found
        return []

    def _has_attribute(self, path: Path, name: str) -> bool:
        if path in self.constants:
            kind: type = type(self.constants[path])
        elif isinstance(self.types[path], pl.Struct):
            return False
        else:
            kind = self.types[path].to_python()
        return hasattr(kind, name) and not name.startswith("_")

    def slice_of(self, table: pl.DataFrame, paths: list[Path], kept: list[pl.Expr]) -> Slice:
        """The fields `paths` of a table's rows, a column each, named by the dotted path, and the columns `kept`.

        Missing values are null; those of lists stay as they are.
        """
        columns = [path for path in paths if path in self._columns]
        rows = table.select(*kept, *(self._columns[path].alias(".".join(path)) for path in columns))
        rows = materialized(rows)
        fields = rows.select(".".join(path) for path in columns)
        looks = _looks(fields)
        fields = _without_missing(fields, looks)
        facts: list[tuple[Path, Fact]] = []
        for path in columns:
            values = fields.get_column(".".join(path))
            facts.append((path, _fact(values, looks)))
            if isinstance(values.dtype, pl.List):
                facts.extend(_element_facts((*path, ELEMENT), values))
        return Slice(rows.with_columns(fields), tuple(facts))


def no_value(path: Path) -> str:
    """Reason to reject a profile that lacks a field."""
    return f"no value for {'.'.join(path).replace(f'.{ELEMENT}', ELEMENT)}"


def materialized(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows. polars keeps a column of one value as that value, and comparing it gives only one row."""
    return pl.DataFrame(rows.get_columns())


def present(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """The value, null where it is missing."""
    if isinstance(kind, pl.String):
        return pl.when(value.str.strip_chars(WHITE_SPACE) != "").then(value)
    return value.fill_nan(None) if kind.is_float() else value


def is_missing(value: object) -> bool:
    """`present` for one Python value."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def python_value(value: Any, name: str) -> Any:  # noqa: ANN401
    """A polars value as templates see it row by row: `MissingValue` for what is missing, `Row` for a struct."""
    if is_missing(value):
        return MissingValue(name=name)
    if isinstance(value, list):
        return [python_value(element, f"{name}{ELEMENT}") for element in value]
    if isinstance(value, dict):
        return Row({key: python_value(inner, f"{name}.{key}") for key, inner in value.items()})
    return value


def printed(value: Any) -> Any:  # noqa: ANN401
    """What `{{ value }}` shows.

    Text as it is; True and False; whole numbers by their digits; floats by their shortest decimal (`0.1`,
    `1e-05`); decimals with all their places; dates and times as ISO 8601 writes them, with a space between; the
    elements of a list with `, ` between them. What would show Python's own form of an object fails.
    """
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list | tuple):
        return ", ".join(str(printed(element)) for element in value)
    if not isinstance(value, PRINTABLE):
        if callable(value):
            raise TypeError(f"'{getattr(value, '__name__', 'it')}' is a method; call it, or name a field")
        raise TypeError(f"a {type(value).__name__} has no form in a message; name what to print of it")
    return value


def known_length(path: Path, full: Path) -> int:
    """How many steps of `path` name the field `full`; the others are attributes of its value."""
    for length in range(len(path), 0, -1):
        if full[-length:] == path[:length]:
            return length
    raise ValueError(f"{path} does not name {full}")


@dataclass(frozen=True)
class _Look:
    """All texts of a column in one piece: one look at it is far cheaper than one at each."""

    joined: str
    blank: bool
    """Whether a text may be blank: it is empty or begins with white space, which ASCII has only before "!"."""


def _looks(fields: pl.DataFrame) -> dict[str, _Look]:
    texts = [name for name, kind in fields.schema.items() if kind == pl.String()]
    if not texts:
        return {}
    seen = fields.select(
        *(pl.col(name).str.join("") for name in texts),
        *((pl.col(name) < "!").any().alias(f"\x00{name}") for name in texts),
    ).row(0, named=True)
    return {name: _Look(seen[name], seen[f"\x00{name}"] or _has_foreign_white_space(seen[name])) for name in texts}


def _has_foreign_white_space(text: str) -> bool:
    return not text.isascii() and any(space in text for space in WHITE_SPACE if space > "\x7f")


def _without_missing(fields: pl.DataFrame, looks: Mapping[str, _Look]) -> pl.DataFrame:
    repaired = [
        present(pl.col(name), kind).alias(name)
        for name, kind in fields.schema.items()
        if kind.is_float() or (name in looks and looks[name].blank)
    ]
    return fields.with_columns(repaired)


def _fact(values: pl.Series, looks: Mapping[str, _Look]) -> Fact:
    nullable = bool(values.null_count())
    match values.dtype:
        case pl.String():
            joined = looks[values.name].joined
            clean = not any(character in joined for character in SPECIAL)
            braces = any(mark in joined for mark in BRACES)
            return Fact(nullable, clean=clean, ascii=joined.isascii(), braces=braces)
        case kind if kind.is_integer():
            low, high = values.min() or 0, values.max() or 0
            bits = max(int(low).bit_length(), int(high).bit_length())  # type: ignore[arg-type]
            return Fact(nullable, bits=next(limit for limit in BITS if bits <= limit))
        case _:
            return Fact(nullable)


def _element_facts(path: Path, lists: pl.Series) -> Iterator[tuple[Path, Fact]]:
    """What is known of the elements of lists and of the fields that they have."""
    elements = lists.filter(lists.list.len() > 0).explode().alias("elements")
    yield path, _raw_fact(elements)
    if isinstance(elements.dtype, pl.Struct):
        for name in elements.struct.fields:
            yield (*path, name), _raw_fact(elements.struct.field(name))


def _raw_fact(values: pl.Series) -> Fact:
    """`_fact` of values of which the missing ones may still be other than null."""
    looks = _looks(values.to_frame())
    fact = _fact(values, looks)
    missing = looks[values.name].blank if looks else values.dtype.is_float() and bool(values.is_nan().any())
    return replace(fact, nullable=fact.nullable or missing)


def _innermost(kind: pl.DataType) -> pl.DataType:
    return _innermost(instance(kind.inner)) if isinstance(kind, pl.List | pl.Array) else kind


def struct_types(kind: pl.Struct) -> dict[str, pl.DataType]:
    """A struct's fields and their types."""
    return {field.name: instance(field.dtype) for field in kind.fields}


def _leaves(path: Path, kind: pl.DataType) -> Iterator[tuple[Path, pl.DataType]]:
    yield path, kind
    if isinstance(kind, pl.Struct):
        for field in kind.fields:
            yield from _leaves((*path, field.name), instance(field.dtype))
    elif isinstance(kind, pl.List):
        yield from _leaves((*path, ELEMENT), instance(kind.inner))


def instance(kind: Any) -> pl.DataType:  # noqa: ANN401
    """The data type; polars also gives classes of them."""
    return kind if isinstance(kind, pl.DataType) else kind()


def normal(kind: pl.DataType, single_floats: pl.DataType | None = None) -> pl.DataType:  # noqa: PLR0911
    """The type that values of `kind` have in templates."""
    match kind:
        case pl.List() | pl.Array():
            return pl.List(normal(instance(kind.inner), single_floats))
        case pl.Struct():
            return pl.Struct({f.name: normal(instance(f.dtype), single_floats) for f in kind.fields})
        case pl.Categorical() | pl.Enum() | pl.Null():
            return pl.String()
        case pl.Datetime():
            return pl.Datetime("us", kind.time_zone)
        case pl.Float32():
            return single_floats or pl.Float64()
        case pl.UInt64() | pl.Int128():
            return pl.Int128()
        case _ if kind.is_integer():
            return pl.Int64()
        case _:
            return kind
