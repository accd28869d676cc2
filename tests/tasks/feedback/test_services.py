"""Rows of providers' lists, by their declared mapping; events of Amazon SES."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from pydantic import ValidationError

from tasks.feedback.report import Kind, NoReport, Report
from tasks.feedback.services import Meaning, RowMapping, rows_read
from tasks.feedback.ses import reports_in_event
from tests.tasks.feedback.samples import About

ADA = About()
BOUNCES = RowMapping(status="status", detail="reason", kind=Meaning(kind=Kind.BOUNCED))
TYPES = RowMapping(
    type="type",
    meanings={
        "HardBounce": Meaning(kind=Kind.BOUNCED, status="5.1.1"),
        "SpamComplaint": Meaning(kind=Kind.COMPLAINED),
        "AutoResponder": Meaning(),
    },
)
AT = datetime(2026, 11, 24, 7, tzinfo=UTC)


def read(mapping: RowMapping, **row: object) -> Report | str:
    (one,) = rows_read(pl.DataFrame([{"email": "ada@x.example", "at": AT, **row}]), mapping)
    return str(one.report) if isinstance(one.report, NoReport) else one.report


def test_a_row_says_what_its_mapping_declares() -> None:
    said = read(BOUNCES, status="5.1.1", reason="550 no such user")
    assert said == Report(Kind.BOUNCED, AT, "ada@x.example", "5.1.1", "550 no such user")


@pytest.mark.parametrize("at", [1795503600, 1795503600.0, AT, AT.replace(tzinfo=None)])
def test_a_moment_may_be_a_number_of_seconds(at: object) -> None:
    said = read(BOUNCES, at=at)
    assert isinstance(said, Report)
    assert said.at == AT


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("HardBounce", Report(Kind.BOUNCED, AT, "ada@x.example", "5.1.1")),
        ("SpamComplaint", Report(Kind.COMPLAINED, AT, "ada@x.example")),
        ("AutoResponder", "the provider's type 'AutoResponder' says nothing of the message"),
        ("NewIdea", "the provider's type 'NewIdea' has no meaning in the mapping"),
        (None, "the provider's type 'None' has no meaning in the mapping"),
    ],
)
def test_the_type_of_a_row_has_one_meaning_or_a_reason(kind: str | None, said: object) -> None:
    assert read(TYPES, type=kind) == said


@pytest.mark.parametrize("email", [None, "", "nobody"])
def test_a_row_without_an_address_says_nothing(email: str | None) -> None:
    assert read(BOUNCES, email=email) == "the row has no address"


def test_a_mapping_says_one_thing_of_a_row() -> None:
    for fields in ({}, {"kind": {"kind": "bounced"}, "type": "type"}):
        with pytest.raises(ValidationError, match="either every row"):
            RowMapping(**fields)


MAIL = {
    "timestamp": "2026-11-24T07:00:00.000Z",
    "source": ADA.bounce_address,
    "messageId": "EXAMPLE7c191be45",
    "destination": [ADA.recipient],
    "headers": [{"name": "Message-ID", "value": ADA.message_id}],
}
EVENTS = {
    "bounce": (
        {
            "eventType": "Bounce",
            "bounce": {
                "bounceType": "Permanent",
                "bounceSubType": "General",
                "bouncedRecipients": [
                    {
                        "emailAddress": ADA.recipient,
                        "action": "failed",
                        "status": "5.1.1",
                        "diagnosticCode": "smtp; 550 5.1.1 user unknown",
                    }
                ],
                "timestamp": "2026-11-24T07:00:01.000Z",
            },
        },
        (Kind.BOUNCED, "5.1.1"),
    ),
    "suppressed by SES": (
        {
            "eventType": "Bounce",
            "bounce": {
                "bounceType": "Permanent",
                "bounceSubType": "Suppressed",
                "bouncedRecipients": [{"emailAddress": ADA.recipient}],
                "timestamp": "2026-11-24T07:00:01.000Z",
            },
        },
        (Kind.BOUNCED, "5.1.1"),
    ),
    "complaint, as SNS sends it": (
        {
            "notificationType": "Complaint",
            "complaint": {
                "complainedRecipients": [{"emailAddress": ADA.recipient}],
                "complaintFeedbackType": "abuse",
                "timestamp": "2026-11-24T07:00:01.000Z",
            },
        },
        (Kind.COMPLAINED, ""),
    ),
    "delivery": (
        {
            "eventType": "Delivery",
            "delivery": {"recipients": [ADA.recipient], "timestamp": "2026-11-24T07:00:01.000Z"},
        },
        (Kind.DELIVERED, ""),
    ),
}


@pytest.mark.parametrize("case", EVENTS)
def test_an_event_of_amazon_ses(case: str) -> None:
    event, wanted = EVENTS[case]
    (said,) = reports_in_event(json.dumps({**event, "mail": MAIL}))
    assert (said.kind, said.status) == wanted
    assert said.recipient == ADA.recipient
    assert said.clues == (ADA.bounce_address, ADA.message_id)
    assert said.at == datetime(2026, 11, 24, 7, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not an event"),
        ("[1]", "not an event"),
        ('{"eventType": "Bounce"}', "not an event"),
        ('{"eventType": "Bounce", "mail": 3}', "not an event"),
        ('{"eventType": "Bounce", "mail": {}, "bounce": {}}', "without a recipient"),
        ('{"eventType": "Send", "mail": {}}', "nothing final"),
        ('{"eventType": "Moved"}', "the type 'Moved'"),
        ("[" * 100_000, "not an event"),
    ],
)
def test_a_line_that_is_no_such_event_has_one_reason(line: str, reason: str) -> None:
    with pytest.raises(NoReport, match=reason):
        reports_in_event(line)
