"""External signal: an event with declared, typed parameters that starts a workflow."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.events import DeploymentEventTrigger, emit_event
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from tasks.errors import SignalRefused
from tasks.runs.results import ARROW, PER_RUN
from tasks.tables.transitions import nearest, quoted

SignalType = Literal["text", "integer", "number", "boolean", "date", "datetime"]

TYPES: Mapping[SignalType, type] = {
    "text": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "date": date,
    "datetime": datetime,
}


class SignalParameter(BaseModel):
    """One parameter that a signal carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: SignalType = Field(default="text", title="Type", description="Type of the value.")
    required: bool = Field(default=True, title="Required", description="A signal without it is refused.")


class ExternalSignal(BaseModel):
    """A signal as it is declared, once, for those who send it and those whom it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", title="Name", description="Lower-case letters, digits and hyphens."
    )
    parameters: dict[str, SignalParameter] = Field(
        default_factory=dict,
        title="Parameters",
        description="What the signal carries, {name of the flow's parameter: its type}.",
    )

    @property
    def event(self) -> str:
        """Name of the Prefect event; who sends it to the server's API from outside names it so."""
        return f"campaign.signal.{self.name}"


def signal_payload(signal: ExternalSignal, values: Mapping[str, object]) -> dict[str, Any]:
    """The values in the declared types, as JSON has them. Errors: `SignalRefused`, naming the parameter."""
    unknown = [name for name in values if name not in signal.parameters]
    if unknown:
        hint = nearest(unknown, signal.parameters)
        raise SignalRefused(
            name=signal.name, reason=f"it declares no parameter {quoted(unknown)}. {hint}".rstrip(". ")
        )
    fields: dict[str, Any] = {
        name: (TYPES[parameter.type], ...) if parameter.required else (TYPES[parameter.type] | None, None)
        for name, parameter in signal.parameters.items()
    }
    model = create_model("Payload", **fields)
    try:
        return model(**values).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise SignalRefused(name=signal.name, reason=f"'{first['loc'][0]}': {first['msg']}") from None


def started_by(signal: ExternalSignal) -> DeploymentEventTrigger:
    """The trigger that starts a deployment on the signal, with the signal's parameters as the run's.

    Give it to `to_deployment(triggers=[...])`; in prefect.yaml it is the same, written out. The flow's own types
    check the values again, so that an event that came from outside cannot bring others.
    """
    return DeploymentEventTrigger(
        name=f"signal {signal.name}",
        expect={signal.event},
        within=timedelta(0),
        threshold=1,
        parameters={name: _from_payload(name) for name in signal.parameters},
    )


def _from_payload(name: str) -> dict[str, Any]:
    """Prefect's template of one parameter: through JSON, so that a number stays a number and nothing is null."""
    template = f"{{{{ event.payload.get('{name}') | tojson }}}}"
    return {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja", "template": template}}


@task(
    name="External signal",
    task_run_name="External signal {signal.name}",
    cache_policy=PER_RUN,
    result_serializer=ARROW,
)
def external_signal(signal: ExternalSignal, values: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Send the signal: every deployment with its trigger is started, with the values as parameters.

    In: the signal as declared, and the values of its parameters. Usually the last activity of a workflow.
    Out: the values as they were sent. A run that is retried, or goes on after a wait, sends it once.
    Errors: `SignalRefused`, before anything is sent. Source: Adobe Campaign Standard, External signal activity.

    Example:
        ```python
        signal = ExternalSignal(name="spring-started", parameters={"business_date": SignalParameter(type="date")})
        external_signal(signal, {"business_date": today})
        ```
    """
    payload = signal_payload(signal, values or {})
    emit_event(event=signal.event, resource={"prefect.resource.id": signal.event}, payload=payload)
    get_run_logger().info("Signal '%s' sent with %s.", signal.name, quoted(payload))
    return payload
