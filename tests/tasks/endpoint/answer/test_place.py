"""Nothing has many spellings, and rows are not always an array of objects."""

import json
from typing import Any

import pytest

from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.answer.reader import Answer, read_answer
from tasks.errors import ResponseShapeInvalid

URL = "https://partner.example/api"


def read(answer: object, **options: Any) -> Answer:
    return read_answer([json.dumps(answer).encode()], OutboundMapping(**options), url=URL)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"data": {"codes": None}}, "null at 'data.codes'"),
        ({"data": {"codes": {}}}, "an empty object at 'data.codes'"),
        ({"data": {"codes": ""}}, "an empty text at 'data.codes'"),
        ({"data": {"codes": False}}, "false at 'data.codes'"),
        ({"data": None}, "null at 'data.codes'|no 'data"),
        ({"data": {}}, "no 'data.codes'"),
        ({"status": "ok"}, "no 'data'"),
        ({}, "no 'data'|nothing|no"),
        (None, "null"),
    ],
)
def test_nothing_is_no_rows_and_a_finding_as_the_contract_says(answer: object, says: str) -> None:
    mapping = {"path": "data.codes", "columns": {"code": "code"}}
    came = read(answer, **mapping)
    assert came.standard.columns == ["code"]
    assert came.standard.is_empty()
    assert came.findings["kind"].to_list() == ["empty"]
    assert read(answer, **mapping, contract={"empty": "accept"}).findings.is_empty()
    with pytest.raises(ResponseShapeInvalid, match=says):
        read(answer, **mapping, contract={"empty": "error"})


def test_an_empty_array_is_no_difference() -> None:
    assert read({"codes": []}, path="codes", columns={"code": "code"}).findings.is_empty()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"kodes": [{"code": 1}]}, "no array at 'codes'; the answer is an object with 'kodes'"),
        ({"result": {"codes": [{"code": 1}]}}, "no array at 'codes'"),
        ({"errors": [{"message": "bad zip"}], "codes": None}, "the answer has 'errors': bad zip"),
        ({"error": {"message": "no quota"}}, "the answer has 'error': no quota"),
        ({"codes": "x"}, "no array at 'codes'; there is a text"),
        ({"codes": {"code": 1}}, "rows_are: one_or_many reads it"),
        ({"codes": {"95124": {"code": 1}}}, "rows_are: map reads its values"),
        ({"codes": [["code"], [1]]}, "rows_are: table reads them"),
        ({"codes": ["a", "b"]}, "one column with the key @ reads them"),
    ],
)
def test_rows_in_another_place_or_shape_are_refused_with_what_reads_them(answer: object, says: str) -> None:
    with pytest.raises(ResponseShapeInvalid, match=says):
        read(answer, path="codes", columns={"code": "code"})


def test_what_the_sample_shows_as_optional_may_be_absent_in_all_rows() -> None:
    mapping = {"sample": {"codes": [{"code": "a", "note": "x", "tip": None}, {"code": "b", "tip": "y"}]}}
    came = read({"codes": [{"code": "c"}]}, **mapping)
    assert came.standard.rows() == [("c", None, None)]
    assert came.findings.is_empty()
    with pytest.raises(ResponseShapeInvalid, match="has 'code'"):
        read({"codes": [{"note": "x"}]}, **mapping)


CODES = {"code": {"key": "code"}, "zip": {"key": "@key"}}


@pytest.mark.parametrize(
    ("answer", "options", "rows"),
    [
        (
            {"z": {"95124": {"code": "a"}, "02134": {"code": "b"}}},
            {"path": "z", "rows_are": "map", "columns": CODES},
            [("a", "95124"), ("b", "02134")],
        ),
        ({"z": {}}, {"path": "z", "rows_are": "map", "columns": CODES}, []),
        (
            {"EUR": 1, "USD": 2},
            {"rows_are": "map", "columns": {"c": "@key", "v": {"key": "@value", "type": "integer"}}},
            [("EUR", 1), ("USD", 2)],
        ),
        (
            {"values": [["a", "b"], ["1", "2"], ["3"]]},
            {"path": "values", "rows_are": "table_with_names", "columns": {"b": "b", "a": "a"}},
            [("2", "1"), (None, "3")],
        ),
        (
            {"values": [["1", "2"]]},
            {"path": "values", "rows_are": "table", "columns": {"x": "1"}},
            [("2",)],
        ),
        ({"z": {"code": "a"}}, {"path": "z", "rows_are": "one_or_many", "columns": {"c": "code"}}, [("a",)]),
        ({"z": [{"code": "a"}]}, {"path": "z", "rows_are": "one_or_many", "columns": {"c": "code"}}, [("a",)]),
        (
            {"z": {"10": {"code": "b"}, "2": {"code": "a"}}},
            {"path": "z", "rows_are": "one_or_many", "columns": {"c": "code"}},
            [("a",), ("b",)],
        ),
        ({"z": ["a", "b"]}, {"path": "z", "columns": {"c": "@"}}, [("a",), ("b",)]),
        ("a", {"flatten": True, "columns": {"c": "@"}}, [("a",)]),
        ({"z": [{"a.b": "x"}]}, {"path": "z", "columns": {"c": '"a.b"'}}, [("x",)]),
    ],
)
def test_rows_of_every_shape_are_read(answer: object, options: dict[str, Any], rows: list[tuple[Any, ...]]) -> None:
    assert read(answer, **options).standard.rows() == rows


@pytest.mark.parametrize(
    ("sample", "options", "columns", "left_out"),
    [
        (
            {"id": 1, "title": "x", "reviews": [{"rating": 5, "by": {"tags": [{"t": 1}]}}]},
            {},
            ["rating"],
            ["id", "title", "reviews[].by"],
        ),
        ({"z": {"1": {"c": 1}, "2": {"c": 2}}}, {"rows_are": "map"}, ["@key", "c"], []),
        ({"v": [["a", "b"], [1, 2]]}, {"rows_are": "table_with_names"}, ["a", "b"], []),
        ({"a": [1, 2], "n": 3}, {"path": "a"}, ["value"], ["n"]),
    ],
)
def test_a_sample_says_what_it_leaves_out(
    sample: object, options: dict[str, Any], columns: list[str], left_out: list[str]
) -> None:
    mapping = OutboundMapping(sample=sample, **options)
    assert list(mapping.columns) == columns
    assert list(mapping.left_out) == left_out


def test_a_name_with_a_dot_is_told_how_to_be_written() -> None:
    with pytest.raises(ResponseShapeInvalid, match=r"write the key as '\"a\.b\"'"):
        read({"z": [{"a.b": "x"}]}, path="z", columns={"c": "a.b"})
