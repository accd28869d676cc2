"""Scale: an audience of millions from query to outbox, partition by partition.

Each campaign is a process of its own on a Prefect server that runs already, so that its peak memory is its own. The
messages are the birthday mail's, and go into an outbox of Parquet; who is queried is everybody.

Usage: `python tests/benchmarks/bench_scale.py [--millions 1 3 10] [--rounds 3] [--sandbox 400000]`
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import psutil
from prefect import flow, task
from prefect.client.orchestration import get_client

from deployments.guard import SERVER
from flows.campaign import campaign as form
from flows.channels import EmailChannel
from flows.plan import Recipients
from flows.settings import template_folder_of
from tasks.channels.outbox import OutboxOptions, deliver, outbox
from tasks.content.personalization import PersonalizationOptions, personalization, personalize, read_templates
from tasks.delivery.journal.storage import open_journal
from tasks.execution.report import report
from tasks.messages.send_folder import write_rejects
from tasks.runs.digest import write_arrow
from tasks.runs.engine import ENGINE
from tasks.runs.results import ARROW, PER_RUN
from tasks.runs.shapes import streamed
from tasks.runs.table import Part, lazily
from tasks.send import Send
from tasks.settings import Settings
from tasks.sources.files import ProfileFile
from tasks.sources.selection import selected_batches
from tasks.targeting.deduplication import DeduplicationOptions, deduplication
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.query import QueryOptions, query
from tests.benchmarks.mail_sink import running_sink

ROOT = Path(__file__).parents[2]
MEBIBYTE = 1024 * 1024
ZIP_CODES = 12_000
LOG = logging.getLogger("scale")
SEND = Send(campaign="scale", label="Scale", business_date=date(2026, 11, 24))


def write_profiles(path: Path, profiles: int) -> None:
    """Made-up profiles, 100,000 a row group."""
    number = pl.col("number")
    pl.LazyFrame({"number": pl.int_range(profiles, eager=True)}).select(
        profile_id=pl.format("P{}", number.cast(pl.String()).str.zfill(9)),
        first_name=pl.concat_str(pl.lit("Ada <"), (number % 977).cast(pl.String()), pl.lit(">")),
        last_name=pl.concat_str(pl.lit("Lovelace & "), (number % 1009).cast(pl.String())),
        email=pl.format("p{}@profiles.example", number),
        birth_date=date(1950, 1, 1) + pl.duration(days=number % 20_000),
        zip_code=(number % ZIP_CODES).cast(pl.String()).str.zfill(5),
        city=pl.concat_str(pl.lit("Coeur d'Alene "), (number % 389).cast(pl.String())),
        may_contact=number % 50 != 0,
    ).sink_parquet(path, row_group_size=100_000)


@task(name="Coupons", cache_policy=PER_RUN, result_serializer=ARROW)
def coupons_of(zip_codes: pl.DataFrame) -> pl.DataFrame:
    """A coupon a zip code, as the partner would give them."""
    return zip_codes.select("zip_code", code=pl.format("C-{}", "zip_code"))


def resident() -> float:
    """Memory of this process in MiB, without mapped files, as the source is: they are the system's cache."""
    held = psutil.Process().memory_info()
    return (held.rss - held.shared) / MEBIBYTE


@dataclass
class Watch:
    """Memory and time of the phases of a run in this process."""

    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    before: float = field(default_factory=resident)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what happens in the block."""
        peak, over = [resident()], threading.Event()

        def sample() -> None:
            while not over.wait(0.01):
                peak[0] = max(peak[0], resident())

        sampler = threading.Thread(target=sample)
        sampler.start()
        begun, worked = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            seconds, processor = time.perf_counter() - begun, time.process_time() - worked
            over.set()
            sampler.join()
            self.phases[name] = {"seconds": seconds, "processor": processor, "peak": peak[0] - self.before}


WATCH = Watch()


@flow(name="Scale", task_runner=ENGINE)
def with_prefect(profiles: Path, folder: Path, *, row_by_row: bool = False) -> int:
    """The birthday campaign for everybody."""
    with WATCH.phase("start of the engine"):
        awake.map(range(Settings.load().engine.workers)).wait()
    with WATCH.phase("all"):
        return campaign(profiles, folder, row_by_row=row_by_row)


@task
def awake(number: int) -> int:
    """Nothing, so that a cluster is there before the time is taken."""
    return number


def campaign(profiles: Path, folder: Path, *, row_by_row: bool) -> int:
    """The flow's own work, as `flows/birthday_coupons.py` writes it."""
    content, options = what(folder, row_by_row=row_by_row)
    with WATCH.phase("query"):
        audience = query(query_of(profiles))
    with WATCH.phase("deduplication"):
        coupons = coupons_of(deduplication(audience, BY_ZIP_CODE).collect())
    with WATCH.phase("parts"):
        enriched = enrichment(audience, coupons, WITH_COUPON)
        sent = outbox(personalization(enriched, content), options, SEND)
    with WATCH.phase("report"):
        return report(SEND, audience, enriched, sent).delivered


def without_prefect(profiles: Path, folder: Path) -> int:
    """The same work in the same number of threads, parts as files too, and nothing of Prefect."""
    content, options = what(folder)
    places = folder / "parts"
    places.mkdir(parents=True)
    parts = []
    size = Settings.load().partitions.size
    with WATCH.phase("query"):
        for number, rows in enumerate(selected_batches(query_of(profiles), size, activity="Query"), 1):
            file = places / f"{number}.arrow"
            write_arrow(rows, file)
            parts.append(Part(run="plain", number=number, rows=rows.height, file=str(file)))
    with WATCH.phase("deduplication"):
        audience = lazily(
            lambda columns: (pl.read_ipc(part.file, columns=columns) for part in parts),
            pl.read_ipc_schema(parts[0].file),
        )
        found = deduplication.function(audience, BY_ZIP_CODE)
        for number, rows in enumerate(streamed(found["complement"]), 1):
            write_arrow(rows, places / f"duplicates-{number}.arrow")
        coupons = coupons_of.fn(pl.concat(streamed(found["standard"])))

    def work(part: Part) -> dict[str, pl.DataFrame]:
        enriched = enrichment.function(pl.read_ipc(part.file), coupons, WITH_COUPON)
        messages = personalize(enriched, content, logger=LOG)
        sent = deliver(messages.standard, options, SEND, datetime.now(UTC), part)
        return {"sent": sent.standard, "rejects": pl.concat([messages.rejects, sent.rejects])}

    with WATCH.phase("parts"), ThreadPoolExecutor(Settings.load().engine.workers) as pool:
        done = [(one["sent"].height, one["rejects"]) for one in pool.map(work, parts)]
    with WATCH.phase("report"):
        write_rejects(pl.concat([rejects for _, rejects in done]), options.send_folder(SEND))
    return sum(sent for sent, _ in done)


def form_by_mail() -> int:
    """The configurable campaign with the channel email, on the profiles and the mail server of the settings."""
    with WATCH.phase("all"):
        return form(
            name="form", label="Form", audience=Recipients(where="may_contact"), channel=EmailChannel()
        ).delivered


WITH_COUPON = EnrichmentOptions(name="coupons", on={"zip_code": "zip_code"})
BY_ZIP_CODE = DeduplicationOptions(columns=["zip_code"])


def query_of(profiles: Path) -> QueryOptions:
    """Everybody who may be contacted."""
    return QueryOptions(source=ProfileFile(path=profiles), where="may_contact")


def what(folder: Path, *, row_by_row: bool = False) -> tuple[PersonalizationOptions, OutboxOptions]:
    """The birthday mail, into an outbox of Parquet."""
    templates = read_templates(template_folder_of("birthday_coupons"))
    content = PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row)
    return content, OutboxOptions(folder=folder, format="parquet")


def child(how: str, profiles: Path, folder: Path) -> None:
    """One run in this process; prints its figures as the last line."""
    # Sends find a journal: its tables are made once, and that is no part of a run.
    with closing(open_journal(Settings.load().journal)):
        pass
    if how == "form":
        delivered = form_by_mail()
    elif how == "plain":
        with WATCH.phase("all"):
            delivered = without_prefect(profiles, folder)
    else:
        delivered = with_prefect(profiles, folder, row_by_row=how == "sandbox")
    whole = WATCH.phases["all"]
    print(json.dumps({"delivered": delivered, **whole, "phases": WATCH.phases}))


def run(how: str, profiles: Path, api: str, **settings: object) -> dict[str, Any]:
    """One run in a process of its own, with a result storage, a journal and an outbox of its own."""
    with tempfile.TemporaryDirectory(dir=profiles.parent) as name:
        settings = {"journal__url": f"sqlite:///{name}/journal.db", **settings}
        environment = {
            **os.environ,
            "PREFECT_API_URL": api,
            "PREFECT_LOCAL_STORAGE_PATH": f"{name}/results",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PYTHONPATH": str(ROOT),
            **{f"CAMPAIGN_{key.upper()}": str(value) for key, value in settings.items()},
        }
        command = [sys.executable, __file__, "--child", how, str(profiles), f"{name}/outbox"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        files = [file.stat().st_size for file in Path(name).rglob("*.parquet")]
        return {**found, "bytes": sum(files)}


def main() -> None:
    """Measure and print."""
    from prefect.testing.utilities import prefect_test_harness  # all of a server, which no child needs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 3])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sandbox", type=int, default=400_000, help="profiles of the sandbox path; 0: without it")
    parser.add_argument("--mails", type=int, default=1_000_000, help="profiles of the form by mail; 0: without it")
    options = parser.parse_args()
    os.environ.update(SERVER)
    with tempfile.TemporaryDirectory() as name, prefect_test_harness(server_startup_timeout=120):
        with get_client(sync_client=True) as client:
            api = str(client.api_url)
        folder = Path(name)
        by_size(folder, api, options.millions, options.rounds)
        if options.mails:
            by_mail(folder, api, options.mails)
        prefect_share(folder, api, options.millions[0], options.rounds)
        if options.sandbox:
            dask_workers(folder, api, options.sandbox, options.rounds)


def by_size(folder: Path, api: str, millions: list[float], rounds: int) -> None:
    """Time and memory by the size of the audience."""
    runs: dict[float, list[dict[str, Any]]] = {million: [] for million in millions}
    for _ in range(rounds):
        for million in millions:
            runs[million].append(run("prefect", profiles_of(folder, int(million * 1e6)), api))
    size = Settings.load().partitions.size
    print(f"Query to outbox in Parquet, engine threads, 2 workers, parts of {size:,}: median of {rounds} runs")
    print("  millions  seconds  s/million  query  deduplication  parts  report  peak MiB: query  parts  MB")
    for million, found in runs.items():
        seconds = median(one["seconds"] for one in found)
        of = {
            name: {key: median(one["phases"][name][key] for one in found) for key in ("seconds", "peak")}
            for name in ("query", "deduplication", "parts", "report")
        }
        parts = "  ".join(f"{of[name]['seconds']:{len(name)}.1f}" for name in of)
        print(
            f"  {million:8.2f} {seconds:8.1f} {seconds / million:10.2f}  {parts} {of['query']['peak']:16.0f}"
            f" {of['parts']['peak']:6.0f} {found[0]['bytes'] / 1e6:3.0f}"
        )


def by_mail(folder: Path, api: str, profiles: int) -> None:
    """The form's campaign with the channel email, against a mail sink on loopback: one run."""
    with running_sink() as (port, _), tempfile.TemporaryDirectory() as name:
        server = {"host": "127.0.0.1", "port": port, "security": "none"}
        found = run(
            "form",
            profiles_of(folder, profiles),
            api,
            profiles__path=profiles_of(folder, profiles),
            email__folder=f"{name}/outbox",
            **{f"email__server__{key}": value for key, value in server.items()},
        )
    rate = found["delivered"] / found["seconds"]
    print(
        f"The form's campaign by mail: {found['delivered']:,} messages in {found['seconds']:.1f} s ({rate:,.0f} a"
        f" second), peak {found['phases']['all']['peak']:.0f} MiB"
    )


def prefect_share(folder: Path, api: str, million: float, rounds: int) -> None:
    """Prefect's share: the same work with it and without it, in turns; its server on the same cores, and apart.

    Of the time on the clock, and of the processors' time, the server's included, which other work on the machine
    alters less.
    """
    profiles = profiles_of(folder, int(million * 1e6))
    for where in ("on the same cores", "on a core of its own"):
        clock: dict[str, list[float]] = {"prefect": [], "plain": []}
        processor: dict[str, list[float]] = {"prefect": [], "plain": []}
        of_server: list[float] = []
        with nullcontext() if where == "on the same cores" else server_apart():
            for _ in range(rounds):
                for how, times in clock.items():
                    before = server_seconds()
                    found = run(how, profiles, api)
                    times.append(found["seconds"])
                    processor[how].append(found["processor"])
                    if how == "prefect":
                        of_server.append(server_seconds() - before)
        whole, plain, work, own, server = map(median, (*clock.values(), *processor.values(), of_server))
        print(
            f"Prefect's share at {million} million, its server {where}: {whole:.1f} s with it,"
            f" {plain:.1f} s without: {1 - plain / whole:.1%}; of processors {work:.1f} s and {server:.1f} s of its"
            f" server with it, {own:.1f} s without: {1 - own / (work + server):.1%}"
        )


def server_seconds() -> float:
    """Processor time until now of the Prefect server, which is this process's only child between runs."""
    return sum(sum(server.cpu_times()[:2]) for server in psutil.Process().children(recursive=True))


@contextmanager
def server_apart() -> Iterator[None]:
    """The Prefect server, which is this process's only child between runs, on one core; all runs on the others."""
    first, *others = cores = sorted(os.sched_getaffinity(0))
    servers = psutil.Process().children(recursive=True)

    def place(of_servers: list[int], of_runs: list[int]) -> None:
        # Each thread has cores of its own; a new process takes those of the thread that starts it.
        for thread in (thread for server in servers for thread in server.threads()):
            os.sched_setaffinity(thread.id, of_servers)
        os.sched_setaffinity(0, of_runs)

    place([first], others)
    try:
        yield
    finally:
        place(cores, cores)


def dask_workers(folder: Path, api: str, profiles: int, rounds: int) -> None:
    """Two Dask workers and one, each message rendered in Jinja's sandbox, 20 partitions; their time, all awake."""
    path = profiles_of(folder, profiles)
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, found in times.items():
            engine = {"engine__kind": "dask", "engine__workers": workers, "partitions__size": profiles // 20}
            phases = run("sandbox", path, api, **engine)["phases"]
            found.append(phases["parts"]["seconds"])
    one, two = median(times[1]), median(times[2])
    print(f"Sandbox path, {profiles} profiles, Dask: 1 worker {one:.1f} s, 2 {two:.1f} s: {one / two:.2f} times")


def profiles_of(folder: Path, profiles: int) -> Path:
    """The made-up profiles, written once."""
    path = folder / f"{profiles}.parquet"
    if not path.exists():
        write_profiles(path, profiles)
    return path


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
