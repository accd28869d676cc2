"""Row by row: what cannot be lowered is rendered by Jinja itself, in its sandbox, one profile after the other."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import polars as pl
from jinja2 import Template, Undefined
from jinja2.exceptions import SecurityError, UndefinedError

from tasks.templates.escaping import UnsafeValue
from tasks.templates.fields import ELEMENT, Fields, Path, known_length, python_value
from tasks.templates.filters import EXPECTED


def render_rows(
    template: Template, rows: pl.DataFrame, fields: Fields, used: Mapping[Path, Path], waiting: pl.Series
) -> tuple[pl.Series, pl.Series]:
    """The text of each row for which `waiting` is true, or the reason why it has none; else both are null."""
    texts: list[str | None] = []
    reasons: list[str | None] = []
    wanted = {path: full for path, full in used.items() if ELEMENT not in path}
    for row, asked in zip(rows.iter_rows(named=True), waiting, strict=True):
        text, reason = rendered(template, context_of(row, fields, wanted)) if asked else (None, None)
        texts.append(text)
        reasons.append(reason)
    return pl.Series(texts, dtype=pl.String()), pl.Series(reasons, dtype=pl.String())


def rendered(template: Template, context: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """One text, or the reason to reject the profile."""
    try:
        return template.render(context), None
    except UndefinedError as error:
        return None, _said(error)
    except SecurityError as error:
        return None, f"the template does what is not allowed: {error}"
    except UnsafeValue as error:
        return None, str(error)
    except (*EXPECTED, RecursionError) as error:
        return None, f"the template fails on the values: {error}"


def undefined_reason(value: Undefined) -> str:
    """The reason to reject a profile when this value is used."""
    try:
        str(value)
    except UndefinedError as error:
        return _said(error)
    raise TypeError(value)


def _said(error: UndefinedError) -> str:
    text = str(error)
    name = text.split("'")[1] if text.count("'") == 2 and text.endswith("is undefined") else None
    return f"no value for {name}" if name else text


def context_of(row: Mapping[str, Any], fields: Fields, used: Mapping[Path, Path]) -> dict[str, Any]:
    """The names that a template may use, with one profile's values."""
    context: dict[str, Any] = {}
    for path, full in used.items():
        name = ".".join(full)
        value = fields.constants[full] if full in fields.constants else row[name]
        *spaces, last = path[: known_length(path, full)]
        space = context
        for step in spaces:
            space = vars(space.setdefault(step, SimpleNamespace()))
        space[last] = python_value(value, name)
    return context
