"""Messages as mail servers and feedback loops send them, about a message of ours."""

import base64
from typing import NamedTuple


class About(NamedTuple):
    """The message of ours that a sample is about."""

    name: str = "0123456789abcdef0123456789abcdef"
    recipient: str = "ada@receiver.example"
    domain: str = "campaign.example"

    @property
    def bounce_address(self) -> str:
        return f"bounce+{self.name}@{self.domain}"

    @property
    def message_id(self) -> str:
        return f"<{self.name}@{self.domain}>"


ORIGINAL = """\
Return-Path: <{bounce}>
From: Offers <offers@{domain}>
To: {to}
Subject: Your coupon
Message-ID: {id}
MIME-Version: 1.0
Content-Type: text/plain

Hello
"""


def report(
    about: About,
    status: str,
    *,
    kind: str = "delivery-status",
    part: str = "message/delivery-status",
    original: str = ORIGINAL,
    original_part: str = "message/rfc822",
    to: str | None = None,
    encoding: str = "",
    extra: str = "",
) -> bytes:
    """A multipart/report."""
    written = status.format(to=about.recipient, bounce=about.bounce_address, id=about.message_id)
    cte = f"Content-Transfer-Encoding: {encoding}\n" if encoding else ""
    if encoding == "base64":
        written = base64.encodebytes(written.encode()).decode()
    returned = original.format(
        to=about.recipient, bounce=about.bounce_address, id=about.message_id, domain=about.domain
    )
    text = f"""\
From: MAILER-DAEMON@receiver.example (Mail Delivery System)
To: {about.bounce_address if to is None else to}
Date: Tue, 24 Nov 2026 08:00:05 +0100
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
{extra}MIME-Version: 1.0
Content-Type: multipart/report; report-type={kind}; boundary="B/receiver.example"

This is a MIME-encapsulated message.

--B/receiver.example
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--B/receiver.example
Content-Type: {part}
{cte}
{written}
"""
    if original_part:
        text += f"--B/receiver.example\nContent-Type: {original_part}\n\n{returned}\n"
    return f"{text}--B/receiver.example--\n".replace("\n", "\r\n").encode()


POSTFIX = """\
Reporting-MTA: dns; mx.receiver.example
X-Postfix-Queue-ID: 4B2F51A0C
Arrival-Date: Tue, 24 Nov 2026 08:00:01 +0100 (CET)

Final-Recipient: rfc822; {to}
Original-Recipient: rfc822;{to}
Action: failed
Status: 5.1.1
Remote-MTA: dns; inner.receiver.example
Diagnostic-Code: smtp; 550 5.1.1 <{to}>: Recipient address rejected:
    User unknown in virtual mailbox table
"""
EXCHANGE = """\
Reporting-MTA: dns;AM0PR01.prod.outlook.example
Received-From-MTA: dns;mail.campaign.example
Arrival-Date: Tue, 24 Nov 2026 07:00:01 +0000

Final-Recipient: rfc822;{to}
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup
X-Display-Name: Ada
"""
GOOGLE = """\
Reporting-MTA: dns; googlemail.example
Received-From-MTA: dns; offers@campaign.example
Arrival-Date: Mon, 23 Nov 2026 23:00:01 -0800 (PST)
X-Original-Message-ID: {id}

Final-Recipient: rfc822; {to}
Action: failed
Status: 5.2.1
Remote-MTA: dns; gmail-smtp-in.l.google.example
Diagnostic-Code: smtp; 550-5.2.1 The email account that you tried to reach is inactive. 550 5.2.1 - gsmtp
Last-Attempt-Date: Mon, 23 Nov 2026 23:00:02 -0800 (PST)
"""
SENDMAIL = """\
Reporting-MTA: dns; relay.receiver.example
Received-From-MTA: DNS; mail.campaign.example
Arrival-Date: Tue, 24 Nov 2026 08:00:01 +0100

Final-Recipient: RFC822; {to}
Action: failed
Status: 5.1.2
Remote-MTA: DNS; receiver.example
Last-Attempt-Date: Tue, 24 Nov 2026 08:00:02 +0100
"""
FULL = POSTFIX.replace("5.1.1", "5.2.2").replace("User unknown in virtual mailbox table", "Mailbox full")
POLICY = POSTFIX.replace("Status: 5.1.1", "Status: 5.0.0").replace("550 5.1.1", "550 5.7.1")
EXPIRED = """\
Reporting-MTA: dns; mx.receiver.example

Final-Recipient: rfc822; {to}
Action: failed
Status: 4.4.7
Diagnostic-Code: smtp; delivery temporarily suspended: connect to inner.receiver.example: timed out
"""
DELAYED = EXPIRED.replace("failed", "delayed") + "Will-Retry-Until: Sun, 29 Nov 2026 08:00:00 +0100\n"
DELIVERED = """\
Reporting-MTA: dns; mx.receiver.example
Original-Envelope-Id: x

Final-Recipient: rfc822; {to}
Action: delivered (to mailbox)
Status: 2.1.5
"""
INTERNATIONAL = POSTFIX.replace("rfc822; {to}", "utf-8; {to}").replace("rfc822;{to}", "utf-8;{to}")
ABUSE = """\
Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <{bounce}>
Original-Rcpt-To: <{to}>
Received-Date: Tue, 24 Nov 2026 09:00:00 +0100
Source-IP: 192.0.2.1
"""
REDACTED = """\
Feedback-Type: abuse
User-Agent: Yahoo!-Mail-Feedback/2.0
Version: 0.1
Original-Mail-From: <redacted@campaign.example>
Received-Date: Tue, 24 Nov 2026 09:00:00 +0100
Reported-Domain: campaign.example
"""
REDACTED_ORIGINAL = "From: Offers <offers@{domain}>\nTo: redacted\nSubject: Your coupon\nMessage-ID: {id}\n\n"


def loop(about: About, status: str, **options: str) -> bytes:
    """A feedback loop's complaint: it comes to the address for complaints, not to a bounce address."""
    return report(
        about, status, kind="feedback-report", part="message/feedback-report", to="fbl@campaign.example", **options
    )


def qmail(about: About) -> bytes:
    return f"""\
From: MAILER-DAEMON@receiver.example
To: {about.bounce_address}
Date: 24 Nov 2026 07:00:05 -0000
Subject: failure notice

Hi. This is the qmail-send program at receiver.example.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<{about.recipient}>:
Sorry, no mailbox here by that name. (#5.1.1)

--- Below this line is a copy of the message.

Return-Path: <{about.bounce_address}>
""".encode()


def exim(about: About) -> bytes:
    return f"""\
X-Failed-Recipients: {about.recipient}
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@receiver.example>
To: {about.bounce_address}
Subject: Mail delivery failed: returning message to sender
Date: Tue, 24 Nov 2026 08:00:05 +0100

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  {about.recipient}
    Unrouteable address
""".encode()


def plain(about: About, subject: str, extra: str = "") -> bytes:
    return f"""\
From: {about.recipient}
To: {about.bounce_address}
Subject: {subject}
Date: Tue, 24 Nov 2026 08:00:05 +0100
In-Reply-To: {about.message_id}
{extra}
I am at the sea until Monday.
""".encode()
