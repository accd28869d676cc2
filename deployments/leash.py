"""Ends processes whose starter has ended, however it did: `python leash.py`, on its standard input their numbers.

A line is the number of a process group; with a minus the group is not to be ended any more. The input closes when
the starter has ended: then each group is ended, the last one first, gently and then by force.

`python leash.py PIPE PROGRAM ARGUMENTS ...` is how such a process begins: it writes its number into the pipe to the
leash, and becomes the program.
"""

import os
import signal
import sys
import time

GRACE_SECONDS = 30


def main() -> None:
    """Read until the starter has ended, and end what it has left."""
    groups: list[int] = []
    for line in sys.stdin:
        number = int(line)
        if number > 0:
            groups.append(number)
        elif -number in groups:
            groups.remove(-number)
    for group in reversed(groups):
        end(group)


def end(group: int) -> None:
    """End a group of processes: SIGTERM, then SIGKILL to whatever is left after the grace."""
    give_up = time.monotonic() + GRACE_SECONDS
    is_there = reached(group, signal.SIGTERM)
    while is_there and time.monotonic() < give_up:
        time.sleep(0.1)
        is_there = reached(group, 0)
    reached(group, signal.SIGKILL)


def reached(group: int, number: int) -> bool:
    """Send a signal to a group; False where none of it is there."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def begin(pipe: int, program: list[str]) -> None:
    """Tell the leash of this process, then be the program."""
    os.write(pipe, f"{os.getpid()}\n".encode())
    os.close(pipe)
    os.execv(program[0], program)  # noqa: S606  # what the starter asks for


if __name__ == "__main__":
    begin(int(sys.argv[1]), sys.argv[2:]) if sys.argv[1:] else main()
