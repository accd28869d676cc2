"""What the use cases share: a dozen profiles, a storage folder, and a delivery whose mails can be read."""

import mailbox
from collections.abc import Callable
from datetime import UTC, date, datetime
from email import message_from_binary_file
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import polars as pl
import pytest

from tasks.channels.outbox import OutboxOptions, outbox
from tasks.content.personalization import PersonalizationOptions, TemplateFolder, personalization, read_templates
from tasks.runs.audience import Audience
from tasks.send import Send
from tasks.sources.files import ProfileFile

TODAY = date(2026, 11, 24)
"""A Tuesday."""

PEOPLE = [
    ("p1", "Ada", "ada@x.example", date(1990, 11, 24), "94016", "CA", True),
    ("p2", "Bob", "bob@x.example", date(2003, 1, 5), "94016", "CA", True),
    ("p3", "Cid", "cid@x.example", date(1985, 11, 24), "10001", "NY", False),
    ("p4", "Dee", "dee@x.example", date(1961, 7, 1), "10001", "NY", True),
    ("p5", "Eve", None, date(1999, 11, 24), "73301", "TX", True),
    ("p6", "Fay", "ADA@x.example", date(1990, 11, 23), "94016", "CA", True),
    ("p7", "Gus", "gus@x.example", date(2008, 11, 24), "73301", "TX", True),
    ("p8", "Hal", "hal@x.example", None, "73301", "TX", True),
]


@pytest.fixture
def people(in_folder: Path) -> ProfileFile:
    """The profiles, in a file."""
    schema = ["profile_id", "first_name", "email", "birth_date", "zip_code", "state", "may_contact"]
    path = in_folder / "people.parquet"
    pl.DataFrame(PEOPLE, schema=schema, orient="row").write_parquet(path)
    return ProfileFile(path=path)


@pytest.fixture
def storage(in_folder: Path) -> Path:
    """The storage folder."""
    folder = in_folder / "storage"
    folder.mkdir()
    return folder


Deliver = Callable[..., Audience]


@pytest.fixture
def deliver(in_folder: Path, result_folder: Path) -> Deliver:
    """The end of a workflow: personalization and outbox. Gives who was delivered to."""

    def personalized_and_sent(audience: Audience, campaign: str, text: str, day: date = TODAY) -> Audience:
        folder = in_folder / "templates" / campaign
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("subject.txt", "body.html", "body.txt"):
            (folder / name).write_text(text)
        send = Send(campaign=campaign, label=campaign.capitalize(), business_date=day)
        options = PersonalizationOptions(templates=read_templates(TemplateFolder(folder=folder)), send=send)
        messages = personalization(audience, options)
        sent_at = datetime(2026, 11, 24, 7, tzinfo=UTC)
        return outbox(messages, OutboxOptions(), send, sent_at)

    return personalized_and_sent


@pytest.fixture
def mails(in_folder: Path) -> Callable[..., dict[str, str]]:
    """Reads what a campaign delivered: {address: subject}."""

    def read(campaign: str, day: date = TODAY) -> dict[str, str]:
        folder = in_folder / "outbox" / campaign / day.isoformat() / "maildir"
        if not folder.exists():
            return {}

        def parsed(file: object) -> EmailMessage:
            return message_from_binary_file(file, policy=default)

        box = mailbox.Maildir(folder, factory=parsed, create=False)
        return {str(message["To"]): str(message["Subject"]) for message in box}

    return read
