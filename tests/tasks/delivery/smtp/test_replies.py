"""What servers say and what follows from it, as a table."""

import pytest

from tasks.delivery.smtp.replies import Reply, ReplyReader, Step, Verdict, verdict_of

SENDER, RECIPIENT, DATA, CONTENT = Step
GO_ON, REFUSED, POSTPONED, GOODBYE, BUSY, SENDER_REFUSED = Verdict


@pytest.mark.parametrize(
    ("step", "reply", "verdict"),
    [
        (SENDER, "250 2.1.0 Ok", GO_ON),
        (SENDER, "451 4.3.0 Try later", BUSY),
        (SENDER, "550 5.7.1 Not you", SENDER_REFUSED),
        (SENDER, "530 5.7.0 Authentication required", SENDER_REFUSED),
        (SENDER, "421 4.7.0 Too many connections", GOODBYE),
        (RECIPIENT, "250 2.1.5 Ok", GO_ON),
        (RECIPIENT, "251 Will forward", GO_ON),
        (RECIPIENT, "450 4.2.1 Mailbox busy", POSTPONED),
        (RECIPIENT, "451 4.7.1 Greylisted", POSTPONED),
        (RECIPIENT, "452 4.5.3 Too many recipients", POSTPONED),
        (RECIPIENT, "421 4.7.0 Bye", GOODBYE),
        (RECIPIENT, "550 5.1.1 No such user", REFUSED),
        (RECIPIENT, "550 No such user", REFUSED),
        (RECIPIENT, "553 5.1.2 Bad domain", REFUSED),
        (RECIPIENT, "550 5.2.1 Mailbox disabled", REFUSED),
        (RECIPIENT, "552 5.2.2 Mailbox full", REFUSED),
        (RECIPIENT, "554 5.7.1 Relay access denied", REFUSED),
        (DATA, "354 Go ahead", GO_ON),
        (DATA, "451 4.3.0 Try later", POSTPONED),
        (DATA, "554 5.5.1 No valid recipients", REFUSED),
        (CONTENT, "250 2.0.0 Ok: queued", GO_ON),
        (CONTENT, "452 4.3.1 Out of space", POSTPONED),
        (CONTENT, "421 4.3.2 Shutting down", GOODBYE),
        (CONTENT, "554 5.7.1 Looks like spam", REFUSED),
        (CONTENT, "550 5.1.1 No such user", REFUSED),
        (CONTENT, "999 what", GOODBYE),
        (CONTENT, "354 Go ahead", GOODBYE),
        (DATA, "250 Ok", GOODBYE),
    ],
)
def test_a_reply_means_one_thing(step: Step, reply: str, verdict: Verdict) -> None:
    code, _, text = reply.partition(" ")
    read = Reply(int(code), text.encode())
    assert str(read) == reply
    assert verdict_of(step, read) is verdict


@pytest.mark.parametrize("cut", range(1, 40))
def test_replies_are_whole_however_their_bytes_arrive(cut: int) -> None:
    said = "250-first line\r\n250 läst line\r\n354 go\r\n250\r\n".encode()
    reader = ReplyReader()
    replies = [reply for part in (said[:cut], said[cut:]) for reply in reader.feed(part)]
    assert [(one.code, one.text) for one in replies] == [(250, "first line läst line"), (354, "go"), (250, "")]


@pytest.mark.parametrize("said", [b"hello\r\n", b"25 \r\n", b"HTTP/1.1 400 Bad\r\n", b"\r\n", b"x" * 20_000])
def test_what_is_no_reply_is_not_taken_for_one(said: bytes) -> None:
    with pytest.raises(ValueError, match="reply"):
        ReplyReader().feed(said)
