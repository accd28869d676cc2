"""What a mail server's replies mean for a message (RFC 5321, RFC 3463): rules without I/O."""

import re
from enum import Enum, StrEnum
from typing import NamedTuple

from tasks.delivery.blame import Blame, blamed

STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)


class Step(StrEnum):
    """What a reply answers."""

    SENDER = "MAIL"
    RECIPIENT = "RCPT"
    DATA = "DATA"
    CONTENT = "the message"


class Verdict(Enum):
    """What follows from a reply."""

    GO_ON = "the step succeeded"
    REFUSED = "the server will never take the message"
    POSTPONED = "the server does not take the message now"
    GOODBYE = "the server closes the connection; the message is not at fault"
    BUSY = "the server does not accept messages now; the message is not at fault"
    SENDER_REFUSED = "the server refuses the sender of all messages"


class Reply(NamedTuple):
    """One reply, its lines joined."""

    code: int
    raw: bytes

    def __str__(self) -> str:
        return f"{self.code} {self.text}"

    @property
    def text(self) -> str:
        """What a person would read of it."""
        return self.raw.decode("utf-8", "replace").strip()

    @property
    def enhanced(self) -> str:
        """RFC 3463's status, as in 5.1.1; empty where there is none."""
        status = self.text.partition(" ")[0].rstrip(":,-")
        return status if STATUS.fullmatch(status) and status[0] == str(self.code)[0] else ""


MEANINGS: dict[tuple[Step, int], Verdict] = {
    (Step.SENDER, 2): Verdict.GO_ON,
    (Step.SENDER, 4): Verdict.BUSY,
    (Step.SENDER, 5): Verdict.SENDER_REFUSED,
    (Step.RECIPIENT, 2): Verdict.GO_ON,
    (Step.RECIPIENT, 4): Verdict.POSTPONED,
    (Step.RECIPIENT, 5): Verdict.REFUSED,
    (Step.DATA, 3): Verdict.GO_ON,
    (Step.DATA, 4): Verdict.POSTPONED,
    (Step.DATA, 5): Verdict.REFUSED,
    (Step.CONTENT, 2): Verdict.GO_ON,
    (Step.CONTENT, 4): Verdict.POSTPONED,
    (Step.CONTENT, 5): Verdict.REFUSED,
}
"""By step and first digit of the reply; whatever else a server says, it is not to be talked to."""


def verdict_of(step: Step, reply: Reply) -> Verdict:
    """What a reply to a step means."""
    return Verdict.GOODBYE if reply.code == 421 else MEANINGS.get((step, reply.code // 100), Verdict.GOODBYE)


GREYLISTED = re.compile(r"gr[ae]y.?list", re.IGNORECASE)


def asks_for_less(step: Step, reply: Reply) -> bool:
    """Whether the receiving domain asks for fewer messages: 4.7 is of policy, and no word on one recipient.

    Google's 421 4.7.0 and 4.7.28, Microsoft's 451 4.7.500 to 4.7.699, Yahoo's 421 4.7.0 [TSS04]. Greylisting, which
    some servers say in the same words, is of one recipient; a reply to MAIL is of the server that is spoken to.
    """
    is_later = reply.code in {421, 450, 451, 452} and step is not Step.SENDER
    return is_later and reply.enhanced.startswith("4.7.") and not GREYLISTED.search(reply.text)


def blame_of(reply: Reply) -> Blame:
    """Whom a refusal speaks against: by its enhanced status, which its words can take back."""
    return blamed(reply.enhanced, reply.text)


LONGEST_LINE = 10_000
MOST_LINES = 1_000


class ReplyReader:
    """Makes replies of bytes as they arrive."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that these bytes complete. Errors: `ValueError` for what is no reply."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE or len(self._lines) > MOST_LINES:
            raise ValueError("a reply without end")
        replies = []
        for line in lines:
            whole = line if line[3:4] == b" " and not self._lines else self._last_of_many(line)
            if whole is None:
                continue
            if not whole[:3].isdigit():
                raise ValueError(f"not a reply: {line[:80]!r}")
            replies.append(Reply(int(whole[:3]), whole[4:]))
        return replies

    def _last_of_many(self, line: bytes) -> bytes | None:
        """All lines of a reply as one, when this is the last; None for one that is not."""
        self._lines.append(line[4:].strip())
        if line[3:4] == b"-":
            return None
        if line[3:4] not in {b" ", b"\r", b""}:
            raise ValueError(f"not a reply: {line[:80]!r}")
        whole = line[:3] + b" " + b" ".join(self._lines)
        self._lines = []
        return whole
