"""One report: what a receiver says about one of our messages."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a report says became of a message."""

    DELIVERED = "delivered"
    """It is in the mailbox of the person."""
    BOUNCED = "bounced"
    """It came back: a server behind the first one did not deliver it."""
    COMPLAINED = "complained"
    """The person marked it as spam."""
    UNSUBSCRIBED = "unsubscribed"
    """The person wants no more."""


class Report(NamedTuple):
    """What one report says about one message."""

    kind: Kind
    at: datetime | None
    """When it happened, in UTC; None where the report does not say."""
    recipient: str = ""
    """The address that the message was sent to; empty where it is withheld."""
    status: str = ""
    """RFC 3463's status, as in 5.1.1; empty where there is none."""
    detail: str = ""
    """The receiver's own words."""
    clues: tuple[str, ...] = ()
    """Texts that may hold the message's key: the bounce address, then Message-IDs. The best first."""


class NoReport(ValueError):
    """A message is no report that can be read. Says why; somebody should look at it."""


class NothingFinal(NoReport):
    """A message is understood, and says nothing final of a message of ours. Says what it is; nobody needs it."""


def moment_of(text: str) -> datetime | None:
    """A date of a header field, in UTC; None for one without a zone, or that is no date."""
    try:
        # RFC 5322: "-0000" is a time in UTC whose writer does not tell its own zone.
        moment = parsedate_to_datetime(text.replace("-0000", "+0000"))
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
