import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.endpoint.answer.column import OutboundColumn
from tasks.endpoint.answer.definitions import as_table, as_yaml, pasted
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.errors import ConfigurationError

SAMPLE = {
    "codes": [{"code": "0798", "zip|code": "95124", "tags": ["a"], "since": "2026-11-24", "team": {"name": "x"}}]
}


def test_found_definitions_are_shown_as_a_table() -> None:
    table = as_table(OutboundMapping(sample={"codeData": {"codes": [{"code": "0798", "price": {"amount": 9.5}}]}}))
    assert table == (
        "path: codeData.codes\n"
        "properties:\n"
        "- code\n"
        "- price\n"
        "| column       | key          | at | type   | other options           |\n"
        "| ------------ | ------------ | -- | ------ | ----------------------- |\n"
        '| code         | code         |    | text   | {"json_type": "text"}   |\n'
        '| price_amount | price.amount |    | number | {"json_type": "number"} |\n'
    )


@pytest.mark.parametrize(
    "shown", [as_table, as_yaml, OutboundMapping.model_dump_json], ids=["table", "yaml", "json"]
)
@pytest.mark.parametrize(
    "mapping",
    [
        OutboundMapping(),
        OutboundMapping(sample=SAMPLE),
        OutboundMapping(sample=SAMPLE, flatten=True, contract={"new": "error"}, limits={"max_depth": 11}),
        OutboundMapping(sample={"events": [{"id": 1, "games": [{"id": 2}]}]}, path="events[].games[]"),
        OutboundMapping(
            path='"a b".c',
            columns={
                "yes": {"key": "no", "remap": {"on": "true", "1|2": "x"}, "type": "boolean"},
                ' "quoted" | name ': {"key": '"a|b".c', "on_bad_value": "default", "default": "\n"},
                "2026-11-24": {"key": "null", "max_length": None},
            },
        ),
    ],
    ids=["empty", "sample", "flattened", "levels", "odd names"],
)
def test_what_is_shown_can_be_pasted_back(shown: Any, mapping: OutboundMapping) -> None:
    assert pasted(shown(mapping)) == mapping


def test_a_table_can_be_changed_before_it_is_pasted() -> None:
    table = as_table(OutboundMapping(sample={"rows": [{"code": "1", "price": 2}]}))
    lines = [line.replace("integer", "number") for line in table.splitlines() if "| code" not in line]
    mapping = pasted("\n".join(lines))
    assert {name: column.type for name, column in mapping.columns.items()} == {"price": "number"}
    assert mapping.path == "rows"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=8), st.builds(dict, key=st.text(min_size=1, max_size=8)), max_size=4))
def test_any_names_survive_the_table(columns: dict[str, dict[str, str]]) -> None:
    mapping = OutboundMapping.model_construct(
        columns={name: OutboundColumn(**options) for name, options in columns.items()}
    )
    assert pasted(as_table(mapping)).columns == mapping.columns


@pytest.mark.parametrize(
    "text", ["[1, 2]", "a: [", "x", "| a | b |\n|---|---|\n| 1 | 2 |", "| a |\n| - |\n| { | | | | { |"]
)
def test_what_is_no_definition_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="the pasted text cannot be read"):
        pasted(text)


def test_yaml_is_what_a_person_would_write() -> None:
    options = yaml.safe_load(as_yaml(OutboundMapping(sample=SAMPLE)))
    assert options["path"] == "codes"
    assert options["columns"]["since"] == {"key": "since", "type": "date", "json_type": "text"}
    assert pasted(json.dumps(options)) == OutboundMapping(sample=SAMPLE)
