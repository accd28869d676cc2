"""What a window of messages costs on SQLite: the same, however much lies in the journal; and in proportion to it.

Counted in steps of SQLite's machine, so that no clock decides. A join in the wrong order reads a pool or a send
for each message: at four times the rows it takes four times the steps, at four times the messages sixteen times.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from tasks.delivery.journal.codes import has_codes, use
from tasks.delivery.journal.states import Event
from tasks.delivery.journal.storage import Journal, Settlement, open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.pools.reservation import Reservations
from tasks.pools.stock import Pools
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.journal import shown, suppressed

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
STEPS = 10
"""Of SQLite's machine, that are counted as one."""
FEW = 30
"""Counts below which a statement's growth is not looked at: a tree that is one page deeper."""
EVENTS = [Event.TAKEN, Event.REFUSED, Event.POSTPONED, Event.LOST]


def keys_of(letter: str, count: int) -> dict[str, str]:
    return {SEND.message_key("email", f"{letter}{number}"): f"{letter}{number}" for number in range(count)}


def settlements(keys: dict[str, str]) -> list[Settlement]:
    return [Settlement(key, EVENTS[number % len(EVENTS)], "said") for number, key in enumerate(keys)]


def sightings(letter: str, count: int) -> Iterator[Sighting]:
    for number in range(count):
        yield Sighting(Kind.QUARANTINE, "email", "550 5.1.1", "smtp", address=f"{letter}{number}@x.example")
        yield Sighting(Kind.OPT_OUT, "", "one click", "one-click", profile_id=f"{letter}{number}")


def aged(settings: JournalSettings, lying: int) -> None:
    """A journal in which a pool, a part of the send and suppressions lie already."""
    journal = open_journal(settings, lambda: NOON, "earlier")
    pools = Pools(journal.database)
    codes = pl.DataFrame({"code": [f"C-{number}" for number in range(2 * lying + 2_000)]})
    pools.fill("gift", codes)
    keys = keys_of("old", lying)
    found = Reservations(pools, pools.pool("gift"), SEND, "email", "earlier").reserve(keys, NOON)
    numbers = {key: [one.number] for key, one in found.items() if one}
    journal.claim_and_hold(SEND, "email", keys, shown(numbers))
    journal.record(SEND, "email", settlements(keys))
    journal.suppressions.add(sightings("old", lying))
    journal.close()


@contextmanager
def counted(engine: sa.Engine, steps: Counter[tuple[str, str]]) -> Iterator[Callable[[str], None]]:
    """Counts the steps of every statement, by the name of what is being done."""
    doing = [""]

    def before(connection: sa.Connection, _: object, statement: str, *__: object) -> None:
        raw: Any = connection.connection.dbapi_connection

        def step() -> None:
            steps[doing[0], statement] += 1

        steps[doing[0], statement] += 0
        raw.set_progress_handler(step, STEPS)

    sa.event.listen(engine, "before_cursor_execute", before)
    yield lambda name: doing.__setitem__(0, name)
    sa.event.remove(engine, "before_cursor_execute", before)


def a_window(journal: Journal, window: int, begin: Callable[[str], None]) -> None:
    """All that is done with the messages of a window, at each of their stations."""
    pools = Pools(journal.database)
    keys, old = keys_of("new", window), keys_of("old", window)
    first, second = (Reservations(pools, pools.pool("gift"), SEND, "email", run) for run in ("first", "second"))
    begin("expire a pool")
    pools.expire(pools.pool("gift"))
    begin("reserve")
    assert len(first.reserve(keys, NOON)) == window
    begin("reserve again")
    second.reserve(keys, NOON)
    begin("release")
    assert second.release(list(keys)) == window
    begin("reserve what was sent")
    first.reserve(old, NOON)
    found = first.reserve(keys, NOON)
    begin("claim")
    journal.claim(SEND, "email", keys)
    begin("claim what was sent")
    assert len(journal.claim(SEND, "email", {**keys, **old})) < 2 * window
    begin("claim and hold")
    numbers = {key: [one.number] for key, one in found.items() if one}
    assert journal.claim_and_hold(SEND, "email", keys, shown(numbers)) == (set(keys), set())
    begin("hold what is lost")
    assert len(journal.hold(SEND, "email", shown({key: [*each, 0] for key, each in numbers.items()}))) == window
    begin("record")
    journal.record(SEND, "email", settlements(keys))
    begin("known")
    assert len(journal.known(SEND, "email", keys)) == window
    begin("expire claims")
    journal.expire(SEND, "email")
    begin("use")
    number = journal.sends.begin(SEND, "email")
    use(journal.database, number, keys)
    begin("ask")
    assert has_codes(journal.database, number)
    assert journal.has_any(SEND, "email")
    journal.newest_message()
    begin("find a message")
    assert journal.outcomes.message_of(next(iter(keys))) is not None
    begin("fill")
    pools.fill("gift", pl.DataFrame({"code": [f"D-{number}" for number in range(window)]}))
    begin("look up suppressions")
    people = {key: (profile, f"{profile}@x.example") for key, profile in {**keys, **old}.items()}
    assert set(suppressed(journal, people, "email")) == set(old)
    begin("suppress")
    journal.suppressions.add(sightings("new", window))
    begin("release a suppression")
    journal.suppressions.release(by="me", why="asked", address="old1@x.example")
    journal.suppressions.release(by="me", why="asked", profile_id="old1")


def steps_of(folder: Path, lying: int, window: int) -> dict[tuple[str, str], int]:
    settings = JournalSettings(url=SecretStr(f"sqlite:///{folder}/{lying}-{window}.db"))
    aged(settings, lying)
    journal, steps = open_journal(settings, lambda: NOON, "me"), Counter[tuple[str, str]]()
    with counted(journal.engine, steps) as begin:
        a_window(journal, window, begin)
    journal.close()
    return dict(steps)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], int]:
    return steps_of(tmp_path_factory.mktemp("small"), 200, 100)


def too_many(
    small: dict[tuple[str, str], int], large: dict[tuple[str, str], int], times: float
) -> dict[tuple[str, str], tuple[int, int]]:
    both = {name: (small[name], large[name]) for name in small}
    return {name: (one, other) for name, (one, other) in both.items() if other > times * max(one, FEW)}


def test_a_window_costs_the_same_however_much_lies_in_the_journal(
    small: dict[tuple[str, str], int], tmp_path: Path
) -> None:
    large = steps_of(tmp_path, 800, 100)
    assert too_many(small, large, 1.5) == {}


def test_a_window_costs_in_proportion_to_its_messages(small: dict[tuple[str, str], int], tmp_path: Path) -> None:
    large = steps_of(tmp_path, 800, 400)
    assert too_many(small, large, 5) == {}
    assert large.keys() == small.keys()
