"""The bounded reader: every byte from outside is counted as it arrives, decoded, against one limit and one clock.

Whoever reads from a partner, a place, a provider or a compressed file feeds its parts to a `BoundedReader`. It
never holds more than a piece of what a part decodes to, so that a few bytes cannot become gigabytes.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

import orjson

PIECE = 256 * 1024
"""Largest piece, in bytes, in which decoded bytes are given on."""
GZIP_MAGIC = b"\x1f\x8b"
DEEPEST = 32
"""Deepest nesting of a provider's or an authorization server's JSON."""
SHARE_OF_MEMORY = 4
"""A file that is read whole may be one part in so many of the worker's memory: its table takes as much again."""
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class OverBound(Exception):
    """What arrives is over a bound; the text says which one, and goes after "it"."""


class TooLarge(OverBound):
    """More bytes than the limit."""


class OutOfTime(OverBound):
    """Not done before the clock ran out."""


class Damaged(Exception):
    """What arrives is not what its encoding says; the text goes after "it"."""


class Clock:
    """One limit of time for a whole exchange; it runs from when it is made. `None` has no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._ends = None if seconds is None else monotonic() + seconds

    def check(self) -> None:
        """Errors: `OutOfTime`."""
        if self._ends is not None and monotonic() > self._ends:
            raise OutOfTime(f"was not done within {self._seconds:g} seconds")


class BoundedReader:
    """Decodes the parts of one body as they arrive, and counts what they decode to.

    `encoding` is that of HTTP: empty, identity or gzip (RFC 1952, any number of members). One encoding is decoded,
    never an encoding in an encoding. Errors: `ValueError` for another encoding.
    """

    def __init__(self, limit: int, *, encoding: str = "", clock: Clock | None = None) -> None:
        name = encoding.strip().lower()
        if name not in {"", "identity", "gzip", "x-gzip"}:
            raise ValueError(f"the encoding '{encoding[:40]}' is not taken, only gzip")
        self._limit = limit
        self._clock = clock or Clock(None)
        self._member = zlib.decompressobj(wbits=31) if name in {"gzip", "x-gzip"} else None
        self._is_complete = self._member is None
        self._arrived = 0
        self.size = 0

    def decoded(self, part: bytes) -> Iterator[bytes]:
        """What a part decodes to, in pieces. Errors: `TooLarge`, `OutOfTime`, `Damaged`."""
        self._clock.check()
        # What arrives is bounded too: empty members decode to nothing, for as long as somebody sends them.
        self._arrived += len(part)
        if self._arrived > self._limit + self._limit // 100 + 1024:
            raise TooLarge(f"has more than {self._limit} bytes")
        for piece in self._pieces(part):
            self.size += len(piece)
            if self.size > self._limit:
                raise TooLarge(f"has more than {self._limit} bytes")
            yield piece

    def finish(self) -> None:
        """Check that the last part was the end. Errors: `Damaged`."""
        if not self._is_complete:
            raise Damaged("is cut short")

    def _pieces(self, part: bytes) -> Iterator[bytes]:
        if self._member is None:
            yield part
            return
        while part:
            self._clock.check()
            if self._member.eof:
                part = part.lstrip(b"\x00")  # some writers pad the end
                if not part:
                    return
                self._member = zlib.decompressobj(wbits=31)
            try:
                piece = self._member.decompress(part, PIECE)
            except zlib.error:
                raise Damaged("is damaged") from None
            part = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._is_complete = self._member.eof
            if piece:
                yield piece


def read_whole(file: BinaryIO, limit: int, *, seconds: float | None = None) -> bytes:
    """The bytes of an open file, decompressed if its first bytes are those of gzip; at most `limit` of them.

    Errors: `TooLarge`, `OutOfTime`, `Damaged`, `OSError`.
    """
    return b"".join(read_pieces(file, limit, seconds=seconds))


def read_pieces(file: BinaryIO, limit: int, *, seconds: float | None = None) -> Iterator[bytes]:
    """As `read_whole`, a piece at a time."""
    part = file.read(PIECE)
    encoding = "gzip" if part.startswith(GZIP_MAGIC) else ""
    reader = BoundedReader(limit, encoding=encoding, clock=Clock(seconds))
    while part:
        yield from reader.decoded(part)
        part = file.read(PIECE)
    reader.finish()


def readable_bytes(asked: int) -> int:
    """The largest file, in bytes, that this worker reads whole: what is asked for, or less where memory is less."""
    return min(asked, _memory() // SHARE_OF_MEMORY)


def _memory() -> int:
    """Bytes of memory that this process may use: its container's limit, or the machine's."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in CGROUP_LIMITS:
        try:
            found.append(int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return min(found)


def json_object(body: bytes) -> dict[str, Any]:
    """The object of a short JSON document (RFC 8259) that a server answers with.

    Errors: `ValueError` for what is no JSON, no object, nested too deeply, or has a number beyond 64-bit floats.
    """
    document = orjson.loads(body)
    if type(document) is not dict:
        raise ValueError("it is not an object")
    level: list[Any] = [document]
    for _ in range(DEEPEST):
        values = (value for each in level for value in (each.values() if type(each) is dict else each))
        level = [value for value in values if type(value) is dict or type(value) is list]
        if not level:
            return document
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")
