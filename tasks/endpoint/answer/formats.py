"""What the bytes of an answer are written in: by the endpoint's word, never by a guess.

Each format makes one document of objects, arrays and values, which everything after it reads in the same way.

| format | the document |
|---|---|
| json | as it is (RFC 8259) |
| ndjson | an array: one element a line; blank lines are passed over |
| csv | an array of objects, one a record, by the names of the header (without one: 1, 2, ...); values are texts |
| xml | an object with the root element; see `tasks.endpoint.answer.xml` |
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar, Literal

import orjson
from polars.exceptions import PolarsError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, field_validator

from tasks.endpoint.answer.guards import (
    ReaderLimits,
    depth_of,
    exact_document,
    quick_document,
    too_deep,
)
from tasks.endpoint.answer.xml import Arrays, xml_document
from tasks.errors import ResponseMalformed
from tasks.files.shape import ROW, Dialect, ShapeRefused, shaped
from tasks.forms import AsChoice
from tasks.http.bounded import GZIP_MAGIC
from tasks.http.exchange import JSON, JSON_TYPES

ANY_TEXT = frozenset({"text/plain", "application/octet-stream"})
"""Content types that servers give to unknown files. HTML, such as a login page, is not among them."""
KIND = "What the answer is written in: json, ndjson, csv or xml, each with options of its own."


class _Format(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    accept: ClassVar[str]
    """The `Accept` header of a request."""
    types: ClassVar[frozenset[str]]
    """Content types that an answer may have."""
    is_text: ClassVar[bool] = False
    """Whether every value is a text, whatever it means."""

    def document(self, body: bytes, limits: ReaderLimits, arrays: Arrays | None, *, url: str, exact: bool) -> Any:  # noqa: ANN401
        """The document of a body. Errors: `ResponseMalformed`, `ResponseShapeInvalid`.

        `arrays` are places that hold an array, however many elements there are; only XML does not tell, and None
        is for a sample whose rows are to be found. `exact`: every number with all its digits.
        """
        raise NotImplementedError


class JsonFormat(_Format):
    """JSON, and every type whose name ends with +json."""

    model_config = ConfigDict(title="JSON")
    accept: ClassVar[str] = JSON
    types: ClassVar[frozenset[str]] = JSON_TYPES

    kind: Literal["json"] = Field(default="json", title="Format", description=KIND)

    def document(self, body: bytes, limits: ReaderLimits, arrays: Arrays | None, *, url: str, exact: bool) -> Any:  # noqa: ANN401, ARG002
        """The document as it is."""
        return (exact_document if exact else quick_document)(body, limits, url=url)


class NdjsonFormat(_Format):
    """One JSON value a line (NDJSON, JSON Lines)."""

    model_config = ConfigDict(title="NDJSON")
    accept: ClassVar[str] = "application/x-ndjson"
    types: ClassVar[frozenset[str]] = ANY_TEXT | {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/jsonlines",
        "application/x-jsonlines",
        "application/x-json-stream",
        "application/json-seq",
        JSON,
    }

    kind: Literal["ndjson"] = Field(default="ndjson", title="Format", description=KIND)

    def document(self, body: bytes, limits: ReaderLimits, arrays: Arrays | None, *, url: str, exact: bool) -> Any:  # noqa: ANN401, ARG002
        """An array of the lines' values."""
        values = []
        for number, line in enumerate(body.split(b"\n"), start=1):
            text = line.strip(b" \t\r\x1e")  # RFC 7464 begins each value with a record separator
            if not text:
                continue
            try:
                values.append(exact_document(text, limits, url=url) if exact else orjson.loads(text))
            except (orjson.JSONDecodeError, ResponseMalformed):
                values.append(self._of_line(text, number, limits, url))
        if depth_of(values) > limits.max_depth + 1:
            raise too_deep(limits)
        return values

    @staticmethod
    def _of_line(text: bytes, number: int, limits: ReaderLimits, url: str) -> Any:  # noqa: ANN401
        try:
            return exact_document(text, limits, url=url)
        except ResponseMalformed as error:
            raise ResponseMalformed(
                url=url,
                reason=f"{error.facts['reason']}, in line {number}",
                cure="Check the endpoint's format: NDJSON has one JSON value a line.",
            ) from None


class CsvFormat(_Format, Dialect):
    """Delimited text."""

    model_config = ConfigDict(title="CSV")
    accept: ClassVar[str] = "text/csv"
    types: ClassVar[frozenset[str]] = ANY_TEXT | {
        "text/csv",
        "application/csv",
        "text/comma-separated-values",
        "text/tab-separated-values",
        "application/vnd.ms-excel",
    }
    is_text: ClassVar[bool] = True

    kind: Literal["csv"] = Field(default="csv", title="Format", description=KIND)
    header: bool = Field(
        default=True, title="Header", description="The first record has the names; without: 1, 2, ..."
    )
    decimal: str = Field(
        default=".",
        min_length=1,
        max_length=1,
        title="Decimal separator",
        description="Before decimals, in columns that say no decimal_separator of their own.",
    )

    def document(self, body: bytes, limits: ReaderLimits, arrays: Arrays | None, *, url: str, exact: bool) -> Any:  # noqa: ANN401, ARG002
        """An array of the records; None for an empty body. One record that is not whole refuses the answer."""
        if not body.strip():
            return None
        cure = "Check the endpoint's format, or ask the partner."
        if body.startswith(GZIP_MAGIC):
            # Its decompressed size was not counted.
            reason = "sent a compressed file, and did not say Content-Encoding: gzip"
            raise ResponseMalformed(url=url, reason=reason, cure=cure)
        with TemporaryDirectory(prefix="campaign-") as folder:
            path = Path(folder, "answer.csv")
            path.write_bytes(body)
            try:
                table = shaped(path, self, header=self.header)
                rows = table.scan().drop(ROW).collect().to_dicts()
            except (ShapeRefused, PolarsError) as error:
                reason = f"sent no such CSV: {' '.join(str(error).split())}"
                raise ResponseMalformed(url=url, reason=reason, cure=getattr(error, "cure", cure)) from None
        for fault in table.faults.head(1).iter_rows(named=True):
            reason = f"sent no such CSV: record {fault['row']} {fault['reason']}"
            raise ResponseMalformed(url=url, reason=reason, cure=cure)
        return rows


class XmlFormat(_Format):
    """XML: feeds (RSS, Atom) and others."""

    model_config = ConfigDict(title="XML")
    accept: ClassVar[str] = "application/xml, text/xml;q=0.9"
    types: ClassVar[frozenset[str]] = frozenset({"application/xml", "text/xml", "+xml"})
    is_text: ClassVar[bool] = True

    kind: Literal["xml"] = Field(default="xml", title="Format", description=KIND)
    encoding: str | None = Field(
        default=None, title="Encoding", description="As iso-8859-1. Left out: what the document says, or UTF-8."
    )
    decimal: str = CsvFormat.model_fields["decimal"]  # type: ignore[assignment]

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, name: str | None) -> str | None:
        return name if name is None else Dialect(encoding=name).encoding

    def document(self, body: bytes, limits: ReaderLimits, arrays: Arrays | None, *, url: str, exact: bool) -> Any:  # noqa: ANN401, ARG002
        """The root element in an object, its name the only property."""
        return xml_document(body, self.encoding, limits, arrays, url=url)


def _by_name(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


Format = Annotated[
    Annotated[JsonFormat | NdjsonFormat | CsvFormat | XmlFormat, Field(discriminator="kind")],
    BeforeValidator(_by_name),
    AsChoice(),
]
FORMAT: TypeAdapter[JsonFormat | NdjsonFormat | CsvFormat | XmlFormat] = TypeAdapter(Format)
