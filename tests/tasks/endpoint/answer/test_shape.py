from typing import Any

import pytest

from tasks.endpoint.answer.shape import (
    Each,
    Index,
    Level,
    Property,
    levels_of,
    name_in_path,
    objects_at,
    path_of,
    rows_at,
    side_by_side,
    steps_of,
    values_at,
)
from tasks.errors import CampaignError, ConfigurationError, ResponseShapeInvalid

EACH = Each(merged=True)


@pytest.mark.parametrize(
    ("path", "steps", "written"),
    [
        ("@", (), "@"),
        ("a.b", (Property("a"), Property("b")), "a.b"),
        ('"a-b"."c.d"', (Property("a-b"), Property("c.d")), '"a-b"."c.d"'),
        ("[]", (EACH,), "[]"),
        ("a[].b[]", (Property("a"), EACH, Property("b"), EACH), "a[].b[]"),
        ("a[*].b", (Property("a"), Each(), Property("b")), "a[].b"),
        ("a[0].b[-1]", (Property("a"), Index(0), Property("b"), Index(-1)), "a[0].b[-1]"),
        ("[0].a", (Index(0), Property("a")), "[0].a"),
        ("[].a", (EACH, Property("a")), "[].a"),
    ],
)
def test_a_path_that_goes_down_is_its_steps(path: str, steps: tuple[Any, ...], written: str) -> None:
    assert steps_of(path) == steps
    assert path_of(steps) == written


@pytest.mark.parametrize(
    "path", ["a[?b]", "a.*", "length(a)", "a | b", "a[1:2]", "[a, b]", "{x: a}", "a || b", "`1`"]
)
def test_any_other_path_is_left_to_jmespath(path: str) -> None:
    assert steps_of(path) is None
    assert levels_of(path) == ["@"]


@pytest.mark.parametrize("path", ["a..b", "", "a[", "a-b", "2m"])
def test_what_is_no_path_is_a_wrong_setting(path: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a JMESPath"):
        rows_at([{}], path)


@pytest.mark.parametrize("name", ["a", "a b", 'a"b', "a.b", "", "é", "\n", "2m", "a\\b"])
def test_every_property_name_can_be_written_in_a_path(name: str) -> None:
    assert steps_of(name_in_path(name)) == (Property(name),)


A, B, C = {"v": "a"}, {"v": "b"}, {"v": "c"}


@pytest.mark.parametrize(
    ("answers", "path", "rows", "counts"),
    [
        ([[A, B]], "@", [A, B], [[1], [2]]),
        ([[A, B]], "[]", [A, B], [[1], [2]]),
        ([{"x": {"y": [A]}}], "x.y", [A], [[1], [1]]),
        ([{"x": []}], "x", [], [[1], [0]]),
        ([{"x": [A]}, {"x": []}, {"x": [B, C]}], "x", [A, B, C], [[3], [1, 0, 2]]),
        ([], "x", [], [[0], []]),
        ([{"x": [{"y": [A, B]}, {"y": []}, {"y": [C]}]}], "x[].y[]", [A, B, C], [[1], [3], [2, 0, 1]]),
        ([{"x": [{"y": [A]}, {"y": None}, {}]}], "x[].y[]", [A], [[1], [3], [1, 0, 0]]),
        ([{"x": [{"y": [A]}, {"y": [B]}]}], "x[].y", [A, B], [[1], [2], [1, 1]]),
        ([{"x": [{"node": A}, {"node": None}, {"node": B}]}], "x[].node", [A, B], [[1], [3], [1, 0, 1]]),
        ([{"x": [{"y": {"z": [A]}}, {"y": None}]}], "x[].y.z", [A], [[1], [2], [1, 0]]),
        ([{"x": [[A], [B, C]]}], "x[]", [A, B, C], [[1], [3]]),
        ([{"x": [{"y": [A, B]}, {"y": [C]}]}], "x[1].y", [C], [[1], [1]]),
        ([{"x": [A, B, C]}], "x[?v != 'b']", [A, C], [[1], [2]]),
        ([{"x": {"k": A, "l": B}}], "values(x)", [A, B], [[1], [2]]),
        ([{"x": [1, "2"]}], "x", [1, "2"], [[1], [2]]),
    ],
)
def test_rows_are_found_with_how_many_lie_in_what(
    answers: list[Any], path: str, rows: list[Any], counts: list[list[int]]
) -> None:
    levels = rows_at(answers, path)
    assert levels[-1].elements == rows
    assert [level.counts for level in levels] == counts


@pytest.mark.parametrize(
    ("answer", "path", "says"),
    [
        ({"other": []}, "rows", "no array at 'rows'; the answer is an object with 'other'"),
        ({"rows": {"a": 1}}, "rows", "no array at 'rows'; there is an object with 'a'"),
        ({"rows": None}, "rows", "no array at 'rows'"),
        ({"rows": "x"}, "rows", "there is a text"),
        ({"rows": 7}, "rows", "there is a number"),
        ({"rows": True}, "rows", "there is a boolean"),
        ({}, "@", "no array at '@'"),
        (7, "rows", "no array at 'rows'"),
        (None, "@", "there is null"),
        ([{"a": []}], "[].rows", "no object at '\\[\\]' has 'rows'"),
        ({"x": [{"a": []}]}, "x[].rows[]", "no object at 'x\\[\\]' has 'rows'"),
        ({"x": [{"rows": "text"}]}, "x[].rows[]", "no array at 'x\\[\\].rows'; there is a text"),
        ({"x": [1]}, "x[?v]", None),
        ({"x": 1}, "length(x)", "does not fit the answer"),
        ({"x": 1}, "x || y", "no array"),
    ],
)
def test_an_answer_without_the_array_is_refused(answer: object, path: str, says: str | None) -> None:
    if says is None:
        assert rows_at([answer], path)[-1].elements == []
    else:
        with pytest.raises(ResponseShapeInvalid, match=says):
            rows_at([answer], path)


def test_one_page_without_the_array_is_enough() -> None:
    with pytest.raises(ResponseShapeInvalid, match="no array at 'rows'"):
        rows_at([{"rows": [A]}, {"rows": None}], "rows")


ARRAYS = {"time": [1, 2], "max": [7, None], "unit": "°C", "odd": [1]}


@pytest.mark.parametrize(
    ("answer", "path", "names", "rows"),
    [
        ({"daily": ARRAYS}, "daily", {"time", "max"}, [{"time": 1, "max": 7}, {"time": 2, "max": None}]),
        ({"daily": ARRAYS}, "daily", {"time", "unit"}, [{"time": 1, "unit": "°C"}, {"time": 2, "unit": "°C"}]),
        (ARRAYS, "@", {"max"}, [{"max": 7}, {"max": None}]),
        ([{"daily": ARRAYS}, {"daily": {"time": []}}, {}], "[].daily", {"time"}, [{"time": 1}, {"time": 2}]),
    ],
)
def test_arrays_side_by_side_are_rows(answer: object, path: str, names: set[str], rows: list[Any]) -> None:
    assert side_by_side(objects_at([answer], path)[-1], names).elements == rows


@pytest.mark.parametrize(
    ("answer", "path", "error", "says"),
    [
        ({"daily": ARRAYS}, "daily", ResponseShapeInvalid, "not of one length: 'time' has 2, 'odd' has 1"),
        ({"daily": {"time": 1}}, "daily", ResponseShapeInvalid, "no arrays are at 'daily'"),
        ({"daily": [ARRAYS]}, "daily", ResponseShapeInvalid, "no object at 'daily'; there is an array"),
        ({"daily": 1}, "daily", ResponseShapeInvalid, "no object at 'daily'"),
        ({}, "daily || x", ConfigurationError, "more than going down"),
    ],
)
def test_arrays_that_are_not_side_by_side_are_refused(
    answer: object, path: str, error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        side_by_side(objects_at([answer], path)[-1], {"time", "odd"})


ELEMENTS = [{"a": 1, "b": {"c": [5, 6]}, "zip-code": "z"}, {"a": None}, {"b": {"c": 7}, "a.b": 3}]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("a", [1, None, None]),
        ("b.c", [[5, 6], None, 7]),
        ("b.c[0]", [5, None, None]),
        ("b.c[-1]", [6, None, None]),
        ("b.c[9]", [None, None, None]),
        ("zip-code", ["z", None, None]),
        ('"a.b"', [None, None, 3]),
        ("missing", [None, None, None]),
        ("a || b.c", [1, None, 7]),
        ("@", ELEMENTS),
    ],
)
def test_a_key_leads_to_its_value_or_to_none(key: str, values: list[Any]) -> None:
    assert values_at(ELEMENTS, [key]) == {key: values}
    assert values_at([], [key]) == {key: []}


def test_several_keys_are_looked_up_at_once_with_the_same_values() -> None:
    elements = [{"a": n, "b": str(n), "c": {"d": n}} for n in range(5)]
    keys = ["b", "a", "c.d", "a"]
    assert values_at(elements, keys) == {key: values_at(elements, [key])[key] for key in keys}
    assert values_at([*elements, {"a": 1}, 7], keys)["b"][-2:] == [None, None]


def test_a_level_is_named_by_its_path() -> None:
    assert levels_of("events[].competitions[].competitors[]") == [
        "@",
        "events[]",
        "events[].competitions[]",
        "events[].competitions[].competitors[]",
    ]
    assert levels_of("codeData.codes") == ["@"]
    assert rows_at([[A]], "@")[0] == Level((), [[A]], [1])
