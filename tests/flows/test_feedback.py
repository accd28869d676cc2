"""What comes back, from end to end: a send to a real mail server, every kind of feedback, and the next campaign."""

import gzip
import json
import mailbox
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
from prefect import flow

from deployments.sandbox.mail_server import MailSandbox, Taken, running_mail_server
from deployments.sandbox.server import Call, Reply
from flows.feedback import what_comes_back
from tasks.channels.email import email
from tasks.channels.preparation import PreparationOptions, preparation
from tasks.data_management.outcomes import outcomes
from tasks.delivery.journal.storage import open_journal
from tasks.errors import FeedbackIncomplete
from tasks.send import Send
from tasks.settings import Settings
from tests.browser import browser_page
from tests.deployments.unsubscribe_server import running_page
from tests.ports import free_port
from tests.shown import newest_artifact
from tests.tasks.channels.email_flow import options_for
from tests.tasks.feedback import samples
from tests.tasks.feedback.samples import About, loop, report

TODAY = Send(campaign="newsletter", label="Newsletter", business_date=date(2026, 11, 24))
NEXT = Send(campaign="newsletter", label="Newsletter", business_date=date(2026, 12, 1))
SECRET = "a secret of the tests"
OUT = {
    "no-such-user": lambda a: report(a, samples.POSTFIX),
    "not-found": lambda a: report(a, samples.EXCHANGE),
    "inactive": lambda a: report(a, samples.GOOGLE),
    "no-such-host": lambda a: report(a, samples.SENDMAIL, original_part="text/rfc822-headers"),
    "in-base64": lambda a: report(a, samples.POSTFIX, encoding="base64"),
    "by-message-id": lambda a: report(a, samples.POSTFIX, to="offers@campaign.example"),
    "by-bounce-address": lambda a: report(a, samples.POSTFIX, original_part=""),
    "qmail": samples.qmail,
    "spam": lambda a: loop(a, samples.ABUSE),
    "spam-withheld": lambda a: loop(a, samples.REDACTED, original=samples.REDACTED_ORIGINAL),
    "fraud": lambda a: loop(a, samples.ABUSE.replace("abuse", "fraud")),
    "list-opt-out": lambda a: loop(a, samples.ABUSE.replace("abuse", "opt-out")),
}
"""By person: a message after which nobody may write to them."""
IN = {
    "full": lambda a: report(a, samples.FULL),
    "policy": lambda a: report(a, samples.POLICY),
    "given-up": lambda a: report(a, samples.EXPIRED),
    "late": lambda a: report(a, samples.DELAYED),
    "arrived": lambda a: report(a, samples.DELIVERED),
    "exim": samples.exim,
    "not-spam": lambda a: loop(a, samples.ABUSE.replace("abuse", "not-spam")),
    "on-holiday": lambda a: samples.plain(a, "Away", "Auto-Submitted: auto-replied\n"),
    "answers": lambda a: samples.plain(a, "Thank you"),
    "silent": None,
}
"""By person: a message that is no reason not to write, or none."""
BY_PROVIDER = {"sendgrid-bounced", "sendgrid-spam", "postmark-hard", "postmark-spam", "ses-bounced", "ses-spam"}
ONE_CLICK = {"clicks"}
OPTED_OUT = {*ONE_CLICK, "list-opt-out"}
PEOPLE = [*OUT, *IN, *sorted(BY_PROVIDER), *ONE_CLICK, "postmark-soft", "sendgrid-blocked"]
BROKEN = [
    b"",
    bytes(range(256)) * 4,
    report(About(), "Reporting-MTA: dns; x\n"),
    report(About("f" * 32), samples.POSTFIX),
    report(About(), samples.POSTFIX)[:300],
]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, in_folder: Path, result_folder: Path) -> Callable[..., None]:
    def given(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"CAMPAIGN_{name}", value)

    given(
        JOURNAL__URL=f"sqlite:///{in_folder}/journal.db",
        FEEDBACK__MAILBOX__KIND="maildir",
        FEEDBACK__MAILBOX__PATH=str(in_folder / "bounces"),
        STORAGE__FOLDER=str(in_folder),
    )
    mailbox.Maildir(in_folder / "bounces", create=True)
    return given


def address(person: str) -> str:
    return f"{person}@receiver.example"


def send(who: Send, port: int, folder: Path) -> pl.DataFrame:
    """Send to everybody who may be written to; gives those who may not, with the reason."""
    audience = pl.DataFrame({"profile_id": PEOPLE, "email": [address(person) for person in PEOPLE]})

    @flow
    def newsletter() -> pl.DataFrame:
        prepared = preparation(audience, PreparationOptions(), who)
        messages = prepared.standard.with_columns(subject=pl.lit("News"), html=pl.lit("<p>"), text=pl.lit("News"))
        email(messages, options_for(port, folder), who)
        return prepared.rejects

    return newsletter()


def about(taken: Taken) -> About:
    name, _, domain = taken.message_id.strip("<>").partition("@")
    return About(name[:32], taken.recipient, domain)


def put(folder: Path, *messages: bytes) -> None:
    box = mailbox.Maildir(folder / "bounces", create=True)
    for message in messages:
        box.add(message)


def api(call: Call) -> Reply:
    """SendGrid and Postmark, as they answer."""
    first = call.query["offset"] == "0"
    created = 1795507200
    answers = {
        "/v3/suppression/bounces": [
            {
                "created": created,
                "email": address("sendgrid-bounced"),
                "reason": "550 5.1.1 The email account that you tried to reach does not exist.",
                "status": "5.1.1",
            }
        ],
        "/v3/suppression/blocks": [
            {
                "created": created,
                "email": address("sendgrid-blocked"),
                "reason": "550 5.7.1 blocked",
                "status": "5.7.1",
            }
        ],
        "/v3/suppression/spam_reports": [
            {"created": created, "email": address("sendgrid-spam"), "ip": "192.0.2.1"},
            {"created": created, "email": None, "ip": "192.0.2.1"},
        ],
        "/bounces": {
            "TotalCount": 4,
            "Bounces": [
                {"ID": 1, "Type": kind, "Email": address(person), "BouncedAt": at, "Details": "words"}
                for kind, person, at in (
                    ("SpamComplaint", "postmark-spam", "2026-11-24T08:00:00Z"),
                    ("HardBounce", "postmark-hard", "2026-11-24T07:00:00.1234567Z"),
                    ("SoftBounce", "postmark-soft", "2026-11-24T07:00:00-05:00"),
                    ("NewIdea", "silent", "2026-11-24T07:00:00Z"),
                )
            ],
        },
    }
    body = answers.get(call.path, []) if first else []
    return Reply(body=json.dumps(body).encode())


def ses_event(kind: str, key: str, details: dict[str, object], message: About) -> str:
    mail = {"source": "offers@campaign.example", "headers": [{"name": "Message-ID", "value": message.message_id}]}
    return json.dumps({"eventType": kind, key: details, "mail": mail})


def artifact(key: str) -> dict[str, int]:
    return {row["outcome"]: row["messages"] for row in json.loads(newest_artifact(key).data)}


def test_whoever_bounced_complained_or_unsubscribed_gets_no_further_mail_and_all_others_do(
    settings: Callable[..., None], in_folder: Path, start_server: Callable
) -> None:
    server = start_server(api)
    access = {"address": server.address, "ca_file": str(server.ca_file)}
    settings(
        FEEDBACK__PROVIDERS=json.dumps({"sendgrid": access, "postmark": access}),
        FEEDBACK__SES_EVENTS="ses",
        NETWORK__ALLOWED_HOSTS=json.dumps([urlsplit(server.address).netloc]),
    )
    journal = Settings.load().journal
    with running_page(SECRET, journal) as page, running_mail_server(MailSandbox()) as first:
        settings(UNSUBSCRIBE__URL=f"{page}/unsubscribe", UNSUBSCRIBE__SECRET=SECRET)
        assert send(TODAY, first.port, in_folder).is_empty()
        mails = {one.recipient.partition("@")[0]: one for one in first.taken}
        assert set(mails) == set(PEOPLE)
        link = message_from_bytes(mails["clicks"].content, policy=default)["List-Unsubscribe"].strip("<>")
        with browser_page() as browser:
            browser.goto(link)
            browser.get_by_role("button", name="Unsubscribe").click()
            browser.get_by_role("heading", name="You are unsubscribed").wait_for()

    given = {**OUT, **IN}
    put(in_folder, *(sample(about(mails[person])) for person, sample in given.items() if sample), *BROKEN)
    (in_folder / "ses" / "2026").mkdir(parents=True)
    bounced = {"bounceType": "Permanent", "bouncedRecipients": [{"status": "5.1.1"}]}
    complained = {"complainedRecipients": [{"emailAddress": address("ses-spam")}]}
    events = [
        ses_event("Bounce", "bounce", bounced, about(mails["ses-bounced"])),
        ses_event("Complaint", "complaint", complained, about(mails["ses-spam"])),
        "no event",
    ]
    (in_folder / "ses" / "2026" / "part-1.gz").write_bytes(gzip.compress("\n".join(events).encode()))

    done = what_comes_back()
    assert done.sends == 1
    counts = artifact("newsletter-email")
    assert counts["sent"] == len(PEOPLE)
    assert counts["unsubscribed"] == 2
    again = what_comes_back()
    assert again.unmatched == done.unmatched
    assert artifact("newsletter-email") == counts, "nothing is counted twice"

    with running_mail_server(MailSandbox()) as second:
        left_out = send(NEXT, second.port, in_folder)
        written = {one.recipient.partition("@")[0] for one in second.taken}
    assert written == set(IN) | {"postmark-soft", "sendgrid-blocked"}
    reasons = dict(left_out.select("profile_id", "reason").iter_rows())
    assert set(reasons) == set(OUT) | BY_PROVIDER | ONE_CLICK
    for person, reason in reasons.items():
        is_complaint = "spam" in person or person == "fraud"
        said = "complaint" if is_complaint else "opt-out" if person in OPTED_OUT else "quarantine"
        assert said in reason, (person, reason)
    assert "5.1.1" in reasons["no-such-user"]
    assert not any("@receiver" in reason and "…@" not in reason for reason in reasons.values())

    @flow
    def looked_at() -> pl.DataFrame:
        return outcomes(TODAY)

    became = dict(looked_at().select("profile_id", "outcome").iter_rows())
    assert became["no-such-user"] == "bounced"
    assert became["spam"] == "complained"
    assert became["clicks"] == "unsubscribed"
    assert became["silent"] == became["arrived"] == "delivered"


def test_what_cannot_be_matched_is_kept_and_found_once_its_message_is_known(
    settings: Callable[..., None], in_folder: Path
) -> None:
    with closing(open_journal(Settings.load().journal)) as journal:
        key = TODAY.message_key("email", "p1")
        put(in_folder, report(About(journal.names.names_of(key)), samples.POSTFIX), b"Subject: ?\r\n\r\nWhat?")
        assert what_comes_back().model_dump() == {"outcomes": 0, "sends": 0, "unmatched": 2}
        kept = journal.outcomes.unmatched()
        assert set(kept["reason"]) == {
            "the journal does not know the message that it names",
            "neither a bounce nor a complaint: a person may have written it",
        }
        journal.claim(TODAY, "email", {key: "p1"})
        for box in (in_folder / "bounces").rglob("*:2*"):
            box.unlink()
        for message in (in_folder / "bounces" / "new").iterdir():
            message.unlink()
        assert what_comes_back().model_dump() == {"outcomes": 1, "sends": 1, "unmatched": 1}
        (event,) = journal.outcomes.entries(TODAY).iter_rows(named=True)
        assert (event["profile_id"], event["kind"]) == ("p1", "bounced")
        assert journal.outcomes.unmatched().height == 1


def test_a_source_that_cannot_be_read_is_named_and_the_others_are_written_down(
    settings: Callable[..., None], in_folder: Path
) -> None:
    nobody = f"https://localhost:{free_port()}"
    settings(
        FEEDBACK__PROVIDERS=json.dumps({"postmark": {"address": nobody}}),
        NETWORK__ALLOWED_HOSTS=json.dumps([nobody.removeprefix("https://")]),
    )
    with closing(open_journal(Settings.load().journal)) as journal:
        key = TODAY.message_key("email", "p1")
        journal.claim(TODAY, "email", {key: "p1"})
        put(in_folder, report(About(journal.names.names_of(key)), samples.POSTFIX))
        with pytest.raises(FeedbackIncomplete, match="postmark-bounces"):
            what_comes_back()
        assert journal.outcomes.entries(TODAY).height == 1


def test_the_time_of_an_event_is_never_in_the_future(settings: Callable[..., None], in_folder: Path) -> None:
    with closing(open_journal(Settings.load().journal)) as journal:
        key = TODAY.message_key("email", "p1")
        journal.claim(TODAY, "email", {key: "p1"})
        put(in_folder, report(About(journal.names.names_of(key)), samples.POSTFIX).replace(b"2026", b"2096"))
        what_comes_back()
        assert journal.outcomes.entries(TODAY)["at"].item() <= datetime.now(UTC)
        assert journal.suppressions.entries()["last_at"].item() <= datetime.now(UTC)
