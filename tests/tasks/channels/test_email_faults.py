"""Whatever breaks, no message is lost and none is doubled: the journal's tally against what a real server took."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from deployments.sandbox.mail_server import GOODBYE, At, Fault, MailBehaviour, MailSandbox, running_mail_server
from tasks.channels.email import EmailOptions, email_channel
from tasks.delivery.delivery import Delivery, send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal import database
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.delivery.journal.tables import MESSAGES
from tasks.errors import CampaignError, JournalUnavailable, MailServerRefuses, MailServerUnavailable, SenderBlamed
from tasks.runs.part import PartFailed
from tasks.settings import JournalSettings
from tests.journal import entries_of, suppressed
from tests.ports import free_port
from tests.postgresql import engine_of
from tests.tasks.channels.email_flow import SEND, made_up_messages, options_for
from tests.waiting import until

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FLOW = Path(__file__).parent / "email_flow.py"


@pytest.fixture
def serve() -> Iterator[Callable[..., MailSandbox]]:
    """Starts mail servers that misbehave as they are told."""
    with ExitStack() as running:

        def start(behaviour: MailBehaviour = MailBehaviour.NORMAL, **options: object) -> MailSandbox:
            return running.enter_context(running_mail_server(MailSandbox(behaviour=behaviour, **options)))

        yield start


def journal_at(folder: Path, **options: float) -> Journal:
    url = SecretStr(f"sqlite:///{folder}/journal.db")
    return open_journal(JournalSettings(url=url, **{"lease_seconds": 3, "patience_seconds": 20, **options}))


def sent(messages: pl.DataFrame, options: EmailOptions, journal: Journal) -> tuple[Delivery, CampaignError | None]:
    return send_messages(
        messages,
        email_channel(options, SEND, NOON),
        options,
        SEND,
        journal=journal,
        tally=Tally(messages.height),
    )


def counts(mailed: Delivery) -> dict[str, int]:
    return {name: table.height for name, table in mailed.tables().items() if table.height}


def tally(journal: Journal, sandbox: MailSandbox, *, also_twice: int = 0) -> Counter[str]:
    """The journal's states, after checking them against what the server took."""
    entries = journal.names.named(entries_of(journal, SEND)).with_columns(
        message_id=pl.format("<{}@campaign.example>", "name")
    )
    ids = {state: set(entries.filter(state=state)["message_id"]) for state in ("sent", "unknown")}
    server = sandbox.message_ids
    assert sum(count - 1 for count in server.values()) == also_twice, "a message was doubled"
    assert ids["sent"] <= set(server), "a message that is called sent never arrived"
    assert set(server) <= ids["sent"] | ids["unknown"], "a message arrived and is not known as such"
    return Counter(entries["state"])


FAULT_TABLE = [
    # name, how the server misbehaves, what becomes of 150 messages
    ("dropped after connecting", {"faults": (Fault(At.EHLO, times=4),)}, {"standard": 150}),
    ("421 after connecting", {"faults": (Fault(At.EHLO, GOODBYE, times=4),)}, {"standard": 150}),
    ("dropped at MAIL", {"faults": (Fault(At.MAIL, every=20),)}, {"standard": 150}),
    ("dropped at RCPT", {"faults": (Fault(At.RCPT, every=20),)}, {"standard": 150}),
    ("dropped at DATA", {"faults": (Fault(At.DATA, every=20),)}, {"standard": 150}),
    ("dropped after the final dot, not kept", {"faults": (Fault(At.CONTENT, every=20, times=5),)},
     {"standard": 145, "unknown": 5}),
    ("dropped after the final dot, kept", {"faults": (Fault(At.TAKEN, every=20, times=5),)},
     {"standard": 145, "unknown": 5}),
    ("421 at MAIL", {"faults": (Fault(At.MAIL, GOODBYE, every=10),)}, {"standard": 150}),
    ("421 at RCPT", {"faults": (Fault(At.RCPT, GOODBYE, every=10),)}, {"standard": 150}),
    ("421 instead of the answer", {"faults": (Fault(At.CONTENT, GOODBYE, every=20),)}, {"standard": 150}),
    ("4xx at MAIL", {"faults": (Fault(At.MAIL, "451 4.3.0 Later", every=20),)}, {"standard": 150}),
    ("4xx at DATA", {"faults": (Fault(At.DATA, "451 4.3.0 Later", every=20),)}, {"standard": 150}),
    ("5xx at DATA", {"faults": (Fault(At.DATA, "554 5.5.1 No", every=50),)}, {"standard": 147, "rejects": 3}),
    ("a full server", {"behaviour": MailBehaviour.FULL}, {"standard": 150}),
    ("greylisting", {"behaviour": MailBehaviour.GREYLIST}, {"standard": 150}),
    ("refused as spam", {"faults": (Fault(At.CONTENT, "554 5.7.1 Spam", every=50),)},
     {"standard": 147, "rejects": 3}),
    ("a slow server", {"behaviour": MailBehaviour.SLOW}, {"standard": 150}),
]  # fmt: skip


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one by one"])
@pytest.mark.parametrize(
    ("misbehaving", "expected"), [row[1:] for row in FAULT_TABLE], ids=[r[0] for r in FAULT_TABLE]
)
def test_the_fault_table(
    serve: Callable[..., MailSandbox],
    tmp_path: Path,
    misbehaving: dict[str, object],
    expected: dict[str, int],
    pipelining: bool,
) -> None:
    sandbox = serve(**misbehaving, pipelining=pipelining)
    many = {"connections": 40} if misbehaving.get("behaviour") is MailBehaviour.SLOW else {}
    options = options_for(sandbox.port, tmp_path, server=many)
    journal = journal_at(tmp_path)
    mailed, failure = sent(made_up_messages(150), options, journal)
    assert failure is None
    assert counts(mailed) == expected, mailed.rejects["reason"].value_counts().rows()
    assert sandbox.behaviour is not MailBehaviour.NORMAL or sandbox.struck.total() > 0, "the fault never struck"
    states = tally(journal, sandbox)
    assert states["sent"] == expected["standard"]
    assert states["unknown"] == expected.get("unknown", 0)
    again, _ = sent(made_up_messages(150), options, journal_at(tmp_path))
    assert counts(again) == {
        **{k: v for k, v in expected.items() if k != "standard"},
        "complement": expected["standard"],
    }
    assert tally(journal, sandbox) == states


@pytest.mark.parametrize(
    ("at", "reply"),
    [
        (At.RCPT, "554 5.7.1 <p{}@example.com>: Relay access denied"),
        (At.RCPT, "550 5.7.1 Service unavailable; client [203.0.113.7] blocked using a list"),
        (At.RCPT, "550 5.1.8 Bad sender's system address"),
        (At.RCPT, "550 Administrative prohibition"),
        (At.CONTENT, "550 5.7.26 This mail is unauthenticated"),
        (At.CONTENT, "552 5.2.2 The account that sends is over quota"),
    ],
)
def test_a_server_that_refuses_everybody_is_refusing_the_sender(
    serve: Callable[..., MailSandbox], tmp_path: Path, at: At, reply: str
) -> None:
    sandbox = serve(faults=(Fault(at, reply),))
    options = options_for(sandbox.port, tmp_path)
    mailed, failure = sent(made_up_messages(300), options, journal_at(tmp_path))
    assert isinstance(failure, SenderBlamed)
    assert reply in str(failure)
    assert sandbox.seen[At.RCPT] < 100, "the run stops long before the end"
    assert counts(mailed) == {"rejects": 300}
    assert set(mailed.rejects["reason"].str.split(":").list.first()) == {"not taken yet"}
    journal = journal_at(tmp_path)
    assert journal.suppressions.entries(holding=True).is_empty()
    assert set(entries_of(journal, SEND)["state"]) == {"deferred"}
    sandbox.faults = ()
    again, failure = sent(made_up_messages(300), options, journal)
    assert failure is None
    assert counts(again) == {"standard": 300}, "what was refused so is sent when the sender is right"


def test_a_few_refused_with_the_same_words_and_nobody_taken_is_the_senders_fault_too(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve(faults=(Fault(At.RCPT, "550 5.7.1 Not here"),))
    mailed, failure = sent(made_up_messages(3), options_for(sandbox.port, tmp_path), journal_at(tmp_path))
    assert isinstance(failure, SenderBlamed)
    assert tally(journal_at(tmp_path), sandbox) == {"deferred": 3}
    assert counts(mailed) == {"rejects": 3}


def test_a_server_that_puts_everybody_off_is_no_success(serve: Callable[..., MailSandbox], tmp_path: Path) -> None:
    sandbox = serve(faults=(Fault(At.RCPT, "451 4.3.0 Come back later"),))
    options = options_for(sandbox.port, tmp_path, rounds=2)
    mailed, failure = sent(made_up_messages(30), options, journal_at(tmp_path))
    assert isinstance(failure, MailServerUnavailable)
    assert "put off all 30 messages" in str(failure)
    assert "451 4.3.0 Come back later" in str(failure)
    assert counts(mailed) == {"rejects": 30}


def test_who_opted_out_or_complained_gets_nothing_whatever_the_flow_composed(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    journal = journal_at(tmp_path)
    journal.suppressions.add(
        [
            Sighting(Kind.OPT_OUT, "email", "by the link", "one-click", profile_id="3"),
            Sighting(Kind.COMPLAINT, "", "", "mailbox", address=" P5@EXAMPLE.com"),
        ]
    )
    for proof in ("", "first"):
        options = options_for(sandbox.port, tmp_path, proof=proof)
        mailed, failure = sent(made_up_messages(9), options, journal)
        assert failure is None
        assert dict(mailed.rejects.select("profile_id", "reason").iter_rows()) == {
            "3": "opt-out: by the link",
            "5": "complaint",
        }
        assert mailed.standard.height == 7
    assert {one.recipient for one in sandbox.taken}.isdisjoint({"p3@example.com", "p5@example.com"})


def test_a_refused_message_is_tried_again_on_request_and_is_never_called_sent(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve(faults=(Fault(At.CONTENT, "554 5.6.0 Not like this", every=5, times=1),))
    options = options_for(sandbox.port, tmp_path)
    sent(made_up_messages(6), options, journal_at(tmp_path))
    again, _ = sent(made_up_messages(6), options, journal_at(tmp_path))
    assert counts(again) == {"complement": 5, "rejects": 1}
    assert again.rejects["reason"].to_list() == ["refused: 554 5.6.0 Not like this"]
    asked = options.model_copy(update={"resend_refused": True})
    assert counts(sent(made_up_messages(6), asked, journal_at(tmp_path))[0]) == {"standard": 1, "complement": 5}


def test_one_bad_recipient_in_a_thousand_is_refused_alone_and_quarantined(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve(MailBehaviour.PICKY)
    messages = made_up_messages(1000).with_columns(email=pl.col("email").str.replace(r"^p517@", "bad@"))
    journal = journal_at(tmp_path)
    mailed, _ = sent(messages, options_for(sandbox.port, tmp_path), journal)
    assert counts(mailed) == {"standard": 999, "rejects": 1}
    assert mailed.rejects.rows() == [("517", "bad@example.com", "refused: 550 5.1.1 No such user")]
    bad = {"1": ("1", "bad@example.com")}
    assert suppressed(journal, bad, "email") == {"1": "quarantine: 550 5.1.1 No such user"}
    assert tally(journal, sandbox) == {"sent": 999, "refused": 1}


def test_a_message_that_may_have_arrived_is_sent_again_only_when_asked_and_with_the_same_message_id(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve(faults=(Fault(At.TAKEN, every=25, times=2),))
    messages = made_up_messages(60)
    mailed, _ = sent(messages, options_for(sandbox.port, tmp_path), journal_at(tmp_path))
    assert counts(mailed) == {"standard": 58, "unknown": 2}
    in_doubt = set(mailed.unknown["message_id"])
    mailed, _ = sent(messages, options_for(sandbox.port, tmp_path, resend_unknown=True), journal_at(tmp_path))
    assert counts(mailed) == {"standard": 2, "complement": 58}
    assert {one for one, count in sandbox.message_ids.items() if count == 2} == in_doubt
    assert tally(journal_at(tmp_path), sandbox, also_twice=2) == {"sent": 60}


@contextmanager
def up_after(seconds: float, sandbox: MailSandbox) -> Iterator[None]:
    stop = threading.Event()

    def later() -> None:
        time.sleep(seconds)
        with running_mail_server(sandbox):
            stop.wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(later)
        try:
            yield
        finally:
            stop.set()


def test_a_server_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    sandbox = MailSandbox(free_port())
    journal = journal_at(tmp_path)
    with up_after(1.0, sandbox):
        mailed, failure = sent(made_up_messages(50), options_for(sandbox.port, tmp_path), journal)
    assert failure is None
    assert counts(mailed) == {"standard": 50}
    assert tally(journal, sandbox) == {"sent": 50}


def test_a_server_that_stays_down_ends_the_run_in_a_sentence_and_the_next_run_sends_all(tmp_path: Path) -> None:
    sandbox = MailSandbox(free_port())
    options = options_for(sandbox.port, tmp_path, server={"patience_seconds": 0.5})
    mailed, failure = sent(made_up_messages(50), options, journal_at(tmp_path))
    assert isinstance(failure, MailServerUnavailable)
    assert f"127.0.0.1:{sandbox.port} does not accept messages" in str(failure)
    assert counts(mailed) == {"rejects": 50}
    with running_mail_server(sandbox):
        mailed, failure = sent(made_up_messages(50), options, journal_at(tmp_path))
    assert (counts(mailed), failure) == ({"standard": 50}, None)
    assert tally(journal_at(tmp_path), sandbox) == {"sent": 50}


def test_a_server_that_says_nothing_is_left_after_the_timeout(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve(MailBehaviour.SLOW)
    options = options_for(
        sandbox.port, tmp_path, server={"timeout_seconds": 0.1, "patience_seconds": 1, "connections": 1}
    )
    mailed, failure = sent(made_up_messages(30), options, journal_at(tmp_path))
    assert isinstance(failure, MailServerUnavailable)
    assert mailed.unknown.height > 0, "the server got messages whole and did not answer in time"
    assert mailed.unknown.height + mailed.rejects.height == 30
    tally(journal_at(tmp_path), sandbox)


def test_a_sender_that_the_server_refuses_ends_the_run_at_once(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve(MailBehaviour.CLOSED)
    mailed, failure = sent(made_up_messages(50), options_for(sandbox.port, tmp_path), journal_at(tmp_path))
    assert isinstance(failure, MailServerRefuses)
    assert "550 5.7.1 Sender not allowed here" in str(failure)
    assert counts(mailed) == {"rejects": 50}
    assert sandbox.connections <= 4
    assert tally(journal_at(tmp_path), sandbox).keys() == {"deferred"}


def test_two_senders_of_the_same_send_share_it(
    serve: Callable[..., MailSandbox],
    journal_settings: JournalSettings,
    tmp_path: Path,
) -> None:
    sandbox = serve()
    sandbox.takes = False  # until both have begun: one alone would be done before the other comes

    def work(_: int) -> Delivery:
        journal = open_journal(journal_settings)
        return sent(made_up_messages(800), options_for(sandbox.port, tmp_path), journal)[0]

    with ThreadPoolExecutor(2) as pool:
        deliveries = pool.map(work, range(2))
        senders = sa.select(sa.func.count(MESSAGES.c.sender.distinct()))
        with closing(open_journal(journal_settings)) as watching:
            until(lambda: watching.database.read(lambda database: database.execute(senders).scalar()) == 2)
        sandbox.takes = True
        one, two = deliveries
    assert one.standard.height + two.standard.height == 800
    assert min(one.standard.height, two.standard.height) > 0
    for mailed in (one, two):
        assert mailed.standard.height + mailed.complement.height == 800, "each knows what became of all"
    assert tally(open_journal(journal_settings), sandbox) == {"sent": 800}


def after_messages(sandbox: MailSandbox, count: int, then: Callable[[], None]) -> None:
    until(lambda: len(sandbox.taken) >= count, "the messages", pause=0.002)
    then()


def test_a_journal_that_is_locked_in_the_middle_is_waited_for(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    journal = journal_at(tmp_path)
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None, check_same_thread=False, timeout=20)

    def lock_for_a_second() -> None:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(1)
        other.rollback()

    with ThreadPoolExecutor(1) as pool:
        locked = pool.submit(after_messages, sandbox, 100, lock_for_a_second)
        mailed, _ = sent(made_up_messages(500), options_for(sandbox.port, tmp_path), journal)
        locked.result()
    assert counts(mailed) == {"standard": 500}
    assert tally(journal, sandbox) == {"sent": 500}


def test_a_journal_that_stays_locked_stops_the_sending_and_the_next_run_does_the_rest(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    # So patient that on a busy machine the sending's own threads do not stop each other.
    journal = journal_at(tmp_path, patience_seconds=2)
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None, check_same_thread=False, timeout=20)
    with ThreadPoolExecutor(1) as pool:
        locked = pool.submit(after_messages, sandbox, 100, lambda: other.execute("BEGIN IMMEDIATE"))
        with pytest.raises(PartFailed, match="locked") as failed:
            sent(made_up_messages(3000), options_for(sandbox.port, tmp_path), journal)
        locked.result()
    taken = {one.recipient for one in sandbox.taken}
    done = failed.value.done.tables()
    assert len(taken) < 3000
    assert set(done["standard"]["email"]) <= taken <= {*done["standard"]["email"], *done["unknown"]["email"]}
    assert sum(table.height for table in done.values()) == 3000, "each is told of"
    other.rollback()
    mailed, _ = sent(made_up_messages(3000), options_for(sandbox.port, tmp_path), journal_at(tmp_path))
    states = tally(journal_at(tmp_path), sandbox)
    assert states["sent"] + states["unknown"] == 3000
    assert mailed.unknown.height == states["unknown"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"No file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_stops_the_sending_and_the_next_run_does_the_rest(
    serve: Callable[..., MailSandbox], tmp_path: Path, small_disk: Path
) -> None:
    sandbox = serve()
    journal = journal_at(small_disk, patience_seconds=0.3, lease_seconds=1)
    with pytest.raises(PartFailed, match=r"full|I/O"):
        sent(made_up_messages(5000), options_for(sandbox.port, tmp_path), journal)
    journal.engine.dispose()
    taken = len(sandbox.taken)
    assert 0 < taken < 5000
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    mailed, _ = sent(made_up_messages(5000), options_for(sandbox.port, tmp_path), journal_at(small_disk))
    again = journal_at(small_disk)
    states = tally(again, sandbox)
    again.engine.dispose()
    assert states["sent"] + states["unknown"] == 5000
    assert mailed.unknown.height == states["unknown"]


def started_flow(
    backend: str, url: str, count: int, port: int, folder: Path, parts: int = 1, lease_seconds: int = 2
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, FLOW, str(count), str(port), str(folder), str(parts)],
        env={
            **os.environ,
            "PREFECT_API_URL": backend,
            "PREFECT_LOCAL_STORAGE_PATH": str(folder / "results"),
            "CAMPAIGN_JOURNAL__URL": url,
            "CAMPAIGN_JOURNAL__LEASE_SECONDS": str(lease_seconds),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_after(process: subprocess.Popen[str], sandbox: MailSandbox, messages: int) -> None:
    """Kill a process without a word once it has sent so many messages."""
    try:
        until(lambda: len(sandbox.taken) >= messages or process.poll() is not None, "the messages", pause=0.001)
    finally:
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors[-2000:]


KILLS = 4
"""At other points with each kind of journal."""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_flow_that_is_killed_at_random_points_loses_and_doubles_nothing(
    serve: Callable[..., MailSandbox],
    prefect_backend: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    sandbox = serve()
    points = random.Random(kind)
    is_file = kind == "sqlite"
    url = f"sqlite:///{tmp_path}/journal.db" if is_file else request.getfixturevalue("postgresql_url")
    for _ in range(KILLS):
        process = started_flow(prefect_backend, url, 2000, sandbox.port, tmp_path)
        killed_after(process, sandbox, len(sandbox.taken) + points.randrange(1, 400))
    process = started_flow(prefect_backend, url, 2000, sandbox.port, tmp_path)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-2000:]
    journal = open_journal(JournalSettings(url=url))
    states = tally(journal, sandbox)
    assert states["sent"] + states["unknown"] == 2000
    assert states["sent"] <= len(sandbox.taken)
    assert states["unknown"] <= KILLS * 2 * 4, "more is in doubt than four connections had on their way"
    never_left = set(in_doubt(journal)) - set(sandbox.message_ids)
    assert len(never_left) <= KILLS * 4, "what is in doubt had begun to leave"
    manifest = pl.read_parquet(tmp_path / "birthday" / "2026-11-24" / "email-manifest.parquet")
    assert Counter(manifest["outcome"]) == states


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_stops_in_all_its_threads_and_leaves_its_manifest(
    serve: Callable[..., MailSandbox],
    prefect_backend: str,
    tmp_path: Path,
    told: signal.Signals,
    parts: int,
) -> None:
    sandbox = serve()
    url = f"sqlite:///{tmp_path}/journal.db"
    process = started_flow(prefect_backend, url, 20_000 * parts, sandbox.port, tmp_path, parts)
    until(lambda: len(sandbox.taken) > 600)
    process.send_signal(told)
    _, errors = process.communicate(timeout=600)
    assert process.returncode != 0, errors[-2000:]
    of_part = Counter(int(one.recipient.partition("@")[0][1:]) // 20_000 for one in sandbox.taken)
    assert max(of_part.values()) < 20_000, "no part was sent to its end"
    manifest = pl.read_parquet(tmp_path / "birthday" / "2026-11-24" / "email-manifest.parquet")
    assert manifest.filter(outcome="sent").height == len(sandbox.taken)
    assert set(manifest["outcome"]) <= {"sent", "deferred"}, "what was on its way was finished"
    assert tally(journal_at(tmp_path), sandbox)["sent"] == len(sandbox.taken)


def in_doubt(journal: Journal) -> list[str]:
    unknown = journal.names.named(entries_of(journal, SEND).filter(state="unknown"))
    return [f"<{name}@campaign.example>" for name in unknown["name"]]


def frozen_between_writes(process: subprocess.Popen[str], watcher: Journal) -> None:
    """Freeze a sender, not in the middle of a transaction: the database itself would be held then."""
    busy = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        " AND state != 'idle'"
    )
    for _ in range(100):
        process.send_signal(signal.SIGSTOP)
        with suppress(JournalUnavailable):
            watcher.renew()
            if watcher.database.is_sqlite or not watcher.database.read(lambda one: one.execute(busy).scalar()):
                return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.02)
    raise AssertionError("it never rests")


@pytest.mark.parametrize("resend_unknown", [False, True])
def test_a_sender_that_is_frozen_past_its_lease_and_goes_on_doubles_nothing(
    serve: Callable[..., MailSandbox],
    prefect_backend: str,
    tmp_path: Path,
    journal_settings: JournalSettings,
    resend_unknown: bool,
) -> None:
    sandbox = serve()
    settings = journal_settings.model_copy(update={"lease_seconds": 0.2, "patience_seconds": 2})
    url = settings.url.get_secret_value()
    process = started_flow(prefect_backend, url, 1500, sandbox.port, tmp_path)
    until(lambda: len(sandbox.taken) > 200)
    watcher = open_journal(settings.model_copy(update={"patience_seconds": 0.1}), sender="watcher")
    frozen_between_writes(process, watcher)
    try:
        options = options_for(sandbox.port, tmp_path / "b", resend_unknown=resend_unknown)
        mailed, failure = sent(made_up_messages(1500), options, open_journal(settings))
    finally:
        process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=600)
    assert (process.returncode, failure) == (0, None), errors[-2000:]
    assert tally(open_journal(settings), sandbox) == {"sent": 1500}
    held = mailed.rejects.filter(pl.col("reason").str.contains("another run has it"))
    assert held.height == mailed.rejects.height > 0, "what the frozen one holds is told"


def test_a_clock_that_is_ahead_expires_nobody_s_lease(
    serve: Callable[..., MailSandbox], postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = JournalSettings(url=postgresql_url, lease_seconds=30)
    keys = {SEND.message_key("email", "1"): "1"}
    sender = open_journal(settings)
    sender.renew()
    sender.claim(SEND, "email", keys)
    monkeypatch.setattr(database, "utc_now", lambda: datetime.now(UTC) + timedelta(seconds=90))
    assert open_journal(settings).expire(SEND, "email") == 0
    assert not open_journal(settings).claim(SEND, "email", keys)


def test_a_sender_whose_sessions_the_server_ended_goes_on_and_what_was_taken_over_stays(
    serve: Callable[..., MailSandbox], postgresql_url: str, tmp_path: Path
) -> None:
    sandbox = serve()
    journal = open_journal(JournalSettings(url=postgresql_url, lease_seconds=30, patience_seconds=20))
    heir = open_journal(JournalSettings(url=postgresql_url, lease_seconds=30, patience_seconds=20))

    def end_all_sessions() -> None:
        with engine_of(postgresql_url).connect() as server:
            server.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid != pg_backend_pid()"
                )
            )
        heir.expire(SEND, "email")

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(after_messages, sandbox, 300, end_all_sessions)
        mailed, failure = sent(made_up_messages(2000), options_for(sandbox.port, tmp_path), journal)
        ended.result()
    assert failure is None
    states = tally(heir, sandbox)
    assert states["sent"] >= mailed.standard.height
    assert states.total() == 2000
    sent(made_up_messages(2000), options_for(sandbox.port, tmp_path), heir)
    states = tally(heir, sandbox)
    assert states["sent"] + states["unknown"] == 2000


def test_when_the_machine_is_gone_another_one_goes_on_by_the_journal_in_postgresql(
    serve: Callable[..., MailSandbox], prefect_backend: str, postgresql_url: str, tmp_path: Path
) -> None:
    sandbox = serve()
    process = started_flow(prefect_backend, postgresql_url, 2000, sandbox.port, tmp_path)
    killed_after(process, sandbox, 300)
    elsewhere = open_journal(JournalSettings(url=SecretStr(postgresql_url), lease_seconds=3))
    mailed, failure = sent(made_up_messages(2000), options_for(sandbox.port, tmp_path / "b"), elsewhere)
    assert failure is None
    states = tally(elsewhere, sandbox)
    assert states["sent"] + states["unknown"] == 2000
    assert mailed.standard.height + mailed.complement.height == states["sent"]
    assert mailed.complement.height > 0
