import pickle
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from tasks.runs.locks import SystemLocks

ROOT = Path(__file__).parents[3]


def test_a_lock_has_one_holder_who_may_take_it_again(result_folder: Path) -> None:
    locks = SystemLocks()
    assert locks.acquire_lock("k", "a")
    assert locks.acquire_lock("k", "a")
    assert (locks.is_locked("k"), locks.is_lock_holder("k", "a"), locks.is_lock_holder("k", "b")) == (
        True,
        True,
        False,
    )
    with pytest.raises(ValueError, match="holds no lock"):
        locks.release_lock("k", "b")
    locks.release_lock("k", "a")
    assert not locks.is_locked("k")


def test_another_manager_waits_until_the_lock_is_given_back(result_folder: Path) -> None:
    here, there = SystemLocks(), SystemLocks()
    here.acquire_lock("k", "a")
    assert there.is_locked("k")
    assert not there.acquire_lock("k", "b", acquire_timeout=0.05)
    assert not there.wait_for_lock("k", timeout=0.05)
    assert there.acquire_lock("other", "b", acquire_timeout=0.05)
    threading.Timer(0.2, here.release_lock, ("k", "a")).start()
    assert anyio.run(there.aacquire_lock, "k", "b")
    assert there.is_lock_holder("k", "b")
    there.release_lock("k", "b")
    assert anyio.run(here.await_for_lock, "k")


def test_a_copy_in_another_process_holds_nothing(result_folder: Path) -> None:
    locks = SystemLocks()
    locks.acquire_lock("k", "a")
    assert not pickle.loads(pickle.dumps(locks)).is_lock_holder("k", "a")
    locks.release_lock("k", "a")


def test_the_lock_of_a_process_that_was_killed_is_free(result_folder: Path) -> None:
    program = (
        "import time\nfrom tasks.runs.locks import SystemLocks\n"
        "locks = SystemLocks()\nlocks.acquire_lock('k', 'a')\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    environment = {"PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(result_folder), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as holding:
        assert holding.stdout.readline() == b"held\n"
        locks = SystemLocks()
        assert not locks.acquire_lock("k", "b", acquire_timeout=0.1)
        holding.kill()
        assert locks.acquire_lock("k", "b", acquire_timeout=10)
        locks.release_lock("k", "b")
