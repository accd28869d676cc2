"""Reports as a table, which travels between the activities: one row for each thing that somebody says."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import polars as pl

from tasks.feedback.mailboxes.mailbox import Received
from tasks.feedback.reading import reports_in
from tasks.feedback.report import Kind, NoReport, NothingFinal, Report
from tasks.feedback.services import RowMapping, rows_read
from tasks.feedback.ses import reports_in_event

REPORTS = {
    "source": pl.String(),
    "reference": pl.String(),
    "kind": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "recipient": pl.String(),
    "status": pl.String(),
    "detail": pl.String(),
    "clues": pl.List(pl.String()),
    "trusted": pl.Boolean(),
    "reason": pl.String(),
    "payload": pl.String(),
    "position": pl.String(),
    "kept_as": pl.Int64(),
}
"""Columns of reports.

`reference` names the report at its source. `kind` is null where it could not be read, and `reason` says why.
`payload` is what is needed to read it again. `trusted`: a provider says so that we asked, not a mail that anybody
can write. `position`: where its source is read on after it. `kept_as`: its number where it was kept as unmatched.
"""

LONGEST_PAYLOAD = 64 * 1024
"""Bytes of a message that are kept where it cannot be read: a report's fields are at its beginning."""

Row = dict[str, Any]


def no_reports() -> pl.DataFrame:
    """The table without rows."""
    return pl.DataFrame(schema=REPORTS)


def reports_of_messages(source: str, received: Iterable[Received]) -> pl.DataFrame:
    """What the messages of a mailbox say. Those that say nothing final are one row without a kind and a reason."""
    rows = [
        {**row, "source": source, "position": one.position}
        for one in received
        for row in _rows_of_message(one.content)
    ]
    return pl.DataFrame(rows, schema=REPORTS)


def reports_of_list(source: str, table: pl.DataFrame, mapping: RowMapping) -> pl.DataFrame:
    """What the rows of a provider's list say; `position` is the moment of each."""
    rows = []
    for row, report, at in rows_read(table, mapping):
        payload = json.dumps({"row": row}, default=str, sort_keys=True)
        position = at.isoformat() if at is not None else None
        about = {"source": source, "reference": _digest(payload), "trusted": True, "position": position}
        rows.append({**_row_of(report, payload), **about})
    # In the order of their moments, whatever the provider's is: the last says how far the list was read.
    return pl.DataFrame(rows, schema=REPORTS).sort("position", nulls_last=False, maintain_order=True)


def reports_of_events(source: str, lines: Iterable[str]) -> pl.DataFrame:
    """What the events of Amazon SES say, one a line."""
    rows = []
    for line in filter(str.strip, lines):
        for number, report in enumerate(_reports_in_line(line)):
            payload = json.dumps({"event": line[:LONGEST_PAYLOAD]})
            about = {"source": source, "reference": f"{_digest(line)}/{number}", "trusted": True}
            rows.append({**_row_of(report, payload), **about})
    return pl.DataFrame(rows, schema=REPORTS)


def reports_of_unmatched(unmatched: pl.DataFrame, mappings: dict[str, RowMapping]) -> pl.DataFrame:
    """What was kept as unmatched, read again.

    In: number, source, reference, payload; the mappings of the sources that are lists.
    """
    rows = []
    for one in unmatched.iter_rows(named=True):
        for row in _read_again(one["source"], one["payload"], mappings):
            reference = row["reference"] or one["reference"]
            rows.append({**row, "source": one["source"], "reference": reference, "kept_as": one["number"]})
    return pl.DataFrame(rows, schema=REPORTS)


def _read_again(source: str, payload: str, mappings: dict[str, RowMapping]) -> Iterator[Row]:
    match json.loads(payload):
        case {"message": str(text)}:
            yield from _rows_of_message(text.encode("latin-1"))
        case {"row": dict(row)} if source in mappings:
            table = pl.DataFrame([_with_moment(row, mappings[source])])
            for _, report, _ in rows_read(table, mappings[source]):
                yield {**_row_of(report, payload), "trusted": True}
        case {"event": str(line)}:
            for report in _reports_in_line(line):
                yield {**_row_of(report, payload), "trusted": True}
        case {"report": dict(fields), "trusted": bool(trusted)}:
            at = datetime.fromisoformat(fields["at"]) if fields["at"] else None
            report = Report(**{**fields, "kind": Kind(fields["kind"]), "at": at, "clues": tuple(fields["clues"])})
            yield {**_row_of(report, payload), "trusted": trusted}
        case _:
            return


def _with_moment(row: Row, mapping: RowMapping) -> Row:
    text = row.get(mapping.at)
    try:
        return {**row, mapping.at: datetime.fromisoformat(text) if isinstance(text, str) else text}
    except ValueError:
        return row


def _rows_of_message(content: bytes) -> Iterator[Row]:
    digest = sha256(content).hexdigest()
    payload = json.dumps({"message": content[:LONGEST_PAYLOAD].decode("latin-1")})
    for number, report in enumerate(_reports_in_message(content)):
        yield {**_row_of(report, payload), "reference": f"{digest}/{number}", "trusted": False}


def _reports_in_message(content: bytes) -> Sequence[Report | NoReport]:
    try:
        return reports_in(content)
    except NoReport as reason:
        return [reason]


def _reports_in_line(line: str) -> Sequence[Report | NoReport]:
    try:
        return reports_in_event(line)
    except NoReport as reason:
        return [reason]


def _row_of(report: Report | NoReport, payload: str) -> Row:
    if isinstance(report, NothingFinal):
        return {**dict.fromkeys(REPORTS), "reason": str(report)}
    if isinstance(report, NoReport):
        return {**dict.fromkeys(REPORTS), "reason": str(report), "payload": payload}
    return {**dict.fromkeys(REPORTS), **report._asdict(), "kind": str(report.kind), "clues": list(report.clues)}


def report_payload(row: Row) -> str:
    """What is needed to try again to find the message of a report that could be read."""
    at = row["at"].astimezone(UTC).isoformat() if row["at"] else None
    fields = {name: row[name] for name in Report._fields}
    return json.dumps({"report": {**fields, "at": at}, "trusted": bool(row["trusted"])})


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
