"""Fuzzes the answer reader: `python tests/fuzz/fuzz_answer.py -max_total_time=600` (extra `fuzz`; Linux).

Every input is a shape and a body, half of the bodies made up as JSON from the input's bytes. The reader must
give a table or one of the two errors that have a code for answers; the quick and the exact parse must agree; and
the body must be refused as malformed if and only if the standard library, told of our stricter rules, refuses
it. libFuzzer prints how many inputs it ran.
"""

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["tasks.endpoint.answer", "tasks.tables.columns"]):
    from tasks.endpoint.answer.mapping import OutboundMapping
    from tasks.endpoint.answer.reader import Answer, read_answer
    from tasks.errors import ResponseMalformed, ResponseShapeInvalid

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ACCEPTING = {"changed": "accept", "missing": "accept"}
MAPPINGS = [
    OutboundMapping(
        contract=ACCEPTING,
        columns={
            "text": "a",
            "whole": {"key": "a", "type": "integer"},
            "number": {"key": "b", "type": "number", "on_bad_value": "null"},
            "many": {"key": "c", "many": True, "type": "number", "on_bad_value": "null"},
        },
    ),
    OutboundMapping(
        path="r[].s[]",
        columns={
            "flag": {"key": "a", "type": "boolean", "on_bad_value": "default", "default": "true"},
            "price": {"key": "b.c", "type": "decimal"},
            "day": {"key": "d", "type": "date", "at": "r[]"},
            "moment": {"key": "d", "type": "datetime", "at": "@", "on_bad_value": "null"},
        },
    ),
    OutboundMapping(
        path="[].d",
        parallel=True,
        contract=ACCEPTING,
        columns={"t": {"key": "t", "type": "time"}, "m": {"key": "m", "max_length": 3, "when_longer": "cut"}},
    ),
    OutboundMapping(
        path="r.s",
        columns={
            "a": "a",
            "b": {"key": "b", "type": "number"},
            "c": {"key": "c", "type": "integer"},
            "d": {"key": "d", "type": "boolean", "ignore": True},
        },
    ),
    OutboundMapping(flatten=True, contract=ACCEPTING, columns={"first": "r[0].s[0].a", "d": '"d"', "at": "[0].a"}),
    OutboundMapping(path="r[?a]", contract=ACCEPTING, columns={"a": "to_string(a)", "n": "length(b)"}),
]
SEEDS = [
    b'[{"a": "x", "b": 1.5, "c": [1, 2.50, "3"]}, {"a": 7, "b": null}, {"a": 12345678901234567890, "a": true}]',
    b'{"d": "2026-11-24T07:30Z", "r": [{"d": "2026-11-24", "s": [{"a": false, "b": {"c": 1.10}}, {"a": "1"}]}]}',
    b'[{"d": {"t": ["07:30", "08:00:01.5"], "m": ["\\u00e9\\ud83d\\ude00", -0.0], "u": "x"}}, {"d": null}]',
    b'{"r": [{"a": "y", "b": [1, {"c": []}]}, {"a": "", "b": "\\\\ud800"}], "n": 1e5}',
    b'{"x": [1, {"a": 2}], "r": {"s": [{"a": "x", "b": 1, "c": 2, "d": false}, {"c": null, "b": 1.5}], "n": 5}}',
    b"[[[[[[[[[[1]]]]]]]]]]",
    b"\xef\xbb\xbf[]",
]
TOKENS = [
    '"a"',
    '"b"',
    '"r"',
    '"s"',
    "null",
    "true",
    "NaN",
    "1e999",
    "\\\\ud800",
    "\\\\ud83d\\\\ude00",
    "-0",
    "[[[[",
]


def outcome(body: bytes, mapping: OutboundMapping) -> Answer | ResponseMalformed | ResponseShapeInvalid:
    try:
        return read_answer([body], mapping, url="fuzz")
    except (ResponseMalformed, ResponseShapeInvalid) as error:
        return error


def is_malformed(body: bytes) -> bool | None:
    """Whether the body is no JSON by our rules; None where it is nested or numbered beyond what is read at all."""
    try:
        text = body.removeprefix(BYTE_ORDER_MARK).decode()
        json.loads(text, parse_constant=refuse, parse_float=float_within, parse_int=float_within)
    except (RecursionError, OverflowError):
        return None
    except ValueError:
        return True
    return False


def refuse(name: str) -> Any:
    raise ValueError(name)


def float_within(written: str) -> float:
    if math.isinf(float(written)):
        raise OverflowError
    return float(written)


NAMES = ["a", "b", "c", "d", "r", "s", "t", "m"]
PLAIN = ["null", "true", "false", "0", "-0", "1.0", "1.10", "1e2", "-0.0", '""', '"7"', '"07:30"', '"2026-11-24"']


def made_up(source: atheris.FuzzedDataProvider, depth: int = 0) -> str:
    """Some JSON, of property names that the mappings know."""
    choice = source.ConsumeIntInRange(0, 7 if depth < 7 else 4)
    match choice:
        case 0:
            return json.dumps(source.ConsumeUnicodeNoSurrogates(8), ensure_ascii=source.ConsumeBool())
        case 1:
            return str(source.ConsumeInt(10))
        case 2:
            number = source.ConsumeFloat()
            return repr(number) if math.isfinite(number) else "1e308"
        case 3 | 4:
            return source.PickValueInList(PLAIN)
        case 5:
            return "[" + ", ".join(made_up(source, depth + 1) for _ in range(source.ConsumeIntInRange(0, 3))) + "]"
        case _:
            members = range(source.ConsumeIntInRange(0, 4))
            named = (f'"{source.PickValueInList(NAMES)}":{made_up(source, depth + 1)}' for _ in members)
            return "{" + ", ".join(named) + "}"


def check(data: bytes) -> None:
    if not data:
        return
    body, mapping = data[1:], MAPPINGS[data[0] % len(MAPPINGS)]
    if data[0] > 127:
        body = made_up(atheris.FuzzedDataProvider(body)).encode()
    read = outcome(body, mapping)
    malformed = is_malformed(body)
    if malformed is not None:
        assert isinstance(read, ResponseMalformed) == malformed, (body, read)
    if not body.startswith(BYTE_ORDER_MARK):
        exact = outcome(BYTE_ORDER_MARK + body, mapping)
        assert type(read) is type(exact), (body, read, exact)
        if isinstance(read, Answer) and isinstance(exact, Answer):
            for name, table in read.tables().items():
                assert table.equals(exact.tables()[name]), (body, read, exact)
        else:
            assert str(read) == str(exact), (body, read, exact)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number in range(len(MAPPINGS)):
            for name, seed in enumerate(SEEDS):
                (corpus / f"{number}-{name}").write_bytes(bytes([number]) + seed)
            (corpus / f"{number}-made-up").write_bytes(bytes([130 + number]) + bytes(range(7, 255, 3)) * 4)
        words.write_text("".join(f'"{token}"\n' for token in (token.replace('"', '\\"') for token in TOKENS)))
        atheris.Setup([*sys.argv, f"-dict={words}", str(corpus)], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
