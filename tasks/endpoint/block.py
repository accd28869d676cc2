"""Endpoints as Prefect blocks: added in the UI, from a pasted sample, without code.

`python -m deployments.register` makes the kind known to a server. A campaign names such an endpoint as
`endpoint/<name>`.
"""

from typing import Any, ClassVar, Literal

from prefect.blocks.core import Block
from prefect.blocks.fields import SecretDict
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from tasks.endpoint.endpoint import Endpoint
from tasks.errors import ConfigurationError
from tasks.settings import fault_place, fault_words

KIND = "endpoint"


class EndpointBlock(Block):
    """An endpoint of a partner; what is not asked for here goes into the options."""

    _block_type_name = "Endpoint"
    _block_type_slug: ClassVar[str] = KIND
    _description = "A partner's endpoint for campaigns, its answer described by a pasted sample."

    url: str = Field(title="URL", description="Address of the endpoint; https only.")
    method: Literal["GET", "POST", "PUT", "PATCH"] = Field(
        default="GET", title="Method", description="POST, PUT and PATCH send a body."
    )
    account: str = Field(
        default="", title="External account", description="Block with the credentials, <kind>/<name>; empty: none."
    )
    format: Literal["json", "ndjson", "csv", "xml"] = Field(
        default="json", title="Format", description="What the answer is written in."
    )
    sample: str = Field(
        default="",
        title="Sample",
        description="A trimmed answer, pasted: path, columns and types are found in it.",
        json_schema_extra={"format": "json-string"},
    )
    headers: SecretDict = Field(default=SecretDict({}), title="Request headers", description="{name: value}.")
    options: dict[str, Any] = Field(
        default={},
        title="Options",
        description=(
            "More options of an endpoint, as JSON: {inbound: {columns: {zip_code: zip}}, pagination: {kind: page},"
            " outbound: {path: ...}, ...}."
        ),
    )

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint. Errors: `ConfigurationError`, naming block and option, never a value; `SampleInvalid`."""
        outbound = {"format": self.format, "sample": self.sample or None, **self.options.get("outbound", {})}
        headers = {each: SecretStr(str(value)) for each, value in self.headers.get_secret_value().items()}
        own = {"url": self.url, "method": self.method, "account": self.account, "headers": headers}
        try:
            return Endpoint.model_validate({"name": name, **self.options, **own, "outbound": outbound})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise ConfigurationError(setting=f"{KIND}/{name}", reason=_placed(Endpoint, first)) from None


def endpoint_of_block(reference: str) -> Endpoint:
    """The endpoint `endpoint/<name>`. Errors: `ConfigurationError`, `SampleInvalid`."""
    kind, _, name = reference.partition("/")
    if kind != KIND or not name:
        raise ConfigurationError(setting=reference, reason=f"an endpoint's block is named {KIND}/<name>")
    try:
        block: EndpointBlock = EndpointBlock.load(name, _sync=True)  # type: ignore[call-arg, assignment]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigurationError(setting=reference, reason=_placed(EndpointBlock, first)) from None
    except ValueError:
        reason = "there is no such block; make it in the UI, or run `python -m deployments.register` first"
        raise ConfigurationError(setting=reference, reason=reason) from None
    return block.endpoint(name)


def _placed(model: type[BaseModel], fault: ErrorDetails) -> str:
    return f"{'.'.join(fault_place(model, fault)) or 'options'}: {fault_words(fault)}"
