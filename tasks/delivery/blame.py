"""Whose fault a refusal is: the address's, the mailbox's for a while, the sender's, or unknown.

Rules without I/O. Only positive evidence speaks against an address; and when many different people are refused
with the same words, it is the sender who is refused, whatever the words are.
"""

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum

MAILBOX_DAYS = 30
MAILBOX_REFUSALS = 3
"""A full mailbox is put into quarantine for so many days when it was full in so many sends."""

IN_A_ROW = 20
"""So many people refused with the same words, with none taken in between: the sender is refused."""
IN_A_ROW_OF_ADDRESSES = 100
"""The same where the words are that there is no such address: old lists have many of them."""
LATEST = 200
SHARE = 0.25
SHARE_OF_ADDRESSES = 0.6
"""The sender is refused as well when, of the latest messages, so large a share is refused with the same words."""
FEWEST = 3
"""At least this many, when a run ends and no message was taken."""


class Blame(Enum):
    """Whom a refusal speaks against."""

    ADDRESS = "the address does not work, and will not"
    MAILBOX = "the mailbox takes nothing for a while"
    SENDER = "the sender, its server, its signature or its reputation"
    UNCLEAR = "nobody can say"


STATUSES: dict[str, Blame] = {
    # RFC 3463, section 3.2, and IANA's registry "SMTP Enhanced Status Codes".
    "1.1": Blame.ADDRESS,  # bad destination mailbox address: no such user
    "1.2": Blame.ADDRESS,  # bad destination system address: no such domain
    "1.3": Blame.ADDRESS,  # bad destination mailbox address syntax
    "1.6": Blame.ADDRESS,  # destination mailbox has moved, no forwarding address
    "1.10": Blame.ADDRESS,  # RFC 7505: the domain has a null MX, it takes no mail
    "1.7": Blame.SENDER,  # bad sender's mailbox address syntax
    "1.8": Blame.SENDER,  # bad sender's system address
    "2.1": Blame.ADDRESS,  # mailbox disabled, not accepting messages
    "2.2": Blame.MAILBOX,  # mailbox full
    # Section 3.8, RFC 4954, RFC 7372 and RFC 7489: who may send, and whether the sender proves who it is.
    "7.8": Blame.SENDER,  # authentication credentials invalid
    "7.9": Blame.SENDER,  # authentication mechanism too weak
    "7.11": Blame.SENDER,  # encryption required
    **{f"7.{code}": Blame.SENDER for code in range(20, 30)},  # RFC 7372: DKIM, SPF, reverse DNS, and both failed
    # RFC 8689 (the way asks for REQUIRETLS); Google's, support.google.com/a/answer/14229414: DKIM failed, From: is
    # not aligned, no DMARC; and Microsoft's: basic authentication is over.
    **{f"7.{code}": Blame.SENDER for code in (30, 32, 40)},
    # Microsoft's, learn.microsoft.com: "Email non-delivery reports and SMTP errors in Exchange Online".
    "1.90": Blame.SENDER,  # the sender's daily limit of recipients
    "7.54": Blame.SENDER,  # unable to relay: the server does not know the sender as its own
    "7.57": Blame.SENDER,  # client not authenticated to send
    "7.60": Blame.SENDER,  # no permission to send as this sender
    "7.64": Blame.SENDER,  # relay access denied: no tenant
    **{f"7.{code}": Blame.SENDER for code in (*range(501, 513), 515, *range(606, 650), 705, 708, 750)},
    # 7.501 to 7.515: spam, banned sender, DMARC, missing authentication; 7.606 to 7.649: banned IP address
}
"""By subject and detail of an enhanced status of class 5. Any other status puts no address into quarantine.

Not here, on purpose: 1.0 and 1.4 (some servers say them for a blocked sender), 4.1 and 4.4 (routing; a server of
one's own that cannot look names up says them), 7.1 (policy, relay, content, or a list with members only), 6.x and
3.x, and every reply without an enhanced status, whatever its words.
"""

OTHERWISE = re.compile(
    r"""
    \b(?:black|block|deny).?list | \b(?:rbl|dnsbl|spamhaus|spamcop)\b | \breputation\b | \bblocked\ (?:by|using)\b
    | \bspam\b | \bpolicy\b | \bgr[ae]y.?list
    | \bsenders?\b | \b(?:from|by)\ this\ (?:ip|host|server)\b | \byour\ (?:ip|host|server)\b
    | \b(?:helo|ehlo|spf|dkim|dmarc|ptr)\b | \breverse\ (?:dns|host) | \bdynamic\ (?:ip|address)
    | \bauthori[sz]ed\b | \bauthenticat | \bnot\ allowed\ to\b
    | \bcontent\b | \bvirus\b | \bsuspicious\b | \b(?:size|system|sending|message)\ limit\b | \btoo\ much\b
    | \bunverified\ address\b | \bverification\b | \bcall.?out\b
    | \brelay(?:ing)?\ (?:access\ )?(?:is\ )?(?:denied|not|prohibited)\b | \bunable\ to\ relay\b
    | \btoo\ (?:many|quickly|fast)\b | \bat\ a\ rate\b | \brate.?limit | \bthrottl
    | \btemporar | \btry\ again\ later\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Words that take back what a status says against an address or its mailbox. Real servers have said 5.2.1 of a
blacklisted IP address (apnscp's knowledge base), of a sender who is not accepted, of "too many failures" (Zoho) and
of mail that comes "at a rate" (Google's ReceivingRatePerm), and 5.1.1 of senders who could not be verified or were
not found (servers' sources on GitHub), and of a recipient whom a probe could not reach (Postfix, "unverified
address", ADDRESS_VERIFICATION_README). Words of SPF (Sisimai's `authfailure`, there with 5.1.0), HELO, content and
size speak of something else, whatever status a server puts before them."""
CITED = re.compile(r"\b[45]\d\d[ -]#?([45])\.(\d{1,3}\.\d{1,3})\b")
"""Another server's reply within the words: a probe's (Postfix, "undeliverable address: host ... said:", Exim)."""
UNSPECIFIC = "0.0"
FULL = re.compile(r"\bquota\b|\b(?:mail)?box (?:is )?full\b|\bout of storage\b", re.IGNORECASE)
"""Words of a mailbox that is full, where the status says that there is none."""
MOST_WORDS = 2000
"""Characters of a refusal that are looked at: a server may say megabytes."""
NAMES = re.compile(r"<[^>]*>|\S+@\S+|https?://\S+|\b(?=\w*\d)[\w.:-]+")
"""What is no word of the server's own: addresses, links, and a status that each line of a reply begins with."""


def blamed(enhanced: str, words: str = "") -> Blame:
    """Whom an enhanced status (RFC 3463) of a permanent refusal speaks against.

    `words`: those that came with it. They can take back what the status says, and accuse nobody by themselves.
    """
    kind, _, status = enhanced.partition(".")
    blame = STATUSES.get(status, Blame.UNCLEAR) if kind == "5" else Blame.UNCLEAR
    if blame is not Blame.ADDRESS and blame is not Blame.MAILBOX:
        return blame
    for cited, detail in CITED.findall(words[:MOST_WORDS]):
        speaks_of_it = cited == "5" and STATUSES.get(detail) in (Blame.ADDRESS, Blame.MAILBOX)
        if not speaks_of_it and detail != UNSPECIFIC:
            return Blame.UNCLEAR
    said = " ".join(NAMES.sub(" ", words[:MOST_WORDS]).split())
    if OTHERWISE.search(said):
        return Blame.UNCLEAR
    return Blame.MAILBOX if FULL.search(said) else blame


VARIABLE = re.compile(r"""<[^>]*>|\S+@\S+|"[^"]*"|'[^']*'|https?://\S+|\b(?=\w*\d)[\w.:-]+""")
"""What differs from one person to the next in the words of one refusal."""


def words_of(answer: str) -> str:
    """A refusal's code, status and words, without what is of one person."""
    code, _, rest = answer.partition(" ")
    status, _, words = rest.partition(" ")
    if status.count(".") != 2 or not status.replace(".", "").isdecimal():
        status, words = "", rest
    return " ".join([code, status, *VARIABLE.sub(" ", words[:MOST_WORDS]).lower().split()])[:120]


@dataclass
class Refusals:
    """The latest answers of a run, and whether they say that the sender is refused."""

    words: str | None = None
    """By which words the sender is refused, once that is so."""
    refused: dict[str, str] = field(default_factory=dict)
    """Keys of refused messages, each with the answer."""
    _latest: deque[tuple[str, bool] | None] = field(default_factory=lambda: deque(maxlen=LATEST))
    _row: Counter[str] = field(default_factory=Counter)
    _taken: int = 0

    def note_taken(self) -> None:
        """A message was taken."""
        self._taken += 1
        self._latest.append(None)
        self._row.clear()

    def note_refused(self, key: str, answer: str, blame: Blame) -> None:
        """A person was refused."""
        words = words_of(answer)
        is_address = blame is Blame.ADDRESS
        self.refused[key] = answer
        self._latest.append((words, is_address))
        self._row[words] += 1
        share = sum(one is not None and one[0] == words for one in self._latest) / LATEST
        in_a_row = IN_A_ROW_OF_ADDRESSES if is_address else IN_A_ROW
        if self._row[words] >= in_a_row or share >= (SHARE_OF_ADDRESSES if is_address else SHARE):
            self.words = self.words or words

    def end(self) -> None:
        """The run ends. If no message was taken and all were refused in the same words, the sender is refused."""
        said = {one for one in self._latest if one is not None}
        if not self._taken and len(self.refused) >= FEWEST and len(said) == 1 and not next(iter(said))[1]:
            self.words = self.words or next(iter(said))[0]

    def of_the_sender(self) -> dict[str, str]:
        """The messages that were refused with the sender's words, each with the answer."""
        return {key: answer for key, answer in self.refused.items() if words_of(answer) == self.words}
