"""The bounded reader: what parts decode to, and the bounds that end them."""

import gzip
import io
import tracemalloc
import zlib

import pytest

from tasks.http.bounded import (
    BoundedReader,
    Clock,
    Damaged,
    OutOfTime,
    TooLarge,
    json_object,
    read_whole,
    readable_bytes,
)

MEGABYTE = 1024 * 1024


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(MEGABYTE)) for _ in range(megabytes)) + packer.flush()


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", b"text"),
        ("identity", b"text"),
        ("gzip", gzip.compress(b"text")),
        (" GZIP ", gzip.compress(b"te") + gzip.compress(b"xt")),
        ("x-gzip", gzip.compress(b"text") + bytes(512)),
    ],
)
def test_parts_of_any_size_decode_to_the_text(encoding: str, body: bytes, size: int) -> None:
    reader = BoundedReader(4, encoding=encoding)
    parts = (body[start : start + size] for start in range(0, len(body), size))
    assert b"".join(piece for part in parts for piece in reader.decoded(part)) == b"text"
    reader.finish()


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd", "gzip,identity"])
def test_an_encoding_in_an_encoding_is_not_taken(encoding: str) -> None:
    with pytest.raises(ValueError, match="only gzip"):
        BoundedReader(4, encoding=encoding)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"five!", TooLarge),
        (gzip.compress(b"five!"), TooLarge),
        (gzip.compress(b"") * 1000, TooLarge),
        (gzip.compress(b"text")[:-1], Damaged),
        (gzip.compress(b"text") + b"more", Damaged),
    ],
    ids=["plain", "gzip", "empty members", "cut", "trailing"],
)
def test_what_breaks_a_bound_or_its_encoding_is_told_apart(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_whole(io.BytesIO(body), 4)


def test_a_bomb_is_ended_at_the_limit_and_never_held() -> None:
    body = bomb(300)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="more than 1048576 bytes"):
            read_whole(io.BytesIO(body), MEGABYTE)
        assert tracemalloc.get_traced_memory()[1] < 8 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_a_clock_ends_what_decodes_for_too_long() -> None:
    reader = BoundedReader(10**12, encoding="gzip", clock=Clock(0))
    with pytest.raises(OutOfTime, match="within 0 seconds"):
        list(reader.decoded(bomb(1)))


def test_a_file_that_is_read_whole_leaves_memory_for_its_table() -> None:
    assert readable_bytes(1000) == 1000
    assert 0 < readable_bytes(10**18) < 10**14


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"[]",
        b'{"a": 1e400}',
        b'{"a": NaN}',
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": "\xff"}',
    ],
)
def test_json_beyond_its_bounds_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # orjson's own words
        json_object(body)


def test_json_of_a_server_is_an_object_of_plain_values() -> None:
    assert json_object(b'{"a": {"b": [1, 2.5, null]}}') == {"a": {"b": [1, 2.5, None]}}
    assert isinstance(json_object(b'{"a": ' + b"9" * 300 + b"}")["a"], float)
