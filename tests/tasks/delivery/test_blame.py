"""Whose fault a refusal is: replies of real servers, as their logs and documentation have them."""

import time

import pytest

from tasks.delivery.blame import IN_A_ROW, IN_A_ROW_OF_ADDRESSES, LATEST, Blame, Refusals, words_of
from tasks.delivery.smtp.replies import Reply, blame_of

ADDRESS, MAILBOX, SENDER, UNCLEAR = Blame

REAL = [
    # Gmail, Exchange Online, Postfix, Exim, Yahoo, iCloud, GMX, Orange, Amazon SES, mail.ru
    ("550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking", ADDRESS),
    ("550 5.2.1 The email account that you tried to reach is inactive.", ADDRESS),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", ADDRESS),
    ("550 5.1.1 <x@example.com>: Recipient address rejected: User unknown in virtual mailbox table", ADDRESS),
    ("553 5.1.2 We weren't able to find the recipient domain.", ADDRESS),
    ("553 5.1.3 The recipient address <x> is not a valid RFC 5321 address.", ADDRESS),
    ("551 5.1.6 Recipient has moved; please try another", ADDRESS),
    ("556 5.1.10 Domain does not accept mail (nullMX)", ADDRESS),
    ("552 5.2.2 The email account that you tried to reach is over quota.", MAILBOX),
    ("552 5.2.2 <x@example.com>: user is over quota", MAILBOX),
    ("550 5.1.8 <x@example.com>: Sender address rejected: Domain not found", SENDER),
    ("550 5.1.7 Invalid address in MAIL FROM", SENDER),
    ("550 5.7.26 This mail has been blocked because the sender is unauthenticated.", SENDER),
    ("550 5.7.25 The IP address sending this message does not have a PTR record", SENDER),
    ("550 5.7.23 <x@example.com>: Recipient address rejected: Message rejected due to: SPF fail", SENDER),
    ("550 5.7.1 Unfortunately, messages from [203.0.113.7] weren't sent. (S3150)", UNCLEAR),
    ("554 5.7.1 <x@example.com>: Relay access denied", UNCLEAR),
    ("554 5.7.1 Service unavailable; Client host [203.0.113.7] blocked using zen.example", UNCLEAR),
    ("550 5.4.1 Recipient address rejected: Access denied.", UNCLEAR),
    ("550 5.5.0 Requested action not taken: mailbox unavailable", UNCLEAR),
    ("550 Requested action not taken: mailbox unavailable", UNCLEAR),
    ("550 No such user here", UNCLEAR),
    ("554 delivery error: dd This user doesn't have an account (x@example.com) [0]", UNCLEAR),
    ("550 relay not permitted", UNCLEAR),
    ("552 5.3.4 Message size exceeds fixed limit", UNCLEAR),
    ("554 5.4.7 Delivery expired (message too old)", UNCLEAR),
    ("554 5.6.0 Message contains invalid header", UNCLEAR),
    ("550 5.1.0 Address rejected.", UNCLEAR),
    ("550 5.0.0 Rejected", UNCLEAR),
    ("550 5.1.16 something of the future", UNCLEAR),
    ("550 5.1.1x not a status", UNCLEAR),
    ("550 4.1.1 contradicts itself", UNCLEAR),
    # Ten kinds more: Outlook, Exchange, Yahoo, Postfix, Mimecast, Proofpoint, Barracuda, T-Online, GMX, Orange
    ("550 5.7.606 Access denied, banned sending IP [203.0.113.7]. To request removal visit", SENDER),
    (
        "550 5.7.515 Access denied, sending domain shop.example doesn't meet the required authentication level",
        SENDER,
    ),
    ("550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", SENDER),
    ("550 5.7.124 RESOLVER.RST.SenderNotInAllowedList; not accepted by the group", UNCLEAR),
    ("554 5.7.9 Message not accepted for policy reasons. See https://senders.yahooinc.com/error-codes", SENDER),
    ("554 5.7.1 <unknown[203.0.113.7]>: Client host rejected: cannot find your reverse hostname", UNCLEAR),
    ("550 5.1.0 <offers@shop.example>: Sender address rejected: User unknown in virtual mailbox table", UNCLEAR),
    (
        "550 Administrative prohibition - envelope blocked - https://community.mimecast.com/docs/DOC-1369#550",
        UNCLEAR,
    ),
    ("550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550", UNCLEAR),
    ("554 Blocked - see https://ipcheck.proofpoint.com/?ip=203.0.113.7", UNCLEAR),
    ("550 5.1.1 <x@example.com>... User unknown (proofpoint)", ADDRESS),
    ("550 permanent failure for one or more recipients (x@example.com:blocked)", UNCLEAR),
    ("554 Service unavailable; Client host [mx.shop.example] blocked using Barracuda Reputation", UNCLEAR),
    (
        "554 IP=203.0.113.7 - A problem occurred. (Ask your postmaster for help or to contact tosa@rx.t-online.de)",
        UNCLEAR,
    ),
    (
        "550 Requested action not taken: mailbox unavailable. For explanation visit https://postmaster.gmx.net/",
        UNCLEAR,
    ),
    ("554 Transaction failed. Reject due to policy restrictions. https://postmaster.web.de/en/case?c=hi", UNCLEAR),
    ("550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR204_416 [416]", ADDRESS),
    ("552 5.2.2 Boite du destinataire pleine. Mailbox full. OFR204_417 [417]", MAILBOX),
    ("550 5.7.1 Mail rejete. Mail rejected. OFR_506 [506]", UNCLEAR),
    ("550 5.7.1 [203.0.113.7 19] Gmail has detected that this message is likely suspicious", UNCLEAR),
    ("552 5.2.2 The recipient's inbox is out of storage space and inactive. Please direct the", MAILBOX),
    ("550 5.1 short", UNCLEAR),
    # Statuses of an address, said of something else: seen in logs, knowledge bases and trackers
    ("550 5.2.1 Mailbox unavailable. Your IP address 203.0.113.7 is blacklisted using RBL-Plus. Details:", UNCLEAR),
    ("550 5.2.1 Mailbox unavailable. This server does not accept mails from this sender address (", UNCLEAR),
    (
        "550 5.2.1 The user you are trying to contact is receiving mail at a 5.2.1 rate that prevents additional",
        UNCLEAR,
    ),
    ("550 5.2.1 x@example.com is receiving mail 5.2.1 at 5.2.1 a 5.2.1 rate that prevents additional", UNCLEAR),
    ("554 5.2.1 Too many failures for the recipient", UNCLEAR),
    ("550 5.1.1 Rejected: sender IP listed on Spamhaus", UNCLEAR),
    ("550 5.1.1 Sender verify failed", UNCLEAR),
    ("550 5.1.1 <offers@shop.example>: Sender address rejected: User unknown", UNCLEAR),
    ("550 5.1.1 Blocked by policy", UNCLEAR),
    ("550 5.2.1 <x@example.com>: mailbox temporarily disabled", UNCLEAR),
    ("550 5.1.2 relaying denied for <x@example.com>", UNCLEAR),
    ("552 5.2.2 Mailbox full: too many messages from this sender", UNCLEAR),
    ("552 5.1.1 <x@example.com> Mailbox full", MAILBOX),
    ("550 5.2.1 <x@example.com>: mailbox disabled, it is over quota", MAILBOX),
    # ... and of an address, whatever its own name or a link beside it may say
    ("550 5.1.1 <policy@spam.example>: Recipient address rejected: User unknown in relay recipient table", ADDRESS),
    ("550 5.1.1 spam@example.com no such user, see https://help.example/spam-policy", ADDRESS),
    ("554 5.2.1 No such user yet!", ADDRESS),
    ("554 5.2.1 Recipient address rejected: Inactive user", ADDRESS),
    ("550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found", ADDRESS),
    ("550 5.1.1 <x@example.com> Not our Customer", ADDRESS),
    ("550 5.1.1 sorry, no mailbox here by that name", ADDRESS),
    # Ten kinds more of such contradictions: the sender, its name, its proof, its content; a probe; another's reply
    ("550 5.1.1 Sender not found", UNCLEAR),
    ("550 5.1.1 Sender domain blocked by policy", UNCLEAR),
    ("550 5.1.1 Sender cannot be the same as recipient", UNCLEAR),
    ("553 5.1.2 Domain of sender address offers@shop.example does not resolve", UNCLEAR),
    ("550 5.1.1 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", UNCLEAR),
    ("550 5.1.1 203.0.113.7 is not allowed to send from <shop.example> per its SPF Record", UNCLEAR),
    ("550 5.1.1 No reverse DNS (PTR) for 203.0.113.7", UNCLEAR),
    ("550 5.2.1 Mailbox is restricted: only authenticated users may send", UNCLEAR),
    ("550 5.1.1 Message refused by content filter", UNCLEAR),
    ("552 5.2.2 This message is larger than the current system limit or the mailbox is full", UNCLEAR),
    ("550 5.2.1 Account x@example.com is over its hourly sending limit", UNCLEAR),
    ("550 5.1.1 <x@example.com>: Recipient address rejected: unverified address: Address lookup failed", UNCLEAR),
    (
        "550 5.1.1 <x@example.com>: Recipient address rejected: undeliverable address: host mx.partner.example"
        "[198.51.100.4] said: 554 5.7.1 Go away (in reply to RCPT TO command)",
        UNCLEAR,
    ),
    (
        "550 5.1.1 <x@example.com>: Recipient address rejected: undeliverable address: host mx.partner.example"
        "[198.51.100.4] said: 550 5.1.1 User unknown (in reply to RCPT TO command)",
        ADDRESS,
    ),
    # ... and further providers: Microsoft, iCloud, Yahoo, Mimecast, postscreen, QQ, 163
    ("550 5.7.509 Access denied, sending domain shop.example does not pass DMARC verification", SENDER),
    ("550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP.", SENDER),
    ("554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException", MAILBOX),
    ("550 5.1.1 <x@icloud.com>: user does not exist", ADDRESS),
    ("554 5.7.1 [CS01] Message rejected due to local policy. Please visit https://support.apple.com", UNCLEAR),
    ("553 5.7.1 [BL21] Connections will not be accepted from 203.0.113.7, because the ip is in a list", UNCLEAR),
    ("550 csi.mimecast.org Poor Reputation Sender. - https://community.mimecast.com/docs/DOC-1369#550", UNCLEAR),
    ("550 5.7.1 Service unavailable; client [203.0.113.7] blocked using zen.example", UNCLEAR),
    ("550 Mailbox not found. http://service.mail.qq.com/cgi-bin/help?subtype=1&&id=20022", UNCLEAR),
    ("554 DT:SPM 163 smtp8,DMmowADnz,please see http://mail.163.com/help/help_spam_16.htm", UNCLEAR),
    # What became new: Google's of DKIM, alignment and DMARC; Microsoft's of passwords
    ("550 5.7.30 This mail has been blocked because DKIM does not pass.", SENDER),
    ("550 5.7.30 Basic authentication is not supported for Client Submission.", SENDER),
    ("550 5.7.32 Your email has been blocked because the From: header isn't aligned", SENDER),
    ("550 5.7.40 Your email has been blocked because the sending domain has no DMARC record", SENDER),
]


@pytest.mark.parametrize(("reply", "blame"), REAL)
def test_a_refusal_is_booked_on_whom_it_speaks_against(reply: str, blame: Blame) -> None:
    code, _, text = reply.partition(" ")
    assert blame_of(Reply(int(code), text.encode())) is blame


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("554 5.7.1 <a@x.example>: Relay access denied", "554 5.7.1 <b@y.example>: Relay access denied"),
        ("550 5.7.1 blocked [203.0.113.7] id 12ab-3", "550 5.7.1 Blocked [203.0.113.7] id 99zz-8"),
        ("550 5.1.1 a@x.example no such user - 8f2k", "550 5.1.1 b@x.example no such user - 1g7h"),
    ],
)
def test_words_are_the_same_for_different_people(one: str, other: str) -> None:
    assert words_of(one) == words_of(other)


def test_a_refusal_of_megabytes_costs_no_more_than_a_short_one() -> None:
    long = "550 5.1.1 " + ("x" * 9_000 + " ") * 1_000
    begun = time.process_time()
    assert blame_of(Reply(550, long[4:].encode())) is ADDRESS
    assert words_of(long).startswith("550 5.1.1 x")
    assert time.process_time() - begun < 2, "the same ten megabytes in full take minutes"


def test_different_refusals_have_different_words() -> None:
    said = {words_of(reply) for reply, _ in REAL}
    assert len(said) > len(REAL) - 4


def noted(answers: list[str | None], blame: Blame = UNCLEAR) -> Refusals:
    refusals = Refusals()
    for number, answer in enumerate(answers):
        if answer is None:
            refusals.note_taken()
        else:
            refusals.note_refused(str(number), answer, blame)
    return refusals


NO = "550 5.7.1 No"


@pytest.mark.parametrize(
    ("answers", "blame", "is_the_senders"),
    [
        ([NO] * IN_A_ROW, UNCLEAR, True),
        ([NO] * (IN_A_ROW - 1), UNCLEAR, False),
        ([NO] * (IN_A_ROW - 1) + [None] + [NO] * (IN_A_ROW - 1), UNCLEAR, False),
        ([None, None, NO] * LATEST, UNCLEAR, True),
        ([None] * 9 * LATEST + [NO], UNCLEAR, False),
        ([*[None] * 9, NO] * LATEST, UNCLEAR, False),
        (["550 5.1.1 Gone"] * (IN_A_ROW_OF_ADDRESSES - 1), ADDRESS, False),
        (["550 5.1.1 Gone"] * IN_A_ROW_OF_ADDRESSES, ADDRESS, True),
        ([None, None, "550 5.1.1 Gone"] * LATEST, ADDRESS, False),
    ],
)
def test_many_refused_with_the_same_words_are_the_senders(
    answers: list[str | None], blame: Blame, is_the_senders: bool
) -> None:
    assert (noted(answers, blame).words is not None) is is_the_senders


def test_what_is_the_senders_is_only_what_was_refused_with_its_words() -> None:
    refusals = noted(["550 5.1.1 Gone", *[f"550 5.7.1 <p{n}@x.example> blocked" for n in range(IN_A_ROW)]])
    assert set(refusals.of_the_sender()) == {str(number) for number in range(1, IN_A_ROW + 1)}


@pytest.mark.parametrize(
    ("answers", "blame", "is_the_senders"),
    [([NO] * 3, UNCLEAR, True), ([NO] * 2, UNCLEAR, False), ([NO, None, NO, NO], UNCLEAR, False),
     (["550 5.1.1 Gone"] * 5, ADDRESS, False), ([NO, NO, "554 other words"], UNCLEAR, False)],
)  # fmt: skip
def test_at_the_end_of_a_run_in_which_nobody_was_taken(
    answers: list[str | None], blame: Blame, is_the_senders: bool
) -> None:
    refusals = noted(answers, blame)
    refusals.end()
    assert (refusals.words is not None) is is_the_senders


@pytest.mark.parametrize(
    "words",
    [
        "554 IP=203.0.113.7 - A problem occurred. (Ask your postmaster for help)",
        "550 5.7.1 Mail rejete. Mail rejected. OFR_506 [506] {}",
        "554 Service unavailable; Client host [mx.shop.example] blocked using Barracuda Reputation; id {}x7",
        "550 Administrative prohibition - envelope blocked - https://community.mimecast.com/docs/{}#550",
        "554 Transaction failed. Reject due to policy restrictions. https://postmaster.web.de/en/case?c={}",
    ],
)
def test_a_block_that_no_code_tells_from_a_bad_address_is_known_by_its_many_people(words: str) -> None:
    assert noted([words.format(number) for number in range(IN_A_ROW)]).words is not None
