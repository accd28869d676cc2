"""What messages from outside say, as servers and feedback loops write them, and broken ones."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.feedback.matching import names_in
from tasks.feedback.reading import reports_in
from tasks.feedback.report import Kind, NoReport
from tests.tasks.feedback import samples
from tests.tasks.feedback.samples import About, loop, report

ADA = About()
B, C, D, U = Kind.BOUNCED, Kind.COMPLAINED, Kind.DELIVERED, Kind.UNSUBSCRIBED
Sample = Callable[[About], bytes]

SAID: dict[str, tuple[Sample, Kind, str]] = {
    "Postfix, no such user": (lambda a: report(a, samples.POSTFIX), B, "5.1.1"),
    "Exchange, recipient not found": (lambda a: report(a, samples.EXCHANGE), B, "5.1.10"),
    "Google, account inactive": (lambda a: report(a, samples.GOOGLE), B, "5.2.1"),
    "Sendmail, no such host, header only": (
        lambda a: report(a, samples.SENDMAIL, original_part="text/rfc822-headers"),
        B,
        "5.1.2",
    ),
    "a full mailbox": (lambda a: report(a, samples.FULL), B, "5.2.2"),
    "policy, in the receiver's words and not in the status": (lambda a: report(a, samples.POLICY), B, "5.7.1"),
    "given up after days": (lambda a: report(a, samples.EXPIRED), B, "4.4.7"),
    "delivered": (lambda a: report(a, samples.DELIVERED), D, "2.1.5"),
    "known by the bounce address alone": (lambda a: report(a, samples.POSTFIX, original_part=""), B, "5.1.1"),
    "known by the Message-ID alone": (lambda a: report(a, samples.POSTFIX, to="offers@x.example"), B, "5.1.1"),
    "a status in base64": (lambda a: report(a, samples.POSTFIX, encoding="base64"), B, "5.1.1"),
    "no Content-Type of a report": (
        lambda a: report(a, samples.POSTFIX).replace(b"multipart/report", b"multipart/mixed"),
        B,
        "5.1.1",
    ),
    "line ends without carriage return": (
        lambda a: report(a, samples.POSTFIX).replace(b"\r\n", b"\n"),
        B,
        "5.1.1",
    ),
    "cut off after the status": (
        lambda a: report(a, samples.POSTFIX).partition(b"--B/receiver.example\r\nContent-Type: message/rfc822")[0],
        B,
        "5.1.1",
    ),
    "qmail": (samples.qmail, B, "5.1.1"),
    "Exim in its own words": (samples.exim, B, ""),
    "marked as spam": (lambda a: loop(a, samples.ABUSE), C, ""),
    "marked as spam, the person withheld": (
        lambda a: loop(a, samples.REDACTED, original=samples.REDACTED_ORIGINAL),
        C,
        "",
    ),
    "taken for fraud": (lambda a: loop(a, samples.ABUSE.replace("abuse", "fraud")), C, ""),
    "wants no more": (lambda a: loop(a, samples.ABUSE.replace("abuse", "opt-out")), U, ""),
}


@pytest.mark.parametrize("case", SAID)
def test_what_a_message_says_and_of_which_of_ours(case: str) -> None:
    sample, kind, status = SAID[case]
    (said,) = reports_in(sample(ADA))
    assert (said.kind, said.status) == (kind, status)
    assert names_in(said.clues) == (ADA.name,)
    assert said.recipient in {ADA.recipient, ""}
    assert said.recipient or "withheld" in case
    assert said.at is not None
    assert datetime(2026, 11, 24, 7, tzinfo=UTC) <= said.at <= datetime(2026, 11, 24, 8, tzinfo=UTC)


def test_an_international_address_is_read() -> None:
    jose = About(recipient="josé@receiver.example")
    status = samples.INTERNATIONAL.replace("{to}", r"jos\x{{E9}}@receiver.example")
    (said,) = reports_in(report(jose, status, part="message/global-delivery-status"))
    assert said.recipient == "josé@receiver.example"


def test_the_receivers_words_are_kept_as_one_line() -> None:
    (said,) = reports_in(report(ADA, samples.POSTFIX))
    assert said.detail == (
        "550 5.1.1 <ada@receiver.example>: Recipient address rejected: User unknown in virtual mailbox table"
    )


def test_a_bounce_that_lies_inside_a_message_is_not_a_bounce_of_that_message() -> None:
    inner = report(ADA, samples.POSTFIX)
    forwarded = b"From: a@b.example\r\nSubject: see this\r\nContent-Type: message/rfc822\r\n\r\n" + inner
    with pytest.raises(NoReport):
        reports_in(forwarded)


NOTHING: dict[str, tuple[Sample, str]] = {
    "a delay": (lambda a: report(a, samples.DELAYED), "nothing final"),
    "handed on": (lambda a: report(a, samples.DELIVERED.replace("delivered", "relayed")), "nothing final"),
    "not spam after all": (lambda a: loop(a, samples.ABUSE.replace("abuse", "not-spam")), "no complaint"),
    "a complaint without a type": (lambda a: loop(a, samples.ABUSE.partition("\n")[2]), "of the type ''"),
    "an action that nobody knows": (
        lambda a: report(a, samples.POSTFIX.replace("failed", "pondered")),
        "the action 'pondered'",
    ),
    "no recipient": (lambda a: report(a, "Reporting-MTA: dns; mx.receiver.example\n"), "without a recipient"),
    "an empty status": (lambda a: report(a, ""), "without a recipient"),
    "a status that is not base64": (
        lambda a: report(a, samples.POSTFIX).replace(
            b"Content-Type: message/delivery-status\r\n",
            b"Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n",
        ),
        "base64|without a recipient",
    ),
    "holidays": (lambda a: samples.plain(a, "Away", "Auto-Submitted: auto-replied\n"), "automatic reply"),
    "a person's answer": (lambda a: samples.plain(a, "Thank you"), "a person may have written it"),
    "empty": (lambda _: b"", "empty"),
    "only white space": (lambda _: b"\r\n \r\n", "empty"),
    "not a message": (lambda _: bytes(range(256)) * 20, "neither a bounce nor a complaint"),
    "parts in parts in parts": (
        lambda _: b"".join(
            b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(5_000)
        ),
        "nested too deep|parts",
    ),
    "more parts than anybody reads": (
        lambda _: b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"--b\r\n\r\nx\r\n" * 5_000,
        "parts",
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_a_message_that_says_nothing_or_is_broken_has_one_reason(case: str) -> None:
    sample, reason = NOTHING[case]
    with pytest.raises(NoReport, match=reason) as nothing:
        reports_in(sample(ADA))
    assert "\n" not in str(nothing.value)


@given(st.integers(0, 1500), st.integers(0, 60), st.binary(max_size=20))
def test_a_damaged_report_is_read_or_refused_and_never_blames_another_message(
    begin: int, length: int, put: bytes
) -> None:
    whole = report(ADA, samples.POSTFIX)
    damaged = whole[:begin] + put + whole[begin + length :]
    try:
        said = reports_in(damaged)
    except NoReport:
        return
    assert all(isinstance(one.kind, Kind) for one in said)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("smtp; 550 filter version 5.1.1 says no", "5.0.0"),
        ("smtp; 550 blocked by rule v5.1.1", "5.0.0"),
        ("smtp; 550 Blocked [203.5.1.1]", "5.0.0"),
        ("smtp; 550 5.7.1 no, and it is not 5.1.1", "5.7.1"),
        ("smtp;550-5.1.1 The email account", "5.1.1"),
        ("smtp; 550 #5.1.0 Address rejected", "5.1.0"),
        ("smtp; 5.1.0 - Unknown address error 550-'5.1.1 <x@example.com>'", "5.1.0"),
        ("smtp; 5.2.2 over quota", "5.2.2"),
    ],
)
def test_three_numbers_are_a_status_only_where_a_status_stands(words: str, status: str) -> None:
    fields = "Reporting-MTA: dns; mx.example.com\n\n"
    fields += f"Final-Recipient: rfc822; x@example.com\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: {words}\n"
    (found,) = reports_in(report(About(), fields))
    assert found.status == status
