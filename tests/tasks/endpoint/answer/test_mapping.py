from typing import Any

import pytest
from pydantic import ValidationError

from tasks.endpoint.answer.mapping import OutboundMapping


def test_a_column_can_be_given_by_its_key_alone() -> None:
    mapping = OutboundMapping(path="a.b", columns={"code": "code", "price": {"key": "p", "type": "number"}})
    assert {name: (column.key, column.type) for name, column in mapping.columns.items()} == {
        "code": ("code", "text"),
        "price": ("p", "number"),
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "a..b"}, "'a..b' is not a JMESPath"),
        ({"flatten": True, "path": "a"}, "flatten takes the whole answer"),
        ({"flatten": True, "parallel": True}, "flatten takes the whole answer"),
        (
            {"path": "events[].games[]", "columns": {"x": {"key": "id", "at": "event[]"}}},
            r"column 'x': at 'event\[\]' is not on the way .*'@', 'events\[\]'.*Did you mean 'events\[\]'",
        ),
        ({"path": "a[?b]", "columns": {"x": {"key": "id", "at": "a[]"}}}, "not on the way"),
        ({"columns": {"x": {"key": ""}}}, "key"),
        ({"columns": {"x": {"key": "a", "typ": "text"}}}, "typ"),
        ({"contract": {"new": "ignore"}}, "new"),
        ({"limits": {"max_depth": 0}}, "max_depth"),
        ({"limits": {"max_depth": 201}}, "max_depth"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_when_it_is_written(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        OutboundMapping(**options)


def test_every_option_is_titled_and_described_for_the_form() -> None:
    schema = OutboundMapping.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    fields = [field for model in models for field in model.get("properties", {}).values()]
    assert len(fields) > 30
    assert all(field.keys() & {"title", "$ref"} and "description" in field for field in fields)
