"""The journal on SQLite and on a real PostgreSQL: what senders see of each other through it."""

import hashlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from pydantic import SecretStr

from tasks.delivery.journal import storage
from tasks.delivery.journal.database import MIGRATIONS, migrate
from tasks.delivery.journal.states import Event, Resend, State
from tasks.delivery.journal.storage import Journal, Settlement, open_journal
from tasks.delivery.journal.tables import METADATA
from tasks.errors import ConfigurationError, JournalUnavailable
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.journal import entries_of, suppressed

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


def keys_of(profiles: int) -> dict[str, str]:
    return {SEND.message_key("email", str(number)): str(number) for number in range(profiles)}


def sender(settings: JournalSettings, name: str, clock: Clock | None = None) -> Journal:
    journal = open_journal(settings, clock or Clock(), name)
    journal.renew()
    return journal


def test_a_claimed_message_is_claimed_by_nobody_else(journal_settings: JournalSettings) -> None:
    first, second = (sender(journal_settings, name) for name in ("first", "second"))
    wanted = keys_of(5)
    assert first.claim(SEND, "email", wanted) == set(wanted)
    assert second.claim(SEND, "email", wanted) == set()
    assert first.claim(SEND, "email", wanted) == set(wanted), "a claim whose answer was lost is made again"


def test_a_message_is_the_same_in_every_variant_and_the_journal_tells_the_one_that_is_sent(
    journal_settings: JournalSettings,
) -> None:
    clock = Clock()
    first, second = (sender(journal_settings, name, clock) for name in ("first", "second"))
    german, french = (SEND.message_key("email", "1", code) for code in ("de", "fr"))
    assert first.claim(SEND, "email", {german: "1"}) == {german}
    assert second.claim(SEND, "email", {french: "1"}) == set()
    assert set(second.known(SEND, "email", [french])) == {french}
    first.record(SEND, "email", [Settlement(german, Event.POSTPONED, "later")])
    assert second.claim(SEND, "email", {french: "1"}) == {french}
    second.record(SEND, "email", [Settlement(french, Event.TAKEN, "250 ok")])
    assert entries_of(second, SEND).select("message_key", "state", "attempts").rows() == [(french, "sent", 2)]


OLD_ROWS = """
INSERT INTO messages
(key, campaign, business_date, channel, profile_id, state, sender, attempts, changed_at, answer) VALUES
 ('{key}', 'birthday', '2026-11-24', 'email', '0', 'sent', 'x', 1, '2026-11-24 12:00:00+00:00', '250 ok');
INSERT INTO quarantine (address, channel, since, reason)
VALUES ('{address}', 'email', '2026-11-24 12:00:00+00:00', '550 5.1.1')
"""


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_journal_of_an_older_version_goes_on(journal_settings: JournalSettings, revision: str) -> None:
    """What was sent stays sent, who was in quarantine stays there, and the address is hashed with the key."""
    url = sa.make_url(journal_settings.url.get_secret_value())
    engine = sa.create_engine(url if url.drivername == "sqlite" else url.set(drivername="postgresql+psycopg"))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    (key,) = keys_of(1)
    plain = hashlib.sha256(b"ada@example.com").hexdigest()
    with engine.begin() as database:
        config.attributes["connection"] = database
        command.upgrade(config, revision)
        for statement in OLD_ROWS.format(key=f"{key}01234567", address=plain).split(";"):
            moment = "" if engine.dialect.name == "postgresql" else "+00:00"
            database.exec_driver_sql(statement.replace(moment, "") if moment else statement)
    journal = sender(journal_settings, "one")
    assert journal.claim(SEND, "email", keys_of(1)) == set()
    assert entries_of(journal, SEND)["message_key"].to_list() == [key]
    people = {"0": ("0", "Ada@example.com"), "1": ("1", "eve@example.com")}
    assert suppressed(journal, people, "email") == {"0": "quarantine: 550 5.1.1"}
    assert journal.suppressions.entries()["address"].to_list() != [plain]
    assert migrate(journal.engine) is False


def test_many_senders_that_want_the_same_messages_share_them_without_overlap(
    journal_settings: JournalSettings,
) -> None:
    wanted = keys_of(600)
    start = threading.Barrier(4)

    def work(name: str) -> set[str]:
        journal = sender(journal_settings, name)
        start.wait()
        keys = list(wanted) if name in {"a", "b"} else list(wanted)[::-1]
        mine: set[str] = set()
        for begin in range(0, 600, 40):
            mine |= journal.claim(SEND, "email", {key: wanted[key] for key in keys[begin : begin + 40]})
        return mine

    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(work, "abcd"))
    assert sum(map(len, shares)) == 600
    assert set().union(*shares) == set(wanted)


@pytest.mark.parametrize(
    ("event", "state", "claimable", "claimable_when_unknown_is_resent"),
    [
        (Event.TAKEN, State.SENT, False, False),
        (Event.REFUSED, State.REFUSED, False, False),
        (Event.POSTPONED, State.DEFERRED, True, True),
        (Event.LOST, State.UNKNOWN, False, True),
    ],
)
def test_what_became_of_a_message_decides_who_may_send_it_again(
    journal_settings: JournalSettings,
    event: Event,
    state: State,
    claimable: bool,
    claimable_when_unknown_is_resent: bool,
) -> None:
    first, second = (sender(journal_settings, name) for name in ("first", "second"))
    ((key, profile),) = keys_of(1).items()
    first.claim(SEND, "email", {key: profile})
    first.record(SEND, "email", [Settlement(key, event, "250 2.0.0 Ok ünïcode\x00" + "x" * 900)])
    assert second.known(SEND, "email", [key, "another"])[key].state is state
    (entry,) = entries_of(second, SEND).iter_rows(named=True)
    assert entry["answer"].startswith("250 2.0.0 Ok ünïcodexx")
    assert (entry["profile_id"], entry["state"], entry["attempts"]) == ("0", state, 1)
    assert entry["changed_at"] == NOON
    assert bool(second.claim(SEND, "email", {key: profile})) is claimable
    if not claimable:
        again = second.claim(SEND, "email", {key: profile}, Resend(unknown=True))
        assert bool(again) is claimable_when_unknown_is_resent


def test_a_refused_message_is_claimed_again_on_request_only(journal_settings: JournalSettings) -> None:
    first, second = (sender(journal_settings, name) for name in ("first", "second"))
    wanted = keys_of(1)
    (key,) = first.claim(SEND, "email", wanted)
    first.record(SEND, "email", [Settlement(key, Event.REFUSED, "554 5.7.1 No")])
    assert second.claim(SEND, "email", wanted, Resend(unknown=True)) == set()
    assert second.claim(SEND, "email", wanted, Resend(refused=True)) == {key}


def test_a_refusal_that_was_the_senders_is_taken_back(journal_settings: JournalSettings) -> None:
    first, second = (sender(journal_settings, name) for name in ("first", "second"))
    wanted = keys_of(2)
    refused, taken = first.claim(SEND, "email", wanted)
    first.record(SEND, "email", [Settlement(refused, Event.REFUSED, "550"), Settlement(taken, Event.TAKEN, "250")])
    first.record(SEND, "email", [Settlement(key, Event.RECONSIDERED, "550") for key in wanted])
    assert second.claim(SEND, "email", wanted) == {refused}


def test_only_the_sender_that_holds_a_message_can_say_what_became_of_it(journal_settings: JournalSettings) -> None:
    first, second = (sender(journal_settings, name) for name in ("first", "second"))
    (key,) = first.claim(SEND, "email", keys_of(1))
    second.record(SEND, "email", [Settlement(key, Event.TAKEN, "250 not mine")])
    assert first.known(SEND, "email", [key])[key].state is State.CLAIMED


def test_claims_of_a_sender_that_is_gone_become_unknown_after_its_lease_and_no_sooner(
    journal_settings: JournalSettings,
) -> None:
    clock = Clock()
    gone, alive, watcher = (sender(journal_settings, name, clock) for name in ("gone", "alive", "watcher"))
    lost, held = list(keys_of(2).items())
    gone.claim(SEND, "email", dict([lost]))
    alive.claim(SEND, "email", dict([held]))
    clock.time += timedelta(seconds=29)
    alive.renew()
    assert watcher.expire(SEND, "email") == 0
    clock.time += timedelta(seconds=2)
    assert watcher.expire(SEND, "email") == 1
    states = {key: known.state for key, known in watcher.known(SEND, "email", [lost[0], held[0]]).items()}
    assert states == {lost[0]: State.UNKNOWN, held[0]: State.CLAIMED}
    gone.record(SEND, "email", [Settlement(lost[0], Event.TAKEN, "250 it was only slow")])
    assert watcher.known(SEND, "email", [lost[0]])[lost[0]].state is State.SENT, (
        "a truth that comes late is a truth"
    )
    alive.leave()
    assert watcher.expire(SEND, "email") == 1


def test_other_sends_and_channels_are_other_messages(journal_settings: JournalSettings) -> None:
    journal = sender(journal_settings, "one")
    journal.claim(SEND, "email", keys_of(3))
    tomorrow = SEND.model_copy(update={"business_date": date(2026, 11, 25)})
    assert entries_of(journal, SEND).height == 3
    assert entries_of(journal, SEND, "sms").height == 0
    assert entries_of(journal, tomorrow).height == 0


def test_a_send_is_read_in_pieces_in_the_order_of_its_claims(
    journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "ENTRIES_AT_ONCE", 2)
    journal = sender(journal_settings, "one")
    keys = keys_of(5)
    for key in keys:
        journal.claim(SEND, "email", {key: keys[key]})
    assert entries_of(journal, SEND)["profile_id"].to_list() == list("01234")


def test_senders_that_start_together_on_an_empty_database_all_start(journal_settings: JournalSettings) -> None:
    with ThreadPoolExecutor(6) as pool:
        journals = list(pool.map(lambda name: sender(journal_settings, name), "abcdef"))
    (journal, *_) = journals
    assert len(journal.claim(SEND, "email", keys_of(2))) == 2


def test_the_migrations_make_the_tables_that_the_code_describes(journal_settings: JournalSettings) -> None:
    with open_journal(journal_settings).engine.connect() as database:
        context = MigrationContext.configure(database, opts={"version_table": "journal_version"})
        assert compare_metadata(context, METADATA) == []


def test_a_journal_that_is_locked_for_a_while_is_waited_for(tmp_path: Path) -> None:
    settings = JournalSettings(url=SecretStr(f"sqlite:///{tmp_path}/j.db"), patience_seconds=20)
    journal = sender(settings, "one")
    other = sqlite3.connect(tmp_path / "j.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.5, other.rollback).start()
    assert len(journal.claim(SEND, "email", keys_of(2))) == 2


def test_a_journal_that_stays_locked_ends_the_run_in_a_sentence(tmp_path: Path) -> None:
    settings = JournalSettings(url=SecretStr(f"sqlite:///{tmp_path}/j.db"), patience_seconds=0.3)
    journal = sender(settings, "one")
    other = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(JournalUnavailable, match="database is locked"):
        journal.claim(SEND, "email", keys_of(2))
    other.rollback()


def test_a_dropped_database_connection_is_made_again(postgresql_url: str) -> None:
    journal = sender(JournalSettings(url=SecretStr(postgresql_url), patience_seconds=20), "one")
    with sa.create_engine(postgresql_url.replace("://", "+psycopg://")).connect() as database:
        database.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid()"
            )
        )
    assert len(journal.claim(SEND, "email", keys_of(2))) == 2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "not a database address"),
        ("sqlite://", "would forget"),
        ("sqlite:///:memory:", "would forget"),
        ("sqlite:///journal.db", "depends on the working folder"),
        ("mysql://root:s3cret@localhost/test", "'mysql' is no journal"),
    ],
)
def test_an_address_that_cannot_be_a_journal_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        open_journal(JournalSettings(url=SecretStr(url)))
    assert "s3cret" not in str(refused.value)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    settings = JournalSettings(url=SecretStr("postgresql://me:s3cret@127.0.0.1:1/j"), patience_seconds=0)
    with pytest.raises(JournalUnavailable, match=r"postgresql://127.0.0.1:1/j") as failed:
        open_journal(settings)
    assert "s3cret" not in str(failed.value)


def test_each_message_of_a_window_is_looked_up_by_its_key_however_many_the_send_has(
    tmp_path: Path,
) -> None:
    journal = sender(JournalSettings(url=f"sqlite:///{tmp_path}/journal.db"), "first")
    other = sender(journal.settings, "second")
    plans: list[str] = []

    def explain(_: sa.Connection, cursor: sqlite3.Cursor, statement: str, values: object, *__: object) -> None:
        explained = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        plans.extend(row[-1] for row in explained if "messages" in row[-1])

    sa.event.listen(journal.engine, "before_cursor_execute", explain)
    wanted = keys_of(5)
    other.claim(SEND, "email", dict(list(wanted.items())[:1]))
    mine = journal.claim(SEND, "email", wanted)
    journal.record(SEND, "email", [Settlement(key, Event.TAKEN, "250 ok") for key in mine])
    journal.known(SEND, "email", wanted)
    assert len(plans) == 3
    assert all("(send=? AND key=?)" in plan for plan in plans), plans
