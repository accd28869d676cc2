"""How answers of External API are kept between runs: by which key, for how long, and who waits for whom."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any, cast
from uuid import uuid4

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.context import SettingsContext, TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.logging import get_logger
from prefect.results import ResultStore
from prefect.transactions import IsolationLevel, get_transaction
from prefect.utilities.annotations import NotSet

from tasks.data_management._limits import SHORT_WAIT
from tasks.endpoint.call import EndpointCall
from tasks.errors import CampaignError
from tasks.http.accounts import account_fingerprint
from tasks.http.freshness import Freshness
from tasks.runs.keyed_digest import keyed_digest
from tasks.runs.locks import SystemLocks
from tasks.runs.results import ReadableResults


class AccountedCall(EndpointCall):
    """A call with the key of its cached answer: all that is sent, the account's credentials included."""

    @cached_property
    def cache_key(self) -> str:
        """The key. Errors: those of a request that cannot be built, and of an account that cannot be used."""
        return self.key(keyed_digest, account_fingerprint(self.endpoint.account))


@dataclass
class SameRequest(CachePolicy):
    """Cache policy: the same request with the same credentials, read by the same mapping, in any run."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> str | None:
        """Key of the call, or None when the request cannot be built: the task itself then says why."""
        try:
            return cast("AccountedCall", inputs["call"]).cache_key
        except CampaignError:
            return None


class LocksThatSaySo(SystemLocks):
    """Locks of calls: who waits for another run's answer says so before it waits for long."""

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Take the lock, waiting for it; False after `acquire_timeout` seconds."""
        if acquire_timeout is not None:
            return super().acquire_lock(key, holder, acquire_timeout, hold_timeout)
        if super().acquire_lock(key, holder, SHORT_WAIT, hold_timeout):
            return True
        get_logger("task_runs").info("Another run makes the same call; its answer is waited for.")
        return super().acquire_lock(key, holder, None, hold_timeout)

    def __reduce__(self) -> tuple[type["LocksThatSaySo"], tuple[()]]:
        return (LocksThatSaySo, ())


def one_call_at_a_time(policy: CachePolicy) -> CachePolicy:
    """A policy by which runs that need the same answer at one moment wait for the one that calls."""
    kept: CachePolicy = ReadableResults(policy=policy)
    kept.lock_manager = LocksThatSaySo()
    kept.isolation_level = IsolationLevel.SERIALIZABLE
    return kept


def keep_as_said(freshness: Freshness, task: Task[Any, Any]) -> None:
    """Let the task run that this is keep its result for as long as the partner says, or not at all."""
    if freshness.seconds is not None:
        task.cache_expiration = timedelta(seconds=freshness.seconds)
    running = get_transaction()
    if running is not None and not freshness.is_kept:
        running.write_on_commit = False


def refresh_in_background(task: Task[..., Any], call: AccountedCall, store: ResultStore) -> None:
    """Fetch a kept answer again while runs use it, unless another run does so already.

    It is a task run of its own, which the run that began it does not wait for; the process does.
    """
    settings, storage = SettingsContext.get(), store.result_storage
    alone = task.with_options(
        **call.endpoint.execution_options(),
        cache_policy=ReadableResults(policy=SameRequest()),
        refresh_cache=True,
        # Prefect takes only a block that is saved, or the folder.
        result_storage=Path(storage.basepath or ".") if isinstance(storage, LocalFileSystem) else storage or NotSet,
    )

    def refresh() -> None:
        locks, key, holder = SystemLocks(), f"refresh-{call.cache_key}", str(uuid4())
        if not locks.acquire_lock(key, holder, 0):
            return
        try:
            with ExitStack() as stack:
                if settings is not None:
                    stack.enter_context(SettingsContext(profile=settings.profile, settings=settings.settings))
                alone(call, return_state=True)  # type: ignore[unused-coroutine]
        finally:
            locks.release_lock(key, holder)

    Thread(target=refresh, name=f"refresh-{call.endpoint.name}").start()
