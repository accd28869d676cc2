"""Column definitions as text to look at and to paste back: a table, YAML or JSON; all of them lose nothing."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from tasks.endpoint.answer.column import OutboundColumn
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.errors import ConfigurationError

OWN_CELLS = ("key", "at", "type")
HEADER = ("column", *OWN_CELLS, "other options")


def as_yaml(mapping: OutboundMapping) -> str:
    """The mapping's options that are not defaults, as YAML."""
    return _yaml(mapping.model_dump(mode="json", exclude_defaults=True))


def as_table(mapping: OutboundMapping) -> str:
    """The mapping as a Markdown table of its columns, below its other options as YAML."""
    options = mapping.model_dump(mode="json", exclude_defaults=True, exclude={"columns"})
    rows = [HEADER, *(_cells(name, column) for name, column in mapping.columns.items())]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return (_yaml(options) if options else "") + "".join(f"| {line} |\n" for line in lines)


def pasted(text: str) -> OutboundMapping:
    """The mapping that `as_table` or `as_yaml` wrote, or that is written as JSON.

    Errors: `ConfigurationError` where the text is none of these; pydantic's `ValidationError` for wrong options.
    """
    lines = text.split("\n")  # a cell may hold what else counts as the end of a line
    rows = [line for line in lines if line.lstrip().startswith("|")]
    try:
        options = yaml.safe_load("\n".join(line for line in lines if line not in rows)) or {}
        columns = {"columns": dict(map(_column_of, rows[2:]))} if rows else {}
    except (yaml.YAMLError, ValueError) as error:
        raise _unreadable(" ".join(str(error).split())) from None
    if not isinstance(options, dict):
        raise _unreadable("it is no table, and no object of YAML or JSON")
    return OutboundMapping.model_validate({**options, **columns})


def _unreadable(reason: str) -> ConfigurationError:
    return ConfigurationError(setting="outbound mapping", reason=f"the pasted text cannot be read: {reason}")


def _yaml(options: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True)


def _cells(name: str, column: OutboundColumn) -> tuple[str, ...]:
    own = (column.key, column.at or "", column.type)
    others = column.model_dump(mode="json", exclude_defaults=True, exclude=set(OWN_CELLS))
    return (*map(_cell, (name, *own)), _json(others) if others else "")


def _cell(text: str) -> str:
    """The text as it is, or as JSON where a table could not hold it or would read it as something else."""
    as_it_is = text.isprintable() and text == text.strip() and not text.startswith('"') and "|" not in text
    return text if as_it_is else _json(text)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("|", "\\u007c")


def _column_of(line: str) -> tuple[str, dict[str, Any]]:
    cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
    if len(cells) != len(HEADER):
        raise ValueError(f"the line {line.strip()!r} has {len(cells)} cells, not {len(HEADER)}")
    *texts, others = cells
    name, *own = (json.loads(text) if text.startswith('"') else text for text in texts)
    options = {option: value for option, value in zip(OWN_CELLS, own, strict=True) if value}
    return name, {**options, **(json.loads(others) if others else {})}
