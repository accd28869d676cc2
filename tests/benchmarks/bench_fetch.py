"""A whole fetch, process against process: this project's guarded call to Parquet, and dlt's rest_api source.

`python tests/benchmarks/bench_fetch.py` serves one made-up answer of 5 MB and 28,000 rows over HTTPS on loopback.
It is fetched in turn by `tasks.endpoint.fetch.fetch` with every guardrail on, and by dlt to Parquet and
to DuckDB (extra `bench`), each time as a process of its own. Prints medians of the wall time and their ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from deployments.sandbox.server import Reply, running_server
from tests.benchmarks.bench_answer import ROWS, made_up_rows

ROOT = Path(__file__).parents[2]

OURS = """
import sys
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.fetch import fetch
address, ca_file, out = sys.argv[1:]
mapping = OutboundMapping(sample={"offers": [{"id": 1, "zipCode": "01234", "code": "a", "title": "b", "price": 1.5,
    "active": True, "startsOn": "2026-11-24", "updatedAt": "2026-11-24T07:30:00Z"}]})
endpoint = Endpoint(name="offers", url=address + "/offers", method="GET", ca_file=ca_file, outbound=mapping)
fetch(EndpointCall(None, endpoint), frozenset({"localhost"})).answer.standard.write_parquet(out + "/offers.parquet")
"""
DLT = """
import sys
import dlt
from dlt.sources.rest_api import rest_api_source
address, _, out, destination = sys.argv[1:]
source = rest_api_source({"client": {"base_url": address, "paginator": "single_page"},
    "resources": [{"name": "offers", "endpoint": {"path": "offers", "data_selector": "offers"}}]})
parquet = destination == "parquet"
where = dlt.destinations.filesystem("file://" + out) if parquet else dlt.destinations.duckdb(out + "/o.db")
options = {"loader_file_format": "parquet"} if parquet else {}
dlt.pipeline("bench", destination=where, dataset_name="d", pipelines_dir=out + "/p").run(source, **options)
"""


def seconds_of(rows: int, program: str, address: str, ca_file: Path, *more: str) -> float:
    """Wall time of one process that fetches into a folder of its own; its rows are counted."""
    with tempfile.TemporaryDirectory() as out:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REQUESTS_CA_BUNDLE": str(ca_file),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
        }
        # pip compiled what it installed; our modules are compiled in the round that is not counted.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", program, address, str(ca_file), out, *more],
            check=True,
            env=environment,
            capture_output=True,
            cwd=out,
        )
        seconds = time.perf_counter() - begun
        tables = [path for path in Path(out).rglob("*offers*/*.parquet") if "/p/" not in str(path)]
        for path in [*tables, *Path(out).glob("offers.parquet")]:
            assert pl.read_parquet(path).height == rows, path
        assert more == ("duckdb",) or tables or (Path(out) / "offers.parquet").exists()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    rounds, rows = options.rounds, options.rows
    if not find_spec("dlt"):
        sys.exit("dlt is not installed: `make bench` installs the extra `bench`.")
    body = json.dumps({"offers": made_up_rows(seed=1)[:rows]}, ensure_ascii=False, separators=(",", ":")).encode()
    contenders: dict[str, tuple[str, ...]] = {
        "this project, to Parquet": (OURS,),
        "dlt rest_api, to Parquet": (DLT, "parquet"),
        "dlt rest_api, to DuckDB": (DLT, "duckdb"),
    }
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder), lambda call: Reply(body)) as server,
    ):
        for round_number in range(rounds + 1):
            for name, (program, *more) in contenders.items():
                seconds = seconds_of(rows, program, server.address, server.ca_file, *more)
                if round_number:
                    figures[name].append(seconds)
    ours = statistics.median(figures["this project, to Parquet"])
    print(
        f"A fetch of {len(body) / 1e6:.1f} MB and {rows:,} rows, whole process: median seconds of {rounds} rounds"
    )
    for name, seconds in figures.items():
        median = statistics.median(seconds)
        print(f"  {name:<26} {median:6.2f}   ({min(seconds):.2f} to {max(seconds):.2f})   x{median / ours:.1f}")


if __name__ == "__main__":
    main()
