"""Providers' lists: what a row of a table says became of a message, by a declared mapping."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.feedback.report import Kind, NoReport, NothingFinal, Report


class Meaning(BaseModel):
    """What a row means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind | None = Field(
        default=None, title="Kind", description="What became of the message; null: nothing, by the provider's word."
    )
    status: str = Field(
        default="",
        pattern=r"^([245]\.\d{1,3}\.\d{1,3})?$",
        title="Status",
        description="RFC 3463's status that this stands for, where the row has none of its own.",
    )


class RowMapping(BaseModel):
    """Which column of a provider's list says what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipient: str = Field(default="email", title="Recipient", description="Column of the address.")
    at: str = Field(default="at", title="Moment", description="Column of a moment in UTC, or of Unix seconds.")
    status: str = Field(
        default="", title="Status", description="Column of RFC 3463's status; empty: there is none."
    )
    detail: str = Field(default="", title="Detail", description="Column of the receiver's words; empty: none.")
    clues: tuple[str, ...] = Field(
        default=(),
        title="Clues",
        description="Columns that may hold the message's name: Message-ID, bounce address.",
    )
    kind: Meaning | None = Field(default=None, title="Kind", description="What every row means.")
    type: str = Field(default="", title="Type", description="Column that says what the row means, by `meanings`.")
    meanings: dict[str, Meaning] = Field(
        default_factory=dict, title="Meanings", description="By the value of that column."
    )

    @model_validator(mode="after")
    def _means_one_thing(self) -> "RowMapping":
        if (self.kind is None) == (not self.type):
            raise ValueError("either every row has one kind, or a column of types says which")
        return self


class RowRead(NamedTuple):
    """One row of a list as it was read."""

    row: Mapping[str, object]
    report: Report | NoReport
    at: datetime | None


def rows_read(table: pl.DataFrame, mapping: RowMapping) -> Iterator[RowRead]:
    """What each row says. A row that says nothing of a message, or cannot be read, has the reason instead."""
    for row in table.iter_rows(named=True):
        at = _moment(row.get(mapping.at))
        try:
            yield RowRead(row, report_of(row, mapping), at)
        except NoReport as reason:
            yield RowRead(row, reason, at)


def report_of(row: Mapping[str, object], mapping: RowMapping) -> Report:
    """What one row says. Errors: `NoReport`."""
    meaning = mapping.kind or _meaning(str(row.get(mapping.type)), mapping)
    if meaning.kind is None:
        raise NothingFinal(f"the provider's type '{row.get(mapping.type)}' says nothing of the message")
    recipient = _text(row, mapping.recipient)
    if "@" not in recipient:
        raise NoReport("the row has no address")
    return Report(
        kind=meaning.kind,
        at=_moment(row.get(mapping.at)),
        recipient=recipient,
        status=_text(row, mapping.status) or meaning.status,
        detail=_text(row, mapping.detail),
        clues=tuple(_text(row, column) for column in mapping.clues),
    )


def _meaning(value: str, mapping: RowMapping) -> Meaning:
    try:
        return mapping.meanings[value]
    except KeyError:
        raise NoReport(f"the provider's type '{value[:40]}' has no meaning in the mapping") from None


def _text(row: Mapping[str, object], column: str) -> str:
    value = row.get(column) if column else None
    return "" if value is None else str(value).strip()


def _moment(value: object) -> datetime | None:
    match value:
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        case bool():
            return None
        case int() | float():
            try:
                return datetime.fromtimestamp(value, UTC)
            except (ValueError, OverflowError, OSError):
                return None
        case _:
            return None
