"""One call of an endpoint: what its requests send, written once for the request, its key and its identifier."""

from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property, partial
from hashlib import sha256
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx
import polars as pl
from pydantic import JsonValue, SecretStr

from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.inbound import as_json, as_text, as_texts, check_campaign_wide, rows_sent
from tasks.endpoint.pagination import Step
from tasks.endpoint.placeholders import filled
from tasks.errors import RequestBodyInvalid
from tasks.http.exchange import FORM, JSON, PartnerRequest
from tasks.http.network import public_url
from tasks.tables.transitions import require_columns

CACHE_FORMAT = "4"
"""Part of every cache key; another number makes earlier results unknown."""

Digest = Callable[[str], str]
"""Makes of a secret what a key may show."""


class EndpointCall:
    """A call: an endpoint, and the inbound rows or None. Its requests are made when they are first asked for.

    Errors of the properties and of `request`: `ProfileLevelCall`, `ColumnsMissing`, `RequestBodyInvalid`.
    """

    def __init__(self, inbound: pl.DataFrame | None, endpoint: Endpoint) -> None:
        self.inbound = inbound
        self.endpoint = endpoint
        self.since = endpoint.incremental.start if endpoint.incremental else ""
        """What ${since} stands for. The key of the call is that of its start, whatever came since."""

    def going_on(self, since: str) -> Self:
        """The call for what is new since an answer."""
        call = copy(self)
        call.since = since
        call.__dict__.pop("first", None)
        return call

    @cached_property
    def url(self) -> str:
        """The address as logs may show it."""
        return public_url(self.endpoint.url)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as they are sent."""
        if self.inbound is not None:
            check_campaign_wide(self.inbound, self.endpoint.inbound, self.url)
            columns = self.endpoint.inbound.columns
            require_columns(self.inbound, columns, activity="The inbound mapping", where="the inbound transition")
        return rows_sent(self.inbound, self.endpoint.inbound)

    @property
    def unkeyed_headers(self) -> frozenset[str]:
        """Names, in lower case, of headers that are sent and not in the key."""
        ignored = frozenset(name.lower() for name in self.endpoint.cache_ignores)
        return ignored | {"authorization"} if "account" in ignored else ignored

    @cached_property
    def _data(self) -> bytes:
        return as_json(self.rows, "data")

    @cached_property
    def first(self) -> PartnerRequest:
        """The first request, without credentials."""
        return self.request(self.endpoint.pagination.first() if self.endpoint.pagination else Step())

    @property
    def _whole(self) -> PartnerRequest:
        """What is sent in all: the first request, or of many calls their address and all rows."""
        if self.endpoint.calls is None:
            return self.first
        url = f"{self.endpoint.url}?{as_json(self.endpoint.inbound.model_dump(mode='json'), 'query').decode()}"
        return PartnerRequest(self.endpoint.method, url, self._data, headers=self.endpoint.headers)

    def request(self, step: Step, headers: Mapping[str, SecretStr] | None = None) -> PartnerRequest:
        """The request for one page."""
        endpoint = self.endpoint
        in_query = endpoint.pages_in == "query"
        url = step.url or self._url(step.parameters if in_query else {}, step)
        body = None if endpoint.method == "GET" else self._body({} if in_query else step.parameters, step)
        return PartnerRequest(
            endpoint.method,
            url,
            body,
            FORM if endpoint.inbound.encoding == "form" else JSON,
            {**endpoint.headers, **(headers or {})},
            accept=endpoint.outbound.accept,
            takes=endpoint.outbound.takes,
        )

    def _body(self, page: Mapping[str, JsonValue], step: Step) -> bytes:
        mapping = self.endpoint.inbound
        params: dict[str, Any] = {**mapping.params, **page}
        if self.inbound is not None and mapping.add_count:
            params["count"] = self.inbound.height
        if mapping.body is not None:
            body = filled(mapping.body, partial(self._value, params, step), as_text)
            return _form(body) if mapping.encoding == "form" else as_json(body, "body")
        if mapping.encoding == "form":
            return _form(params)
        if self.inbound is None:
            return b'{"params":%b}' % as_json(params, "params")
        return b'{"params":%b,"data":%b}' % (as_json(params, "params"), self._data)

    def _url(self, page: Mapping[str, JsonValue], step: Step) -> str:
        mapping = self.endpoint.inbound
        value = partial(self._value, mapping.params, step)
        wanted: dict[str, Any] = filled(mapping.query, value, as_text)
        if self.endpoint.method == "GET":
            wanted |= mapping.params
        counts = mapping.count_in_url or (self.endpoint.method == "GET" and mapping.add_count)
        if self.inbound is not None and counts:
            wanted["count"] = self.inbound.height
        if self.inbound is not None:
            self.rows  # noqa: B018  # a call without a body sends no profiles either
        parsed = httpx.URL(filled(self.endpoint.url, value, _in_address))
        for name, each in {**wanted, **page}.items():
            parsed = parsed.copy_remove_param(name)
            for text in as_texts(name, each):
                parsed = parsed.copy_add_param(name, text)
        return str(parsed)

    def _value(self, params: Mapping[str, Any], step: Step, name: str) -> Any:  # noqa: ANN401, PLR0911
        head, _, key = name.partition(".")
        match head, key:
            case "row", _:
                if len(self.rows) != 1:
                    reason = f"${{{name}}} needs one row, and there are {len(self.rows)}; make a call for each key"
                    raise RequestBodyInvalid(part="placeholder", reason=reason)
                return self.rows[0][key]
            case "rows", "":
                return self.rows
            case "rows", _:
                return [row[key] for row in self.rows]
            case "params", "":
                return params
            case "params", _:
                return params.get(key)
            case "page", "":
                return dict(step.parameters)
            case "page", _:
                return step.parameters.get(key)
            case "since", _:
                return self.since
            case _:
                return len(self.rows)

    def key(self, digest: Digest, credential: str) -> str:
        """Cache key: all that is sent, and how it is read. Secrets are in it as a keyed digest, never as they are.

        `digest` makes it; `credential` tells the account's credentials apart.
        """
        endpoint, request = self.endpoint, self._whole
        ignored = {name.lower() for name in endpoint.cache_ignores}
        headers = [
            (name.lower(), secret.get_secret_value())
            for name, secret in request.headers.items()
            if name.lower() not in ignored
        ]
        account = [] if "account" in ignored else [endpoint.account, credential]
        parts = (
            CACHE_FORMAT,
            endpoint.name,
            request.method,
            digest(repr((request.url, sorted(headers), account))),
            request.accept,
            request.content_type,
            endpoint.outbound.model_dump_json(),
            endpoint.model_dump_json(include={"pagination", "paged_in", "calls", "empty_statuses", "incremental"}),
        )
        hashed = sha256("\x1f".join(parts).encode())
        hashed.update(request.body or b"")
        return f"external-api-{hashed.hexdigest()}"

    def __reduce__(self) -> tuple[type["EndpointCall"], tuple[object, ...]]:
        # A copy that goes to another process makes its requests itself.
        return (type(self), (self.inbound, self.endpoint))


def _form(body: Mapping[str, Any]) -> bytes:
    return urlencode([(name, text) for name, value in body.items() for text in as_texts(name, value)]).encode()


def _in_address(value: object) -> str:
    """A value as one segment of a path. Errors: `RequestBodyInvalid` for one that would lead elsewhere."""
    text = as_text(value)
    if text in {"", ".", ".."}:
        raise RequestBodyInvalid(part="address", reason=f"{text!r} is no segment of a path")
    return quote(text, safe="")
