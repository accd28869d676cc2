"""A Prefect server under many runs: two replicas and services on PostgreSQL and Redis, as compose.yaml has them.

Runs of a deployed campaign (sports-weekend, with offers from the sandbox partner) are asked for all at once. Each
two are of one campaign and day: they want the same messages, and share them by a journal on PostgreSQL; a mail sink
counts what comes. A worker has one run at a time. Then the same with Prefect's default server (one process, SQLite)
and the first number of workers. All of it is on this machine, whose cores limit what further workers bring.

Usage: `python tests/benchmarks/bench_server.py [--runs 12] [--workers 1 2 4] [--rounds 1] [--query-seconds 1]`
"""

import argparse
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil
from prefect.client.schemas import FlowRun

from deployments.sandbox.partner import Partner, running_partner
from tests.benchmarks.mail_sink import running_sink
from tests.deployments.composed import (
    UNAVAILABLE,
    PrefectServer,
    clean_environment,
    composed_server,
    finished,
    register,
    server_replica,
    workers,
)
from tests.deployments.weekend_mail import deployed_side_by_side, mail_settings, readers, sent, start_run
from tests.postgresql import new_database

ALONE = 3
"""Runs that are asked for while nothing else runs."""
PROFILES = 3_660
COLUMNS = {
    "runs a minute": ".1f",
    "s to start: alone": ".1f",
    "queued": ".1f",
    "processor s a run: server": ".2f",
    "machine": ".2f",
    "messages": ",.0f",
    "lost": ".0f",
    "doubled": ".0f",
}
Figures = dict[str, float]


def measured(server: PrefectServer, count: int, options: Namespace, partner: Partner) -> Figures:
    """Runs alone, then many at once, by so many workers."""
    with (
        tempfile.TemporaryDirectory() as name,
        new_database("journal") as journal,
        running_sink() as (port, ended),
        server.client() as client,
    ):
        folder = Path(name)
        deployment = deployed_side_by_side(client)
        told = {
            **mail_settings(partner, port, journal, folder, PROFILES),
            "PREFECT_WORKER_QUERY_SECONDS": str(options.query_seconds),
            "PREFECT_LOCAL_STORAGE_PATH": f"{name}/results",
        }
        with workers(server, count, told, folder) as log:

            def completed(*campaigns: str) -> list[FlowRun]:
                runs = finished(client, [start_run(client, deployment, one) for one in campaigns], log)
                assert all(run.state_name == "Completed" for run in runs), log.read_text()
                return runs

            alone = [completed("alone")[0] for _ in range(ALONE)]
            before = processor_seconds(server)
            queued = completed(*(f"campaign-{number // 2}" for number in range(options.runs)))
            of_server, of_all = (now - then for now, then in zip(processor_seconds(server), before, strict=True))
        came, different = ended()
        assert len(sent(journal)) == different, "the journal and the mail server differ"
    wanted = (1 + (options.runs + 1) // 2) * readers(PROFILES).height
    values = (
        60 * options.runs / seconds_of(queued),
        median(map(seconds_to_start, alone)),
        median(map(seconds_to_start, queued)),
        of_server / options.runs,
        of_all / options.runs,
        different,
        wanted - different,
        came - different,
    )
    return dict(zip(COLUMNS, values, strict=True))


def seconds_to_start(run: FlowRun) -> float:
    """From asking for a run to the start of its flow."""
    return (run.start_time - run.created).total_seconds()


def seconds_of(runs: list[FlowRun]) -> float:
    """From asking for the first to the end of the last."""
    return (max(run.end_time for run in runs) - min(run.created for run in runs)).total_seconds()


def processor_seconds(server: PrefectServer) -> tuple[float, float]:
    """Processor time until now of the server's processes, and of all that this machine does."""
    parents = map(psutil.Process, server.processes)
    every = [process for parent in parents for process in (parent, *parent.children(recursive=True))]
    machine = psutil.cpu_times()
    return sum(sum(process.cpu_times()[:2]) for process in every), machine.user + machine.system


@contextmanager
def default_server(folder: Path) -> Iterator[PrefectServer]:
    """One process on SQLite, as `prefect server start` makes it."""
    command = ["prefect", "server", "start", "--host", "127.0.0.1"]
    with server_replica(command, clean_environment(folder), folder / "server.log") as (api, process):
        server = PrefectServer([api], [process])
        register(server, folder)
        yield server


def rounds(server: PrefectServer, counts: list[int], options: Namespace, partner: Partner) -> dict[int, Figures]:
    """Medians by number of workers, which take turns."""
    found: dict[int, list[Figures]] = {count: [] for count in counts}
    for _ in range(options.rounds):
        for count, figures in found.items():
            figures.append(measured(server, count, options, partner))
    return {
        count: {name: median(one[name] for one in figures) for name in COLUMNS} for count, figures in found.items()
    }


def both_servers(options: Namespace) -> dict[str, dict[int, Figures]]:
    """Figures by server and number of workers."""
    with tempfile.TemporaryDirectory() as name, running_partner(Path(name)) as partner:
        with composed_server(Path(name)) as server:
            composed = rounds(server, options.workers, options, partner)
        with tempfile.TemporaryDirectory() as other, default_server(Path(other)) as server:
            default = rounds(server, options.workers[:1], options, partner)
    return {"PostgreSQL and Redis": composed, "SQLite, one process": default}


def row(server: str, count: int, figures: Figures) -> str:
    """A line of the table."""
    cells = (f"{figures[name]:{len(name)}{form}}" for name, form in COLUMNS.items())
    return f"  {server:<20}  {count:7}  {'  '.join(cells)}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12, help="asked for at once")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--query-seconds", type=float, default=1, help="a worker asks for runs so often")
    options = parser.parse_args()
    try:
        found = both_servers(options)
    except UNAVAILABLE as error:
        sys.exit(f"Not measured: it needs PostgreSQL and Redis on this machine. {error}")
    print(f"{options.runs} runs, two of each campaign, {readers(PROFILES).height} messages a campaign; medians")
    print(f"  {'server':<20}  workers  {'  '.join(COLUMNS)}")
    for name, by_workers in found.items():
        for count, figures in by_workers.items():
            print(row(name, count, figures))


if __name__ == "__main__":
    main()
