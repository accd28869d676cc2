import json
from collections.abc import Callable
from typing import Any

import pytest

from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.errors import CampaignError, ResponseMalformed, ResponseShapeInvalid


def found(sample: object, **options: object) -> OutboundMapping:
    return OutboundMapping(sample=sample, **options)


def shown(mapping: OutboundMapping) -> dict[str, tuple[Any, ...]]:
    return {
        name: (column.key, column.at, f"{column.type} list" if column.many else column.type)
        for name, column in mapping.columns.items()
    }


@pytest.mark.parametrize(
    ("sample", "path"),
    [
        ({"codeData": {"format": "x", "codes": [{"code": "1"}]}, "id": "y"}, "codeData.codes"),
        ([{"code": "1"}], "@"),
        ({"a-b": {"c d": [{"code": "1"}]}}, '"a-b"."c d"'),
        ({"tags": ["x"], "rows": [{"code": "1", "inner": [{"x": 1}, {"x": 2}]}]}, "rows"),
        ({"empty": [], "mixed": [1, {"a": 1}], "rows": [{"code": "1"}]}, "rows"),
        ([{"page": 1}, [{"code": "1"}, {"code": "2"}]], "[1]"),
        ({"data": [[{"code": "1"}], [{"code": "2"}]]}, "data[]"),
        ({"hits": {"total": 1, "hits": [{"code": "1", "_source": {"a": [{"b": 1}]}}]}}, "hits.hits"),
        ({"type": "FeatureCollection", "features": [{"code": "1", "geometry": {"at": [1.5, 2]}}]}, "features"),
        ('{"rows": [{"code": "1"}]}', "rows"),
        ('\ufeff{"rows": [{"code": "1"}]}', "rows"),
    ],
)
def test_the_only_array_of_objects_is_found(sample: object, path: str) -> None:
    mapping = found(sample)
    assert (mapping.path, mapping.parallel, mapping.sample) == (path, False, None)
    assert mapping.columns["code"].key == "code"


@pytest.mark.parametrize(
    ("sample", "options", "error", "says"),
    [
        (
            {"a": [{"x": 1}], "b": {"c": [{"y": 1}]}},
            {},
            ResponseShapeInvalid,
            "several .*: give path as one of 'a', 'b.c'",
        ),
        ({"a": {"t": [1], "m": [2]}, "b": {"t": [1], "m": [2]}}, {}, ResponseShapeInvalid, "one of 'a', 'b'"),
        ([[{"x": 1}], {"a": [{"x": 1}]}], {}, ResponseShapeInvalid, r"one of '\[0\]', '\[1\].a'"),
        ({"a": 1}, {}, ResponseShapeInvalid, "no arrays of objects.*flatten"),
        ([], {}, ResponseShapeInvalid, "no arrays of objects"),
        ({"a": []}, {}, ResponseShapeInvalid, "no arrays of objects"),
        (7, {}, ResponseShapeInvalid, "no arrays of objects"),
        ({"a": [{"x": 1}]}, {"path": "b"}, ResponseShapeInvalid, "no array at 'b'"),
        ({"a": [1, {"b": 2}]}, {"path": "a"}, ResponseShapeInvalid, "not objects"),
        ({"a": [{"b": {}}]}, {}, ResponseShapeInvalid, "implies no column"),
        ({"a": [1, 2]}, {}, ResponseShapeInvalid, "the values of 'a' could be rows with that path"),
        ({"values": [["a"], [1]]}, {}, ResponseShapeInvalid, "'values' could be rows with rows_are: table"),
        ({"z": {"1": {"c": 1}, "2": {"c": 2}}}, {}, ResponseShapeInvalid, "'z' could be rows with rows_are: map"),
        ("{'a': 1}", {}, ResponseMalformed, "the sample"),
        ('{"a": NaN}', {}, ResponseMalformed, "NaN"),
        ('["\\ud800"]', {}, ResponseShapeInvalid, "lone surrogate"),
        ("[" * 11 + "]" * 11, {}, ResponseShapeInvalid, "deeper than 10"),
        ([{"k" * 256: 1}], {}, ResponseShapeInvalid, "has 256 characters, more than 255"),
        ([{"k" * 130: {"l" * 130: 1}}], {}, ResponseShapeInvalid, "has 261 characters, more than 255"),
        ({"k" * 256: 1}, {"flatten": True}, ResponseShapeInvalid, "has 256 characters"),
        ([{"id": 1}] * 152, {"flatten": True}, ResponseShapeInvalid, "more than 150 columns .*'id'"),
    ],
)
def test_a_sample_that_tells_no_mapping_is_refused(
    sample: object, options: dict[str, Any], error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        found(sample, **options)


@pytest.mark.parametrize(
    ("sample", "options"),
    [
        ([{"k" * 255: 1}], {}),
        ([{"id": 1}] * 151, {"flatten": True}),
        ([{"id": 1}] * 200, {"flatten": True, "limits": {"max_duplicate_names": 199}}),
        ([{"k" * 300: 1}], {"limits": {"max_key_length": 300}}),
        ("[" * 10 + '{"a":1}' + "]" * 10, {"flatten": True, "limits": {"max_depth": 11}}),
    ],
)
def test_limits_are_reached_and_can_be_raised(sample: object, options: dict[str, Any]) -> None:
    assert found(sample, **options).columns


def test_columns_are_plain_values_nested_ones_and_lists_of_them() -> None:
    mapping = found(
        {
            "rows": [
                {
                    "id": 1,
                    "team": {"name": "A", "venue": {"city": "X"}},
                    "tags": ["a"],
                    "logo": None,
                    "games": [{"n": 1}],
                },
                {"id": 2, "team": None, "tags": [], "logo": {"href": "h"}, "extra-key": True, "grid": [[1]]},
            ]
        }
    )
    assert shown(mapping) == {
        "id": ("id", None, "integer"),
        "team_name": ("team.name", None, "text"),
        "team_venue_city": ("team.venue.city", None, "text"),
        "tags": ("tags", None, "text list"),
        "logo_href": ("logo.href", None, "text"),
        "extra-key": ('"extra-key"', None, "boolean"),
    }
    assert mapping.properties == ("id", "team", "tags", "logo", "games", "extra-key", "grid")


def test_an_array_of_objects_is_no_column_though_it_be_empty_in_another_row() -> None:
    matches = [{"id": 1, "goals": [{"minute": 9}], "tags": []}, {"id": 2, "goals": [], "tags": ["derby"]}]
    assert list(OutboundMapping(sample=matches).columns) == ["id", "tags"]


def test_elements_that_a_row_lies_in_give_their_plain_values() -> None:
    sample = {
        "season": 2026,
        "events": [
            {"id": "e", "at": "2026-11-24T17:00Z", "tags": ["x"], "games": [{"id": "g", "sides": [{"id": "s"}]}]},
        ],
    }
    assert shown(found(sample, path="events[].games[].sides[]")) == {
        "id": ("id", None, "text"),
        "events_id": ("id", "events[]", "text"),
        "events_at": ("at", "events[]", "datetime"),
        "events_games_id": ("id", "events[].games[]", "text"),
    }


@pytest.mark.parametrize(
    ("sample", "options", "path", "columns"),
    [
        ({"place": "x", "daily": {"t": ["2026-11-24"], "m": [6.4]}}, {}, "daily", {"t": "date", "m": "number"}),
        ({"t": ["2026-11-24"], "m": [None]}, {}, "@", {"t": "date", "m": "text"}),
        (
            [{"place": "x", "daily": {"t": [1], "m": [2], "unit": "C"}}],
            {"path": "[].daily"},
            "[].daily",
            {"t": "integer", "m": "integer", "unit": "text", "place": "text"},
        ),
        (
            {"a": {"t": [1], "m": [2]}, "b": {"t": [1], "m": [2]}},
            {"path": "b"},
            "b",
            {"t": "integer", "m": "integer"},
        ),
        ({"a": {"t": [1]}}, {"path": "a", "parallel": True}, "a", {"t": "integer"}),
    ],
)
def test_arrays_side_by_side_are_rows(
    sample: object, options: dict[str, Any], path: str, columns: dict[str, str]
) -> None:
    mapping = found(sample, **options)
    assert (mapping.path, mapping.parallel) == (path, True)
    assert {name: column.type for name, column in mapping.columns.items()} == columns


def test_what_lies_on_the_way_to_the_rows_is_not_also_around_them() -> None:
    sample = {"edges": [{"cursor": "c", "node": {"id": 1}, "page": {"n": 1}}]}
    assert shown(found(sample, path="edges[].node")) == {
        "id": ("id", None, "integer"),
        "edges_cursor": ("cursor", "edges[]", "text"),
        "edges_page_n": ("page.n", "edges[]", "integer"),
    }


@pytest.mark.parametrize(
    ("values", "kind", "json_type"),
    [
        (["a", "b"], "text", "text"),
        (["02134"], "text", "text"),
        ([1, 2], "integer", "number"),
        ([1, 2.5], "number", "number"),
        ([1e3], "number", "number"),
        ([2**63 - 1], "integer", "number"),
        ([2**63], "text", "number"),
        ([True, False], "boolean", "boolean"),
        ([None, 1], "integer", "number"),
        ([None], "text", None),
        (["1", 1], "text", None),
        ([True, 1], "text", None),
        (["2026-11-24"], "date", "text"),
        (["2026-11-24", "soon"], "text", "text"),
        (["2026-11-24", ""], "text", "text"),
        (["2026-11-24T17:00Z", "2026-11-24T17:00:00.5+01:00"], "datetime", "text"),
        (["07:30", "08:00:00"], "time", "text"),
        (["2026-02-30"], "text", "text"),
        (["May 1st, 2020"], "text", "text"),
    ],
)
def test_types_are_those_that_all_values_have(values: list[Any], kind: str, json_type: str | None) -> None:
    column = found([{"v": value} for value in values]).columns["v"]
    assert (column.type, column.json_type, column.many) == (kind, json_type, False)
    if all(value is not None for value in values):
        listed = found([{"v": values}]).columns["v"]
        assert (listed.type, listed.json_type, listed.many) == (kind, json_type, True)


def test_a_longer_text_gets_a_longer_column() -> None:
    mapping = found([{"short": "x" * 255, "long": "x" * 300}])
    assert {name: column.max_length for name, column in mapping.columns.items()} == {"short": 255, "long": 600}


def test_flattened_every_value_is_a_column_named_by_its_property() -> None:
    sample = {
        "id": 1,
        "codes": [{"code": "a"}, {"code": "b"}],
        "tags": ["x", "y"],
        "none": None,
        "empty": {},
        "no": [],
    }
    assert shown(found(sample, flatten=True)) == {
        "id": ("id", None, "integer"),
        "code": ("codes[0].code", None, "text"),
        "codes_1_code": ("codes[1].code", None, "text"),
        "tags": ("tags[0]", None, "text"),
        "tags_1": ("tags[1]", None, "text"),
        "none": ("none", None, "text"),
    }
    assert shown(found([["x"], [{"a": 1}]], flatten=True)) == {
        "value": ("[0][0]", None, "text"),
        "a": ("[1][0].a", None, "integer"),
    }


def test_ids_are_never_given_twice() -> None:
    mapping = found({"a_b": 1, "a": {"b": 2, "a_b": 3}, "x": {"a": {"b": 4}}}, flatten=True)
    assert list(mapping.columns) == ["a_b", "b", "a_a_b", "x_a_b"]
    assert list(found([{"a": {"b": 1}, "a_b": 2}]).columns) == ["a_b_2", "a_b"]


def test_what_is_given_is_not_looked_for() -> None:
    sample = {"a": [{"x": 1, "y": 2}], "b": [{"z": 1}]}
    mapping = found(sample, path="a", columns={"only": "y"})
    assert (mapping.path, list(mapping.columns), mapping.properties) == ("a", ["only"], ("x", "y"))


def test_a_mapping_made_from_a_sample_is_recorded_once() -> None:
    mapping = found({"a": [{"x": 1, "y": "2026-11-24"}]})
    again = OutboundMapping.model_validate_json(mapping.model_dump_json())
    assert again == mapping
    assert again.model_dump()["sample"] is None


@pytest.mark.parametrize(
    ("file", "options", "path", "columns"),
    [
        ("coupons-sample-response.json", {}, "codeData.codes", ["code", "internalId", "state", "zipCode"]),
        (
            "coupons-sample-response.json",
            {"flatten": True},
            "@",
            [
                "codeFormat",
                "code",
                "internalId",
                "state",
                "zipCode",
                "geography",
                "id",
                "offerId",
                "offerTagline",
                "offerTitle",
                "redemptionDeadline",
            ],
        ),
        ("offers-dummyjson-products.json", {}, "products", None),
        ("schedule-espn-team.json", {"limits": {"max_depth": 11}}, "events", None),
        ("weather-open-meteo-locations.json", {}, "@", None),
    ],
)
def test_real_answers_tell_their_mapping(
    real_answer: Callable[[str], bytes], file: str, options: dict[str, Any], path: str, columns: list[str] | None
) -> None:
    mapping = found(real_answer(file).decode(), **options)
    assert mapping.path == path
    assert columns is None or list(mapping.columns) == columns
    assert found(json.loads(real_answer(file)), **options) == mapping


def test_the_deepest_real_answer_needs_a_raised_limit(real_answer: Callable[[str], bytes]) -> None:
    with pytest.raises(ResponseShapeInvalid, match="deeper than 10 levels"):
        found(real_answer("schedule-espn-team.json").decode())
