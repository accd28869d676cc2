"""Deployments on a server: as prefect.yaml declares them, without what people have changed in the UI since.

Each field (and each parameter) is compared three ways: as it was declared when it was deployed last, as it is on
the server, and as it is declared now. What was not changed on the server becomes what is declared now; what
was changed there stays, and is reported, unless it should be reset.
"""

import inspect
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from inspect import Parameter
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import apply_values
from pydantic import ValidationError

from deployments.declared import Declared
from tasks.errors import ConfigurationError
from tasks.tables.transitions import quoted

BASE = "campaign.declared"
"""Label of a deployment: digests of its fields as they were declared when it was deployed last."""
PARAMETER = "parameter "
KNOWN = frozenset(
    {
        "name",
        "entrypoint",
        "description",
        "tags",
        "parameters",
        "schedules",
        "concurrency_limit",
        "work_pool",
        "pull",
    }
    | {"paused", "version", "enforce_parameter_schema"}
)
"""What prefect.yaml may say of a deployment here; `prefect deploy` knows more (build, triggers, ...)."""
FIRST_ANCHOR, FIRST_DAY = "2020-01-01T00:00:00+00:00", "DTSTART:20200101T000000"
"""Where an interval or a rule counts from that says nothing else: as on the server, the same every time."""
SHOWN = 60
ABSENT = "(not set)"

Fields = dict[str, Any]
"""Fields that people may change, and each parameter, as JSON has them."""


@dataclass(frozen=True)
class Kept:
    """A field that people have changed: as it is on the server, and as it is declared."""

    deployment: str
    field: str
    there: Any
    declared: Any

    def __str__(self) -> str:
        """One line."""
        there, declared = _shown(self.there), _shown(self.declared)
        return f"{self.deployment}: {self.field} is {there} there, {declared} in prefect.yaml"


def deploy(found: Declared, client: SyncPrefectClient, *, reset: bool = False) -> list[Kept]:
    """Make the deployment, or bring it up to date. Out: what people have changed, which is kept unless `reset`.

    Errors: `ConfigurationError` (it declares what cannot be deployed here); those of its flow.
    """
    written = _resolved(found)
    flow = found.flow()
    wanted = declared_fields(found, written, flow.description or "")
    try:
        there = client.read_deployment_by_name(f"{flow.name}/{found.name}")
    except ObjectNotFound:
        there = None
    now = fields_of(there) if there else {}
    base = json.loads(str((there.labels or {}).get(BASE, "{}"))) if there else {}
    kept = list(_changed_there(found.name, wanted, now, base)) if there else []
    chosen = dict(wanted)
    for one in [] if reset else kept:
        if one.field in now:
            chosen[one.field] = now[one.field]
        else:  # a parameter that somebody has removed
            del chosen[one.field]
    payload = {
        "flow_id": str(client.create_flow_from_name(flow.name)),
        "version": written.get("version") or flow.version,
        "parameter_openapi_schema": _schema_of(flow),
        "labels": {BASE: json.dumps({name: _digest(value) for name, value in wanted.items()})},
        **_as_written(found, written),
        **_as_chosen(chosen),
    }
    client.request("POST", "/deployments/", json=payload)
    return kept


def _changed_there(name: str, wanted: Fields, now: Fields, base: Mapping[str, str]) -> Iterator[Kept]:
    for key in sorted({*wanted, *now}):
        there, declared = now.get(key, ABSENT), wanted.get(key, ABSENT)
        as_deployed = base.get(key, _digest(ABSENT) if base else "")
        if there != declared and _digest(there) != as_deployed:
            yield Kept(name, key, there, declared)


def _resolved(found: Declared) -> dict[str, Any]:
    """What is written, with the environment's variables in their places. Errors: `ConfigurationError`."""
    own = {name: value for name, value in found.written.items() if value not in (None, [], {})}
    written: dict[str, Any] = _filled(own)
    reason = ""
    if unknown := sorted(set(written) - KNOWN):
        reason = f"{quoted(unknown)} is not deployed here; use `prefect deploy --name {found.name}`"
    elif "{{" in json.dumps({name: value for name, value in written.items() if name != "pull"}, default=str):
        reason = "double braces are Prefect's, for values of its own; write templates into files"
    if reason:
        raise ConfigurationError(setting=f"{found.file}, {found.name}", reason=reason)
    return written


def _filled(written: Any) -> Any:  # noqa: ANN401  # as YAML has it
    return apply_values(written, dict(os.environ), remove_notset=False)


def declared_fields(found: Declared, written: Mapping[str, Any], description: str) -> Fields:
    """The fields as they are declared. Errors: `ConfigurationError`, for a schedule that is none."""
    pool = written.get("work_pool") or {}
    limit = written.get("concurrency_limit")
    options = limit if isinstance(limit, dict) else {"limit": limit}
    try:
        schedules = [_schedule(one) for one in written.get("schedules") or []]
    except (ValidationError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(setting=f"{found.file}, {found.name}, schedules", reason=reason) from None
    return {
        "description": written.get("description") or description,
        "tags": sorted(written.get("tags") or []),
        "schedules": _in_order(schedules),
        "concurrency limit": options.get("limit"),
        "collision strategy": options.get("collision_strategy") if options.get("limit") else None,
        "job variables": pool.get("job_variables") or {},
        "paused": bool(written.get("paused")),
        **{PARAMETER + name: value for name, value in (written.get("parameters") or {}).items()},
    }


def fields_of(there: DeploymentResponse) -> Fields:
    """The fields as they are on the server."""
    seen = there.model_dump(mode="json")
    limit = seen.get("global_concurrency_limit") or {}
    options = seen.get("concurrency_options") or {}
    schedules = [
        {
            "schedule": _exactly(one["schedule"]),
            "active": one["active"],
            "parameters": one.get("parameters") or {},
            "slug": one.get("slug"),
        }
        for one in seen["schedules"]
    ]
    return {
        "description": seen["description"] or "",
        "tags": sorted(seen["tags"]),
        "schedules": _in_order(schedules),
        "concurrency limit": limit.get("limit"),
        "collision strategy": options.get("collision_strategy") if limit else None,
        "job variables": seen["job_variables"] or {},
        "paused": seen["paused"],
        **{PARAMETER + name: value for name, value in seen["parameters"].items()},
    }


def _schedule(written: Mapping[str, Any]) -> dict[str, Any]:
    own = {"active", "parameters", "slug"}
    given = {name: value for name, value in written.items() if name not in own and value is not None}
    kind = CronSchedule if "cron" in given else IntervalSchedule if "interval" in given else RRuleSchedule
    if kind is IntervalSchedule:
        interval = given["interval"]
        given["interval"] = timedelta(seconds=interval) if isinstance(interval, int | float) else interval
        given.setdefault("anchor_date", FIRST_ANCHOR)
    elif kind is RRuleSchedule and "DTSTART" not in given["rrule"]:
        given["rrule"] = f"{FIRST_DAY}\n{given['rrule']}"
    schedule = kind.model_validate(given).model_dump(mode="json")
    return {
        "schedule": _exactly(schedule),
        "active": written.get("active", True),
        "parameters": written.get("parameters") or {},
        "slug": written.get("slug"),
    }


def _exactly(schedule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schedule.items() if value is not None}


def _in_order(schedules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(schedules, key=lambda one: json.dumps(one, sort_keys=True))


def _schema_of(flow: Flow[..., Any]) -> dict[str, Any]:
    """What the server checks parameters by. A name that the flow does not know is refused before there is a run.

    Prefect's schema takes any: the run then fails, and what it was given stays in every list of runs.
    """
    schema = parameter_schema(flow).model_dump(exclude_unset=True)
    kinds = {parameter.kind for parameter in inspect.signature(flow.fn).parameters.values()}
    return schema if Parameter.VAR_KEYWORD in kinds else {**schema, "additionalProperties": False}


def _as_written(found: Declared, written: Mapping[str, Any]) -> dict[str, Any]:
    """What a deployment has of prefect.yaml alone."""
    pool = written.get("work_pool") or {}
    return {
        "name": found.name,
        "entrypoint": found.entrypoint,
        "enforce_parameter_schema": written.get("enforce_parameter_schema", True),
        "work_pool_name": pool.get("name"),
        **({"work_queue_name": pool["work_queue_name"]} if pool.get("work_queue_name") else {}),
        "pull_steps": _filled(found.pull),
    }


def _as_chosen(chosen: Fields) -> dict[str, Any]:
    """The fields, as they are sent to the server."""
    strategy = chosen["collision strategy"]
    parameters = {name: value for name, value in chosen.items() if name.startswith(PARAMETER)}
    return {
        "description": chosen["description"],
        "tags": chosen["tags"],
        "schedules": chosen["schedules"],
        "concurrency_limit": chosen["concurrency limit"],
        "concurrency_options": {"collision_strategy": strategy} if strategy else None,
        "job_variables": chosen["job variables"],
        "paused": chosen["paused"],
        "parameters": {name.removeprefix(PARAMETER): value for name, value in parameters.items()},
    }


def _digest(value: Any) -> str:  # noqa: ANN401  # as JSON has it
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _shown(value: Any) -> str:  # noqa: ANN401  # as JSON has it
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
