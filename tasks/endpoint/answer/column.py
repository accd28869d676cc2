"""Columns of an answer: column definitions that also say where in the answer the value is."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field

from tasks.tables.columns import ColumnDefinition

JsonType = Literal["text", "number", "boolean"]


FoundType = JsonType | Literal["fraction", "null", "list", "object"]

JSON_TYPES: Mapping[type, FoundType] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    str: "text",
    list: "list",
    dict: "object",
}


def json_type_of(value: Any) -> FoundType:  # noqa: ANN401
    """The JSON type of a value; that of a number which is not whole is `fraction`."""
    if isinstance(value, float):
        return "number" if value.is_integer() else "fraction"
    return JSON_TYPES[type(value)]


class OutboundColumn(ColumnDefinition):
    """A column read from an answer."""

    model_config = ConfigDict(title="Outbound column")

    key: str = Field(
        min_length=1,
        title="Key",
        description=(
            "JMESPath of the value within the row, for example team.displayName or tags[0]; @ is the row itself."
            " What is no JMESPath (zip-code) is the name of a property."
        ),
    )
    at: str | None = Field(
        default=None,
        title="At",
        description=(
            "What the row lies in and the key starts from: a beginning of the mapping's path up to a [], or @, the"
            " whole answer. The value is repeated on each row. Empty: the row itself."
        ),
    )
    optional: bool = Field(
        default=False, title="Optional", description="The property may be missing in all rows of an answer."
    )
    json_type: JsonType | None = Field(
        default=None,
        title="JSON type",
        description="Type of the values in the sample; a value of another type is a change. Empty: not checked.",
    )
