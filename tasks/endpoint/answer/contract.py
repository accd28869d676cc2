"""What has changed between the answer that a mapping was written for and the one that came."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from tasks.endpoint.answer.column import OutboundColumn
from tasks.endpoint.answer.mapping import Contract
from tasks.endpoint.answer.shape import some_of
from tasks.errors import ResponseShapeInvalid
from tasks.tables.transitions import nearest

Kind = Literal["missing", "new", "changed", "unreadable", "more", "empty"]

FINDINGS = {"kind": pl.String(), "column": pl.String(), "action": pl.String(), "detail": pl.String()}
"""Columns of a table of findings; `action` is the contract's, error left out: that one is raised."""

MOST_NEW = 20
"""How many new properties are named one by one: an object may have a property for each day, or each profile."""


@dataclass(frozen=True)
class Finding:
    """One difference: its kind, the column (or the property, where there is no column), and what was found."""

    kind: Kind
    column: str
    detail: str


def missing_column(name: str, column: OutboundColumn, where: str, present: Iterable[str]) -> Finding:
    """No element has the property of a column."""
    present = list(present)
    hint = nearest([column.key], present)
    if column.key in present:
        # A name with a dot: the JMESPath of it goes two steps down.
        quoted_key = json.dumps(column.key)
        return Finding("missing", name, f"'{column.key}' is one property's name: write the key as '{quoted_key}'")
    detail = f"no object at '{where}' has '{column.key}', only {some_of(present)}. {hint}".rstrip(". ")
    return Finding("missing", name, detail)


def new_properties(present: Iterable[str], known: set[str]) -> list[Finding]:
    """Properties that are there and not known."""
    new = [name for name in present if name not in known]
    findings = [Finding("new", name, f"'{name}' is new") for name in new[:MOST_NEW]]
    if len(new) > MOST_NEW:
        findings.append(Finding("new", "", f"{len(new) - MOST_NEW} more properties are new"))
    return findings


def changed_type(name: str, column: OutboundColumn, found: Mapping[str, int]) -> Finding | None:
    """The first value of another JSON type than the column's; `found` is {type: first element that has it}."""
    for json_type, position in found.items():
        expected = _expected_instead(json_type, column)
        if expected:
            detail = f"'{column.key}' is {ARTICLE[json_type]}, not {expected} (element {position + 1})"
            return Finding("changed", name, detail)
    return None


def _expected_instead(json_type: str, column: OutboundColumn) -> str:
    """What a column holds instead of values of a type; nothing where it may hold them."""
    if json_type == "plain":
        return "a list"
    if json_type in {"list", "object"}:
        return f"of type {column.type}"
    if column.json_type is None:
        return ""
    if json_type == "fraction" and column.json_type == "number":
        return "a whole number as in the sample" if column.type == "integer" else ""
    return "" if json_type == column.json_type else f"{ARTICLE[column.json_type]} as in the sample"


ARTICLE = {
    "text": "a text",
    "number": "a number",
    "fraction": "a number with a fraction",
    "boolean": "a boolean",
    "list": "a list",
    "object": "an object",
    "plain": "a plain value",
}


def unreadable_column(name: str, column: OutboundColumn, reason: str, count: int) -> Finding:
    """Not one of a column's values could be read."""
    return Finding("unreadable", name, f"none of the {count} values of '{column.key}' could be read: {reason}")


def judged(findings: Iterable[Finding], contract: Contract) -> pl.DataFrame:
    """The findings that the contract does not accept, as a table of `FINDINGS`.

    Errors: `ResponseShapeInvalid`, saying all findings that are errors.
    """
    acted = [(finding, getattr(contract, finding.kind)) for finding in findings]
    errors = [finding.detail for finding, action in acted if action == "error"]
    if errors:
        raise ResponseShapeInvalid(reason="; ".join(errors))
    rows = [
        (finding.kind, finding.column, action, finding.detail) for finding, action in acted if action != "accept"
    ]
    return pl.DataFrame(rows, schema=FINDINGS, orient="row")
