"""Many calls of one endpoint: one for each distinct key or chunk of rows, with one table of answers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import anyio
import polars as pl

from tasks.endpoint.answer.reader import elements_of
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.completeness import Marks
from tasks.endpoint.endpoint import Calls, Endpoint
from tasks.endpoint.fetch import Access, BeforeRequest, Fetched, Progress, at_once, fetch_pages, read_fetched
from tasks.endpoint.inbound import rows_sent
from tasks.errors import ApiError, ColumnTaken, ResponseTooLarge, TooManyCalls
from tasks.http.credentials import NO_CREDENTIALS, Credentials
from tasks.http.retry import retrying
from tasks.http.session import Client, from_any_thread

BeforeWait = Callable[[BaseException, float, int], None]
"""Called before a call is made again: with its failure, the seconds to wait, and the attempt that follows."""


class CallStore(Protocol):
    """What is kept of calls between runs, each call by itself."""

    def find(self, calls: list[EndpointCall]) -> list[Progress]:
        """What is kept of each call; a progress that is not begun where there is nothing."""

    def keep(self, calls: list[EndpointCall], came: list[Progress]) -> None:
        """Keep what came of calls."""


class NothingKept:
    """A store of nothing."""

    def find(self, calls: list[EndpointCall]) -> list[Progress]:
        """Nothing."""
        return [Progress() for _ in calls]

    def keep(self, calls: list[EndpointCall], came: list[Progress]) -> None:
        """Forget it."""


NOTHING_KEPT = NothingKept()


def without_a_word(error: BaseException, seconds: float, attempt: int) -> None:
    """Say nothing before a call is made again."""


def calls_of(call: EndpointCall, options: Calls) -> list[EndpointCall]:
    """The calls that a call is made of. Errors: `TooManyCalls`, and those of a request that cannot be built."""
    call.rows  # noqa: B018  # checks the rows as a whole: that they are there, and about the campaign
    inbound = call.inbound if call.inbound is not None else pl.DataFrame()
    rows = inbound.select(list(call.endpoint.inbound.columns)).unique(maintain_order=True)
    size = 1 if options.per == "key" else options.size
    count = -(-rows.height // size)
    if count > options.max_calls:
        raise TooManyCalls(url=call.url, count=count, limit=options.max_calls)
    calls = [EndpointCall(rows.slice(start, size), call.endpoint) for start in range(0, rows.height, size)]
    sent = rows_sent(rows, call.endpoint.inbound)
    for number, each in enumerate(calls):
        each.rows = sent[number * size : (number + 1) * size]  # checked, and made at once for all
    return calls


def fetch_many(
    call: EndpointCall,
    options: Calls,
    allowed_hosts: frozenset[str],
    credentials: Credentials = NO_CREDENTIALS,
    call_id: str = "",
    *,
    before_request: BeforeRequest = at_once,
    before_wait: BeforeWait = without_a_word,
    store: CallStore = NOTHING_KEPT,
) -> Fetched:
    """Make the calls, so many side by side, each retried by itself, and read their answers as one.

    What the store has of a call is not asked for again; what came is kept in it where it can be read, also where
    another call failed.
    Out: the tables of the outbound mapping; of calls for each key the rows have the key's columns too.
    Errors: `ApiError` and its kinds: the first call that failed for good ends them all.
    """
    calls = calls_of(call, options)
    came = store.find(calls)
    left_to_do = [number for number, progress in enumerate(came) if not progress.is_whole]

    async def run() -> None:
        access = Access(credentials)
        left = iter(left_to_do)
        endpoint, size = call.endpoint, sum(progress.bytes for progress in came)

        async def work(client: Client) -> None:
            nonlocal size
            async with client:
                for number in left:
                    part = f"{call_id}-call-{number + 1}" if call_id else ""
                    async for attempt in retrying(endpoint.retries, endpoint, before_wait):
                        with attempt:
                            await fetch_pages(calls[number], client, access, part, came[number], before_request)
                    size += came[number].bytes
                    if size > options.max_bytes:
                        raise ResponseTooLarge(url=call.url, limit=options.max_bytes)

        async with Client(endpoint, allowed_hosts) as first, anyio.create_task_group() as group:
            for _ in range(min(options.parallel, len(left_to_do))):
                group.start_soon(work, first.beside())

    try:
        from_any_thread(run)
    except BaseExceptionGroup as failures:
        done = [
            number for number in left_to_do if came[number].is_whole and _is_readable(came[number], call.endpoint)
        ]
        store.keep([calls[number] for number in done], [came[number] for number in done])
        raise _first(failures) from None
    more = next((progress.marks for progress in came if progress.marks.more), None)
    is_all = all(progress.marks.all for progress in came)
    bodies = [body for progress in came for body in progress.bodies]
    freshness = [page for progress in came for page in progress.freshness]
    fetched = read_fetched(bodies, call.endpoint, more or Marks(all=is_all), freshness)
    if options.per == "key":
        fetched = _with_keys(fetched, calls, came, call.endpoint)
    store.keep([calls[number] for number in left_to_do], [came[number] for number in left_to_do])
    return _aged(fetched, came)


def _is_readable(progress: Progress, endpoint: Endpoint) -> bool:
    """Whether an answer can be read by itself: one that cannot is asked for again."""
    try:
        read_fetched(progress.bodies, endpoint, progress.marks)
    except ApiError:
        return False
    return True


def _aged(fetched: Fetched, came: list[Progress]) -> Fetched:
    """With its age, where parts of it were kept."""
    kept_at = [progress.kept_at for progress in came if progress.kept_at is not None]
    if not kept_at:
        return fetched
    left = [page.seconds for progress in came if progress.kept_at for page in progress.freshness]
    return replace(fetched, oldest=min(kept_at), seconds_left=min(filter(None, left), default=0.0))


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = failures.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _with_keys(fetched: Fetched, calls: list[EndpointCall], came: list[Progress], endpoint: Endpoint) -> Fetched:
    """Each row with the columns of the key that it was asked for with. Errors: `ColumnTaken`."""
    standard = fetched.answer.standard
    taken = [name for name in endpoint.inbound.columns if name in standard.columns]
    if taken:
        raise ColumnTaken(activity="External API", name=taken[0])
    counts = [sum(len(elements_of(body, endpoint.outbound)) for body in progress.bodies) for progress in came]
    keys = pl.concat([each.inbound for each in calls if each.inbound is not None])
    of_rows = keys.select(pl.all().repeat_by(pl.Series(counts, dtype=pl.UInt32())).explode(empty_as_null=False))
    rejected = fetched.answer.rejects["row"].unique()
    of_rows = (
        of_rows.with_row_index("@row", offset=1).filter(~pl.col("@row").is_in(rejected.implode())).drop("@row")
    )
    answer = type(fetched.answer)(
        **{**fetched.answer.tables(), "standard": pl.concat([of_rows, standard], how="horizontal")}
    )
    return replace(fetched, answer=answer)
