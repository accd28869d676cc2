"""Connections are the account's: however many senders there are, together they have no more."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from deployments.sandbox.mail_server import MailBehaviour, MailSandbox, running_mail_server
from tasks.channels.email import email_channel
from tasks.delivery import seats as waiting
from tasks.delivery.delivery import Delivery, send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.seats import Ask, granted, shares
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.delivery.journal.tables import SEATS
from tasks.delivery.seats import NoSeat, Seats
from tasks.errors import CampaignError, MailServerUnavailable
from tasks.settings import JournalSettings
from tests.journal import entries_of
from tests.tasks.channels.email_flow import SEND, made_up_messages, options_for
from tests.tasks.channels.test_email_faults import NOON, killed_after, started_flow
from tests.waiting import until

MOST = 4


@pytest.mark.parametrize(
    ("wanted", "most", "given"),
    [
        ([], 4, []),
        ([9], 4, [4]),
        ([9, 9], 4, [2, 2]),
        ([1, 9], 4, [1, 3]),
        ([9, 9, 9], 4, [2, 1, 1]),
        ([2, 9, 1], 8, [2, 5, 1]),
        ([1, 1, 1, 1, 1], 4, [1, 1, 1, 1, 0]),
        ([0, 3], 2, [0, 2]),
    ],
)
def test_seats_are_shared_alike(wanted: list[int], most: int, given: list[int]) -> None:
    assert shares(wanted, most) == given


@pytest.mark.parametrize(
    ("ask", "others", "seats"),
    [
        (Ask(4, 0, 4), {}, 4),
        (Ask(4, 0, 4), {"b": (4, 4)}, 0),  # it has them still
        (Ask(4, 4, 4), {"b": (0, 4)}, 2),
        (Ask(4, 0, 4), {"b": (2, 4)}, 2),
        (Ask(4, 4, 0), {}, 4),  # idle ones are kept while nobody needs them
        (Ask(4, 4, 0), {"b": (0, 4)}, 0),
        (Ask(4, 4, 0), {"b": (0, 1)}, 3),
        (Ask(4, 0, 1), {"b": (4, 0)}, 0),
        (Ask(4, 4, 4), {"b": (4, 4)}, 2),  # who was frozen comes back to seats that were given away
    ],
)
def test_what_a_sender_may_have_depends_on_what_the_others_hold_and_want(
    ask: Ask, others: dict[str, tuple[int, int]], seats: int
) -> None:
    assert granted(ask, "a", others, 0) == seats


def test_more_senders_than_seats_take_turns() -> None:
    names = [f"sender {number}" for number in range(7)]
    had = dict.fromkeys(names, 0)
    for turn in range(7):
        for name in names:
            had[name] += granted(Ask(2, 0, 2), name, {other: (0, 2) for other in names if other != name}, turn)
    assert set(had.values()) == {2}, "two seats in seven turns for seven senders: two each"


def test_seats_of_a_sender_whose_lease_is_over_are_free(journal_settings: JournalSettings) -> None:
    short = journal_settings.model_copy(update={"lease_seconds": 0.1})
    frozen, heir = open_journal(short), open_journal(journal_settings)
    assert frozen.seats.share({"a": Ask(MOST, 0, MOST)}) == {"a": MOST}
    threading.Event().wait(0.2)
    assert heir.seats.share({"a": Ask(MOST, 0, MOST)}) == {"a": MOST}
    assert frozen.seats.share({"a": Ask(MOST, MOST, MOST)}) == {"a": 2}
    assert heir.seats.share({"a": Ask(MOST, MOST, MOST)}) == {"a": 2}, "it was not dead: they share"


def test_seats_that_are_not_named_are_given_back(journal_settings: JournalSettings) -> None:
    one, other = open_journal(journal_settings), open_journal(journal_settings)
    one.seats.share({"a": Ask(MOST, 0, MOST), "b": Ask(MOST, 0, 1)})
    assert other.seats.share({"a": Ask(MOST, 0, MOST)}) == {"a": 0}
    one.seats.share({"b": Ask(MOST, 1, 1)})
    assert other.seats.share({"a": Ask(MOST, 0, MOST), "b": Ask(MOST, 0, MOST)}) == {"a": MOST, "b": 3}


def sent(
    count: int, port: int, folder: Path, journal: Journal, **server: float
) -> tuple[Delivery, CampaignError | None]:
    messages, options = made_up_messages(count), options_for(port, folder, server=server)
    channel = email_channel(options, SEND, NOON)
    return send_messages(messages, channel, options, SEND, journal=journal, tally=Tally(count))


def held(journal: Journal) -> list[tuple[str, int]]:
    columns = sa.select(SEATS.c.sender, SEATS.c.held)
    return journal.database.read(lambda database: [tuple(row) for row in database.execute(columns)])


def test_two_processes_of_many_parts_open_no_more_connections_than_the_server_has(
    prefect_backend: str, tmp_path: Path, journal_settings: JournalSettings
) -> None:
    url = journal_settings.url.get_secret_value()
    with running_mail_server(MailSandbox(behaviour=MailBehaviour.SLOW)) as sandbox:
        process = started_flow(prefect_backend, url, 240, sandbox.port, tmp_path, parts=4)
        until(lambda: len(sandbox.taken) > 10)
        mailed, failure = sent(240, sandbox.port, tmp_path / "b", open_journal(journal_settings))
        _, errors = process.communicate(timeout=600)
        assert (process.returncode, failure) == (0, None), errors[-2000:]
        assert sandbox.most_open == MOST, "of two processes together"
        assert set(sandbox.message_ids.values()) == {1}
        assert len(sandbox.taken) == 240
    assert mailed.standard.height > 10, "the second one got a share of the connections"
    assert mailed.complement.height > 10
    journal = open_journal(journal_settings)
    assert set(entries_of(journal, SEND)["state"]) == {"sent"}
    assert held(journal) == []


def test_a_run_that_was_killed_leaves_no_seat_taken(
    prefect_backend: str, tmp_path: Path, journal_settings: JournalSettings
) -> None:
    url = journal_settings.url.get_secret_value()
    with running_mail_server(MailSandbox()) as sandbox:
        process = started_flow(prefect_backend, url, 4000, sandbox.port, tmp_path, lease_seconds=3600)
        killed_after(process, sandbox, 300)
        journal = open_journal(journal_settings)
        ((dead, _),) = held(journal)
        mailed, failure = sent(400, sandbox.port, tmp_path / "b", journal, patience_seconds=20)
    assert failure is None
    assert mailed.standard.height + mailed.complement.height + mailed.unknown.height == 400
    assert dead not in dict(held(journal))


def test_seats_that_others_keep_are_waited_for_with_a_word_and_not_for_ever(
    tmp_path: Path,
    journal_settings: JournalSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(waiting, "SILENCE_SECONDS", 0.2)
    other = open_journal(journal_settings)
    with running_mail_server(MailSandbox()) as sandbox, caplog.at_level(logging.INFO):
        server = {"patience_seconds": 1, "connections": 1}
        options = options_for(sandbox.port, tmp_path, server=server)
        channel = email_channel(options, SEND, NOON)
        other.seats.share({channel.carrier().account: Ask(1, 1, 1)})
        mailed, failure = send_messages(
            made_up_messages(3), channel, options, SEND, journal=open_journal(journal_settings), tally=Tally(3)
        )
    assert isinstance(failure, MailServerUnavailable)
    assert "all connections to it were other runs'" in str(failure)
    assert f"All connections to 127.0.0.1:{sandbox.port} are other runs'" in caplog.text
    assert mailed.rejects.height == 3
    assert sandbox.connections == 0


def test_who_waits_for_a_seat_can_be_stopped() -> None:
    async def work() -> None:
        seats = Seats("a server", 60)
        room = seats.room("a", 1)
        seat = await room.take()
        waits = [asyncio.create_task(room.take()) for _ in range(3)]
        await asyncio.sleep(0)
        waits[0].cancel()
        seat.give_back()
        assert not (await waits[1]).is_due_back
        seats.close("the run was stopped")
        with pytest.raises(NoSeat, match="stopped"):
            await waits[2]

    asyncio.run(work())


def test_threads_of_one_run_share_the_seats_too(tmp_path: Path, journal_settings: JournalSettings) -> None:
    start = threading.Barrier(6)

    def work(number: int) -> int:
        start.wait()
        return sent(40 * (number + 1), sandbox.port, tmp_path / str(number), open_journal(journal_settings))[
            0
        ].standard.height

    with running_mail_server(MailSandbox()) as sandbox, ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(work, range(6)))
        assert sum(counts) == len(sandbox.taken) == 240
        assert sandbox.most_open <= MOST
