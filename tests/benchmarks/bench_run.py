"""Where the time of one whole run goes: `python -m flows.birthday_coupons` as a process, from start to exit.

In a folder of its own, on the sample profiles against the sandbox: first runs, each of which starts Prefect's
server and makes its database, then later ones, which find it. Prints the median seconds of each phase, read from
the times in the runs' own logs.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
CLOCK = re.compile(r"^(\d\d:\d\d:\d\d\.\d{3}) \| ")
MARKS = {
    "to the flow's beginning": "Beginning flow run",
    "activities": "Finished in state Completed()",
    "to the process's end": None,
}


def environment(folder: Path) -> dict[str, str]:
    """The environment of a run whose Prefect home is in the folder."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CAMPAIGN_"))},
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / ".prefect"),
    }


def seconds_of_phases(folder: Path) -> dict[str, float]:
    """Run the campaign once in `folder`; seconds by phase, and in all."""
    begun = datetime.now()  # noqa: DTZ005  # the log's times are local and have no date
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flows.birthday_coupons", "--date", "2026-11-24"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    total = time.perf_counter() - start
    logged = [(match[1], line) for line in (done.stdout + done.stderr).splitlines() if (match := CLOCK.match(line))]
    logged.sort(key=lambda entry: entry[0])
    found: dict[str, float] = {}
    passed = 0.0
    for phase, mark in MARKS.items():
        at = total if mark is None else _at(begun, [when for when, line in logged if _is(line, mark)][-1])
        found[phase] = at - passed
        passed = at
    return {**found, "in all": total}


def _is(line: str, mark: str) -> bool:
    return mark in line and ("Task run" not in line)


def _at(begun: datetime, clock: str) -> float:
    moment = datetime.combine(begun.date(), datetime.strptime(clock, "%H:%M:%S.%f").time())  # noqa: DTZ007
    return (moment - begun).total_seconds()


@contextmanager
def new_folder() -> Iterator[Path]:
    """An empty folder; the server that is kept for its runs ends with it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            yield folder
        finally:
            stop = [sys.executable, "-m", "deployments.terminal.app", "server", "stop"]
            subprocess.run(stop, cwd=folder, env=environment(folder), capture_output=True, check=True)


def show(what: str, runs: list[dict[str, float]]) -> None:
    """Print the medians of runs."""
    print(f"{what}: median seconds of {len(runs)}")
    for phase in runs[0]:
        figures = [run[phase] for run in runs]
        print(f"  {phase:<28} {median(figures):6.2f}   ({min(figures):.2f} to {max(figures):.2f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=3, help="first runs")
    parser.add_argument("--later", type=int, default=5, help="later runs")
    given = parser.parse_args()
    print("One run of the birthday campaign, whole process")
    first, later = [], []
    for number in range(given.first):
        with new_folder() as folder:
            first.append(seconds_of_phases(folder))
            if number == given.first - 1:
                later = [seconds_of_phases(folder) for _ in range(given.later)]
    show("First runs, which start Prefect's server", first)
    show("Later runs, which find it", later)


if __name__ == "__main__":
    main()
