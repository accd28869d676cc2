"""The program that `tasks.templates.apart` starts: renders messages row by row, each within its budget.

It reads recipes, and tables of rows for them, each after a line that says how long it is. For each table it forks,
so that what a template did to its process is gone with it, and a new one costs a millisecond. It writes a line of
JSON for each row.
"""

import json
import os
import resource
import signal
import sys
import traceback
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

MEGABYTES = 1024 * 1024


def main() -> None:
    """Answer until the parent closes the input."""
    # What a worker of Prefect needs of `tasks` stays away: without it this starts four times as fast.
    package = ModuleType("tasks")
    package.__path__ = [str(Path(__file__).parents[1])]
    sys.modules["tasks"] = package
    from tasks.templates.apart import RECIPES_KEPT, Recipe  # noqa: PLC0415  # the package is made above
    from tasks.templates.environment import CampaignEnvironment  # noqa: PLC0415  # as above

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    made: dict[str, tuple[Recipe, Any]] = {}
    while line := sys.stdin.buffer.readline():
        head = json.loads(line)
        written = sys.stdin.buffer.read(head["recipe"])
        rows = pl.read_ipc(BytesIO(sys.stdin.buffer.read(head["table"]))).to_dicts()
        if not written:
            _answer(*made[head["key"]], rows, head["seconds"])
            continue
        if len(made) >= RECIPES_KEPT:
            made.clear()
        recipe = Recipe.read(json.loads(written), rows[0])
        environment = CampaignEnvironment(
            recipe.sources,
            recipe.name if recipe.html else "",
            recipe.locale,
            marks_branches=recipe.marks_branches,
        )
        made[head["key"]] = recipe, environment.get_template(recipe.name)


def _answer(recipe: Any, template: Any, rows: list[dict[str, Any]], seconds: float) -> None:  # noqa: ANN401
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    renderer = os.fork()
    if renderer == 0:
        try:
            _render(recipe, template, rows, seconds)
        except BaseException:  # noqa: BLE001  # a bug: the parent raises it
            _say({"bug": traceback.format_exc()})
        os._exit(0)
    _, status = os.waitpid(renderer, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        slow = number in {signal.SIGPROF, signal.SIGKILL}
        reason = f"the template takes more than {seconds:g} seconds of a processor"
        other = f"the template ended the process that renders it (signal {number})"
        _say({"reason": reason if slow else other, "ended": True})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    _say({"seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime})


def _render(recipe: Any, template: Any, rows: list[dict[str, Any]], seconds: float) -> None:  # noqa: ANN401
    from tasks.templates.apart import MEMORY  # noqa: PLC0415  # as above
    from tasks.templates.rows import context_of, rendered  # noqa: PLC0415  # as above

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(MEMORY)
    # Whoever started this process may have let it ignore, or hold back, what ends a renderer.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    for row in rows:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # the signal ends the process
        try:
            text, reason = rendered(template, context_of(row, recipe.constants, recipe.used), recipe.part)
            answer: dict[str, Any] = {"text": text, "reason": reason}
        except MemoryError:
            reason = f"the template takes more than {MEMORY // MEGABYTES} MiB of memory"
            answer = {"reason": reason, "ended": True}
        signal.setitimer(signal.ITIMER_PROF, 0)  # a line is written whole
        _say(answer)


def _limit_memory(more: int) -> None:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return  # only Linux says what a process has, and keeps to such a limit
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
