"""Benchmarks are run by hand, and seldom: each is run here at its smallest, so that none stops working unseen."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from tests.postgresql import new_database

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SMALLEST = {
    "answer": "--rounds 1",
    "delivery": "--rounds 1 --messages 200 --whole 200 --suppressed 1000 --old 1000",
    "fetch": "--rounds 1 --rows 100",
    "large_mails": "2 1",
    "many": "--rounds 1 --keys 100",
    "memory": "0.001",
    "palette": "2000 --rounds 1",
    "personalization": "--profiles 2000 --rounds 1 --memory 2000",
    "pools": "--codes 2000 --messages 1000 --steps 2",
    "values": "2000 --rounds 1",
}
"""Arguments of the smallest measurement, by benchmark."""
LONG = {"run", "scale", "server"}
"""Minutes at their smallest: only whether what they name is there. To run them, `make bench BENCH=...`."""
PEERS = {"fetch": ["dlt", "duckdb"], "personalization": ["minijinja"]}
"""Packages of the extra `bench` that a benchmark cannot do without."""


def test_every_benchmark_has_a_smallest_measurement() -> None:
    assert {file.stem.removeprefix("bench_") for file in FOLDER.glob("bench_*.py")} == {*SMALLEST, *LONG}


@pytest.mark.parametrize("name", [*SMALLEST, *sorted(LONG)])
def test_what_a_benchmark_names_is_there(name: str) -> None:
    assert import_module(f"tests.benchmarks.bench_{name}").main


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_measures(name: str, tmp_path: Path) -> None:
    if name == "pools":
        try:
            with new_database("benchmark"):
                pass
        except OperationalError:
            pytest.skip("no PostgreSQL is here")
    missing = [peer for peer in PEERS.get(name, []) if not find_spec(peer)]
    if missing:
        pytest.skip(f"needs the extra 'bench': {', '.join(missing)} not installed")
    done = subprocess.run(
        [sys.executable, FOLDER / f"bench_{name}.py", *SMALLEST[name].split()],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert any(letter.isdigit() for letter in done.stdout), "it shows no figure"
