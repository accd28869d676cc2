"""Complaints in the Abuse Reporting Format: RFC 5965."""

from email.message import Message
from email.utils import getaddresses

from tasks.feedback.dsn import clues_of
from tasks.feedback.parts import blocks_of, first_part, header, headers, original_of
from tasks.feedback.report import Kind, NoReport, NothingFinal, Report, moment_of

KINDS = {
    "abuse": Kind.COMPLAINED,
    "fraud": Kind.COMPLAINED,
    "opt-out": Kind.UNSUBSCRIBED,
    "opt-out-list": Kind.UNSUBSCRIBED,
}
"""By the field Feedback-Type: what a person wants."""
NO_COMPLAINT = ("not-spam", "auth-failure", "dmarc")


def reports_of(message: Message) -> list[Report] | None:
    """What a complaint says; None for another message.

    Errors: `NoReport` for one that is broken, or is no complaint.
    """
    part = first_part(message, "message/feedback-report")
    if part is None:
        return None
    blocks = blocks_of(part)
    kind = header(blocks[0], "Feedback-Type").lower() if blocks else ""
    if kind in NO_COMPLAINT:
        raise NothingFinal(f"a feedback report of the type '{kind}', which is no complaint")
    if kind not in KINDS:
        raise NoReport(f"a feedback report of the type '{kind[:40]}'")
    fields, original = blocks[0], original_of(message)
    given = headers(fields, "Original-Rcpt-To") or (headers(original, "To") if original is not None else [])
    sent_to = [address for _, address in getaddresses(given) if "@" in address]
    return [
        Report(
            kind=KINDS[kind],
            at=moment_of(header(fields, "Received-Date") or header(fields, "Arrival-Date"))
            or moment_of(header(message, "Date")),
            recipient=sent_to[0] if len(sent_to) == 1 else "",
            detail=f"{kind}, by {header(fields, 'User-Agent') or 'an unnamed reporter'}",
            clues=(*headers(fields, "Original-Mail-From"), *clues_of(message)),
        )
    ]
