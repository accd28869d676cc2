"""A code as its pool keeps it: checked when it comes, sealed with its columns, known again by a keyed hash."""

import hmac
import secrets
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

import orjson
import polars as pl
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tasks.characters import forbidden_character
from tasks.errors import ColumnTypesDiffer
from tasks.tables.transitions import require_columns

CODE = "code"
EXPIRES_AT = "expires_at"
LONGEST_CODE = 200
NONCE = 12
"""Bytes. A random one for each code: 2**32 of them may be sealed with one key."""
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
"""When a code expires that does not."""
KINDS = {
    "text": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "truth": pl.Boolean(),
    "date": pl.Date(),
}
"""Types of a pool's further columns, by the names that are kept."""
SAMPLES: dict[str, object] = {
    "text": "sample",
    "integer": 0,
    "number": 0.0,
    "truth": True,
    "date": date(2000, 1, 1),
}
SAMPLE_CODE = "SAMPLE-CODE"
"""What proofs and previews show for a code."""


class Coming(NamedTuple):
    """A code that comes into a pool."""

    digest: str
    sealed: str
    expires_at: datetime


class Refused(NamedTuple):
    """A row that is no code."""

    row: int
    reason: str


def columns_of(table: pl.DataFrame) -> dict[str, str]:
    """Names and kinds of a table's columns beside the code and its expiry.

    Errors: `ColumnsMissing` (no code), `ColumnTypesDiffer` for a type that a pool does not keep.
    """
    require_columns(table, [CODE], activity="Code pool", where="the table of codes")
    return {name: _kind(name, kind) for name, kind in table.schema.items() if name not in {CODE, EXPIRES_AT}}


def _kind(name: str, kind: pl.DataType) -> str:
    match kind:
        case pl.String() | pl.Categorical() | pl.Enum():
            return "text"
        case pl.Boolean():
            return "truth"
        case pl.Date():
            return "date"
        case _ if kind.is_integer():
            return "integer"
        case _ if kind.is_float() or isinstance(kind, pl.Decimal):
            return "number"
        case _:
            raise ColumnTypesDiffer(
                activity="Code pool",
                column=name,
                types=f"{kind}, and a pool keeps texts, numbers, truths and dates",
            )


class Seal:
    """Seals codes by the journal's key, and opens them."""

    def __init__(self, key: bytes, pool: str) -> None:
        self._cipher = AESGCM(hmac.digest(key, b"codes", "sha256"))
        self._digest_key = hmac.digest(key, b"code of a pool", "sha256")
        self._pool = pool.encode()

    def digest(self, code: str) -> str:
        """Keyed hash of a code: equal for equal codes of the pool, and nothing that a code can be guessed by."""
        return hmac.digest(self._digest_key, self._pool + b"\x1f" + code.encode(), "sha256").hex()[:32]

    def closed(self, digest: str, values: Mapping[str, object]) -> str:
        """The code with its columns, as text that is no use without the key, or for another code."""
        nonce = secrets.token_bytes(NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, orjson.dumps(values), digest.encode())
        return b2a_base64(sealed, newline=False).decode()

    def opened(self, digest: str, sealed: str) -> dict[str, Any]:
        """What `closed` was given; dates are texts."""
        raw = a2b_base64(sealed)
        found: dict[str, Any] = orjson.loads(self._cipher.decrypt(raw[:NONCE], raw[NONCE:], digest.encode()))
        return found


def coming(table: pl.DataFrame, columns: Mapping[str, str], seal: Seal) -> Iterator[Coming | Refused]:
    """The codes of a table's rows, and what is wrong with the others, row by row from 1."""
    kept = [pl.col(CODE).cast(pl.String()), *(pl.col(name).cast(KINDS[kind]) for name, kind in columns.items())]
    ends = table[EXPIRES_AT] if EXPIRES_AT in table.columns else [None] * table.height
    for number, (values, end) in enumerate(zip(table.select(kept).iter_rows(named=True), ends, strict=True), 1):
        code = (values[CODE] or "").strip()
        if reason := _fault(code):
            yield Refused(number, reason)
            continue
        digest = seal.digest(code)
        yield Coming(digest, seal.closed(digest, {**values, CODE: code}), _expiry(end))


def _fault(code: str) -> str:
    if not code:
        return "it has no code"
    if len(code) > LONGEST_CODE:
        return f"its code is longer than {LONGEST_CODE} characters"
    if character := forbidden_character(code):
        return f"its code has a line break or a control character, {character}"
    return ""


def _expiry(end: object) -> datetime:
    match end:
        case datetime():
            return end.replace(tzinfo=UTC) if end.tzinfo is None else end.astimezone(UTC)
        case date():  # it holds for the whole of its last day
            return datetime.combine(end, time.max, UTC)
        case None:
            return NEVER
        case _:
            raise ColumnTypesDiffer(
                activity="Code pool",
                column=EXPIRES_AT,
                types=f"{type(end).__name__}, and an expiry is a date or moment",
            )


def struct_of(columns: Mapping[str, str]) -> pl.Struct:
    """The type of a pool's column in an audience."""
    return pl.Struct({CODE: pl.String(), **{name: KINDS[kind] for name, kind in columns.items()}})


def sample_of(columns: Mapping[str, str]) -> dict[str, object]:
    """What proofs and previews show."""
    return {CODE: SAMPLE_CODE, **{name: SAMPLES[kind] for name, kind in columns.items()}}


def column(name: str, values: list[dict[str, Any] | None], columns: Mapping[str, str]) -> pl.Series:
    """Codes with their columns as a column of an audience; null for who has none."""
    kinds = {CODE: pl.String(), **{each: KINDS[kind] for each, kind in columns.items()}}
    read = {each: pl.String() if kind == pl.Date() else kind for each, kind in kinds.items()}
    rows = pl.Series(name, values, dtype=pl.Struct(read), strict=False)
    fields = [pl.col(name).struct.field(each).cast(kind, strict=False) for each, kind in kinds.items()]
    return (
        rows.to_frame().select(pl.when(pl.col(name).is_not_null()).then(pl.struct(*fields)).alias(name)).to_series()
    )
