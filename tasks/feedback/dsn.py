"""Delivery status notifications: RFC 3464, with RFC 6533's international addresses."""

import re
from email.message import Message

from tasks.feedback.parts import Fields, blocks_of, first_part, header, headers, original_of
from tasks.feedback.report import Kind, NoReport, NothingFinal, Report, moment_of

STATUS_PARTS = ("message/delivery-status", "message/global-delivery-status")
KINDS = {"failed": Kind.BOUNCED, "delivered": Kind.DELIVERED}
"""By the field Action (RFC 3464, section 2.3.3). The others say nothing final."""
NOT_FINAL = ("delayed", "relayed", "expanded")
BOUNCE_ADDRESS = ("Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To", "To")
"""Headers of a report that say which address it came to: the one that a message of ours was sent from."""
STATUS = re.compile(
    r"""(?:^\s*(?:[\w-]+;)?\s*|(?<![\d.])[245]\d\d[ -]+['"(]*#?|\#)(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])"""
)
"""RFC 3463's status where a status stands: first of all, after a reply's code, or after qmail's #. Elsewhere three
numbers may be a filter's version or a part of an address."""
EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def reports_of(message: Message) -> list[Report] | None:
    """What a delivery status notification says, a report for each recipient; None for another message.

    Errors: `NoReport` for one that is broken, or says nothing final.
    """
    part = first_part(message, *STATUS_PARTS)
    if part is None:
        return None
    blocks = blocks_of(part)
    groups = [block for block in blocks if "Final-Recipient" in block or "Action" in block]
    if not groups:
        raise NoReport("a delivery status without a recipient")
    clues = (*clues_of(message), *(header(block, "Original-Envelope-Id") for block in blocks[:1]))
    found = [_report(group, clues, header(message, "Date")) for group in groups]
    final = [report for report in found if report is not None]
    if not final:
        raise NothingFinal("a delivery status that says nothing final: the message is delayed or was handed on")
    return final


def clues_of(message: Message) -> tuple[str, ...]:
    """Texts that may hold the key of the message that a report is about. The best first."""
    original = original_of(message)
    here = headers(message, *BOUNCE_ADDRESS)
    there = headers(original, "Return-Path", "Message-ID") if original is not None else []
    return (*here, *there, *headers(message, "In-Reply-To", "References"))


def _report(group: Fields, clues: tuple[str, ...], date: str) -> Report | None:
    action = header(group, "Action").lower().partition(" ")[0]
    if action in NOT_FINAL:
        return None
    if action not in KINDS:
        raise NoReport(f"a delivery status with the action '{action[:40]}'")
    words = header(group, "Diagnostic-Code")
    return Report(
        kind=KINDS[action],
        at=moment_of(header(group, "Last-Attempt-Date")) or moment_of(date),
        recipient=_address(header(group, "Original-Recipient")) or _address(header(group, "Final-Recipient")),
        status=_status(header(group, "Status"), words),
        detail=words.partition(";")[2].strip() or words,
        clues=clues,
    )


def _status(reported: str, words: str) -> str:
    """The receiving server's own status where it gave one: the reporting server's may be its translation."""
    found = STATUS.search(words) or STATUS.search(reported)
    return found.group(1) if found else ""


def _address(field: str) -> str:
    """The address of `rfc822; a@b.example` or `utf-8; ...`; empty for another type."""
    kind, _, text = field.partition(";")
    if kind.strip().lower() not in {"rfc822", "utf-8"}:
        return ""
    try:
        address = EMBEDDED.sub(lambda code: chr(int(code.group(1), 16)), text).strip().strip("<>")
    except (ValueError, OverflowError):
        return ""
    return address if "@" in address else ""
