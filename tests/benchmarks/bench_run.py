"""Where the time of one whole run goes: `python -m flows.birthday_coupons` as a process, from start to exit.

One warm-up, then several runs on the sample profiles against the sandbox, in a folder of their own; prints the
median seconds of each phase, read from the times in the run's own log.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
RUNS = 5
CLOCK = re.compile(r"^(\d\d:\d\d:\d\d\.\d{3}) \| ")
MARKS = {
    "imports, settings, sandbox": "Starting temporary server",
    "Prefect's server starts": "Beginning flow run",
    "activities": "Finished in state Completed()",
    "server stops, process ends": None,
}


def seconds_of_phases(folder: Path) -> dict[str, float]:
    """Run the campaign once in `folder`; seconds by phase, and in all."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CAMPAIGN_"))},
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / ".prefect"),
    }
    begun = datetime.now()  # noqa: DTZ005  # the log's times are local and have no date
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flows.birthday_coupons", "--date", "2026-11-24"],
        cwd=folder,
        env=environment,
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


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds_of_phases(folder)
        runs = [seconds_of_phases(folder) for _ in range(RUNS)]
    print(f"One run of the birthday campaign, whole process: median seconds of {RUNS} runs after a warm-up")
    for phase in runs[0]:
        figures = [run[phase] for run in runs]
        print(f"  {phase:<28} {median(figures):6.2f}   ({min(figures):.2f} to {max(figures):.2f})")


if __name__ == "__main__":
    main()
