"""The outbound mapping: what is read from an answer, as it is written by hand or recorded from a pasted sample."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from tasks.endpoint.answer.column import OutboundColumn
from tasks.endpoint.answer.formats import Format, JsonFormat
from tasks.endpoint.answer.guards import ReaderLimits
from tasks.endpoint.answer.place import RowsAre
from tasks.endpoint.answer.sample import recorded
from tasks.endpoint.answer.shape import WHOLE_ANSWER, Property, key_steps, levels_of, steps_of
from tasks.endpoint.answer.xml import Arrays, arrays_on, names_of
from tasks.errors import ConfigurationError, SampleInvalid
from tasks.tables.transitions import nearest, quoted

Action = Literal["error", "warn", "accept"]


class Contract(BaseModel):
    """What a run does when an answer is not what the mapping was written for."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Contract of the answer")

    missing: Action = Field(
        default="error",
        title="Missing column",
        description=(
            "No row has the property of a column, or a row has an error in place of all columns. Where only some"
            " rows lack a property, it is null there."
        ),
    )
    new: Action = Field(
        default="warn",
        title="New column",
        description="Rows have a property that is neither a column nor one of the sample's properties.",
    )
    changed: Action = Field(
        default="error",
        title="Changed type",
        description=(
            "A value is of another JSON type than in the sample, or an object or a list where the column holds a"
            " plain value. If that is no error, numbers and booleans are read as texts are, and objects and lists"
            " as their JSON text."
        ),
    )
    unreadable: Action = Field(
        default="warn",
        title="Unreadable column",
        description="Not one value of a column is of its type.",
    )
    empty: Action = Field(
        default="warn",
        title="Nothing",
        description=(
            "In place of the rows there is null, an empty object or nothing at all. If that is no error, there"
            " are no rows; an empty array is never a difference."
        ),
    )
    more: Action = Field(
        default="warn",
        title="More rows",
        description="The partner says that there are more rows than those that came.",
    )


def _column_of_key(value: object) -> object:
    return {"key": value} if isinstance(value, str) else value


class OutboundMapping(BaseModel):
    """What is read: the array at a path, one row per element; or the whole answer as one row.

    Made from a `sample`, the mapping is what was found in it: the sample itself is not kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="What is read")

    format: Format = Field(
        default=JsonFormat(),
        title="Format",
        description=(
            "What the answer is written in: json, ndjson, csv or xml; with options as JSON, {kind: csv, separator:"
            " ;, encoding: cp1252, decimal: ','}."
        ),
    )
    content_types: frozenset[str] = Field(
        default=frozenset(),
        title="Content types",
        description="More content types by which the partner calls this format, such as text/plain.",
    )
    path: str = Field(
        default=WHOLE_ANSWER,
        title="Path",
        description=(
            "JMESPath of the array of objects, for example codeData.codes; @ is the whole answer. Through arrays"
            " with [], for example events[].competitions[]."
        ),
    )
    columns: dict[str, Annotated[OutboundColumn, BeforeValidator(_column_of_key)]] = Field(
        default_factory=dict,
        title="Outbound columns",
        description="Columns to read: {column: key}, or {column: {key: ..., type: ..., ...}}.",
    )
    flatten: bool = Field(
        default=False,
        title="Flatten",
        description="The whole answer is one row; keys are paths from the top, for example codes[0].code.",
    )
    parallel: bool = Field(
        default=False,
        title="Parallel arrays",
        description=(
            "The path leads to objects whose arrays lie side by side ({time: [...], temperature: [...]}): each"
            " position is a row, and plain values are repeated."
        ),
    )
    rows_are: RowsAre = Field(
        default="array",
        title="Rows are",
        description=(
            "What is at the path: array (of objects); map (an object whose values are the rows; their key is the"
            " column key @key); table (an array of arrays, column keys 0, 1, ...); table_with_names (the first of"
            " the arrays has the names); one_or_many (an object is one row, or rows under numbers)."
        ),
    )
    left_out: tuple[str, ...] = Field(
        default=(),
        title="Left out",
        description="What of the sample the mapping does not read; found with the sample, for who looks at it.",
    )
    properties: tuple[str, ...] = Field(
        default=(),
        title="Known properties",
        description="Properties of the sample's rows; others are new. Empty: none is taken for new.",
    )
    contract: Contract = Field(
        default=Contract(), title="Contract", description="What happens when the answer has changed."
    )
    limits: ReaderLimits = Field(
        default=ReaderLimits(), title="Limits", description="Limits of the answer's shape; the endpoint's own."
    )
    sample: JsonValue = Field(
        default=None,
        title="Sample",
        description=(
            "A trimmed answer, as text or JSON, from which the path and the columns are found where they are not"
            " given. It is read once, and not kept."
        ),
    )

    @property
    def accept(self) -> str:
        """The `Accept` header of a request."""
        return self.format.accept

    @property
    def takes(self) -> frozenset[str]:
        """Content types that an answer may have."""
        return self.format.types | {each.strip().lower() for each in self.content_types}

    @cached_property
    def places_of_arrays(self) -> Arrays:
        """Places of the answer that hold arrays: the rows, what is on the way to them, the rows' lists."""
        if self.flatten:
            return {}
        end = not self.parallel and self.rows_are in {"array", "one_or_many"}
        row = names_of(self.path)
        lists = [key_steps(column.key) for column in self.columns.values() if column.many and column.at is None]
        return {
            **{(*row, *steps): False for steps in lists if steps},
            **dict.fromkeys(arrays_on(self.path, end=end), True),
        }

    @model_validator(mode="before")
    @classmethod
    def _record_sample(cls, options: Any) -> Any:  # noqa: ANN401
        if not isinstance(options, dict) or options.get("sample") is None:
            return options
        given = {name: value for name, value in options.items() if name != "sample"}
        found = recorded(options["sample"], given)
        if not found.get("columns") and not given.get("columns"):
            raise SampleInvalid(reason="the sample implies no column: its rows hold no plain value")
        return {**found, **given}

    @model_validator(mode="after")
    def _levels_are_on_the_way(self) -> "OutboundMapping":
        try:
            steps, levels = steps_of(self.path), levels_of(self.path)
        except ConfigurationError as error:  # here it belongs to a field, which is named with it
            raise ValueError(error.facts["reason"]) from None
        if self.flatten and (self.parallel or self.path != WHOLE_ANSWER):
            raise ValueError("flatten takes the whole answer as one row: it has no path and no parallel arrays")
        goes_down = steps is not None and all(isinstance(step, Property) for step in steps)
        if self.rows_are != "array" and (self.flatten or self.parallel or not goes_down):
            raise ValueError("rows_are goes with a path of property names alone, and without flatten or parallel")
        for name, column in self.columns.items():
            if column.at is not None and column.at not in levels:
                raise ValueError(
                    f"column '{name}': at '{column.at}' is not on the way of the path '{self.path}', which leads"
                    f" through {quoted(levels)}. {nearest([column.at], levels)}".rstrip(". ")
                )
        return self
