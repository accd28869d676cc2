"""How fast messages are rendered, beside Jinja2's sandbox, minijinja and, where node has it, Handlebars.

Each engine is a process of its own that renders when it is told to, in turns, so that all meet the same machine.
The processor time is shown too: it is what stays comparable while the machine has other work.
Every message has a subject, 2.4 KB of HTML with eight escaped fields, and a text. What Jinja2 renders is compared
byte for byte with ours; minijinja and Handlebars write some entities differently (`&#x27;` for `&#39;`), so those
are compared after these are made the same. minijinja is there twice: with templates that are parsed once, and by
`render_str`, which parses each time. Ours starts from a table and ends with a table; the others are given Python
dictionaries (or JavaScript objects) that were made before the clock started.

    python tests/benchmarks/bench_personalization.py [--profiles N] [--rounds N] [--memory N ...]

Handlebars is found through NODE_PATH (`npm install handlebars`).
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

FIRST = [
    "Ada",
    "Grace",
    "Noor",
    "Jean & Marie",
    "O'Neil",
    "Zoë",
    "健太",
    "<b>Bold</b>",
    *["Anna", "Peter", "Maria"] * 6,
]
LAST = ["Smith & Sons", "D'Angelo", "Müller", "Lovelace", *["Hopper", "Jones", "Nilsson"] * 5]
CITIES = ["Springfield", "San José", "Coeur d'Alene", "Wien", "Boston", "Austin"]
FIELDS = [
    "profile.first_name", "profile.last_name", "profile.city", "profile.zip_code", "profile.email",
    "profile.points", "content.coupons.code", "content.coupons.store",
]  # fmt: skip
CELL = '<tr><td style="padding:32px 32px 8px;font-size:26px;line-height:1.25;color:#2b2b2b">%s</td></tr>\n'
FILLER = "We have a present for you, and it waits in every store of ours until the end of the month. " * 2
SUBJECT = "Happy birthday, {{ profile.first_name }}"
ROWS = "".join(CELL % f"{FILLER}{{{{ {name} }}}}" for name in FIELDS)
HTML = f"<html><body><table>\n{ROWS}</table></body></html>"
TEXT = "Hello {{ profile.first_name }} {{ profile.last_name }}, your code: {{ content.coupons.code }}"
SOURCES = {"subject.txt": SUBJECT, "body.html": HTML, "body.txt": TEXT}
SHARES = {"jinja2": 20, "minijinja": 10, "handlebars": 10}
"""The peers render one profile in so many of ours, or a round would take minutes."""


def audience(start: int, profiles: int) -> pl.DataFrame:
    """Made-up profiles with their content, the same for the same numbers."""
    number = pl.int_range(start, start + profiles, eager=True).alias("number")
    table = number.to_frame()

    def one_of(choices: list[str], seed: int) -> pl.Expr:
        place = (pl.col("number").hash(seed) % len(choices)).cast(pl.UInt32)
        return pl.lit(pl.Series(choices, dtype=pl.String())).gather(place)

    digits = pl.col("number").cast(pl.String()).str.zfill(8)
    return table.select(
        profile_id="P" + digits,
        email="p" + digits + "@profiles.example",
        first_name=one_of(FIRST, 1),
        last_name=one_of(LAST, 2),
        city=one_of(CITIES, 3),
        zip_code=digits.str.slice(3),
        points=pl.col("number") * 7 % 100_003,
        coupons=pl.struct(code="C-" + digits, store=one_of(CITIES, 4) + " Store"),
    )


def dictionaries(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [{"profile": row, "content": {"coupons": row.pop("coupons")}} for row in table.to_dicts()]


class Digest:
    """A digest of messages, with entities spelled as MarkupSafe does."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b()
        self.bytes = 0

    def add(self, subject: str, html: str, text: str) -> None:
        html = html.replace("&#x27;", "&#39;").replace("&quot;", "&#34;").replace("&#x2f;", "/")
        message = "\x1f".join((subject, html, text)).encode()
        self.bytes += len(message)
        self._hash.update(message)

    def hex(self) -> str:
        return self._hash.hexdigest()


Taken = tuple[float, float]
"""Seconds, and seconds of a processor."""


def timed(work: Callable[[], None], scale: float = 1) -> Taken:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * scale, (time.process_time() - processor) * scale


def ours(profiles: int) -> tuple[Callable[[], Taken], Callable[[int], str]]:
    from tasks.content._options import Renderers
    from tasks.content.personalization import PersonalizationOptions, Templates
    from tasks.send import Send

    table = audience(0, profiles)
    parts = {"subject": "subject.txt", "html": "body.html", "text": "body.txt"}
    options = PersonalizationOptions(
        templates=Templates(folder=Path(), parts=parts, sources=SOURCES),
        send=Send(campaign="bench", label="Bench", business_date=date(2026, 1, 1)),
    )

    def work() -> None:
        made = sum(messages.height for messages in Renderers(table.schema, options).slices([table]))
        assert made == profiles

    def digest(count: int) -> str:
        total = Digest()
        for messages in Renderers(table.schema, options).slices([table.head(count)]):
            for row in messages.select("subject", "html", "text").iter_rows():
                total.add(*row)
        return total.hex()

    return lambda: timed(work), digest


def jinja2(profiles: int) -> tuple[Callable[[], Taken], Callable[[int], str]]:
    from jinja2 import DictLoader
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        loader=DictLoader(SOURCES), autoescape=lambda name: str(name).endswith(".html")
    )
    templates = [environment.get_template(name) for name in SOURCES]
    return _peer(lambda row: [template.render(row) for template in templates], profiles, SHARES["jinja2"])


def minijinja(profiles: int) -> tuple[Callable[[], Taken], Callable[[int], str]]:
    from minijinja import Environment

    environment = Environment(templates=SOURCES)
    return _peer(
        lambda row: [environment.render_template(name, **row) for name in SOURCES], profiles, SHARES["minijinja"]
    )


def minijinja_text(profiles: int) -> tuple[Callable[[], Taken], Callable[[int], str]]:
    from minijinja import Environment

    environment = Environment()
    return _peer(
        lambda row: [environment.render_str(source, name, **row) for name, source in SOURCES.items()],
        profiles,
        SHARES["minijinja"],
    )


def _peer(
    render_one: Callable[[dict[str, Any]], list[str]], profiles: int, share: int
) -> tuple[Callable[[], Taken], Callable[[int], str]]:
    rows = dictionaries(audience(0, profiles // share))

    def work() -> None:
        for row in rows:
            render_one(row)

    def digest(count: int) -> str:
        total = Digest()
        for start in range(0, count, 50_000):
            for row in dictionaries(audience(start, min(50_000, count - start))):
                total.add(*render_one(row))
        return total.hex()

    return lambda: timed(work, profiles / len(rows)), digest


HANDLEBARS = """
const Handlebars = require('handlebars'), fs = require('fs'), readline = require('readline');
const [file, scale] = process.argv.slice(2);
const {sources, rows} = JSON.parse(fs.readFileSync(file));
const made = Object.entries(sources).map(([name, source]) =>
  Handlebars.compile(source, {noEscape: !name.endsWith('.html'), strict: true}));
readline.createInterface({input: process.stdin}).on('line', line => {
  if (line !== 'render') { process.stdout.write('null\\n'); return; }
  const started = process.hrtime.bigint(), before = process.cpuUsage();
  let length = 0;
  for (const row of rows) for (const template of made) length += template(row).length;
  const wall = Number(process.hrtime.bigint() - started) / 1e9, used = process.cpuUsage(before);
  process.stdout.write(JSON.stringify([wall * scale, (used.user + used.system) / 1e6 * scale]) + '\\n');
});
process.stdout.write('"ready"\\n');
"""


def serve(engine: str, profiles: int) -> None:
    """A worker: renders, or tells the digest of the first messages, as often as it is asked to."""
    engines = {"ours": ours, "jinja2": jinja2, "minijinja": minijinja, "minijinja_text": minijinja_text}
    render, digest = engines[engine](profiles)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        command, _, count = line.strip().partition(" ")
        print(json.dumps(render() if command == "render" else digest(int(count))), flush=True)


class Worker:
    """An engine in a process of its own."""

    def __init__(self, command: list[str], threads: int) -> None:
        environment = {**os.environ, "POLARS_MAX_THREADS": str(threads), "PYTHONPATH": str(Path.cwd())}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def workers(profiles: int, folder: Path) -> dict[str, Worker]:
    def python(engine: str, threads: int) -> Worker:
        return Worker([sys.executable, __file__, "--worker", engine, "--profiles", str(profiles)], threads)

    made = {
        "ours, 2 threads": python("ours", 2),
        "ours, 1 thread": python("ours", 1),
        "Jinja2 sandboxed": python("jinja2", 1),
        "minijinja": python("minijinja", 1),
        "minijinja, render_str": python("minijinja_text", 1),
    }
    if (
        shutil.which("node")
        and not subprocess.run(["node", "-e", "require('handlebars')"], capture_output=True, check=False).returncode
    ):
        share = SHARES["handlebars"]
        rows = dictionaries(audience(0, profiles // share))
        (folder / "rows.json").write_text(json.dumps({"sources": SOURCES, "rows": rows}))
        (folder / "handlebars.cjs").write_text(HANDLEBARS)
        command = ["node", str(folder / "handlebars.cjs"), str(folder / "rows.json"), str(share)]
        made["Handlebars (node)"] = Worker(command, 1)
    return made


def highest_memory() -> int:
    """MiB that this process has had at most. getrusage would count what it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def peak_memory(profiles: int) -> None:
    """Render an audience that comes in tables, and say how much memory that took at most."""
    from tasks.content._options import Renderers
    from tasks.content.personalization import PersonalizationOptions, Templates
    from tasks.send import Send

    parts = {"subject": "subject.txt", "html": "body.html", "text": "body.txt"}
    options = PersonalizationOptions(
        templates=Templates(folder=Path(), parts=parts, sources=SOURCES),
        send=Send(campaign="bench", label="Bench", business_date=date(2026, 1, 1)),
    )
    before = highest_memory()
    tables: Iterator[pl.DataFrame] = (
        audience(start, min(50_000, profiles - start)) for start in range(0, profiles, 50_000)
    )
    started = time.perf_counter()
    made = sum(messages.height for messages in Renderers(audience(0, 1).schema, options).slices(tables))
    seconds = time.perf_counter() - started
    peak = highest_memory()
    rate = f"{made / seconds:,.0f} a second"
    print(f"{made:>12,} profiles: peak {peak} MiB, of which {before} MiB before the first; {rate}")


def copying(profiles: int) -> Taken:
    """Seconds for one thread to copy as many bytes as the messages have."""
    size = sum(len(source) for source in SOURCES.values()) + 60
    block = bytearray(size * 10_000)
    target = bytearray(len(block))

    def work() -> None:
        for _ in range(profiles // 10_000):
            target[:] = block

    return timed(work)


def compare(profiles: int, rounds: int, compared: int, folder: Path) -> None:
    engines = workers(profiles, folder)
    seconds: dict[str, list[Taken]] = {name: [] for name in [*engines, "copying the bytes"]}
    for _ in range(rounds):
        for name, engine in engines.items():
            seconds[name].append(engine.ask("render"))
        seconds["copying the bytes"].append(copying(profiles))
    show(profiles, rounds, seconds)
    expected = engines["ours, 2 threads"].ask(f"digest {compared}")
    for name in ("ours, 1 thread", "Jinja2 sandboxed", "minijinja", "minijinja, render_str"):
        same = engines[name].ask(f"digest {compared}") == expected
        print(f"{name}: {compared:,} messages {'are the same, byte for byte' if same else 'DIFFER'}")
    for engine in engines.values():
        engine.stop()


def show(profiles: int, rounds: int, seconds: dict[str, list[Taken]]) -> None:
    wall = {name: median(each for each, _ in taken) for name, taken in seconds.items()}
    processor = {name: median(each for _, each in taken) for name, taken in seconds.items()}
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{profiles:,} messages of {len(HTML) / 1000:.1f} KB, every field escaped.")
    print(f"Medians of {rounds} rounds in turns; the machine's load was {load}.\n")
    print(f"| {'engine':21} | a second  | of Jinja2   | of minijinja | processor | of Jinja2's |")
    print(f"|{'-' * 23}|{'-' * 11}|{'-' * 13}|{'-' * 14}|{'-' * 11}|{'-' * 13}|")
    for name in seconds:
        times = [f"{wall[peer] / wall[name]:.1f} times" for peer in ("Jinja2 sandboxed", "minijinja")]
        less = f"{processor['Jinja2 sandboxed'] / processor[name]:.1f} times"
        each = f"{1e6 * processor[name] / profiles:.2f} µs"
        rate = f"{profiles / wall[name]:,.0f}"
        print(f"| {name:21} | {rate:>9} | {times[0]:>11} | {times[1]:>12} | {each:>9} | {less:>11} |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--profiles", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--compared", type=int)
    options.add_argument("--memory", type=int, nargs="*", default=[1_000_000, 10_000_000])
    options.add_argument("--worker")
    options.add_argument("--peak", type=int)
    given = options.parse_args()
    if given.worker:
        serve(given.worker, given.profiles)
    elif given.peak:
        peak_memory(given.peak)
    else:
        folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"bench-personalization-{os.getpid()}"
        folder.mkdir()
        try:
            compare(given.profiles, given.rounds, given.compared or given.profiles, folder)
        finally:
            shutil.rmtree(folder)
        for profiles in given.memory:
            command = [sys.executable, __file__, "--peak", str(profiles)]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})


if __name__ == "__main__":
    main()
