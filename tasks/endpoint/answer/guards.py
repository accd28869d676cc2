"""What an answer may be at all: JSON of RFC 8259 in UTF-8, within limits. Every breach has its documented code.

A document is parsed twice at most. orjson is quick, and strict where we are: UTF-8, one document, no NaN, no lone
surrogate, no number beyond floats. What it refuses is parsed again by the standard library, which tells why, or
finds that it was none of that; so is an answer of whose numbers every digit is needed. Of a property that is named
twice in one object the last counts, in both.
"""

import json
import re
from itertools import chain
from math import isinf
from typing import Any, NoReturn

import orjson
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import ResponseMalformed, ResponseShapeInvalid

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
ESCAPE = re.compile(
    rb"""\\(?: u[dD][89abAB]..\\u[dD][c-fC-F]..   # a surrogate pair
            | (?P<lone> u[dD][89a-fA-F])         # a surrogate by itself
            | . )""",
    re.VERBOSE | re.DOTALL,
)


class ReaderLimits(BaseModel):
    """Limits of an answer's shape. The defaults are Adobe Campaign's; an endpoint can raise its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Limits of the reader")

    max_depth: int = Field(
        default=10,
        ge=1,
        le=200,
        title="Nesting limit",
        description="Deepest nesting of objects and arrays; {} is one level.",
    )
    max_key_length: int = Field(
        default=255,
        ge=1,
        title="Key length limit",
        description="Longest column key or property name of a row, in characters.",
    )
    max_duplicate_names: int = Field(
        default=150,
        ge=0,
        title="Duplicate names limit",
        description="How many columns of a sample may have a property name that an earlier column has.",
    )


class Number(float):
    """A number with a fraction or an exponent, that remembers how it was written."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> "Number":
        """The number that `written` says."""
        number = super().__new__(cls, written)
        number.written = written
        return number


Number.__name__ = "float"  # JMESPath knows the types of values by their names


def quick_document(body: bytes, limits: ReaderLimits, *, url: str) -> Any:  # noqa: ANN401
    """The document of an answer's body, its numbers as 64-bit ones.

    An integer beyond 64 bits is the nearest float, and how a float was written is not known; `exact_document`
    knows both. Errors: as there.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return exact_document(body, limits, url=url)
    _check_depth(document, body, limits)
    return document


def exact_document(body: bytes, limits: ReaderLimits, *, url: str) -> Any:  # noqa: ANN401
    """The document of an answer's body, every number with all its digits.

    A byte order mark before the document is passed over. Errors: `ResponseMalformed` (an empty body, bytes that
    are not UTF-8, no JSON, more than one document, NaN, Infinity), `ResponseShapeInvalid` (nesting over the
    limit, a number beyond 64-bit floats, a lone surrogate).
    """

    def refuse(reason: str) -> NoReturn:
        raise ResponseMalformed(url=url, reason=reason) from None

    body = body.removeprefix(BYTE_ORDER_MARK)
    if not body.strip():
        refuse("sent an empty body")
    try:
        document = json.loads(
            body.decode("utf-8"),
            parse_constant=lambda name: refuse(f"sent {name}, which is no JSON"),
            parse_float=_float,
            parse_int=_integer,
        )
    except UnicodeDecodeError:
        refuse("sent bytes that are not UTF-8")
    except RecursionError:
        raise too_deep(limits) from None
    except ValueError as error:
        refuse(f"sent no JSON ({error})")
    _check_depth(document, body, limits)
    if ESCAPED_SURROGATE.search(body) and _has_lone_surrogate(body):
        raise ResponseShapeInvalid(reason="a text or name holds a lone surrogate, which is no character")
    return document


def _float(written: str) -> Number:
    number = Number(written)
    if isinf(number):
        raise ResponseShapeInvalid(reason=f"the number {_short(written)} is beyond 64-bit floating numbers")
    return number


def _integer(written: str) -> int:
    # Python reads no integer of thousands of digits; floats end before that.
    if len(written) > 300:
        _float(written)
    return int(written)


def _short(written: str) -> str:
    return written if len(written) <= 40 else f"{written[:20]}… ({len(written)} characters)"


def _has_lone_surrogate(body: bytes) -> bool:
    """Whether a text of a JSON body has one, also where the text is a property's that is named again."""
    return any(escape["lone"] for escape in ESCAPE.finditer(body))


def too_deep(limits: ReaderLimits) -> ResponseShapeInvalid:
    """The failure of a document that is nested too deeply."""
    return ResponseShapeInvalid(
        reason=f"the answer is nested deeper than {limits.max_depth} levels; an endpoint can raise its max_depth"
    )


def _check_depth(document: Any, body: bytes, limits: ReaderLimits) -> None:  # noqa: ANN401
    if not _is_shallow(document, body, limits.max_depth) and depth_of(document) > limits.max_depth:
        raise too_deep(limits)


def _is_shallow(document: Any, body: bytes, most: int) -> bool:  # noqa: ANN401
    """Whether a count of brackets alone tells that there are at most so many levels: no walk is needed then.

    Every level needs a bracket of its own. Those of the objects of one array are beside each other, so that at
    most one of them is a level's. Brackets within texts only raise the count.
    """
    arrays = 0
    at = body.find(b"[")
    while at >= 0 and arrays <= most:
        arrays += 1
        at = body.find(b"[", at + 1)
    return arrays + body.count(b"{") - max(_objects_beside_each_other(document) - 1, 0) <= most


def _objects_beside_each_other(value: Any) -> int:  # noqa: ANN401
    """How many objects one array of the document holds; the array is found by a few looks."""
    widest: list[Any] = []
    level = [value]
    for _ in range(3):
        widest = max([widest, *(each for each in level if type(each) is list)], key=len)
        level = [inner for each in level if type(each) is dict for inner in each.values()]
    return list(map(type, widest)).count(dict)


def depth_of(document: Any) -> int:  # noqa: ANN401
    """Levels of objects and arrays within each other; a text or number alone has none."""
    levels = 0
    level = [document] if type(document) is dict or type(document) is list else []
    while level:
        levels += 1
        values = chain.from_iterable(each.values() if type(each) is dict else each for each in level)
        level = [value for value in values if type(value) is dict or type(value) is list]
    return levels
