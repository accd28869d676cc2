"""External API: calls a partner's REST endpoint once for the whole campaign and makes a table of its answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, Literal, NoReturn, ParamSpec, TypeVar

import jmespath
import polars as pl
from jmespath.exceptions import JMESPathError
from prefect import State, Task, get_run_logger
from prefect.cache_policies import CachePolicy
from prefect.client.schemas import TaskRun
from prefect.context import TaskRunContext
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from tasks.errors import (
    ApiError,
    CampaignError,
    ConfigurationError,
    RequestBodyInvalid,
    ResponseMalformed,
    ResponseShapeInvalid,
)
from tasks.exchange import Connection, backoff_delays, post
from tasks.network import public_url
from tasks.results import ARROW, ReadableResults
from tasks.settings import Settings
from tasks.tables import nearest, quoted, require_columns

P = ParamSpec("P")
R = TypeVar("R")

CACHE_FORMAT = "1"
"""Part of every cache key; another number makes earlier results unknown."""

ColumnType = Literal["text", "integer", "number", "boolean", "date", "datetime"]

TYPES: Mapping[ColumnType, pl.DataType] = {
    "text": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us"),
}


class InboundMapping(BaseModel):
    """What is sent: `{"params": {...}, "data": [{...}, ...]}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Inbound columns",
        description="Columns to send, each with the key it has in the body: {column: key}.",
    )
    add_count: bool = Field(
        default=False, title="Add count parameter", description="Add the number of rows to params as 'count'."
    )
    params: dict[str, JsonValue] = Field(
        default_factory=dict,
        title="Customize parameter",
        description="JSON object that is merged into params.",
    )


class OutboundColumn(BaseModel):
    """A column read from each object of the answer's array."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(title="Key", description="First-level property of the object.")
    type: ColumnType = Field(default="text", title="Type", description="Type of the column's values.")


def _column_of_key(value: object) -> object:
    return {"key": value} if isinstance(value, str) else value


class OutboundMapping(BaseModel):
    """What is read: the array at a path, one row per object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        default="@",
        title="Path",
        description="JMESPath of the array of objects, for example codeData.codes; @ is the whole answer.",
    )
    columns: dict[str, Annotated[OutboundColumn, BeforeValidator(_column_of_key)]] = Field(
        default_factory=dict,
        title="Outbound columns",
        description="Columns to read: {column: key}, or {column: {key: ..., type: ...}}.",
    )


class Endpoint(Connection):
    """Options of the External API activity: how the partner is reached, what is sent and what is read."""

    name: str = Field(title="Name", description="Name of the content, as templates and logs use it.")
    cache_expiry: timedelta = Field(
        default=timedelta(hours=1),
        title="Cache expiry",
        description="How long an answer is used again for the same request, as ISO 8601 (PT1H) or in seconds.",
    )
    inbound: InboundMapping = Field(default=InboundMapping(), title="Inbound mapping", description="What is sent.")
    outbound: OutboundMapping = Field(
        default=OutboundMapping(), title="Outbound mapping", description="What is read."
    )

    def execution_options(self) -> dict[str, Any]:
        """The endpoint's retries, their delays and its cache expiry as options of a Prefect task."""
        return {
            "retries": self.retries,
            "retry_delay_seconds": backoff_delays(self),
            "cache_expiration": self.cache_expiry,
        }


def request_body(inbound: pl.DataFrame | None, endpoint: Endpoint) -> bytes:
    """JSON body of the request, in UTF-8.

    In: the rows to send (None sends no `data`). Dates and times are written as ISO 8601, decimals as text,
    nulls as null. Errors: `ColumnsMissing`, `RequestBodyInvalid`.
    """
    mapping = endpoint.inbound
    params: dict[str, Any] = dict(mapping.params)
    body: dict[str, Any] = {"params": params}
    if inbound is not None:
        require_columns(
            inbound,
            mapping.columns,
            activity=f"External API '{endpoint.name}'",
            where="the inbound transition",
        )
        if mapping.add_count:
            params["count"] = inbound.height
        body["data"] = inbound.select(list(mapping.columns)).rename(mapping.columns).to_dicts()
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, default=_json_form).encode()
    except (TypeError, ValueError) as error:
        raise RequestBodyInvalid(part="'data' or 'params'", reason=str(error)) from None


def _json_form(value: object) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def response_table(body: bytes, endpoint: Endpoint) -> pl.DataFrame:
    """Rows of the array at the outbound path, with the mapping's columns and types.

    A property that an object lacks is null. Of a property named twice the last counts. Errors:
    `ResponseMalformed` (not JSON), `ResponseShapeInvalid` (no array of objects at the path, a property that no
    object has, or a value not of its column's type).
    """
    mapping = endpoint.outbound
    rows = _rows_at(mapping.path, _parsed(body, endpoint))
    columns = {
        name: _column(name, column, [row.get(column.key) for row in rows])
        for name, column in mapping.columns.items()
    }
    present = dict.fromkeys(key for row in rows for key in row)
    absent = [column.key for column in mapping.columns.values() if column.key not in present]
    if rows and absent:
        raise ResponseShapeInvalid(
            reason=f"no object at '{mapping.path}' has {quoted(absent)}, only {quoted(present)}."
            f" {nearest(absent, present)}".rstrip(". ")
        )
    return pl.DataFrame(columns)


def _parsed(body: bytes, endpoint: Endpoint) -> Any:  # noqa: ANN401
    def refuse(reason: str) -> NoReturn:
        raise ResponseMalformed(url=public_url(endpoint.url), reason=reason) from None

    if not body.strip():
        refuse("sent an empty body")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=lambda name: refuse(f"sent {name}"))
    except UnicodeDecodeError:
        refuse("sent bytes that are not UTF-8")
    except RecursionError:
        refuse("sent JSON that is nested too deeply")
    except ValueError as error:
        refuse(f"sent no JSON ({error})")


def _rows_at(path: str, document: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    try:
        found = jmespath.search(path, document)
    except JMESPathError as error:
        raise ConfigurationError(setting="outbound path", reason=f"'{path}' is not a JMESPath ({error})") from None
    if not isinstance(found, list):
        top = f"an object with {quoted(document)}" if isinstance(document, dict) else "no object"
        raise ResponseShapeInvalid(reason=f"there is no array at '{path}'; the answer is {top}")
    if not all(isinstance(row, dict) for row in found):
        raise ResponseShapeInvalid(reason=f"the array at '{path}' holds values that are not objects")
    return found


def _column(name: str, column: OutboundColumn, values: list[Any]) -> pl.Series:
    texts = pl.Series(name, [_text_of(value, column) for value in values], dtype=pl.String())
    match column.type:
        case "text":
            return texts
        case "boolean":
            typed = texts.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean())
        case "date":
            typed = texts.str.to_date("%Y-%m-%d", strict=False)
        case "datetime":
            typed = texts.str.to_datetime(time_unit="us", time_zone="UTC", strict=False).dt.replace_time_zone(None)
        case _:
            typed = texts.cast(TYPES[column.type], strict=False)
    bad = (typed.is_null() & texts.is_not_null()).arg_true()
    if len(bad):
        raise ResponseShapeInvalid(
            reason=f"'{column.key}' of row {bad[0] + 1} is {texts[bad[0]]!r}, not of type {column.type}"
        )
    return typed


def _text_of(value: Any, column: OutboundColumn) -> str | None:  # noqa: ANN401
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ResponseShapeInvalid(reason=f"'{column.key}' holds a lone surrogate, which is no character")
        return value
    if value is None:
        return None
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise ResponseShapeInvalid(reason=f"'{column.key}' is {kind}, not of type {column.type}")
    return json.dumps(value)


def external_api_request_key(inbound: pl.DataFrame | None, endpoint: Endpoint) -> str:
    """Cache key of a call: the endpoint, the mapping and the rows as they are sent; no secret is part of it."""
    parts = (CACHE_FORMAT, endpoint.name, endpoint.url, endpoint.outbound.model_dump_json())
    digest = sha256("\x1f".join(parts).encode())
    digest.update(request_body(inbound, endpoint))
    return f"external-api-{digest.hexdigest()}"


@dataclass
class SameRequest(CachePolicy):
    """Cache policy: the same request to the same endpoint, read by the same mapping, in any run."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> str | None:
        """Key of the call, or None when the request cannot be built: the task itself then says why."""
        try:
            return external_api_request_key(inputs["inbound"], inputs["endpoint"])
        except CampaignError:
            return None


def a_retry_can_mend(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: only failures that pass, and never sooner than the partner's Retry-After."""
    error = state.data
    if not isinstance(error, ApiError) or not error.retryable:
        return False
    delays = task.retry_delay_seconds
    attempt = task_run.run_count
    if attempt > task.retries or not isinstance(delays, list) or not delays:
        return True
    following = min(attempt, len(delays)) - 1
    # The task is a copy made for this one call (ExternalApiTask), so its delays are the call's own.
    delays[following] = max(delays[following], error.retry_after or 0.0)
    get_run_logger().warning(
        "Retrying API URL '%s' due to %s in %d ms, attempt %d.",
        error.facts["url"],
        error,
        round(delays[following] * 1000),
        attempt + 1,
    )
    return True


class ExternalApiTask(Task[P, R]):
    """A Prefect task that takes its retries, their delays and its cache expiry from the endpoint of each call.

    Options set by `with_options` come first: what it returns is a plain task.
    """

    def _for_endpoint(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[P, R]:
        endpoint: Endpoint = kwargs["endpoint"] if "endpoint" in kwargs else args[1]
        return self.with_options(**endpoint.execution_options())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        """Run the task with the endpoint's execution options."""
        return self._for_endpoint(args, kwargs)(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Submit the task to the flow's task runner with the endpoint's execution options."""
        return self._for_endpoint(args, kwargs).submit(*args, **kwargs)


def _external_api(inbound: pl.DataFrame | None, endpoint: Endpoint) -> pl.DataFrame:
    """Send the inbound rows to a partner's REST endpoint and read the table it answers with.

    In: the inbound transition, or None to send parameters only; the endpoint with its limits and mappings.
    Rows of an empty inbound transition need no content: the partner is then not called.
    Out: one row per object of the answer's array; the columns and types of the outbound mapping.
    Cached across runs by endpoint, mapping and inbound rows, until the endpoint's `cache_expiry`.
    Errors: `ApiError` and its kinds; those that can pass (no connection, timeouts, 408, 425, 429, 5xx) are
    retried first. Source: Adobe Campaign Standard, External API activity.
    """
    logger = get_run_logger()
    if not endpoint.url:
        raise ConfigurationError(
            setting=f"CAMPAIGN_{endpoint.name.upper()}__URL",
            reason="the endpoint has no address; give the partner's, or run `make demo` for the sandbox's",
        )
    if inbound is not None and inbound.is_empty():
        logger.info("No inbound rows: '%s' is not called.", endpoint.name)
        return response_table(b"[]", endpoint.model_copy(update={"outbound": _whole_answer(endpoint)}))
    body = request_body(inbound, endpoint)
    logger.info("Invoking API URL '%s'.", public_url(endpoint.url))
    answer = post(body, endpoint, Settings.load().network.allowed_hosts)
    table = response_table(answer, endpoint)
    sent = 0 if inbound is None else inbound.height
    logger.info("%d rows sent, %d rows of '%s' received.", sent, table.height, endpoint.name)
    return table


def _whole_answer(endpoint: Endpoint) -> OutboundMapping:
    return endpoint.outbound.model_copy(update={"path": "@"})


external_api = ExternalApiTask(
    _external_api,
    name="External API",
    task_run_name="External API {endpoint.name}",
    cache_policy=ReadableResults(policy=SameRequest()),
    result_serializer=ARROW,
    retry_condition_fn=a_retry_can_mend,
)
