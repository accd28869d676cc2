"""Codes in the journal's database: which message each belongs to, whatever runs do at the same moment."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from tasks.delivery.journal.codes import CodeState
from tasks.delivery.journal.states import Event, Resend
from tasks.delivery.journal.storage import Journal, Settlement, open_journal
from tasks.delivery.journal.tables import CODES
from tasks.delivery.journal.upkeep import Upkeep
from tasks.errors import ColumnsMissing, ColumnsUnexpected, ColumnTypesDiffer, PoolUnknown
from tasks.pools.reservation import Given, Reservations
from tasks.pools.stock import Pools
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.journal import shown as codes_shown

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
ROOT = Path(__file__).parents[3]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LEASE = timedelta(hours=24)


def journal_of(settings: JournalSettings, name: str = "one") -> Journal:
    journal = open_journal(settings, lambda: NOON, name)
    journal.renew()
    return journal


def codes_of(count: int, first: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"code": [f"C-{number}" for number in range(first, first + count)]})


def keys_of(*profiles: int) -> dict[str, str]:
    return {SEND.message_key("email", str(number)): str(number) for number in profiles}


def reservations(journal: Journal, run: str = "run", send: Send = SEND) -> Reservations:
    pools = Pools(journal.database)
    return Reservations(pools, pools.pool("birthday"), send, "email", run)


def filled(settings: JournalSettings, codes: int, name: str = "one") -> Journal:
    journal = journal_of(settings, name)
    Pools(journal.database).fill("birthday", codes_of(codes))
    return journal


def stock(journal: Journal) -> dict[str, int]:
    pools = Pools(journal.database)
    return {str(state): count for state, count in pools.stock(pools.pool("birthday")).items() if count}


def shown(found: dict[str, Given | None]) -> dict[str, str]:
    return {key: one.values["code"] for key, one in found.items() if one is not None}


def sent_with(journal: Journal, event: Event, found: dict[str, Given | None], keys: dict[str, str]) -> set[str]:
    """Claim the messages, hold their codes, and say what became of them; gives the keys that lost their code."""
    codes = codes_shown({key: [one.number] for key, one in found.items() if one is not None})
    mine, lost = journal.claim_and_hold(SEND, "email", keys, codes, Resend(unknown=True))
    journal.record(SEND, "email", [Settlement(key, event, "said") for key in mine - lost])
    return lost


def test_a_message_has_the_same_code_at_every_try(journal_settings: JournalSettings) -> None:
    journal = filled(journal_settings, 5)
    first = reservations(journal).reserve(keys_of(1, 2), NOON)
    again = reservations(journal, "another run").reserve(keys_of(2, 3), NOON)
    key = next(iter(keys_of(2)))
    assert first[key] == again[key]
    assert len({*shown(first).values(), *shown(again).values()}) == 3
    assert stock(journal) == {"free": 2, "reserved": 3}


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Event.TAKEN, {"used": 1}),
        (Event.REFUSED, {"free": 1}),
        (Event.POSTPONED, {"reserved": 1}),
        (Event.LOST, {"held": 1}),
    ],
)
def test_what_became_of_the_message_decides_on_its_code(
    journal_settings: JournalSettings, event: Event, state: dict[str, int]
) -> None:
    journal, keys = filled(journal_settings, 1), keys_of(1)
    assert sent_with(journal, event, reservations(journal).reserve(keys, NOON), keys) == set()
    assert stock(journal) == state
    journal.give_back_codes(SEND, "email", "run")
    assert stock(journal) == state, "the end of the run changes nothing of it"
    found = reservations(journal, "next").reserve(keys_of(2), NOON)
    assert bool(found) is (event is Event.REFUSED), "nobody else gets it, unless it was given back"


def test_a_code_that_was_given_back_leaves_in_no_message(journal_settings: JournalSettings) -> None:
    """Two runs of one send: one shows the code, the other gives it back, and a third message gets it."""
    journal, keys = filled(journal_settings, 1), keys_of(1)
    found = reservations(journal, "shows it").reserve(keys, NOON)
    hides = reservations(journal, "hides it")
    hides.reserve(keys, NOON)
    assert hides.release(list(keys)) == 1
    other = keys_of(2)
    given = reservations(journal).reserve(other, NOON)
    assert shown(given).values() == shown(found).values() or list(shown(given).values()) == ["C-0"]
    assert sent_with(journal, Event.TAKEN, found, keys) == set(keys)
    assert sent_with(journal, Event.TAKEN, given, other) == set()
    assert stock(journal) == {"used": 1}


def test_what_is_on_its_way_is_not_given_back(journal_settings: JournalSettings) -> None:
    journal, keys = filled(journal_settings, 1), keys_of(1)
    found = reservations(journal).reserve(keys, NOON)
    codes = codes_shown({key: [found[key].number] for key in keys})
    assert journal.claim_and_hold(SEND, "email", keys, codes) == (set(keys), set())
    assert reservations(journal).release(list(keys)) == 0
    assert journal.give_back_codes(SEND, "email", "run") == 0
    Pools(journal.database).reclaim(Pools(journal.database).pool("birthday"))
    assert stock(journal) == {"held": 1}


def test_a_message_that_was_sent_without_a_code_takes_none(journal_settings: JournalSettings) -> None:
    journal, keys = filled(journal_settings, 0), keys_of(1)
    journal.claim(SEND, "email", keys)
    journal.record(SEND, "email", [Settlement(key, Event.TAKEN, "250") for key in keys])
    assert reservations(journal).reserve(keys_of(1, 2), NOON) == dict.fromkeys(keys)


def test_the_next_run_takes_over_and_a_reservation_of_no_run_ends(journal_settings: JournalSettings) -> None:
    journal = filled(journal_settings, 3)
    reservations(journal, "killed").reserve(keys_of(1, 2, 3), NOON)
    reservations(journal, "next").reserve(keys_of(1), NOON)
    assert journal.give_back_codes(SEND, "email", "next") == 1
    assert stock(journal) == {"free": 1, "reserved": 2}
    later = open_journal(journal_settings, lambda: NOON + LEASE + timedelta(seconds=1), "later")
    pools = Pools(later.database)
    assert pools.reclaim(pools.pool("birthday")) == 2
    assert stock(journal) == {"free": 3}


def test_a_code_that_ends_before_it_can_be_read_is_given_to_nobody(journal_settings: JournalSettings) -> None:
    journal = journal_of(journal_settings)
    pools = Pools(journal.database)
    days = [date(2026, 11, 23), date(2026, 11, 25), None, date(2026, 11, 24)]
    pools.fill("birthday", codes_of(4).with_columns(pl.Series("expires_at", days)))
    pools.expire(pools.pool("birthday"))
    assert stock(journal) == {"free": 3, "expired": 1}
    found = reservations(journal).reserve(keys_of(1, 2, 3), NOON + timedelta(days=1))
    assert sorted(shown(found).values()) == ["C-1", "C-2"]
    again = reservations(journal).reserve(keys_of(1, 2, 3), NOON + timedelta(days=2))
    assert list(shown(again).values()) == ["C-2"], "one that nobody has sent is changed for one that holds"


def test_the_first_to_expire_go_first(journal_settings: JournalSettings) -> None:
    journal = journal_of(journal_settings)
    ends = pl.Series("expires_at", [None, NOON + timedelta(days=9), NOON + timedelta(days=1)])
    Pools(journal.database).fill("birthday", codes_of(3).with_columns(ends))
    first = reservations(journal).reserve(keys_of(1), NOON)
    assert list(shown(first).values()) == ["C-2"]


def test_a_code_that_comes_twice_is_one_code(journal_settings: JournalSettings) -> None:
    journal = filled(journal_settings, 3)
    keys = keys_of(1)
    sent_with(journal, Event.TAKEN, reservations(journal).reserve(keys, NOON), keys)
    again = Pools(journal.database).fill("birthday", pl.concat([codes_of(4), codes_of(1, 3)]))
    assert (again.added, again.known) == (1, 4)
    assert stock(journal) == {"free": 3, "used": 1}, "what was used stays used"


def test_rows_that_are_no_codes_are_refused_by_name(journal_settings: JournalSettings) -> None:
    pools = Pools(journal_of(journal_settings).database)
    filled = pools.fill("birthday", pl.DataFrame({"code": ["A", None, " ", "B\n", "x" * 201, "C\x00D"]}))
    assert filled.added == 2
    assert filled.refused["row"].to_list() == [2, 3, 5, 6]
    with pytest.raises(ColumnsMissing):
        pools.fill("birthday", pl.DataFrame({"Code": ["A"]}))
    with pytest.raises(ColumnsUnexpected):
        pools.fill("birthday", pl.DataFrame({"code": ["A"], "value": [1]}))
    with pytest.raises(ColumnTypesDiffer):
        pools.fill("other", pl.DataFrame({"code": ["A"], "value": [[1]]}))
    with pytest.raises(PoolUnknown, match="Did you mean 'birthday'"):
        pools.pool("birthdays")


def test_codes_are_sealed_at_rest_and_carry_their_columns(journal_settings: JournalSettings) -> None:
    journal = journal_of(journal_settings)
    table = pl.DataFrame(
        {
            "code": ["SECRET-1"],
            "value": [5.5],
            "count": [3],
            "terms": ["once é"],
            "until": [date(2026, 12, 24)],
            "vip": [True],
        }
    )
    Pools(journal.database).fill("birthday", table)
    with journal.engine.connect() as database:
        rows = [str(tuple(row)) for row in database.execute(sa.select(CODES))]
    assert not any("SECRET" in row or "once" in row for row in rows)
    (found,) = reservations(journal).reserve(keys_of(1), NOON).values()
    assert found is not None
    assert found.values["code"] == "SECRET-1"
    assert found.values["terms"] == "once é"


def test_runs_at_the_same_moment_never_give_one_code_twice(journal_settings: JournalSettings) -> None:
    """Two sends, two runs of each, a refill meanwhile: every message one code, every code one message."""
    filled(journal_settings, 700)
    sends = [SEND, SEND.model_copy(update={"business_date": date(2026, 11, 25)})]
    start = threading.Barrier(5)

    def work(place: int) -> dict[str, str]:
        journal, send = journal_of(journal_settings, f"{place}"), sends[place % 2]
        own = reservations(journal, f"{place}", send)
        start.wait()
        found: dict[str, str] = {}
        for begin in range(0, 400, 50):
            wanted = {send.message_key("email", str(one)): str(one) for one in range(begin, begin + 50)}
            found |= shown(own.reserve(wanted, NOON))
        return found

    def refill() -> None:
        pools = Pools(journal_of(journal_settings, "refill").database)
        start.wait()
        for begin in range(700, 1000, 50):
            pools.fill("birthday", codes_of(60, begin - 10))

    with ThreadPoolExecutor(5) as pool:
        runs = [pool.submit(work, place) for place in range(4)]
        refilling = pool.submit(refill)
        found = [run.result() for run in runs]
        refilling.result()
    journal = journal_of(journal_settings, "last")
    for place, send in enumerate(sends):
        wanted = {send.message_key("email", str(one)): str(one) for one in range(400)}
        found.append(shown(reservations(journal, f"{place}", send).reserve(wanted, NOON)))
    of_message: dict[str, set[str]] = {}
    for one in found:
        for key, code in one.items():
            of_message.setdefault(key, set()).add(code)
    assert len(of_message) == 800
    assert all(len(codes) == 1 for codes in of_message.values()), "one message, one code"
    assert len(set().union(*of_message.values())) == 800, "one code, one message"
    assert stock(journal) == {"free": 200, "reserved": 800}


def test_the_till_is_told_whom_each_code_went_to_or_only_the_codes(journal_settings: JournalSettings) -> None:
    journal = filled(journal_settings, 4)
    pools = Pools(journal.database)
    pool = pools.pool("birthday")
    for profile, event in ((1, Event.TAKEN), (2, Event.REFUSED), (3, Event.LOST)):
        keys = keys_of(profile)
        sent_with(journal, event, reservations(journal).reserve(keys, NOON), keys)
    told = pl.concat(pools.given(pool, people=True)).sort("profile_id")
    assert told.select("profile_id", "state", "campaign", "channel").rows() == [
        ("1", "used", "birthday", "email"),
        ("3", "held", "birthday", "email"),
    ]
    assert told["changed_at"].to_list() == [NOON, NOON]
    alone = pl.concat(pools.given(pool, people=False))
    assert alone.columns == ["code", "state"]
    assert set(alone["code"]) == set(told["code"])
    assert pl.concat(pools.given(pool, people=True, since=NOON)).is_empty()


def test_states_are_those_of_the_journal(journal_settings: JournalSettings) -> None:
    assert stock(filled(journal_settings, 2)) == {str(CodeState.FREE): 2}


@pytest.mark.slow
def test_two_processes_that_send_at_once_give_each_person_one_code(journal_settings: JournalSettings) -> None:
    journal = filled(journal_settings, 500)
    url = journal_settings.url.get_secret_value()
    command = [sys.executable, "-m", "tests.tasks.pools.pool_sender", url]
    started = [
        subprocess.Popen(
            [*command, run], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )
        for run in ("here", "there")
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [line for process in started for line in process.communicate()[0].splitlines()]
    assert all(process.returncode == 0 for process in started)
    got = [tuple(line.split()) for line in lines]
    sent = [one for one in range(400) if one % 5 and one % 7]
    assert sorted(int(person) for person, _ in got) == sent
    assert len({code for _, code in got}) == len(sent), "no code went to two people"
    kept = stock(journal)
    assert kept.get("used") == len(sent)
    assert sum(kept.values()) == 500
    assert "held" not in kept


def test_what_is_forgotten_or_erased_leaves_its_codes_used_and_nobodys(journal_settings: JournalSettings) -> None:
    journal = filled(journal_settings, 4)
    for profile, event in ((1, Event.TAKEN), (2, Event.LOST), (3, Event.POSTPONED)):
        keys = keys_of(profile)
        sent_with(journal, event, reservations(journal).reserve(keys, NOON), keys)
    upkeep = Upkeep(journal)
    assert upkeep.erase("1", "", dry_run=True)["codes"] == 1
    upkeep.erase("1", "", dry_run=False)
    pools = Pools(journal.database)
    told = pl.concat(pools.given(pools.pool("birthday"), people=True))
    assert sorted(told.select(pl.col("profile_id").fill_null("")).to_series()) == ["", "2"]
    upkeep.forget(date(2026, 12, 1), NOON, dry_run=False)
    assert stock(journal) == {"free": 2, "used": 2}


def test_who_decides_about_unknown_messages_decides_about_their_codes(
    journal_settings: JournalSettings,
) -> None:
    journal = filled(journal_settings, 1)
    keys = keys_of(1)
    found = reservations(journal).reserve(keys, NOON)
    sent_with(journal, Event.LOST, found, keys)
    upkeep = Upkeep(journal)
    upkeep.settle(SEND, "email", "send again", by="me", why="perhaps")
    assert stock(journal) == {"held": 1}, "the first try may have arrived"
    sent_with(journal, Event.REFUSED, found, keys)
    for decision in ("send again", "mark as sent", "mark as not sent"):  # about others of the send
        upkeep.settle(SEND, "email", decision, by="me", why="they say so")
    assert stock(journal) == {"in doubt": 1}, "and a second one that is refused changes nothing of that"
    journal.claim(SEND, "email", keys, Resend(refused=True))
    journal.record(SEND, "email", [Settlement(key, Event.LOST, "lost") for key in keys])
    upkeep.settle(SEND, "email", "mark as not sent", by="me", why="they say so")
    assert stock(journal) == {"free": 1}
