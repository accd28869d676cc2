"""What a model of options says of its fields, in plain words."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

WORDS: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
    date: "date",
    datetime: "moment",
    time: "time",
    timedelta: "duration",
    Path: "path",
    SecretStr: "secret",
    NoneType: "null",
    Any: "any value",
}
BOUNDS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}", "pattern": "as `{}`"}


class Option(NamedTuple):
    """One field of a model of options, in words."""

    name: str
    kind: str
    default: str
    description: str


def options_of(model: type[BaseModel], anchor: Callable[[str], str]) -> Iterator[Option]:
    """The fields of a model. `anchor` makes the link of a nested model's heading."""
    for name, field in model.model_fields.items():
        kind = _kind(field.annotation, anchor)
        bounds = ", ".join(_bounds(field))
        yield Option(name, f"{kind}, {bounds}" if bounds else kind, _default(field), cell(field.description or ""))


def _kind(hint: Any, anchor: Callable[[str], str]) -> str:  # noqa: ANN401
    """A type in plain words."""
    inside, origin = get_args(hint), get_origin(hint)
    if origin is None:
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            return f"[{hint.__name__}](#{anchor(hint.__name__)})"
        return WORDS.get(hint) or cell(getattr(hint, "__name__", str(hint)))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inside)
    kinds = [_kind(one, anchor) for one in inside if one not in {NoneType, ...}]
    if origin is Annotated:
        return kinds[0]
    if origin in {Union, UnionType}:
        return " or ".join([*dict.fromkeys(kinds), *(["null"] if NoneType in inside else [])])
    return f"{{{kinds[0]}: {kinds[1]}}}" if issubclass(origin, Mapping) else f"list of {kinds[0]}"


def _bounds(field: FieldInfo) -> Iterator[str]:
    for rule in field.metadata:
        for name, words in BOUNDS.items():
            if (value := getattr(rule, name, None)) is not None:
                yield cell(words.format(value))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    plain = to_jsonable_python(value)
    if plain in ("", [], {}) or (isinstance(value, SecretStr) and not value.get_secret_value()):
        return ""
    shown = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return cell(f"`{shown}`")


def cell(text: str) -> str:
    """A text on one line of a table of Markdown. What looks like HTML is shown as it is written."""
    pieces = " ".join(text.split()).replace("|", "\\|").split("`")
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return "`".join(pieces)
