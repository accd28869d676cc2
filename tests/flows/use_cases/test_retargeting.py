r"""Use case: a second mail to those who did not open the first, or to those whom the first reached.

query -> email -> save audience -> wait -> read audience -> exclusion -> email
                                        load file (opens) --/

query -> email -> feedback -> outcomes -> intersection -> email
  \--------------------------------------/
"""

import mailbox
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from prefect import flow

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from flows.feedback import what_comes_back
from tasks.channels.email import email
from tasks.content.personalization import PersonalizationOptions, TemplateFolder, personalization, read_templates
from tasks.data_management.load_file import LoadFileOptions, load_file
from tasks.data_management.outcomes import outcomes
from tasks.execution.wait import WaitOptions, wait
from tasks.runs.audience import Audience
from tasks.send import Send
from tasks.sources.files import ProfileFile
from tasks.targeting.exclusion import ExclusionOptions, exclusion
from tasks.targeting.intersection import IntersectionOptions, intersection
from tasks.targeting.query import QueryOptions, query
from tasks.targeting.read_audience import ReadAudienceOptions, read_audience
from tasks.targeting.save_audience import SaveAudienceOptions, save_audience
from tests.tasks.channels.email_flow import options_for
from tests.tasks.feedback import samples
from tests.tasks.feedback.samples import About, report

TODAY = date(2026, 11, 24)
WHERE = "may_contact AND email IS NOT NULL AND state <> 'CA'"
OPENS = LoadFileOptions(file="opens.csv", columns={"address": {"key": "email", "letter_case": "lower"}})
NOT_THOSE_WHO_OPENED = ExclusionOptions(primary="sent", rules={"opened": {"email": "address"}})


def test_who_did_not_open_gets_a_second_mail(
    people: ProfileFile, storage: Path, deliver: Callable, mails: Callable
) -> None:
    @flow
    def retargeting() -> None:
        audience = query(QueryOptions(source=people, where=WHERE))
        deliver(audience, "first", "An offer, {{ profile.first_name }}")
        save_audience(audience, SaveAudienceOptions(name="first mail"), TODAY)
        (storage / "opens.csv").write_text("email\nDEE@x.example\n")
        wait(WaitOptions(name="for opens", duration=timedelta(seconds=0.1)))
        sent = read_audience(ReadAudienceOptions(name="first mail"))
        opened = load_file(OPENS).standard
        silent = exclusion({"sent": sent, "opened": opened}, NOT_THOSE_WHO_OPENED)
        deliver(silent.standard, "second", "Still open, {{ profile.first_name }}")

    retargeting()
    assert set(mails("first")) == {"dee@x.example", "gus@x.example", "hal@x.example"}
    assert mails("second") == {"gus@x.example": "Still open, Gus", "hal@x.example": "Still open, Hal"}


FIRST = Send(campaign="first", label="First", business_date=TODAY)
SECOND = Send(campaign="second", label="Second", business_date=TODAY)
REACHED = IntersectionOptions(primary="asked")


def test_whom_the_first_mail_reached_gets_a_second_one(
    people: ProfileFile, in_folder: Path, result_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{in_folder}/journal.db")
    monkeypatch.setenv("CAMPAIGN_FEEDBACK__MAILBOX__KIND", "maildir")
    monkeypatch.setenv("CAMPAIGN_FEEDBACK__MAILBOX__PATH", str(in_folder / "bounces"))
    bounces = mailbox.Maildir(in_folder / "bounces", create=True)

    (in_folder / "templates").mkdir()
    for name in ("subject.txt", "body.html", "body.txt"):
        (in_folder / "templates" / name).write_text("An offer, {{ profile.first_name }}")
    templates = read_templates(TemplateFolder(folder=in_folder / "templates"))

    def mail(audience: Audience, send: Send, port: int) -> None:
        messages = personalization(audience, PersonalizationOptions(templates=templates, send=send))
        email(messages, options_for(port, in_folder), send)

    with running_mail_server(MailSandbox()) as server:

        @flow
        def first() -> None:
            mail(query(QueryOptions(source=people, where=WHERE)), FIRST, server.port)

        @flow
        def retargeting() -> None:
            audience = query(QueryOptions(source=people, where=WHERE))
            reached = outcomes(FIRST).filter(outcome="delivered")
            both = intersection({"asked": audience, "reached": reached}, REACHED)
            mail(both, SECOND, server.port)

        first()
        dee = next(one for one in server.taken if one.recipient == "dee@x.example")
        name = dee.message_id.strip("<>").partition("@")[0]
        bounces.add(report(About(name, dee.recipient), samples.FULL))
        what_comes_back()
        server.taken.clear()
        retargeting()
        assert {one.recipient for one in server.taken} == {"gus@x.example", "hal@x.example"}
