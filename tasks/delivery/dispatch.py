"""The way of every delivery: claim, carry, write down; window by window, with the journal on no message's path.

A window is as many messages as leave in half a second or so. It is claimed whole before its first message
leaves and written down whole when its last answer is there, while the next windows are on their way. A sender
that dies leaves at most the open windows unknown.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import wait
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Protocol, Self, TypeVar

import anyio
import anyio.from_thread
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.delivery.blame import MAILBOX_DAYS, MAILBOX_REFUSALS, Blame, Refusals
from tasks.delivery.journal.codes import GIVEN_BACK, real_codes, shown_codes, wrong_samples
from tasks.delivery.journal.deadlines import SILENCE_SECONDS
from tasks.delivery.journal.paces import Paces
from tasks.delivery.journal.states import Event, Resend, State, state_after, states_before
from tasks.delivery.journal.storage import Journal, Known, Settlement
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.delivery.seats import Seats
from tasks.delivery.windows import OVERLAPPING, Lane, WindowSize
from tasks.errors import CampaignError
from tasks.runs.log import run_logger
from tasks.runs.stopping import STOPPING_SECONDS, end_if_stopped
from tasks.send import CODES_SHOWN, Send

T = TypeVar("T")

LOOKED_UP_AT_ONCE = 10_000
SHOW_SECONDS = 0.25
FINISHING_SECONDS = STOPPING_SECONDS - 1
"""How long a run that is stopped waits for the answers to what is on its way."""
WATCH_SECONDS = 0.5
"""How often the claims of other senders are looked at."""

FATES = {
    "state": pl.String(),
    "ours": pl.Boolean(),
    "answer": pl.String(),
    "again": pl.Boolean(),
}


Told = dict[str, tuple[State, bool, str, bool]]
"""By message key: the columns of a fate."""


# Settings of a connection that messages are carried over.
Connections = Annotated[
    int,
    Field(
        ge=1,
        le=100,
        title="Connections",
        description="How many at one time, by all runs with the same journal: those that run share them.",
    ),
]
Backoff = Annotated[
    float,
    Field(
        ge=0,
        title="Backoff",
        description="Wait before what could not be reached is tried again; doubled for each next, with jitter.",
    ),
]
LongestBackoff = Annotated[
    float, Field(ge=0, title="Longest backoff", description="Where the doubling stops, in seconds.")
]
Patience = Annotated[
    float,
    Field(
        ge=0,
        title="Patience",
        description="How long a receiver that takes nothing at all is tried before the run gives up, in seconds.",
    ),
]


Rate = Annotated[
    float | None,
    Field(
        gt=0,
        title="Rate limit",
        description="Messages a second over this account, by all runs with the same journal; empty: none.",
    ),
]


# Of one send, as the operator's options and a campaign's form have them.
Waves = Annotated[
    int,
    Field(
        ge=1,
        le=1000,
        title="Waves",
        description="In how many waves the messages are sent, each by a run of its own; 1: all at once.",
    ),
]
Wave = Annotated[
    int,
    Field(
        ge=1,
        title="Wave",
        description=(
            "Up to which wave this run sends. It also sends what is left of the waves before it, so that the last"
            " wave leaves nobody out."
        ),
    ),
]


class DispatchOptions(BaseModel):
    """What a channel does with messages that were not taken, or may have been."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resend_unknown: bool = Field(
        default=False,
        title="Send unknown again",
        description=(
            "Send messages again that the server may or may not have taken. Some people may then get"
            " one twice; left off, some may get none, and are listed."
        ),
    )
    resend_refused: bool = Field(
        default=False,
        title="Send refused again",
        description=(
            "Try messages again that the server refused for good in an earlier run of this send. Who is in"
            " quarantine stays out."
        ),
    )
    rounds: int = Field(
        default=4,
        ge=1,
        le=20,
        title="Rounds",
        description="How often a message that the server puts off (greylisting, a full mailbox) is tried.",
    )
    round_seconds: float = Field(
        default=120,
        ge=0,
        title="Wait between rounds",
        description="Seconds before the second round; doubled for each next.",
    )
    waves: Waves = 1
    wave: Wave = 1

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.wave > self.waves:
            raise ValueError(f"wave {self.wave} is none of {self.waves}")
        return self

    @property
    def resend(self) -> Resend:
        """Which settled messages are sent again."""
        return Resend(unknown=self.resend_unknown, refused=self.resend_refused)


class Carrier(Protocol):
    """What carries messages over a channel."""

    failure: CampaignError | None
    """Why no more is carried, once that is so."""

    departs: Callable[[str], Awaitable[None]]
    """Called with a message's key before its first byte leaves; what it raises keeps the message back:
    `CampaignError`, which ends the run, or `ClaimLost`, which is of this message alone."""

    arrives: Callable[[Settlement], None]
    """Called when a message that had begun to leave was answered."""

    account: str
    """Over which messages leave: those with the same share one rate and its connections."""

    seats: Seats
    """How many connections there are at one time."""

    def keep_pace(self, paces: Paces) -> None:
        """Keep to its rates together with all senders of a journal."""
        ...

    def lanes(self, messages: pl.DataFrame) -> list[pl.DataFrame]:
        """Messages, divided so that those of one lane need not wait for those of another."""
        ...

    async def carry(self, rows: Sequence[Any]) -> list[Settlement]:
        """Carry messages, each a named tuple that begins with `key`; one outcome for each, in any order."""
        ...

    def stop(self, reason: str) -> None:
        """Begin no other message."""
        ...

    def blame(self, reason: str, people: int) -> None:
        """Begin no other message: too many people were refused for a reason that the sender has to correct."""
        ...


@dataclass
class Tally:
    """Messages by what became of them, while they are sent; read by whoever shows the progress."""

    total: int
    states: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))

    @property
    def done(self) -> int:
        """Messages that need no more work in this round."""
        return sum(self.states.values())


@dataclass(frozen=True)
class Dispatch:
    """One delivery: which send, over which channel, by which journal and carrier."""

    send: Send
    channel: str
    journal: Journal
    carrier: Carrier
    options: DispatchOptions
    letters: Callable[[pl.DataFrame], Sequence[Any]]
    """What the carrier carries: named tuples that begin with `key`, of messages with message_key and name."""
    tally: Tally
    smallest_window: int = 8
    refusals: Refusals = field(default_factory=Refusals)
    fates: list[pl.DataFrame] = field(default_factory=list)
    """What became of messages up to now, also where `run` ends by an error; a later fate of one takes the place of
    an earlier one."""
    claimed: Callable[[], None] = lambda: None
    """Called when a window has been claimed, before its messages leave; what it raises keeps them back."""

    @property
    def medium(self) -> str:
        """The channel without the proof's name: who is suppressed there is suppressed in every proof."""
        return self.channel.partition("-proof-")[0]

    async def run(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Send each message that was not sent before.

        In: profile_id, email and what `letters` needs, a profile once; perhaps variant. Out: profile_id, email, and
        `message_key`, `state` (of the journal), `ours` (whether this run brought it there), `answer`, `again`; in
        any order.
        Errors: `JournalUnavailable`; the carrier's failure is left in the carrier.
        """
        self.carrier.departs = self.journal.departing(self.send, self.channel)
        self.carrier.arrives = self.journal.arrive
        self.carrier.keep_pace(self.journal.paces)
        await asyncio.to_thread(self.journal.enter)
        self.carrier.seats.begin(self.journal.seats.share, self.journal.settings.lease_seconds)
        async with self._alive():
            await asyncio.to_thread(self.journal.expire, self.send, self.channel)
            fates = await self._reconsidered(await self._rounds(messages))
            self._nothing_is_no_success(fates)
            return await self._watched(fates)

    @asynccontextmanager
    async def _alive(self) -> AsyncIterator[None]:
        """Keep this sender's lease while it works; give it up at the end."""
        beating = asyncio.create_task(self._beat())
        done = False
        try:
            yield
            done = True
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError, CampaignError):
                await beating
            with suppress(CampaignError):
                await asyncio.to_thread(self.journal.leave, done=done)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.journal.settings.lease_seconds / 3)
            with suppress(CampaignError):  # a journal that is away for good fails the next window
                await asyncio.to_thread(self.journal.renew)

    async def _rounds(self, messages: pl.DataFrame) -> pl.DataFrame:
        keyed = messages.with_columns(self.send.message_keys(self.channel, messages))
        settled, waiting = await self._settled_before(self.journal.names.named(keyed))
        done = [settled]
        for number in range(self.options.rounds):
            if number:
                pause = self.options.round_seconds * 2.0 ** (number - 1)
                if pause >= SILENCE_SECONDS:
                    run_logger().info(
                        "%d messages were put off, and are tried again in %g seconds: round %d of %d. Cancel, or"
                        " Ctrl-C, ends this run; the next one of the day sends them.",
                        waiting.height,
                        pause,
                        number + 1,
                        self.options.rounds,
                    )
                await asyncio.sleep(pause)
                self.tally.states[State.DEFERRED] -= waiting.height
            fates = await self._round(waiting)
            again = fates.filter("again")
            last = again.is_empty() or self.carrier.failure is not None or number + 1 == self.options.rounds
            done.append(fates if last else fates.filter(~pl.col("again")))
            if last:
                break
            waiting = waiting.join(again.select("message_key"), on="message_key", how="semi")
        return pl.concat(done)

    def _nothing_is_no_success(self, fates: pl.DataFrame) -> None:
        """A server that puts everybody off, in every round, is not at work."""
        put_off = fates.filter((pl.col("state") == State.DEFERRED) & pl.col("again"))
        if put_off.height and not self.tally.states[State.SENT] and self.carrier.failure is None:
            answer = put_off["answer"].value_counts(sort=True)["answer"][0]
            self.carrier.stop(f"it put off all {put_off.height} messages, in every round: {answer}")

    def up_to_now(self, messages: pl.DataFrame) -> pl.DataFrame:
        """The fates of messages, after a `run` of them that ended by an error. What was claimed may have left."""
        keyed = messages.with_columns(self.send.message_keys(self.channel, messages))
        known = pl.concat([_fates(keyed.clear(), {}), *self.fates]).unique("message_key", keep="last")
        rest = keyed.join(known, on="message_key", how="anti")
        fate = (State.DEFERRED, True, "the run ended before its turn came", False)
        return pl.concat([known, _fates(rest, dict.fromkeys(rest["message_key"], fate))])

    async def _settled_before(self, messages: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The fates of messages that need no more work by this run, and the messages that do."""
        settled = [_fates(messages.clear(), {})]
        if not await asyncio.to_thread(self.journal.has_any, self.send, self.channel):
            return settled[0], messages
        waiting = [messages.clear()]
        claimable = states_before(Event.CLAIM, self.options.resend)
        for some in messages.iter_slices(LOOKED_UP_AT_ONCE):
            known = await asyncio.to_thread(
                self.journal.known, self.send, self.channel, some["message_key"].to_list()
            )
            fixed = {key: one for key, one in known.items() if one.state not in claimable}
            is_fixed = pl.col("message_key").is_in(list(fixed))
            settled.append(self._counted(some.filter(is_fixed), _known_before(fixed)))
            waiting.append(some.filter(~is_fixed))
        return pl.concat(settled), pl.concat(waiting)

    async def _round(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Every message once, in overlapping windows of each lane."""
        fates: list[pl.DataFrame] = [_fates(messages.clear(), {})]
        lanes = [Lane(rows, WindowSize(self.smallest_window)) for rows in self.carrier.lanes(messages)]
        windows: dict[asyncio.Task[pl.DataFrame], Lane] = {}
        try:
            while windows or any(lane.has_more for lane in lanes):
                if self.carrier.failure is not None:
                    fates += [self._not_begun(lane.rest()) for lane in lanes]
                for lane in lanes:
                    while lane.has_more and lane.on_way < OVERLAPPING:
                        window = lane.next_window()
                        windows[asyncio.create_task(self._window(window, lane.sizes))] = lane
                if windows:
                    finished, _ = await asyncio.wait(windows, return_when=asyncio.FIRST_COMPLETED)
                    for done in finished:
                        windows.pop(done).on_way -= 1
                        fates.append(done.result())
        except BaseException:
            self.carrier.stop("the run was stopped")
            # What is on its way is finished and written down, so that little is left unknown.
            with anyio.move_on_after(FINISHING_SECONDS, shield=True):
                await asyncio.gather(*windows, return_exceptions=True)
            raise
        return pl.concat(fates)

    def _not_begun(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Results of messages that were never claimed, because the sending was stopped."""
        fate = (State.DEFERRED, True, "the sending had stopped before it was its turn", False)
        return self._counted(messages, dict.fromkeys(messages["message_key"], fate))

    async def _window(self, messages: pl.DataFrame, sizes: "WindowSize") -> pl.DataFrame:
        letters, stay, told = await asyncio.to_thread(self._claimed, messages)
        begun = asyncio.get_running_loop().time()
        outcomes = self._weighed(await self.carrier.carry(letters)) + stay
        if letters:
            sizes.adapt(len(letters), asyncio.get_running_loop().time() - begun)
        await asyncio.to_thread(self._write_down, outcomes, messages)
        return self._counted(messages, told | _told(outcomes))

    def _claimed(self, messages: pl.DataFrame) -> tuple[Sequence[Any], list[Settlement], Told]:
        """Claim messages: what is to be carried, what stays though it is this sender's, and all others' fates."""
        reasons = self.journal.suppressions.reasons(messages, self.medium)
        barred = dict(zip(messages["message_key"].filter(reasons.is_not_null()), reasons.drop_nulls(), strict=True))
        open_ones = messages.filter(reasons.is_null()) if barred else messages
        profiles = dict(open_ones.select("message_key", "profile_id").iter_rows())
        mine, lost = self._claimed_with_codes(open_ones, profiles)
        if mine:
            self.claimed()
        others = profiles.keys() - mine
        known = self.journal.known(self.send, self.channel, others) if others else {}
        leaving = mine - lost.keys()
        is_leaving = pl.col("message_key").is_in(list(leaving))
        ours = messages if len(leaving) == messages.height else messages.filter(is_leaving)
        self.fates.append(_fates(ours, dict.fromkeys(leaving, (State.CLAIMED, True, "", False))))
        letters = self.letters(ours)
        stay = [Settlement(key, Event.POSTPONED, reason) for key, reason in lost.items()]
        return letters, stay, _known_before(known) | _kept_back(barred)

    def _claimed_with_codes(
        self, messages: pl.DataFrame, profiles: dict[str, str]
    ) -> tuple[set[str], dict[str, str]]:
        """The messages that are this sender's, and those of them that must stay, with the reason.

        What these show is not, or no more, their code.
        """
        if CODES_SHOWN not in messages.columns:
            return self.journal.claim(self.send, self.channel, profiles, self.options.resend), {}
        shown = shown_codes(messages)
        samples = wrong_samples(shown, is_proof=self.medium != self.channel)
        real = real_codes(shown, samples)
        mine, gone = self.journal.claim_and_hold(self.send, self.channel, profiles, real, self.options.resend)
        return mine, {key: why for key, why in samples.items() if key in mine} | dict.fromkeys(gone, GIVEN_BACK)

    def _weighed(self, outcomes: list[Settlement]) -> list[Settlement]:
        """What was refused, unless it is the sender who is refused: that settles nothing."""
        for one in outcomes:
            if one.event is Event.TAKEN:
                self.refusals.note_taken()
            elif one.event is Event.REFUSED or (one.event is Event.POSTPONED and one.blame is Blame.SENDER):
                self.refusals.note_refused(one.key, one.answer, one.blame)
        self._blame_the_sender()
        if self.refusals.words is None:
            return outcomes
        of_the_sender = self.refusals.of_the_sender()
        return [
            Settlement(one.key, Event.POSTPONED, one.answer, Blame.SENDER) if one.key in of_the_sender else one
            for one in outcomes
        ]

    def _blame_the_sender(self) -> None:
        if self.refusals.words is not None and self.carrier.failure is None:
            refused = self.refusals.of_the_sender()
            self.carrier.blame(next(iter(refused.values())), len(refused))

    async def _reconsidered(self, fates: pl.DataFrame) -> pl.DataFrame:
        """Where the sender is refused: no recipient is refused or in quarantine for it, in the journal as here."""
        self.refusals.end()
        self._blame_the_sender()
        if self.refusals.words is None:
            return fates
        of_the_sender = self.refusals.of_the_sender()
        is_one = (
            (pl.col("state") == State.REFUSED) & pl.col("ours") & pl.col("message_key").is_in(list(of_the_sender))
        )
        wrong = fates.filter(is_one)
        events = [Settlement(key, Event.RECONSIDERED, of_the_sender[key]) for key in wrong["message_key"].to_list()]
        if events:
            await asyncio.to_thread(self.journal.record, self.send, self.channel, events)
        for address in wrong["email"]:
            await asyncio.to_thread(
                self.journal.suppressions.release,
                by="delivery",
                why="the sender was refused, not the address",
                address=address,
                kind=Kind.QUARANTINE,
                channel=self.medium,
            )
        self.tally.states[State.REFUSED] -= wrong.height
        self.tally.states[State.DEFERRED] += wrong.height
        deferred = pl.when(is_one).then(pl.lit(str(State.DEFERRED))).otherwise("state")
        return fates.with_columns(state=deferred)

    def _counted(self, messages: pl.DataFrame, told: Told) -> pl.DataFrame:
        for state, count in Counter(fate[0] for fate in told.values()).items():
            self.tally.states[state] += count
        fates = _fates(messages, told)
        self.fates.append(fates)
        return fates

    def _write_down(self, outcomes: list[Settlement], messages: pl.DataFrame) -> None:
        if outcomes:
            self.journal.record(self.send, self.channel, outcomes)
        evidence = {one.key: one for one in outcomes if one.blame is Blame.ADDRESS or one.blame is Blame.MAILBOX}
        if evidence:
            found = messages.filter(pl.col("message_key").is_in(list(evidence))).select("message_key", "email")
            self.journal.suppressions.add(self._sighting(evidence[key], email) for key, email in found.iter_rows())

    def _sighting(self, outcome: Settlement, address: str) -> Sighting:
        hard = Sighting(Kind.QUARANTINE, self.medium, outcome.answer, "delivery", address)
        if outcome.blame is Blame.ADDRESS:
            return hard
        until = self.journal.database.now() + timedelta(days=MAILBOX_DAYS)
        return hard._replace(expires_at=until, needed=MAILBOX_REFUSALS)

    async def _watched(self, fates: pl.DataFrame) -> pl.DataFrame:
        """Wait until no message is in another sender's hands: it says what it did, or its lease ends."""
        elsewhere = fates.filter((pl.col("state") == State.CLAIMED) & ~pl.col("ours"))["message_key"].to_list()
        if not elsewhere:
            return fates
        patience, clock = self.journal.settings.patience_seconds, asyncio.get_running_loop().time
        most, since, is_said = len(elsewhere) + 1, clock(), False
        while True:
            await asyncio.to_thread(self.journal.expire, self.send, self.channel)
            known = await asyncio.to_thread(self.journal.known, self.send, self.channel, elsewhere)
            left = sum(one.state is State.CLAIMED for one in known.values())
            if left < most:
                most, since = left, clock()
            if not left or clock() - since >= patience:
                break
            if not is_said and clock() - since >= SILENCE_SECONDS:
                is_said = True
                run_logger().info(
                    "%d messages are in the hands of another run, which is waited for while it goes on,"
                    " and for %d seconds when it does not.",
                    left,
                    patience,
                )
            await asyncio.sleep(WATCH_SECONDS)
        told = [(key, str(one.state), one.answer) for key, one in known.items()]
        schema = {"message_key": pl.String(), "state": pl.String(), "answer": pl.String()}
        return fates.update(pl.DataFrame(told, schema=schema, orient="row"), on="message_key")


def run_showing(work: Callable[[], Awaitable[T]], show: Callable[[], None]) -> T:
    """Run `work` in a loop of its own, in a thread of its own, and call `show` here now and then meanwhile."""
    with anyio.from_thread.start_blocking_portal() as portal:
        future = portal.start_task_soon(work)
        try:
            while not wait([future], timeout=SHOW_SECONDS).done:
                end_if_stopped()
                show()
        except BaseException:
            future.cancel()
            raise
        return future.result()


def _told(outcomes: list[Settlement]) -> Told:
    return {one.key: (state_after(one.event), True, one.answer, one.again) for one in outcomes}


def _known_before(known: dict[str, Known]) -> Told:
    return {key: (one.state, False, one.answer, False) for key, one in known.items()}


def _kept_back(barred: dict[str, str]) -> Told:
    return {key: (State.SUPPRESSED, True, reason, False) for key, reason in barred.items()}


def _fates(messages: pl.DataFrame, told: Told) -> pl.DataFrame:
    fates = [told[key] for key in messages["message_key"]]
    columns = dict(zip(FATES, zip(*fates, strict=True), strict=False)) if fates else None
    return messages[["profile_id", "email", "message_key"]].hstack(pl.DataFrame(columns, schema=FATES))
