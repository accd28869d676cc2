"""Each receiving domain has a pace of its own, and none waits for another's."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from deployments.sandbox.mail_server import At, Fault, MailSandbox, running_mail_server
from tasks.channels.email import email_channel
from tasks.delivery.delivery import Delivery, send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.smtp.connection import MailServer
from tasks.delivery.smtp.receivers import SHIPPED, Directory, ReceiverLimits
from tasks.delivery.smtp.replies import Reply, Step, asks_for_less
from tasks.errors import CampaignError
from tasks.settings import JournalSettings
from tests.tasks.channels.email_flow import SEND, made_up_messages, options_for
from tests.tasks.channels.test_email_faults import NOON

SLOW, FAST = "slow.example", "fast.example"


@pytest.mark.parametrize(
    ("address", "receiver"),
    [
        ("ada@gmail.com", "gmail.com"),
        ("ada@googlemail.com", "gmail.com"),
        (" Ada@GMAIL.com ", "gmail.com"),
        ("ada@mail.gmail.com", "mail.gmail.com"),
        ("ada@a.corp.example", "*.corp.example"),
        ("ada@a.b.corp.example", "*.b.corp.example"),
        ("ada@corp.example", "corp.example"),
        ("ada@bücher.example", "*.b.corp.example"),
        ("ada@a.käse.example", "*.b.corp.example"),
        ("ada@hotmail.com", "outlook.com"),
    ],
)
def test_the_receiver_of_an_address(address: str, receiver: str) -> None:
    limits = ReceiverLimits(messages_per_second=1)
    patterns = "*.b.corp.example bücher.example *.käse.example"
    directory = Directory({**SHIPPED, "*.corp.example": limits, patterns: limits})
    assert directory.of_address(address) == receiver
    assert (directory.limits(receiver) is None) == (receiver in {"mail.gmail.com", "corp.example"})


def test_what_is_not_in_the_table_has_the_limits_of_the_star_by_itself() -> None:
    others = ReceiverLimits(messages_per_second=3)
    directory = Directory({"gmail.com": ReceiverLimits(connections=1), "*": others})
    assert directory.limits(directory.of("a.example")) == directory.limits("b.example") == others
    assert directory.of("a.example") != directory.of("b.example")
    assert directory.limits("gmail.com") == ReceiverLimits(connections=1)
    assert Directory({}).limits("a.example") is None


@pytest.mark.parametrize(
    "table", [{"": {}}, {"@gmail.com": {}}, {"*gmail.com": {}}, {"a.example": {}, "b.example a.example": {}},
              {"* a.example": {}}, {"a.example": {"messages_per_second": 0}}]
)  # fmt: skip
def test_a_table_that_has_no_one_meaning_is_refused(table: dict[str, dict[str, int]]) -> None:
    with pytest.raises(ValidationError):
        MailServer(receivers=table)


@pytest.mark.parametrize(
    ("reply", "is_less"),
    [
        ("421 4.7.28 Our system has detected an unusual rate of unsolicited mail", True),
        ("421 4.7.0 [TSS04] Messages from 203.0.113.7 temporarily deferred due to unexpected volume", True),
        ("451 4.7.500 Server busy. Please try again later from [203.0.113.7]. (S77714)", True),
        ("451 4.7.650 The mail server [203.0.113.7] has been temporarily rate limited due to IP reputation", True),
        ("451 4.7.1 Greylisting in action, please come back later", False),
        ("450 4.7.1 <a@b.example>: Recipient address rejected: Graylisted", False),
        ("450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents", False),
        ("452 4.2.2 The recipient's inbox is out of storage space", False),
        ("451 4.3.0 Temporary lookup failure", False),
        ("550 5.7.28 rate", False),
        ("250 2.1.5 Ok", False),
    ],
)
def test_which_replies_ask_for_fewer_messages(reply: str, is_less: bool) -> None:
    code, _, text = reply.partition(" ")
    read = Reply(int(code), text.encode())
    assert asks_for_less(Step.RECIPIENT, read) is asks_for_less(Step.CONTENT, read) is is_less
    assert not asks_for_less(Step.SENDER, read)


def to_domains(**counts: int) -> pl.DataFrame:
    domains = [f"{name}.example" for name, count in counts.items() for _ in range(count)]
    messages = made_up_messages(len(domains))
    return messages.with_columns(email=pl.format("p{}@{}", "profile_id", pl.Series(domains)))


@pytest.fixture
def send(tmp_path: Path, journal_settings: JournalSettings) -> Callable[..., tuple[Delivery, CampaignError | None]]:
    def sent(
        messages: pl.DataFrame, sandbox: MailSandbox, folder: str = "a", rounds: int = 2, **server: object
    ) -> tuple[Delivery, CampaignError | None]:
        options = options_for(sandbox.port, tmp_path / folder, server=server, rounds=rounds)
        channel = email_channel(options, SEND, NOON)
        journal = open_journal(journal_settings)
        return send_messages(messages, channel, options, SEND, journal=journal, tally=Tally(messages.height))

    return sent


def domains_of(sandbox: MailSandbox) -> list[str]:
    return [one.recipient.partition("@")[2] for one in sandbox.taken]


@pytest.mark.slow
def test_the_rate_of_a_receiver_holds_for_all_senders_and_keeps_nobody_else_waiting(send: Callable) -> None:
    messages = to_domains(slow=30, fast=300)
    table = {SLOW: {"messages_per_second": 5}}
    begun = time.monotonic()
    with running_mail_server(MailSandbox()) as sandbox, ThreadPoolExecutor(2) as pool:
        halves = [messages.filter(pl.int_range(pl.len()) % 2 == half) for half in (0, 1)]
        done = list(pool.map(lambda one: send(one[1], sandbox, str(one[0]), receivers=table), enumerate(halves)))
    assert [failure for _, failure in done] == [None, None]
    assert sum(mailed.standard.height for mailed, _ in done) == 330
    assert time.monotonic() - begun >= 29 / 5, "thirty messages at five a second, by two senders together"
    order = domains_of(sandbox)
    assert order[-1] == SLOW
    assert order.index(FAST) < 100
    assert len(order) - order[::-1].index(FAST) < 325, "the others were all sent while the slow one's waited"


def test_a_receiver_has_no_more_messages_on_their_way_than_its_limit(send: Callable) -> None:
    class Counting(MailSandbox):
        now = most = 0

        def fault_at(self, at: At, address: str = "") -> Fault | None:
            if at is At.RCPT and address.endswith(SLOW):
                self.now += 1
                self.most = max(self.most, self.now)
            return super().fault_at(at, address)

    sandbox = Counting()
    sandbox.taken = _Noting(sandbox)
    with running_mail_server(sandbox):
        mailed, failure = send(to_domains(slow=120, fast=120), sandbox, receivers={SLOW: {"connections": 1}})
    assert failure is None
    assert mailed.standard.height == 240
    assert sandbox.most == 1


class _Noting(list):
    """What was taken; a message of the slow domain is not on its way any more."""

    def __init__(self, sandbox: MailSandbox) -> None:
        super().__init__()
        self._sandbox = sandbox

    def append(self, taken) -> None:
        super().append(taken)
        self._sandbox.now -= taken.recipient.endswith(SLOW)


@pytest.mark.parametrize("reply", ["421 4.7.28 Unusual rate", "451 4.7.500 Server busy"])
def test_a_receiver_that_asks_for_less_is_left_alone_and_the_others_are_not(send: Callable, reply: str) -> None:
    faults = (Fault(At.RCPT, reply, domain=SLOW),)
    with running_mail_server(MailSandbox(faults=faults)) as sandbox:
        mailed, failure = send(to_domains(slow=400, fast=400), sandbox, rounds=1)
    assert failure is None
    assert domains_of(sandbox) == [FAST] * 400
    assert mailed.rejects.height == 400
    assert mailed.rejects["reason"].str.starts_with(f"not taken yet: {reply}").all()
    assert sandbox.struck.total() < 60, "it was not asked four hundred times"


@pytest.mark.parametrize("reply", ["421 4.7.28 Unusual rate", "451 4.7.500 Server busy"])
def test_a_receiver_that_asks_for_less_for_a_while_gets_everything_in_the_end(send: Callable, reply: str) -> None:
    faults = (Fault(At.RCPT, reply, times=6, domain=SLOW),)
    with running_mail_server(MailSandbox(faults=faults)) as sandbox:
        mailed, failure = send(to_domains(slow=200, fast=200), sandbox, rounds=4)
    assert failure is None
    assert mailed.standard.height == 400
    assert max(sandbox.message_ids.values()) == 1


def test_a_few_messages_to_a_receiver_that_asks_for_less_wait_for_the_next_round(send: Callable) -> None:
    faults = (Fault(At.RCPT, "421 4.7.28 Unusual rate", times=1, domain=SLOW),)
    with running_mail_server(MailSandbox(faults=faults)) as sandbox:
        mailed, failure = send(to_domains(slow=20, fast=20, other=20), sandbox, rounds=4)
    assert failure is None
    assert mailed.standard.height == 60
