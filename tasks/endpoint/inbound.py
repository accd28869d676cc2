"""The inbound mapping: which rows and parameters are sent, where they stand, and the one JSON form of each value.

| value | in the body | in the query |
|---|---|---|
| text, integer, boolean | as JSON | as text; `true`, `false` |
| floating number | as JSON; NaN and infinity are refused | as JSON writes it |
| decimal | text with all its digits, `"1.10"` | the same |
| date, time, date and time | text in ISO 8601, `"2026-11-24"`, with the offset where there is one | the same |
| null | `null` | left out |
| list, struct | array, object | one parameter an element; a struct is refused |
| duration, binary | refused | refused |
"""

import json
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from tasks.endpoint.placeholders import check_names
from tasks.errors import ProfileLevelCall, RequestBodyInvalid
from tasks.tables.transitions import quoted

Method = Literal["POST", "GET", "PUT", "PATCH"]


class InboundMapping(BaseModel):
    """What is sent: a body `{"params": {...}, "data": [{...}, ...]}` or another one; with GET a query alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="What is sent")

    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Inbound columns",
        description="Columns to send, each with the key it has in the body: {column: key}.",
    )
    add_count: bool = Field(
        default=False, title="Add count parameter", description="Add the number of rows to params as 'count'."
    )
    count_in_url: bool = Field(
        default=False,
        title="Count in the URL",
        description="Add the number of rows to the URL as 'count' too, as Adobe Campaign's request logs show it.",
    )
    params: dict[str, JsonValue] = Field(
        default_factory=dict,
        title="Customize parameter",
        description="JSON object that is merged into params. With GET, which has no body, it goes into the query.",
    )
    query: dict[str, JsonValue] = Field(
        default_factory=dict,
        title="Query parameters",
        description="Parameters to add to the URL's query. They are no place for secrets: use a header for those.",
    )
    body: JsonValue = Field(
        default=None,
        title="Body",
        description=(
            "JSON body of another form, with placeholders: {query: ..., variables: {zips: ${rows.zipCode}}}. Left"
            " out: {params, data}."
        ),
    )
    encoding: Literal["json", "form"] = Field(
        default="json",
        title="Encoding",
        description="json, or form: the body's names and values (without a body: the params) form-encoded.",
    )
    max_rows: int = Field(
        default=50_000,
        ge=1,
        title="Row limit",
        description="More rows than this are data about single profiles, not about the campaign, and are refused.",
    )
    profile_keys: tuple[str, ...] = Field(
        default=("profile_id", "email"),
        title="Profile keys",
        description="Columns that tell profiles apart: to send one would be one row per profile, and is refused.",
    )
    allow_profile_level: bool = Field(
        default=False,
        title="Allow profile-level data",
        description="Send one row per profile all the same.",
    )

    @model_validator(mode="after")
    def _placeholders_stand_for_something(self) -> "InboundMapping":
        for template in (self.body, self.query):
            check_names(template, set(self.columns.values()))
        if self.encoding == "form" and self.body is not None and not isinstance(self.body, dict):
            raise ValueError("a form-encoded body is an object of names and values")
        return self


def check_campaign_wide(inbound: pl.DataFrame, mapping: InboundMapping, url: str) -> None:
    """Check that the rows are about the campaign, not one per profile. Errors: `ProfileLevelCall`."""
    if mapping.allow_profile_level:
        return
    keys = [column for column in mapping.columns if column in mapping.profile_keys]
    if keys:
        raise ProfileLevelCall(url=url, reason=f"{quoted(keys)} tells profiles apart")
    if inbound.height > mapping.max_rows:
        raise ProfileLevelCall(url=url, reason=f"{inbound.height} rows are more than {mapping.max_rows}")


def rows_sent(inbound: pl.DataFrame | None, mapping: InboundMapping) -> list[dict[str, Any]]:
    """The rows as objects with their sent keys; none where nothing is inbound."""
    if inbound is None:
        return []
    return inbound.select(list(mapping.columns)).rename(mapping.columns).to_dicts()


def as_json(value: object, part: str) -> bytes:
    """A value in its JSON form, in UTF-8. Errors: `RequestBodyInvalid`, naming the part of the request."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_json_form, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError) as error:
        raise RequestBodyInvalid(part=part, reason=str(error)) from None


def _json_form(value: object) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def as_text(value: object, name: str = "value") -> str:
    """A value as a query, a form or a longer text has it. Errors: `RequestBodyInvalid`."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, dict):
        raise RequestBodyInvalid(part="query", reason=f"'{name}' is an object, which a query cannot carry")
    if isinstance(value, list):
        raise RequestBodyInvalid(part="query", reason=f"'{name}' is an array, which no single text can carry")
    return as_json(value, "query").decode().strip('"')


def as_texts(name: str, value: object) -> list[str]:
    """The texts of one parameter of a query or form: none for null, one for each element of an array."""
    if value is None:
        return []
    if isinstance(value, list):
        return [text for element in value for text in as_texts(name, element)]
    return [as_text(value, name)]
