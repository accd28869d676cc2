"""Amazon SES: the events that it publishes, as JSON, one a line, in the files that Firehose writes to S3.

Source: Amazon SES Developer Guide, "Contents of event data that Amazon SES publishes to Firehose".
"""

import json
from datetime import UTC, datetime
from typing import Any

from tasks.feedback.report import Kind, NoReport, NothingFinal, Report

KINDS = {
    "Bounce": (Kind.BOUNCED, "bounce", "bouncedRecipients"),
    "Complaint": (Kind.COMPLAINED, "complaint", "complainedRecipients"),
    "Delivery": (Kind.DELIVERED, "delivery", "recipients"),
    "Reject": (Kind.BOUNCED, "reject", ""),
}
"""By eventType: what it says, and the keys of its object and of the list of recipients in it."""
NOT_FINAL = ("Send", "Open", "Click", "DeliveryDelay", "Rendering Failure", "Subscription")
SUPPRESSED = ("Suppressed", "OnAccountSuppressionList")
"""Subtypes of permanent bounces that SES makes itself: earlier messages to the address bounced for good."""


def reports_in_event(line: str) -> list[Report]:
    """What one event says, a report for each recipient. Errors: `NoReport`."""
    try:
        event = json.loads(line)
        kind = event.get("eventType") or event.get("notificationType")
        if kind in NOT_FINAL:
            raise NothingFinal(f"an event of the type '{kind}', which says nothing final")
        if kind not in KINDS:
            raise NoReport(f"an event of the type '{str(kind)[:40]}'")
        return _reports(event, *KINDS[kind])
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        if isinstance(error, NoReport):
            raise
        raise NoReport("the line is not an event of Amazon SES") from None


def _reports(event: dict[str, Any], kind: Kind, name: str, list_name: str) -> list[Report]:
    about, mail = event.get(name) or {}, event["mail"]
    headers = [str(one.get("value")) for one in mail.get("headers") or [] if _is_message_id(one)]
    clues = (str(mail.get("source", "")), *headers)
    at = _moment(about.get("timestamp") or mail.get("timestamp"))
    listed = about.get(list_name) or mail.get("destination") or []
    recipients = [one if isinstance(one, dict) else {"emailAddress": one} for one in listed]
    if not recipients:
        raise NoReport("an event of Amazon SES without a recipient")
    bad = "5.1.1" if about.get("bounceSubType") in SUPPRESSED else ""
    return [
        Report(
            kind=kind,
            at=at,
            recipient=str(one.get("emailAddress", "")),
            status=str(one.get("status") or bad),
            detail=str(
                one.get("diagnosticCode") or about.get("complaintFeedbackType") or about.get("reason") or ""
            ),
            clues=clues,
        )
        for one in recipients
    ]


def _is_message_id(field: dict[str, Any]) -> bool:
    return str(field.get("name", "")).lower() in {"message-id", "return-path"}


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None
