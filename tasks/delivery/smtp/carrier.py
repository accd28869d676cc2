"""Many connections to one mail server, and the messages that they share.

A connection has at most one message whose fate only its next reply tells: the message's content was sent, and
the commands of the following message went with it. If the connection breaks then, the first is lost, and the
second has not left.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio
import polars as pl

from tasks.delivery.blame import Blame
from tasks.delivery.journal.departures import ClaimLost
from tasks.delivery.journal.paces import Paces
from tasks.delivery.journal.states import Event
from tasks.delivery.journal.storage import Settlement
from tasks.delivery.pace import Pace
from tasks.delivery.seats import NoSeat, Seat, Seats
from tasks.delivery.smtp.connection import (
    Line,
    LineClosed,
    LineDropped,
    MailServer,
    SenderRefused,
    TurnedAway,
    opened,
)
from tasks.delivery.smtp.parcel import Batch, Begun, Parcel, Stand, Weight
from tasks.delivery.smtp.receivers import LONGEST_DELAY, Directory, Queues
from tasks.delivery.smtp.replies import Reply, Step, Verdict, asks_for_less, blame_of, verdict_of
from tasks.errors import CampaignError, MailServerRefuses, MailServerUnavailable, SenderBlamed
from tasks.http.retry import backoff_delay
from tasks.http.tokens import Tokens
from tasks.messages.address import Unsendable
from tasks.messages.letter import Letter, Skeleton
from tasks.messages.senders import is_placeholder
from tasks.privacy import is_this_machine
from tasks.runs.waits import SILENCE_SECONDS, tell_of_wait

IDLE_SECONDS = 20
"""How long a connection with nothing to do is kept."""
CLOSING_SECONDS = 1.0
"""How long the connections have to take leave at the end."""
TRIES = 5
"""How often a message is begun before it waits for the next round: it may be what the server breaks at."""

SEAT_SECONDS = 1.0
"""A seat that comes later was waited for."""

LATER = 400
"""From here on a reply is no success."""
ENVELOPE = (Step.SENDER, Step.RECIPIENT, Step.DATA)
ALL_WELL = [250, 250, 354]
"""What nearly every envelope hears; whatever else is said, `verdict_of` knows what it means."""


async def _unnoted(_: object) -> None:
    """Who carries without a journal notes nothing."""


def _unheard(_: object) -> None:
    """Nor what was answered."""


class MailCarrier:
    """Carries messages to a mail server over a fixed number of connections, opened when there is work.

    Use as an asynchronous context, once. `failure` says why no more is carried, once that is so: what is given to
    `carry` then comes back as postponed.
    """

    def __init__(self, server: MailServer, skeleton: Skeleton, allowed_hosts: frozenset[str] = frozenset()) -> None:
        self.failure: CampaignError | None = None
        self.departs: Callable[[str], Awaitable[None]] = _unnoted
        self.arrives: Callable[[Settlement], None] = _unheard
        self._server = server
        self._skeleton = skeleton
        url = f"https://{server}"  # as accounts name places
        self._tokens = Tokens(server.account, url, allowed_hosts) if server.account else None
        self._is_real = not is_this_machine(server.host)
        self._helo_name = server.helo_name or skeleton.domain
        self._batches: list[Batch] = []
        self._filled = asyncio.Event()
        self.account = f"{server}/{server.username}"
        self.pace = Pace(server.messages_per_second)
        self.seats = Seats(str(server), server.patience_seconds, self._filled.set)
        self._room = self.seats.room(self.account, server.connections)
        self._directory = Directory(server.receivers)
        self._queues: Queues[Parcel] = Queues(self._directory, self.seats, self.account, server)
        self._weight = Weight()
        self._is_closing = False
        self._taken = 0
        self._workers: list[asyncio.Task[None]] = []
        self._last_progress = 0.0
        self._said_at = -1.0

    async def __aenter__(self) -> "MailCarrier":
        """Start the connections' workers."""
        self._last_progress = self._time()
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._server.connections)]
        for worker in self._workers:
            worker.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections. What has not left comes back as postponed."""
        self._is_closing = True
        self._filled.set()
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            await asyncio.wait(self._workers)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._return_the_rest("the run ended before it was sent")
        await self.seats.end()

    def keep_pace(self, paces: Paces) -> None:
        """Share the rates of the server and of receivers with all senders of a journal."""
        self.pace.reserve = partial(paces.reserve, self.account)
        self._queues.paces = paces

    def lanes(self, messages: pl.DataFrame) -> list[pl.DataFrame]:
        """Messages by who receives them, as far as those need not wait for others."""
        return self._queues.lanes(messages)

    async def carry(self, letters: Sequence[Letter]) -> list[Settlement]:
        """Send messages; gives what became of each, in the order in which it was known."""
        batch = Batch(len(letters), asyncio.get_running_loop().create_future())
        if not self._queues:
            self._last_progress = self._time()
        self._batches.append(batch)
        for letter in letters:
            self._queues.add(Parcel(letter, batch, self._directory.of_address(letter.email)))
        if self.failure is not None:
            self._return_the_rest(str(self.failure.facts.get("reason", self.failure)))
        self._filled.set()
        if letters:
            await batch.done
        self._batches.remove(batch)
        return batch.outcomes

    def _ended(self, worker: asyncio.Task[None]) -> None:
        """A worker ends by itself only after a bug; what waits for it is then released."""
        if not worker.cancelled() and (bug := worker.exception()) is not None:
            for batch in self._batches:
                if not batch.done.done():
                    batch.done.set_exception(bug)

    def blame(self, reason: str, people: int) -> None:
        """Carry no more: too many people were refused with the same words, for which the sender is responsible."""
        self._fail(SenderBlamed(server=str(self._server), reason=reason, people=people, sent=self._taken))

    def stop(self, reason: str) -> None:
        """Carry no more: what waits comes back as postponed; what is on its way is finished."""
        self.failure = self.failure or MailServerUnavailable(server=self._server, reason=reason, sent=self._taken)
        self._return_the_rest(reason)

    def _return_the_rest(self, reason: str) -> None:
        for parcel in self._queues.drain():
            parcel.settle(Event.POSTPONED, reason)

    @staticmethod
    def _time() -> float:
        return time.monotonic()  # what the loop's clock is, without asking which loop

    async def _work(self) -> None:
        """One connection after the other, for as long as there is work."""
        losses = 0
        while not self._is_closing:
            await self._some_work()
            if self._is_closing:
                return
            taken = self._taken
            reason = ""
            try:
                await self._over_one_seat()
            except TurnedAway:
                pass  # only messages to that domain wait
            except LineDropped as drop:
                reason = str(drop)
            except NoSeat as none:
                self._fail(MailServerUnavailable(server=self._server, reason=str(none), sent=self._taken))
            except SenderRefused as refusal:
                self._fail(MailServerRefuses(server=self._server, reason=str(refusal), sent=self._taken))
            except CampaignError as error:
                self._fail(error)
            if self._taken != taken:
                self._last_progress = self._time()
            losses = losses + 1 if reason and self._taken == taken else 0
            silent = self._time() - self._last_progress
            if losses and silent >= SILENCE_SECONDS and self._said_at < self._last_progress:
                self._said_at = self._time()
                tell_of_wait(str(self._server), reason, self._server.patience_seconds)
            if losses and self._time() - self._last_progress >= self._server.patience_seconds:
                self._fail(MailServerUnavailable(server=self._server, reason=reason, sent=self._taken))
            await asyncio.sleep(self._backoff(losses))

    async def _over_one_seat(self) -> None:
        """Take one of the account's connections, and send over it until there is nothing, or others need it."""
        asked = self._time()
        seat = await self._room.take()
        if self._time() - asked > SEAT_SECONDS:
            self._last_progress = self._time()  # the server was not even asked meanwhile
        try:
            if self._queues:
                await self._over_one_line(seat)
        finally:
            seat.give_back()

    async def _over_one_line(self, seat: Seat) -> None:
        line = await opened(self._server, self._helo_name, self._tokens)
        try:
            await self._converse(line, seat)
        except BaseException:
            line.abort()
            raise

    def _backoff(self, losses: int) -> float:
        return backoff_delay(losses, self._server) if losses else 0.0

    def _fail(self, error: CampaignError) -> None:
        self.failure = self.failure or error
        self._return_the_rest(str(self.failure.facts.get("reason", self.failure)))

    async def _some_work(self) -> None:
        while not self._queues and not self._is_closing:
            self._filled.clear()
            await self._filled.wait()

    async def _converse(self, line: Line, seat: Seat) -> None:
        """Send messages over one line until it has long been idle, or its seat is due back.

        Errors: `LineDropped`, `SenderRefused`.
        """
        stand = Stand()
        while True:
            following = await self._next(line, seat, waits=stand.leaving is None)
            if following is None and stand.leaving is None:
                await line.quit()
                return
            opening = stand.opening()
            replies: list[Reply] = []
            try:
                if stand.leaving:
                    await self.departs(stand.leaving.parcel.letter.key)
                await line.exchange([*opening, *(following.envelope() if following else ())], replies)
            except ClaimLost as lost:
                stand.leaving.parcel.settle(Event.POSTPONED, str(lost))  # type: ignore[union-attr]
                if following:
                    self._put_back(following.parcel, str(lost))
                raise LineDropped(str(lost)) from None
            except (LineClosed, CampaignError) as stayed:
                if isinstance(stayed, CampaignError):  # the journal cannot note that a message leaves
                    self._fail(stayed)
                for begun in filter(None, (stand.leaving, following)):
                    self._put_back(begun.parcel, str(stayed))
                raise
            except (LineDropped, asyncio.CancelledError) as drop:
                heard = replies[len(opening) :]
                self._broken(stand.leaving, following, replies, str(drop) or "the run was stopped")
                raise self._why_broken(drop, following, heard) from None
            try:
                if stand.leaving:
                    self._answered(stand.leaving.parcel, replies[0])
            except LineDropped as drop:
                if following:
                    self._put_back(following.parcel, str(drop))
                raise
            stand = self._entered(following, replies[len(opening) :]) if following else Stand()

    async def _next(self, line: Line, seat: Seat, *, waits: bool) -> Begun | None:
        """The next message to begin; None if there is none now or, with `waits`, none for long."""
        idle_since = self._time()
        while not seat.is_due_back:
            if self._queues.slow:
                self._give_up()
            if not self._queues:
                idle = self._time() - idle_since
                if not waits or self._is_closing or idle >= IDLE_SECONDS:
                    return None
                await self._idle(seat, IDLE_SECONDS - idle)
            elif not self.pace.is_due():
                if not waits:
                    return None
                await asyncio.sleep(min(await self.pace.delay(), LONGEST_DELAY))
            elif (parcel := self._queues.pop(self._time(), self._weight.has_room)) is not None:
                self.pace.take()
                if begun := self._made(parcel, line):
                    return begun
            elif not waits:
                return None
            else:
                await self._idle(seat, await self._queues.delay(self._time()))
        return None

    def _made(self, parcel: Parcel, line: Line) -> Begun | None:
        """The message; None, with the reason told, where none can be made or the server could not take it."""
        try:
            message = self._skeleton.message(parcel.letter)
        except Unsendable as reason:
            parcel.settle(Event.POSTPONED, str(reason))
            return None
        if self._is_real and is_placeholder(message.recipient.address):
            parcel.settle(Event.POSTPONED, "the address is of a domain for examples, which is nobody's")
            return None
        if message.recipient.needs_utf8 and not line.takes_utf8:
            parcel.settle(Event.POSTPONED, "the mail server takes no address with letters outside ASCII")
            return None
        parcel.weigh(self._weight, len(message.content))
        return Begun(parcel, message)

    async def _idle(self, seat: Seat, seconds: float) -> None:
        """Wait for something to do; meanwhile others may have the seat."""
        seat.is_idle = True
        self._filled.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._filled.wait(), seconds)
        seat.is_idle = False

    def _give_up(self) -> None:
        """What is not waited for in this round, as its receiver asks for fewer messages."""
        for parcel, reason in self._queues.given_up(self._time()):
            parcel.settle(Event.POSTPONED, reason, again=True)

    def _why_broken(self, drop: BaseException, begun: Begun | None, replies: list[Reply]) -> BaseException:
        """The same, or that the receiver of a message asked for fewer before the line broke."""
        for step, reply in zip(ENVELOPE, replies if begun else (), strict=False):
            if begun and asks_for_less(step, reply):
                self._slow_down(begun.parcel, reply)
                return TurnedAway(str(drop)) if isinstance(drop, LineDropped) else drop
        return drop

    def _slow_down(self, parcel: Parcel, reply: Reply) -> None:
        self._queues.slow_down(parcel.receiver, self._time(), str(reply))

    def _broken(self, leaving: Begun | None, following: Begun | None, replies: list[Reply], reason: str) -> None:
        """The line broke in the middle: what became of the two messages on it."""
        if following:
            self._put_back(following.parcel, reason)
        if leaving and replies:
            with suppress(LineDropped):  # it is broken already
                self._answered(leaving.parcel, replies[0])
        elif leaving:
            leaving.parcel.settle(Event.LOST, f"the message was sent, and then {reason}")

    def _answered(self, parcel: Parcel, reply: Reply) -> None:
        """The server's word on a message that it has whole. Errors: `LineDropped`."""
        is_less = reply.code >= LATER and asks_for_less(Step.CONTENT, reply)
        if is_less:
            self._slow_down(parcel, reply)
        match verdict_of(Step.CONTENT, reply):
            case Verdict.GO_ON:
                self._taken += 1
                self._queues.note_taken(parcel.receiver)
                parcel.settle(Event.TAKEN, str(reply), noted=self.arrives)
            case Verdict.GOODBYE:
                self._put_back(parcel, str(reply))
                raise (TurnedAway if is_less else LineDropped)(str(reply))
            case verdict:
                self._declined(parcel, verdict, reply)

    def _entered(self, begun: Begun, replies: list[Reply]) -> Stand:
        """The server's words on a message's envelope. Errors: `LineDropped`, `SenderRefused`."""
        if [reply.code for reply in replies] == ALL_WELL:
            return Stand(leaving=begun)
        for step, reply in zip(ENVELOPE, replies, strict=True):
            if is_less := asks_for_less(step, reply):
                self._slow_down(begun.parcel, reply)
            match verdict_of(step, reply):
                case Verdict.GO_ON:
                    continue
                case Verdict.GOODBYE | Verdict.BUSY:
                    self._put_back(begun.parcel, str(reply))
                    raise (TurnedAway if is_less else LineDropped)(str(reply))
                case Verdict.SENDER_REFUSED:
                    self._put_back(begun.parcel, str(reply))
                    raise SenderRefused(str(reply))
                case verdict:
                    self._declined(begun.parcel, verdict, reply)
                    waits_for_content = replies[-1].code == 354
                    return Stand(reset=b".\r\n" if waits_for_content else b"RSET\r\n")
        return Stand(leaving=begun)

    def _declined(self, parcel: Parcel, verdict: Verdict, reply: Reply) -> None:
        self._last_progress = self._time()
        if verdict is Verdict.REFUSED:
            blame = blame_of(reply)
            # What the sender is refused for is no word on the message: it can be sent once the sender is right.
            event = Event.POSTPONED if blame is Blame.SENDER else Event.REFUSED
            parcel.settle(event, str(reply), blame=blame, noted=self.arrives)
        else:
            parcel.settle(Event.POSTPONED, str(reply), again=True, noted=self.arrives)

    def _put_back(self, parcel: Parcel, reason: str) -> None:
        """A message that has certainly not left, to be taken up by another connection."""
        parcel.tries += 1
        if self.failure is not None:
            parcel.settle(Event.POSTPONED, reason)
        elif parcel.tries >= TRIES:
            parcel.settle(Event.POSTPONED, reason, again=True)
        else:
            parcel.leave()
            self._queues.add(parcel, first=True)
            self._filled.set()
