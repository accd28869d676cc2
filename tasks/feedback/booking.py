"""What follows from a report: an outcome of a message, perhaps a suppression, or a place among the unmatched."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tasks.delivery.blame import MAILBOX_DAYS, MAILBOX_REFUSALS, Blame, blamed
from tasks.delivery.journal.outcomes import Feedback, MessageOfJournal, OutcomeKind, Unmatched
from tasks.delivery.journal.suppressions import Kind as Suppression
from tasks.delivery.journal.suppressions import Sighting
from tasks.feedback.matching import names_in
from tasks.feedback.report import Kind
from tasks.feedback.table import report_payload

EVERY_CHANNEL = ""
MAIL = "email"
"""The channel that mailboxes and providers' lists speak of."""
LOCAL_PART = re.compile(r"[^\s<>@;:,\"'()]+(?=@)")

NO_NAME = "it names no message of ours"
NO_MESSAGE = "the journal does not know the message that it names"
SEVERAL = "it names several messages of ours"

Find = Callable[[str], MessageOfJournal | None]
"""Gives the message that the world knows by a name."""


@dataclass
class Booked:
    """What to write into the journal."""

    outcomes: list[Feedback] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    """Numbers of what was kept as unmatched before and has found its message now, or needs none."""
    messages: list[MessageOfJournal] = field(default_factory=list)
    """The message of each outcome."""
    nothing_final: int = 0
    """How many said nothing worth keeping."""


def book(
    reports: Iterable[dict[str, Any]],
    find: Find,
    now: datetime,
    has_bounced: Callable[[str], bool] = lambda _: False,
) -> Booked:
    """What follows from reports, rows of `tasks.feedback.table`.

    `has_bounced` says whether a message, by its key, is known to have come back. Any recipient can write a
    bounce of it, with any address in it: of each message one bounce speaks against an address, and no other.
    """
    booked = Booked()
    for report in reports:
        _book(report, find, now, booked, has_bounced)
    return booked


def _book(
    report: dict[str, Any], find: Find, now: datetime, booked: Booked, has_bounced: Callable[[str], bool]
) -> None:
    if report["kind"] is None:
        if report["payload"] is None:
            booked.nothing_final += 1
            _settled(report, booked)
        else:
            booked.unmatched.append(_unmatched(report, report["reason"], now))
        return
    names = names_in(report["clues"] or ())
    known = {message.key: message for name in names if (message := find(name)) is not None}
    if len(known) > 1:
        booked.unmatched.append(_unmatched(report, SEVERAL, now))
        return
    message = next(iter(known.values()), None)
    sighting = sighting_of(report, message, now)
    if message is None and not (sighting is not None and sighting.address and report["trusted"]):
        # A mail that names no message proves nothing: anybody can write it.
        booked.unmatched.append(_unmatched(report, NO_MESSAGE if names else NO_NAME, now))
        return
    _settled(report, booked)
    if message is not None and report["kind"] == Kind.BOUNCED and not report["trusted"]:
        here = any(one.key == message.key and one.kind == OutcomeKind.BOUNCED for one in booked.outcomes)
        sighting = None if here or has_bounced(message.key) else sighting
    if sighting is not None:
        booked.sightings.append(sighting)
    if message is not None:
        booked.messages.append(message)
        booked.outcomes.append(
            Feedback(
                key=message.key,
                kind=OutcomeKind(report["kind"]),
                at=_moment(report, now),
                source=report["source"],
                reference=report["reference"],
                detail=masked(report["detail"] or ""),
            )
        )


def sighting_of(report: dict[str, Any], message: MessageOfJournal | None, now: datetime) -> Sighting | None:
    """What speaks against writing to the person, or to the address, if anything does."""
    words = " ".join(filter(None, (report["status"], masked(report["detail"] or ""))))
    channel = message.channel.partition("-proof-")[0] if message else MAIL
    seen = Sighting(
        Suppression.QUARANTINE,
        channel,
        reason=words,
        source=report["source"],
        address=report["recipient"] or "",
        profile_id=message.profile_id if message else "",
        at=_moment(report, now),
    )
    # The person is known by the message; the address in a mail is whatever its writer put there.
    person = seen if report["trusted"] else seen._replace(address="")
    blame = blamed(report["status"] or "", report["detail"] or "")
    match Kind(report["kind"]):
        case Kind.COMPLAINED:
            return person._replace(kind=Suppression.COMPLAINT)
        case Kind.UNSUBSCRIBED:
            return person._replace(kind=Suppression.OPT_OUT, channel=EVERY_CHANNEL)
        case Kind.BOUNCED if blame is Blame.ADDRESS:
            return seen
        case Kind.BOUNCED if blame is Blame.MAILBOX:
            return seen._replace(expires_at=now + timedelta(days=MAILBOX_DAYS), needed=MAILBOX_REFUSALS)
        case _:
            return None


def masked(words: str) -> str:
    """Words of a receiver without the names of mailboxes: the journal keeps no address."""
    return LOCAL_PART.sub("…", words)


def _moment(report: dict[str, Any], now: datetime) -> datetime:
    """When it happened; never later than now, whatever somebody's clock says."""
    at: datetime | None = report["at"]
    return now if at is None else min(at, now)


def _settled(report: dict[str, Any], booked: Booked) -> None:
    if report["kept_as"] is not None:
        booked.found.append(report["kept_as"])


def _unmatched(report: dict[str, Any], reason: str, now: datetime) -> Unmatched:
    return Unmatched(
        source=report["source"],
        reference=report["reference"],
        kind=report["kind"] or "unreadable",
        at=_moment(report, now),
        reason=reason,
        payload=report["payload"] or report_payload(report),
    )
