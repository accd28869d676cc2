"""How options appear in the forms that Prefect draws from a JSON schema."""

from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema


class AsChoice:
    """Annotation of a union: its JSON schema is one flat `anyOf`.

    The Prefect UI draws `anyOf` as a choice. It does not know `oneOf`, which pydantic writes for a union that a
    property tells apart. It annotates the whole type of a field, `None` included.
    """

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema, every choice beside the others."""
        schema = handler(core)
        rest = {name: value for name, value in schema.items() if name not in {"anyOf", "oneOf", "discriminator"}}
        return {**rest, "anyOf": _choices(schema)}


class Storable:
    """Annotation of a flow's parameter: its JSON schema refuses whole numbers that Prefect cannot store.

    Prefect's API validates parameters by that schema before it makes a run, and writes answers with orjson. A whole
    number beyond 64 bits in one run would break every list of runs that has it (Prefect's issue 15031).
    """

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema, with bounds at every number in it that has none, also of the models that it refers to."""
        schema = handler(core)
        _bound(schema, handler, set())
        return schema


def _bound(schema: Any, handler: GetJsonSchemaHandler, done: set[str]) -> None:  # noqa: ANN401
    if isinstance(schema, list):
        for each in schema:
            _bound(each, handler, done)
    elif isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            if reference not in done:
                done.add(reference)
                referred = handler.resolve_ref_schema({"$ref": reference})
                if not referred:
                    # Any JSON. Bounds hold for numbers only; other kinds of values are as free as before.
                    referred |= {
                        **_BOUNDS,
                        "items": {"$ref": reference},
                        "additionalProperties": {"$ref": reference},
                    }
                _bound(referred, handler, done)
            return
        if schema.get("type") in ("integer", "number"):
            for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
                if not {bound, exclusive} & schema.keys():
                    schema[bound] = _BOUNDS[bound]
        for name, inner in schema.items():
            if name == "properties":
                _bound(list(inner.values()), handler, done)
            elif name not in {"default", "examples", "const", "enum"}:
                _bound(inner, handler, done)


_BOUNDS = {"minimum": -(2**63), "maximum": 2**63 - 1}


def _choices(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a schema, and of the alternatives within it; a schema without any is one itself."""
    inner = schema.get("anyOf") or schema.get("oneOf")
    return [schema] if inner is None else [choice for each in inner for choice in _choices(each)]
