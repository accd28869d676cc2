"""Carries messages to a provider over HTTPS: SMS, push, in-app. One small contract, one file a provider's format.

A format makes the request of a message and reads the provider's answer; what an answer means for the message, for
the sender and for the pace is decided here, the same for all. A request that was sent and got no answer may have
been taken, unless the provider knows a repeat by its key (`idempotent`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, Self

import anyio
import httpcore
import httpx
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tasks.delivery.blame import Blame
from tasks.delivery.delivery import Channel, DeliveryOptions
from tasks.delivery.dispatch import Backoff, Connections, LongestBackoff, Patience, Rate
from tasks.delivery.journal.departures import ClaimLost
from tasks.delivery.journal.paces import Paces
from tasks.delivery.journal.states import Event
from tasks.delivery.journal.storage import Settlement
from tasks.delivery.pace import Pace
from tasks.delivery.seats import NoSeat, Seats
from tasks.errors import CampaignError, ProviderRefuses, ProviderUnavailable, SenderBlamed
from tasks.http.bounded import BoundedReader, Damaged, TooLarge
from tasks.http.certificates import AuthorityFile, trusted_certificates, verification_failure
from tasks.http.network import GuardedTransport, check_url, public_url
from tasks.http.retry import backoff_delay, is_retryable, retry_after_seconds
from tasks.http.tokens import Tokens
from tasks.messages.address import Unsendable
from tasks.runs.waits import SILENCE_SECONDS, tell_of_wait

LONGEST_ANSWER = 64 * 1024


class ProviderConnection(BaseModel):
    """How a provider is reached, and how hard it may be worked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: AuthorityFile = None
    connections: Connections = 8
    timeout_seconds: float = Field(
        default=30, gt=0, title="Timeout", description="Limit for one whole request, in seconds."
    )
    messages_per_second: Rate = None
    backoff_seconds: Backoff = 1
    backoff_limit_seconds: LongestBackoff = 60
    patience_seconds: Patience = 300


class ProviderOptions(DeliveryOptions):
    """What every channel over a provider can be told."""

    account: str = Field(
        default="",
        title="Account",
        description=(
            "Account (oauth2-account/<name> and so on) whose headers every request has; a token that ends"
            " while it is used is renewed. Empty: the channel's own options say who sends."
        ),
    )
    connection: ProviderConnection = Field(
        default=ProviderConnection(), title="Connection", description="How the provider is reached."
    )


class ProviderMessage(NamedTuple):
    """One message for a provider. `address` is a telephone number, a device's token, a user's id."""

    key: str
    profile_id: str
    email: str
    subject: str
    html: str
    text: str

    @property
    def address(self) -> str:
        """The address over the channel; Personalization's column for it is `email` whatever the channel."""
        return self.email


class ProviderRequest(NamedTuple):
    """The request that sends one message."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Meaning(Enum):
    """What a provider's answer means."""

    TAKEN = "it took the message"
    REFUSED = "it will never take this message"
    BAD_ADDRESS = "it will never take a message to this address"
    LATER = "it took nothing now"
    SENDER_REFUSED = "it refuses the account"
    UNCLEAR = "nobody knows whether it took the message"


class ProviderAnswer(NamedTuple):
    """A provider's answer, read."""

    meaning: Meaning
    said: str


class ProviderFormat(Protocol):
    """One provider's format: requests out, answers in; no I/O."""

    @property
    def url(self) -> str:
        """Where the provider is; for errors, and checked before the first message."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether the provider knows a repeated message by its key, and takes it once."""
        ...

    def request(self, message: ProviderMessage) -> ProviderRequest:
        """The request that sends a message. Errors: `Unsendable`, with the reason."""
        ...

    def answer(self, status: int, body: bytes) -> ProviderAnswer:
        """What an answer means."""
        ...


def usual_meaning(status: int) -> Meaning:
    """What a status means where a provider says nothing more exact (RFC 9110, RFC 6585)."""
    match status:
        case _ if 200 <= status < 300:
            return Meaning.TAKEN
        case 401 | 402 | 403 | 407:
            return Meaning.SENDER_REFUSED
        case 408 | 425 | 429 | 503:
            return Meaning.LATER
        case _ if 400 <= status < 500:
            return Meaning.REFUSED
        case _:
            return Meaning.UNCLEAR


class _Unauthorized(Exception):
    """The account's headers were refused, and may be renewed."""


class _NotSent(Exception):
    """The request certainly did not reach the provider, or was turned away before it was looked at."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        self.reason = reason
        self.wait = wait
        super().__init__(reason)


async def _unnoted(_: object) -> None:
    """Who carries without a journal notes nothing."""


class ProviderCarrier:
    """Carries messages to a provider; so many requests at a time. Use as an asynchronous context, once."""

    def __init__(
        self,
        provider: ProviderFormat,
        connection: ProviderConnection,
        allowed_hosts: frozenset[str],
        account: str = "",
    ) -> None:
        check_url(provider.url, allowed_hosts)
        self._tokens = Tokens(account, provider.url, allowed_hosts) if account else None
        self.failure: CampaignError | None = None
        self.departs: Callable[[str], Awaitable[None]] = _unnoted
        self.arrives: Callable[[Settlement], None] = lambda _: None
        self.account = public_url(provider.url)
        self.pace = Pace(connection.messages_per_second)
        self._provider = provider
        self._connection = connection
        self._transport = GuardedTransport(trusted_certificates(connection.ca_file), allowed_hosts)
        self.seats = Seats(self.account, connection.patience_seconds)
        self._room = self.seats.room(self.account, connection.connections)
        self._open = AsyncExitStack()
        self._taken = 0
        self._losses = 0
        self._not_before = 0.0
        self._last_progress = 0.0
        self._said_at = -1.0

    async def __aenter__(self) -> Self:
        """Open the client."""
        self._client = await self._open.enter_async_context(
            httpx.AsyncClient(
                transport=self._transport,
                follow_redirects=False,
                trust_env=False,
                timeout=httpx.Timeout(None, connect=self._connection.timeout_seconds / 2),
            )
        )
        self._last_progress = self._time()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the client."""
        await self._open.aclose()
        await self.seats.end()

    def keep_pace(self, paces: Paces) -> None:
        """Share the rate with all senders of a journal."""
        self.pace.reserve = partial(paces.reserve, self.account)

    def lanes(self, messages: pl.DataFrame) -> list[pl.DataFrame]:
        """All messages wait for the same."""
        return [messages]

    async def carry(self, rows: Sequence[ProviderMessage]) -> list[Settlement]:
        """Send messages; one outcome for each, in the order of the messages."""
        return list(await asyncio.gather(*(self._carried(row) for row in rows)))

    def blame(self, reason: str, people: int) -> None:
        """Begin no other message: too many people were refused with the same words."""
        url = public_url(self._provider.url)
        self.failure = self.failure or SenderBlamed(server=url, reason=reason, people=people, sent=self._taken)

    def stop(self, reason: str) -> None:
        """Begin no other message."""
        self.failure = self.failure or self._unavailable(reason)
        self.seats.close(reason)

    def _unavailable(self, reason: str) -> CampaignError:
        return ProviderUnavailable(url=public_url(self._provider.url), reason=reason, sent=self._taken)

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()

    async def _carried(self, message: ProviderMessage) -> Settlement:
        try:
            request = self._provider.request(message)
        except Unsendable as reason:
            return Settlement(message.key, Event.POSTPONED, str(reason))
        try:
            seat = await self._room.take()
        except (NoSeat, CampaignError) as none:
            error = none if isinstance(none, CampaignError) else self._unavailable(str(none))
            self.failure = self.failure or error
            return Settlement(message.key, Event.POSTPONED, str(none))
        try:
            return await self._tried(message.key, request)
        finally:
            seat.give_back()

    async def _tried(self, key: str, request: ProviderRequest) -> Settlement:
        while self.failure is None:
            await asyncio.sleep(max(0.0, self._not_before - self._time()))
            try:
                await self.pace.wait()
                await self.departs(key)
                answer = await self._asked(request)
            except CampaignError as error:  # the journal cannot note that a message leaves
                self.failure = self.failure or error
                break
            except ClaimLost as lost:
                return Settlement(key, Event.POSTPONED, str(lost))
            except _NotSent as turned_away:
                self._back_off(turned_away.reason, turned_away.wait)
                continue
            if answer.meaning is Meaning.UNCLEAR:
                self._back_off(answer.said, None)
            else:
                self._losses, self._last_progress = 0, self._time()
            outcome = self._outcome(key, answer)
            self.arrives(outcome)
            return outcome
        reason = "" if self.failure is None else str(self.failure.facts.get("reason", self.failure))
        return Settlement(key, Event.POSTPONED, reason)

    def _back_off(self, reason: str, wait: float | None) -> None:
        """Nobody asks before the wait is over: the provider is slow, or out of order, for all."""
        now = self._time()
        if now >= self._not_before:  # the first of those that were asked together
            self._losses += 1
            at_least = min(wait or 0.0, self._connection.backoff_limit_seconds)
            self._not_before = now + backoff_delay(self._losses, self._connection, at_least)
        silent = now - self._last_progress
        if silent >= self._connection.patience_seconds:
            self.failure = self.failure or self._unavailable(reason)
        elif silent >= SILENCE_SECONDS and self._said_at < self._last_progress:
            self._said_at = now
            tell_of_wait(public_url(self._provider.url), reason, self._connection.patience_seconds)

    async def _asked(self, request: ProviderRequest) -> ProviderAnswer:
        """Make the request, with the account's headers, which are fetched again where they are refused.

        Errors: `_NotSent`; those of an account.
        """
        if self._tokens is None:
            return await self._asked_once(request)
        try:
            used = await asyncio.to_thread(self._tokens.headers)
            try:
                return await self._asked_once(request._replace(headers={**request.headers, **used}), renews=True)
            except _Unauthorized:
                await asyncio.to_thread(self._tokens.renew, used)
            used = await asyncio.to_thread(self._tokens.headers)
        except CampaignError as error:
            if is_retryable(error):
                raise _NotSent(str(error)) from None
            raise
        return await self._asked_once(request._replace(headers={**request.headers, **used}))

    async def _asked_once(self, request: ProviderRequest, *, renews: bool = False) -> ProviderAnswer:
        """Make the request once. Errors: `_NotSent`; `_Unauthorized`, with `renews`."""
        try:
            with anyio.fail_after(self._connection.timeout_seconds):
                status, headers, body = await self._exchanged(request)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            if (why := verification_failure(error)) is not None:
                return ProviderAnswer(Meaning.SENDER_REFUSED, f"its certificate does not verify: {why}")
            raise _NotSent(f"no connection: {error}") from None
        except (TimeoutError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            reason = f"the request was sent, and then the connection broke: {error or 'no answer in time'}"
            if self._provider.idempotent:
                raise _NotSent(reason) from None
            return ProviderAnswer(Meaning.UNCLEAR, reason)
        except OSError as error:  # the name does not resolve
            raise _NotSent(f"no connection: {error}") from None
        except CampaignError as error:  # the guard's word: the address may not be connected to
            self.failure = self.failure or error
            raise _NotSent(str(error)) from None
        if status == HTTPStatus.UNAUTHORIZED and renews:
            raise _Unauthorized
        answer = self._provider.answer(status, body)
        unclear = answer.meaning is Meaning.UNCLEAR and self._provider.idempotent
        if answer.meaning is Meaning.LATER or unclear:
            retry_after = retry_after_seconds(
                headers.get("Retry-After"), datetime.now(UTC), self._connection.backoff_limit_seconds
            )
            raise _NotSent(answer.said, retry_after)
        return answer

    async def _exchanged(self, request: ProviderRequest) -> tuple[int, httpx.Headers, bytes]:
        headers = {"Accept-Encoding": "gzip", **request.headers}
        sent = self._client.build_request("POST", request.url, content=request.body, headers=headers)
        response = await self._client.send(sent, stream=True)
        try:
            body = await _short_body(response)
        finally:
            await response.aclose()
        return response.status_code, response.headers, body

    def _outcome(self, key: str, answer: ProviderAnswer) -> Settlement:
        match answer.meaning:
            case Meaning.TAKEN:
                self._taken += 1
                return Settlement(key, Event.TAKEN, answer.said)
            case Meaning.REFUSED:
                return Settlement(key, Event.REFUSED, answer.said)
            case Meaning.BAD_ADDRESS:
                return Settlement(key, Event.REFUSED, answer.said, Blame.ADDRESS)
            case Meaning.SENDER_REFUSED:
                url = public_url(self._provider.url)
                self.failure = self.failure or ProviderRefuses(url=url, reason=answer.said, sent=self._taken)
                return Settlement(key, Event.POSTPONED, answer.said)
            case _:
                return Settlement(key, Event.LOST, answer.said)


async def _short_body(response: httpx.Response) -> bytes:
    """The body of an answer; nothing where it is not short or not readable: the status alone counts then."""
    body = b""
    try:
        reader = BoundedReader(LONGEST_ANSWER, encoding=response.headers.get("Content-Encoding", ""))
        async for part in response.aiter_raw():
            body += b"".join(reader.decoded(part))
        reader.finish()
    except (TooLarge, Damaged, ValueError):
        return b""
    return body


def messages_of(messages: pl.DataFrame) -> list[ProviderMessage]:
    """Messages as providers are given them: message_key, profile_id, email, subject, html, text."""
    columns = ("message_key", *ProviderMessage._fields[1:])
    return list(map(ProviderMessage, *(messages[name].to_list() for name in columns)))


def short(said: Any) -> str:  # noqa: ANN401
    """A provider's words as an answer keeps them."""
    return " ".join(str(said)[:2000].split())[:200]


def provider_channel(
    title: str, provider: ProviderFormat, options: ProviderOptions, allowed_hosts: frozenset[str]
) -> Channel:
    """A channel over a provider.

    Its carrier's errors: `UrlNotSecure`, `HostNotAllowed`, `UrlUnparsable`, `SourceUnreadable`.
    """
    return Channel(
        title=title,
        name=options.channel(title.lower()),
        carrier=lambda: ProviderCarrier(provider, options.connection, allowed_hosts, options.account),
        letters=messages_of,
        connections=options.connection.connections,
    )
