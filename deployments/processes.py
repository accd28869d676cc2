"""Processes that this one starts: each in a group of its own, and none of them outlives this one."""

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from deployments import leash

STOP_SECONDS = 30


@contextmanager
def child(
    arguments: list[str], environment: Mapping[str, str], output: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this Python, ended with the block: a Ctrl-C reaches it through us alone, and in order.

    Where this process is killed, the leash ends it: it is told by the child itself, so that no moment is missed.
    """
    to_leash = _leash()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-S", leash.__file__, str(to_leash), sys.executable, *arguments],
        pass_fds=(to_leash,),
        env={**environment, "PWD": str(Path.cwd())},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process)
        with suppress(BrokenPipeError):  # somebody ended the leash: then it has nobody to end
            os.write(to_leash, f"{-process.pid}\n".encode())


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and whatever of its group it leaves behind."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        process.wait()


@cache
def _leash() -> int:
    """The way to the process that ends our children when we cannot."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-S", leash.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101  # it is a pipe
    atexit.register(process.communicate)
    return process.stdin.fileno()
