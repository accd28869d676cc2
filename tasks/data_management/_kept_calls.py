"""Answers of many calls, each kept by itself between runs: a changed audience asks only for its new keys.

They are one table in Prefect's result storage for each endpoint as it is asked and read: thousands of small files
would take longer than the calls. Runs that keep theirs at one moment do so one after the other.
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

import polars as pl
from prefect.results import get_result_store
from prefect.settings import PREFECT_TASKS_REFRESH_CACHE
from prefect.types._datetime import DateTime

from tasks.data_management._attempts import task_run_context
from tasks.data_management._keeping import AccountedCall
from tasks.endpoint.answer.body import Body
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.completeness import Marks
from tasks.endpoint.fetch import Progress
from tasks.http.freshness import Freshness, freshness_of_all
from tasks.http.network import public_url
from tasks.runs.keyed_digest import keyed_digest
from tasks.runs.locks import SystemLocks
from tasks.runs.results import last_kept

MOMENT = pl.Datetime("us", "UTC")
CALLS = pl.Schema(
    {
        "call": pl.String(),
        "bodies": pl.List(pl.Binary()),
        "more": pl.String(),
        "all": pl.Boolean(),
        "must_revalidate": pl.Boolean(),
        "kept_at": MOMENT,
        "ends_at": MOMENT,
    }
)


class KeptCalls:
    """What is kept of the calls of one endpoint; `tasks.endpoint.many.CallStore`."""

    def __init__(self, call: AccountedCall) -> None:
        self._endpoint = call.endpoint
        rows = call.inbound.clear() if call.inbound is not None else None
        # The key without rows: all that is sent with each call, the account, and how the answer is read.
        self._key = f"calls-{AccountedCall(rows, call.endpoint).cache_key}"
        self._salt = keyed_digest(self._key).encode()
        self._store = get_result_store().model_copy(update={"lock_manager": None})

    def find(self, calls: list[EndpointCall]) -> list[Progress]:
        """What is kept of each call and still right; a progress that is not begun where there is nothing."""
        task = task_run_context().task
        refreshes = PREFECT_TASKS_REFRESH_CACHE.value() if task.refresh_cache is None else task.refresh_cache
        if refreshes:
            return [Progress() for _ in calls]
        now = datetime.now(UTC)
        kept = {row["call"]: row for row in self._read(now).iter_rows(named=True)}
        rows = (kept.get(self._name(call)) for call in calls)
        return [Progress() if row is None else self._progress(row, now) for row in rows]

    def keep(self, calls: list[EndpointCall], came: list[Progress]) -> None:
        """Keep what came of calls, for as long as the endpoint or the partner says; of kept ones the newest."""
        now = datetime.now(UTC)
        rows = [self._row(call, progress, now) for call, progress in zip(calls, came, strict=True)]
        new = pl.DataFrame([row for row in rows if row["ends_at"] > now], schema=CALLS)
        if new.is_empty():
            return
        locks, holder = SystemLocks(), str(uuid4())
        locks.acquire_lock(self._key, holder)
        try:
            table = pl.concat([new, self._read(now)]).unique("call", keep="first", maintain_order=True)
            size = pl.col("bodies").list.eval(pl.element().bin.size()).list.sum()
            table = table.filter(size.cum_sum() <= self._most_bytes)
            last: datetime = max(table["ends_at"].to_list(), default=now)
            self._store.write(table, self._key, DateTime.fromtimestamp(last.timestamp(), UTC))
        finally:
            locks.release_lock(self._key, holder)

    @property
    def _most_bytes(self) -> int:
        """No more is kept than the calls of one run may bring; the newest."""
        return self._endpoint.calls.max_bytes if self._endpoint.calls else 0

    def _name(self, call: EndpointCall) -> str:
        request = call.first
        return sha256(b"\x1f".join((self._salt, request.url.encode(), request.body or b""))).hexdigest()

    def _read(self, now: datetime) -> pl.DataFrame:
        record = last_kept(self._store, self._key)
        table = None if record is None else record.result
        if not isinstance(table, pl.DataFrame) or table.schema != CALLS:
            return CALLS.to_frame()
        return table.filter(pl.col("ends_at") > now)

    def _row(self, call: EndpointCall, progress: Progress, now: datetime) -> dict[str, Any]:
        ends_at, freshness = now + self._endpoint.cache_expiry, freshness_of_all(progress.freshness)
        if self._endpoint.cache_by == "partner":
            if freshness.seconds is not None:
                ends_at = now + timedelta(seconds=freshness.seconds)
            if not freshness.is_kept:
                ends_at = now
        return {
            "call": self._name(call),
            "bodies": [body.content for body in progress.bodies],
            "more": progress.marks.more,
            "all": progress.marks.all,
            "must_revalidate": freshness.must_revalidate,
            "kept_at": now,
            "ends_at": ends_at,
        }

    def _progress(self, row: dict[str, Any], now: datetime) -> Progress:
        endpoint = self._endpoint
        url = public_url(endpoint.url)
        left = Freshness(
            seconds=(row["ends_at"] - now).total_seconds(), must_revalidate=bool(row["must_revalidate"])
        )
        return Progress(
            is_begun=True,
            bodies=[Body(content, endpoint.outbound, url) for content in row["bodies"]],
            marks=Marks(str(row["more"]), bool(row["all"])),
            freshness=[left],
            kept_at=row["kept_at"],
        )
