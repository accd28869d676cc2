"""Pool, journal and senders against a model: no code twice, none lost, and the stock adds up, whatever happens."""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tasks.delivery.journal.codes import CodeState
from tasks.delivery.journal.database import open_database
from tasks.delivery.journal.states import Event, Resend, State
from tasks.delivery.journal.storage import Journal, Settlement, open_journal
from tasks.delivery.journal.tables import CODES, MESSAGES
from tasks.delivery.journal.upkeep import Upkeep
from tasks.pools.reservation import Given, Reservations
from tasks.pools.stock import Pools
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.journal import shown
from tests.postgresql import SERVER, new_database

BEGIN = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAYS = [date(2026, 11, 24), date(2026, 11, 25)]
SENDS = [Send(campaign="birthday", label="Birthday", business_date=day) for day in DAYS]
PEOPLE = st.sets(st.integers(0, 2), min_size=1, max_size=2)
ENDS = st.sampled_from([None, 1, 3])
BEYOND = st.sampled_from([0, 2])
"""Days after it was sent, for which a code must hold."""
RUNS = st.sampled_from(["a", "b"])
ANSWERS = st.sampled_from([Event.TAKEN, Event.REFUSED, Event.POSTPONED, Event.LOST])
SAID = st.lists(ANSWERS, min_size=3, max_size=3)
KILLED = st.integers(1, 9)
"""Before which step the process is killed; from 5 on it is not."""


class Moving:
    """A clock that the machine moves."""

    def __init__(self) -> None:
        self.time = BEGIN

    def __call__(self) -> datetime:
        return self.time


class Runs(RuleBasedStateMachine):
    """Runs that reserve, render, claim, hold, send, are answered, killed and started again, in any order.

    What people got is the model: who was sent which code by a server that took the message, or may have.
    """

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Moving()
        self.made = 0
        self.codes: set[str] = set()
        self.rendered: dict[str, dict[str, tuple[int, int, str]]] = {"a": {}, "b": {}}
        """What each run's messages show: by key the send's place, the code's number and the code."""
        self.left: dict[str, set[tuple[str, str]]] = {}
        """By code, whom it left to: key and whether taken, or perhaps."""
        self.took: dict[str, str] = {}
        self.journals: dict[str, Journal] = {}
        self.settings = JournalSettings(url=self.url, lease_seconds=30, patience_seconds=20)
        self._empty()
        for run in self.rendered:
            self._started(run)

    def _empty(self) -> None:
        journal = open_journal(self.settings, self.clock, "empty")
        with journal.engine.begin() as database:
            for table in ("codes", "pools", "messages", "sends", "senders", "departures"):
                database.execute(sa.text(f"DELETE FROM {table}"))
        Pools(journal.database).fill("birthday", pl.DataFrame(schema={"code": pl.String()}))
        journal.close()

    def _started(self, run: str) -> None:
        """A process begins the run, or begins it again after a kill: it is another sender."""
        if run in self.journals:
            self.journals[run].close()
        self.rendered[run] = {}
        self.journals[run] = open_journal(self.settings, self.clock, f"{run}-{secrets.token_hex(4)}")
        self.journals[run].enter()

    def _reservations(self, run: str, place: int) -> Reservations:
        pools = Pools(self.journals[run].database)
        return Reservations(pools, pools.pool("birthday"), SENDS[place], "email", run)

    def teardown(self) -> None:
        for journal in self.journals.values():
            journal.close()

    @rule(count=st.integers(1, 4), again=st.booleans(), days=ENDS)
    def refill(self, count: int, again: bool, days: int | None) -> None:
        """Codes come, some perhaps for the second time."""
        first = max(self.made - 1, 0) if again else self.made
        codes = [f"C-{number}" for number in range(first, first + count)]
        ends = None if days is None else self.clock.time + timedelta(days=days)
        table = pl.DataFrame(
            {"code": codes, "expires_at": pl.Series([ends] * count, dtype=pl.Datetime("us", "UTC"))}
        )
        filled = Pools(self.journals["a"].database).fill("birthday", table)
        assert filled.added == len(set(codes) - self.codes)
        self.codes |= set(codes)
        self.made = max(self.made, first + count)

    @rule(run=RUNS, place=st.integers(0, 1), people=PEOPLE, beyond=BEYOND)
    def render(self, run: str, place: int, people: set[int], beyond: int = 0) -> None:
        """A run reserves for its audience, which may be another one at each try, and renders."""
        until = self.clock.time + timedelta(days=beyond)
        wanted, found = self._rendered(run, place, people, until)
        if len(found) < len(wanted):
            assert not self._free(until), "a message went without while there were codes"

    @rule(count=st.integers(1, 4), days=ENDS, place=st.integers(0, 1), beyond=BEYOND)
    def run_dry_while_it_is_refilled(self, count: int, days: int | None, place: int, beyond: int) -> None:
        """Two runs want more than there is, at the moment at which codes come and others expire."""
        until = self.clock.time + timedelta(days=beyond)
        pools = Pools(open_database(self.settings, self.clock))
        with ThreadPoolExecutor() as at_once:
            at_once.submit(pools.expire, pools.pool("birthday"))
            runs = [at_once.submit(self._rendered, run, place, {0, 1, 2, 3}, until) for run in self.rendered]
            self.refill(count, again=False, days=days)
            wanted, _ = runs[0].result()
            runs[1].result()
        pools.database.engine.dispose()
        _, found = self._rendered("a", place, {0, 1, 2, 3}, until)
        assert len(found) == len(wanted) or not self._free(until), "what came meanwhile is given out"

    def _rendered(
        self, run: str, place: int, people: set[int], until: datetime
    ) -> tuple[dict[str, str], dict[str, Given | None]]:
        send = SENDS[place]
        wanted = {send.message_key("email", str(one)): str(one) for one in people}
        before = self._states(place)
        found = self._reservations(run, place).reserve(wanted, until)
        for key, one in found.items():
            if one is not None:
                self.rendered[run][key] = (place, one.number, one.values["code"])
            else:
                assert before[key] is State.SENT
        return wanted, found

    @rule(run=RUNS, people=PEOPLE, place=st.integers(0, 1))
    def hide(self, run: str, people: set[int], place: int) -> None:
        """The template's branch does not show the code: it is given back, and the message shows none."""
        send = SENDS[place]
        keys = [key for one in people if (key := send.message_key("email", str(one))) in self.rendered[run]]
        self._reservations(run, place).release(keys)
        for key in keys:
            del self.rendered[run][key]

    @rule(run=RUNS, people=PEOPLE, place=st.integers(0, 1), answers=SAID, killed=KILLED, resend=st.booleans())
    def send_some(
        self, run: str, people: set[int], place: int, answers: list[Event], killed: int, resend: bool
    ) -> None:
        """A window: claim with its codes, let leave, write down; a kill may come between any two of these."""
        journal, send = self.journals[run], SENDS[place]
        keys = [key for one in sorted(people) if (key := send.message_key("email", str(one))) in self.rendered[run]]
        profiles = dict.fromkeys(keys, "p")
        codes = shown({key: [self.rendered[run][key][1]] for key in keys})
        mine, lost = journal.claim_and_hold(send, "email", profiles, codes, Resend(unknown=resend, refused=resend))
        if killed == 1:
            return self._started(run)
        outcomes = [Settlement(key, Event.POSTPONED, "lost") for key in sorted(lost)]
        for key, event in zip(sorted(mine - lost), answers, strict=False):
            code = self.rendered[run][key][2]
            self._leaves(journal, place, key)
            if event in {Event.TAKEN, Event.LOST} or killed == 2:
                self.left.setdefault(code, set()).add((key, str(event)))
                assert len({each for each, _ in self.left[code]}) == 1, f"{code} went to two messages"
                assert self.took.setdefault(key, code) == code, f"{key} got two codes"
            if killed == 2:
                return self._started(run)
            outcome = Settlement(key, event, "said")
            asyncio.run(self._answered(journal, outcome))
            outcomes.append(outcome)
        if killed == 3:
            return self._started(run)
        journal.record(send, "email", outcomes)
        if killed == 4:
            return self._started(run)
        return None

    @rule(run=RUNS, people=PEOPLE, place=st.integers(0, 1), answers=SAID, killed=KILLED, resend=st.booleans())
    def go_through(
        self, run: str, people: set[int], place: int, answers: list[Event], killed: int, resend: bool
    ) -> None:
        """A run as it mostly is: it reserves and sends."""
        self.render(run, place, people)
        self.send_some(run, people, place, answers, killed, resend)

    @rule(run=RUNS, answers=SAID, again=SAID)
    def try_all_again(self, run: str, answers: list[Event], again: list[Event]) -> None:
        """Two tries of everybody, settled or not."""
        for said in (answers, again):
            self.go_through(run, {0, 1, 2}, 0, said, 9, resend=True)

    @staticmethod
    async def _answered(journal: Journal, outcome: Settlement) -> None:
        journal.arrive(outcome)  # in a loop, as carriers do

    @staticmethod
    def _leaves(journal: Journal, place: int, key: str) -> None:
        asyncio.run(journal.departing(SENDS[place], "email")(key))

    @rule(run=RUNS)
    def end_well(self, run: str) -> None:
        """A run ends: what it reserved and nobody will send is given back."""
        for send in SENDS:
            self.journals[run].give_back_codes(send, "email", run)
        self.rendered[run] = {}

    @rule(run=RUNS, place=st.integers(0, 1))
    def look_after_the_dead(self, run: str, place: int) -> None:
        """What is certain of senders that are gone is settled; the rest is unknown after the lease."""
        self.journals[run].renew()
        self.journals[run].expire(SENDS[place], "email")

    @rule(place=st.integers(0, 1), decision=st.sampled_from(["send again", "mark as sent", "mark as not sent"]))
    def decide(self, place: int, decision: str) -> None:
        """People decide about unknown messages. Whoever says that it did not arrive must be right."""
        if decision == "mark as not sent" and any(
            state is State.UNKNOWN and key in self.took for key, state in self._states(place).items()
        ):
            return
        Upkeep(self.journals["a"]).settle(SENDS[place], "email", decision, by="me", why="it is so")

    @rule(hours=st.sampled_from([1, 25, 80]))
    def time_passes(self, hours: int) -> None:
        self.clock.time += timedelta(hours=hours)
        pools = Pools(self.journals["a"].database)
        pools.expire(pools.pool("birthday"))
        pools.reclaim(pools.pool("birthday"))

    @rule()
    def count(self) -> None:
        """The stock is told: used are the codes of messages that were taken, and no others."""
        pools = Pools(self.journals["a"].database)
        stock = pools.stock(pools.pool("birthday"))
        assert sum(stock.values()) == len(self.codes)
        with self.journals["a"].engine.connect() as database:
            of_message = sa.and_(MESSAGES.c.send == CODES.c.send, MESSAGES.c.key == CODES.c.key)
            states = database.execute(sa.select(CODES.c.state, MESSAGES.c.state).join(MESSAGES, of_message)).all()
        assert all((code == "used") == (message == "sent") for code, message in states)
        assert stock[CodeState.USED] == sum(code == "used" for code, _ in states)

    @precondition(lambda self: self.journals)
    @invariant()
    def every_code_is_somewhere_and_only_there(self) -> None:
        """The stock adds up; what people may have is nobody else's; no reservation is without a message's key."""
        with self.journals["a"].engine.connect() as database:
            rows = database.execute(sa.select(CODES.c.state, CODES.c.key, CODES.c.send)).all()
            used = dict(
                database.execute(
                    sa.select(CODES.c.key, MESSAGES.c.state)
                    .join(MESSAGES, sa.and_(MESSAGES.c.send == CODES.c.send, MESSAGES.c.key == CODES.c.key))
                    .where(CODES.c.state == "used")
                ).all()
            )
        assert len(rows) == len(self.codes), "no code is lost"
        assert all((row.key is None) == (row.state in {"free", "expired"}) for row in rows)
        bound = [(row.send, row.key) for row in rows if row.key]
        assert len(bound) == len(set(bound)), "one message, one code"
        assert set(used.values()) <= {"sent"}, "only what was taken uses a code up"
        keyed = {row.key for row in rows if row.state in {"held", "in doubt", "used"}}
        assert set(self.took) <= keyed, "a code that somebody may have is given to nobody else"

    def _states(self, place: int) -> dict[str, State]:
        keys = [SENDS[place].message_key("email", str(one)) for one in range(8)]
        return {key: one.state for key, one in self.journals["a"].known(SENDS[place], "email", keys).items()}

    def _free(self, until: datetime) -> int:
        pools = Pools(self.journals["a"].database)
        return pools.free(pools.pool("birthday"), until)


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest) -> Iterator[type[Runs]]:
    """The machine over each database, one that is emptied for each example."""
    with ExitStack() as stack:
        # Nothing here is about a disk that is slow to say that it has written.
        in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory(dir=in_memory))}/journal.db"
        if request.param == "postgresql":
            try:
                url = stack.enter_context(new_database("pools"))
            except sa.exc.OperationalError:
                pytest.skip(f"No PostgreSQL answers at {SERVER}")
        yield type("RunsHere", (Runs,), {"url": url})


def test_no_code_goes_twice_and_none_is_lost(machine: type[Runs]) -> None:
    examples = 400 if os.environ.get("HYPOTHESIS_PROFILE") == "search" else 8
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=20))
