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


def _choices(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a schema, and of the alternatives within it; a schema without any is one itself."""
    inner = schema.get("anyOf") or schema.get("oneOf")
    return [schema] if inner is None else [choice for each in inner for choice in _choices(each)]
