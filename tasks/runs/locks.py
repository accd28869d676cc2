"""Locks between the runs of one machine, for activities that must not do the same thing twice at the same moment.

Prefect's own lock files outlive a process that was killed, and its next run would wait for ever; the locks of the
`filelock` library are the system's, and end with the process that holds them.
"""

from hashlib import sha256
from pathlib import Path

import anyio.to_thread
from filelock import FileLock, Timeout
from prefect.locking.protocol import LockManager
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from tasks.privacy import keep_files_private
from tasks.runs.waits import said


class SystemLocks(LockManager):
    """Prefect lock manager over the system's file locks, beside the local results.

    A lock is exclusive among the processes and threads of one machine, and of all machines whose result folder is
    on a file system that shares locks.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, FileLock]] = {}

    def __reduce__(self) -> tuple[type["SystemLocks"], tuple[()]]:
        # A copy that goes to another process holds nothing.
        return (SystemLocks, ())

    @staticmethod
    def _lock(key: str) -> FileLock:
        keep_files_private()
        folder = Path(PREFECT_LOCAL_STORAGE_PATH.value()) / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{sha256(key.encode()).hexdigest()[:40]}.lock", mode=0o600, thread_local=False)

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,  # noqa: ARG002  # the lock ends with its process
    ) -> bool:
        """Take the lock, waiting for it; False after `acquire_timeout` seconds."""
        if self.is_lock_holder(key, holder):
            return True
        lock = self._lock(key)
        if not _taken(lock, acquire_timeout):
            return False
        self._held[key] = (holder, lock)
        return True

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Take the lock, as `acquire_lock` does."""
        return await anyio.to_thread.run_sync(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock back. Errors: `ValueError` where `holder` does not hold it."""
        if not self.is_lock_holder(key, holder):
            raise ValueError(f"{holder} holds no lock for {key}")
        _, lock = self._held.pop(key)
        lock.release()

    def is_locked(self, key: str) -> bool:
        """Whether anybody holds the lock."""
        if key in self._held:
            return True
        return not self.wait_for_lock(key, timeout=0)

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder`, in this process, holds the lock."""
        return self._held.get(key, (None,))[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until the lock is free; False after `timeout` seconds."""
        lock = self._lock(key)
        if not _taken(lock, timeout):
            return False
        lock.release()
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait as `wait_for_lock` does."""
        return await anyio.to_thread.run_sync(self.wait_for_lock, key, timeout)


def _taken(lock: FileLock, timeout: float | None) -> bool:
    """Take a lock; one that is held is waited for, which is said. False where it was not free in time."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if timeout == 0:
            return False
    else:
        return True
    most = "until it is done" if timeout is None or timeout < 0 else f"{timeout:g} seconds at most"
    try:
        with said("another run on this machine that makes the same call or result", at_most=most):
            lock.acquire(timeout=-1 if timeout is None else timeout)
    except Timeout:
        return False
    return True
