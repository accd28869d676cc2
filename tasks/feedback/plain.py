"""Bounces in a server's own words (Exim, qmail, Exchange and their like): read by the library `flufl.bounce`."""

import logging
from email.message import Message
from email.utils import parseaddr

from flufl.bounce import all_failures

from tasks.feedback.dsn import STATUS, clues_of
from tasks.feedback.parts import header, parts_of
from tasks.feedback.report import Kind, NoReport, NothingFinal, Report, moment_of

LONGEST_TEXT = 10_000
SYSTEMS = ("mailer-daemon", "postmaster", "mail-daemon", "mmdf")
"""Local parts that mail systems write from."""

# Its detectors log each message that they trip over, with its traceback.
logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)


def reports_of(message: Message) -> list[Report] | None:
    """What a bounce without a delivery status says, a report for each address; None for another message.

    Errors: `NoReport` for a warning that says nothing final.
    """
    if not _is_from_a_system(message):
        return None  # the library also finds bounces that people quote
    try:
        temporary, permanent = all_failures(message)
    except Exception as error:  # noqa: BLE001  # its detectors read unchecked bytes
        raise NoReport(f"a bounce that cannot be read ({type(error).__name__})") from None
    if temporary and not permanent:
        raise NothingFinal("a warning that says nothing final: the message is delayed")
    words = _text(message)
    status = STATUS.search(words)
    return [
        Report(
            kind=Kind.BOUNCED,
            at=moment_of(header(message, "Date")),
            recipient=address.decode("utf-8", "replace"),
            status=status.group(1) if status and len(permanent) == 1 else "",
            detail=" ".join(words.split())[:500],
            clues=clues_of(message),
        )
        for address in sorted(permanent)
    ] or None


def _is_from_a_system(message: Message) -> bool:
    """Whether a mail system wrote it: bounces have no sender that could be answered (RFC 5321, section 4.5.5)."""
    _, author = parseaddr(header(message, "From"))
    return header(message, "Return-Path") == "<>" or author.partition("@")[0].lower() in SYSTEMS


def _text(message: Message) -> str:
    texts = [part for part in parts_of(message) if part.get_content_type() == "text/plain"]
    return str(texts[0].get_payload())[:LONGEST_TEXT] if texts else ""
