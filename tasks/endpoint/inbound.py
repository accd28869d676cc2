"""The inbound mapping: what is sent to a partner, and the one JSON form that each value has.

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
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal

import httpx
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tasks.errors import ProfileLevelCall, RequestBodyInvalid
from tasks.tables.transitions import quoted, require_columns

Method = Literal["POST", "GET"]


class InboundMapping(BaseModel):
    """What is sent: a body `{"params": {...}, "data": [{...}, ...]}`, or with GET a query alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Inbound columns",
        description="Columns to send, each with the key it has in the body: {column: key}. Not with GET.",
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


def check_campaign_wide(inbound: pl.DataFrame, mapping: InboundMapping, url: str) -> None:
    """Check that the rows are about the campaign, not one per profile. Errors: `ProfileLevelCall`."""
    if mapping.allow_profile_level:
        return
    keys = [column for column in mapping.columns if column in mapping.profile_keys]
    if keys:
        raise ProfileLevelCall(url=url, reason=f"{quoted(keys)} tells profiles apart")
    if inbound.height > mapping.max_rows:
        raise ProfileLevelCall(url=url, reason=f"{inbound.height} rows are more than {mapping.max_rows}")


def request_body(inbound: pl.DataFrame | None, mapping: InboundMapping, more: Mapping[str, JsonValue]) -> bytes:
    """JSON body of a POST, in UTF-8: `{"params": {...}, "data": [{...}, ...]}`.

    In: the rows to send (None sends no `data` and no count), the mapping, and parameters that come before the
    mapping's (those of a page). Errors: `ColumnsMissing`, `RequestBodyInvalid`.
    """
    params: dict[str, Any] = {**mapping.params, **more}
    if inbound is None:
        return b'{"params":%b}' % _json(params, "params")
    require_columns(inbound, mapping.columns, activity="The inbound mapping", where="the inbound transition")
    if mapping.add_count:
        params["count"] = inbound.height
    rows = inbound.select(list(mapping.columns)).rename(mapping.columns).to_dicts()
    return b'{"params":%b,"data":%b}' % (_json(params, "params"), _json(rows, "data"))


def _json(value: object, part: str) -> bytes:
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


def request_url(
    url: str, inbound: pl.DataFrame | None, mapping: InboundMapping, method: Method, more: Mapping[str, JsonValue]
) -> str:
    """The URL with its query: what it has, the mapping's query, with GET the params, and `more` over all of them.

    Errors: `RequestBodyInvalid` for a value that a query cannot carry.
    """
    wanted: dict[str, JsonValue] = dict(mapping.query)
    if method == "GET":
        wanted |= mapping.params
    if inbound is not None and (mapping.count_in_url or (method == "GET" and mapping.add_count)):
        wanted["count"] = inbound.height
    parsed = httpx.URL(url)
    for name, value in {**wanted, **more}.items():
        parsed = parsed.copy_remove_param(name)
        for text in _query_texts(name, value):
            parsed = parsed.copy_add_param(name, text)
    return str(parsed)


def _query_texts(name: str, value: JsonValue) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [text for element in value for text in _query_texts(name, element)]
    if isinstance(value, dict):
        raise RequestBodyInvalid(part="query", reason=f"'{name}' is an object, which a query cannot carry")
    return [value if isinstance(value, str) else _json(value, "query").decode()]
