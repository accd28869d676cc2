import json
from collections.abc import Callable
from typing import Any

import pytest

from tasks.endpoint.answer.guards import ReaderLimits, depth_of, exact_document, quick_document
from tasks.errors import ApiError, ResponseMalformed, ResponseShapeInvalid

Read = Callable[..., Any]
READERS = pytest.mark.parametrize("read", [quick_document, exact_document])


def nested(levels: int, inner: str = "1") -> bytes:
    return ("[" * levels + inner + "]" * levels).encode()


@READERS
@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (b"", ResponseMalformed, "empty body"),
        (b" \n\t", ResponseMalformed, "empty body"),
        (b"\xef\xbb\xbf", ResponseMalformed, "empty body"),
        (b"<html>", ResponseMalformed, "no JSON"),
        (b'{"a": ', ResponseMalformed, "no JSON"),
        (b"{'a': 1}", ResponseMalformed, "no JSON"),
        (b"[1,]", ResponseMalformed, "no JSON"),
        (b"[01]", ResponseMalformed, "no JSON"),
        (b"[.5]", ResponseMalformed, "no JSON"),
        (b'["a\tb"]', ResponseMalformed, "no JSON"),
        (b'["\\x"]', ResponseMalformed, "no JSON"),
        (b"[1] [2]", ResponseMalformed, "no JSON"),
        (b"[1] x", ResponseMalformed, "no JSON"),
        (b"[1]\x00", ResponseMalformed, "no JSON"),
        (b'{"a": NaN}', ResponseMalformed, "sent NaN"),
        (b'{"a": Infinity}', ResponseMalformed, "sent Infinity"),
        (b'{"a": -Infinity}', ResponseMalformed, "sent -Infinity"),
        (b'["\xff"]', ResponseMalformed, "not UTF-8"),
        (b'["\xed\xa0\x80"]', ResponseMalformed, "not UTF-8"),
        (b'["\xc0\x80"]', ResponseMalformed, "not UTF-8"),
        ('["é"]'.encode("utf-16"), ResponseMalformed, "not UTF-8"),
        (b'["\\ud800"]', ResponseShapeInvalid, "lone surrogate"),
        (b'["\\uDC00\\uD800"]', ResponseShapeInvalid, "lone surrogate"),
        (b'{"\\udfff": 1}', ResponseShapeInvalid, "lone surrogate"),
        (b'[{"v": "\\ud800", "v": 1}]', ResponseShapeInvalid, "lone surrogate"),
        (b'["\\ud83d\\ude00\\ude00"]', ResponseShapeInvalid, "lone surrogate"),
        (b'["\\\\\\ud83d"]', ResponseShapeInvalid, "lone surrogate"),
        (b'[{"unread": {"deep": "\\ud800x"}}]', ResponseShapeInvalid, "lone surrogate"),
        (b'{"a": 1e400}', ResponseShapeInvalid, "number 1e400 is beyond 64-bit"),
        (b'{"a": -1e400}', ResponseShapeInvalid, "number -1e400 is beyond 64-bit"),
        (b"[" + b"9" * 400 + b"]", ResponseShapeInvalid, "beyond 64-bit floating numbers"),
        (b"[" + b"9" * 10_000 + b"]", ResponseShapeInvalid, "beyond 64-bit floating numbers"),
        (nested(11), ResponseShapeInvalid, "deeper than 10 levels"),
        (nested(1_100), ResponseShapeInvalid, "deeper than 10 levels"),
        (nested(200_000), ResponseShapeInvalid, "deeper than 10 levels"),
        (b"[" * 200_000, ResponseShapeInvalid, "deeper than 10 levels"),
        (b'{"a":' * 11 + b"1" + b"}" * 11, ResponseShapeInvalid, "deeper than 10 levels"),
        (b'[{"a": 1}, ' + nested(10) + b"]", ResponseShapeInvalid, "deeper than 10 levels"),
        (b'["]]]]]]]]]]", ' + nested(10, '"["') + b"]", ResponseShapeInvalid, "deeper than 10 levels"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
def test_a_body_that_is_no_safe_json_is_refused_with_its_code(
    read: Read, body: bytes, error: type[ApiError], says: str
) -> None:
    with pytest.raises(error, match=says) as refused:
        read(body, ReaderLimits(), url="https://partner.example/api")
    assert {ResponseMalformed: "WKF-560241", ResponseShapeInvalid: "WKF-560240"}[error] in str(refused.value)
    assert not refused.value.retryable


@READERS
@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b"\xef\xbb\xbf[1]", [1]),
        (b" \r\n\t[1] \n", [1]),
        (b"null", None),
        (b'"text"', "text"),
        (nested(10), json.loads(nested(10))),
        (b'["[[[[[[[[[[[[", "}}}}"]', ["[[[[[[[[[[[[", "}}}}"]),
        (b'["\\ud83d\\ude00", "\\u00e9", "\\\\ud800"]', ["😀", "é", "\\ud800"]),
        ('["é😀"]'.encode(), ["é😀"]),
        (b'{"a": 1, "b": 2, "a": 3}', {"a": 3, "b": 2}),
        (b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        (b"[1.7976931348623157e308, 5e-324, 1e-400, -0.0]", [1.7976931348623157e308, 5e-324, 0.0, -0.0]),
    ],
)
def test_a_body_within_the_limits_is_its_document(read: Read, body: bytes, document: object) -> None:
    assert read(body, ReaderLimits(), url="u") == document


def test_of_a_property_named_twice_the_last_counts() -> None:
    body = b'[{"a": 1, "a": {"b": 2, "b": 3}, "\\u0061": [4]}]'
    assert (
        quick_document(body, ReaderLimits(), url="u")
        == exact_document(body, ReaderLimits(), url="u")
        == [{"a": [4]}]
    )


def test_an_exact_document_keeps_every_digit() -> None:
    body = b"[123456789012345678901234567890, 1.10, 1E5, -0]"
    document = exact_document(body, ReaderLimits(), url="u")
    assert document[0] == 123456789012345678901234567890
    assert [number.written for number in document[1:3]] == ["1.10", "1E5"]
    assert document[3] == 0


@READERS
@pytest.mark.parametrize(
    ("limit", "levels", "passes"), [(3, 3, True), (3, 4, False), (50, 50, True), (200, 199, True)]
)
def test_an_endpoint_can_set_its_own_depth(read: Read, limit: int, levels: int, passes: bool) -> None:
    limits = ReaderLimits(max_depth=limit)
    if passes:
        assert depth_of(read(nested(levels), limits, url="u")) == levels
    else:
        with pytest.raises(ResponseShapeInvalid, match=f"deeper than {limit} levels"):
            read(nested(levels), limits, url="u")


@pytest.mark.parametrize(
    ("document", "levels"),
    [(1, 0), ([], 1), ({}, 1), ([[]], 2), ({"a": [1, {"b": {}}]}, 4), ([{"a": 1}] * 1000, 2), ([1, [2, [3]]], 3)],
)
def test_levels_are_objects_and_arrays_within_each_other(document: object, levels: int) -> None:
    assert depth_of(document) == levels


def test_the_number_of_rows_does_not_count_as_depth() -> None:
    rows = [{"a": "{", "tags": ["["]} for _ in range(5_000)]
    body = json.dumps({"rows": rows}).encode()
    assert quick_document(body, ReaderLimits(max_depth=4), url="u") == {"rows": rows}
    with pytest.raises(ResponseShapeInvalid, match="deeper than 3"):
        quick_document(body, ReaderLimits(max_depth=3), url="u")
