"""How long an answer of 5 MB takes to become a typed table, with every guardrail on.

`python tests/benchmarks/bench_answer.py` reads one made-up answer of 28,000 rows by the answer reader, by a bare
`pl.read_json` with the schema given and by `pandas.json_normalize` (extra `bench`), in turn, and prints medians
and their ratios. The bare reader only parses: it makes no dates and checks nothing.
"""

import argparse
import io
import json
import random
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import polars as pl

from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.answer.reader import read_answer

ROWS = 28_000
SCHEMA = {
    "id": pl.Int64(),
    "zipCode": pl.String(),
    "code": pl.String(),
    "title": pl.String(),
    "price": pl.Float64(),
    "active": pl.Boolean(),
    "startsOn": pl.String(),
    "updatedAt": pl.String(),
}


def made_up_rows(seed: int) -> list[dict[str, object]]:
    chance = random.Random(seed)
    return [
        {
            "id": number,
            "zipCode": f"{chance.randrange(100_000):05}",
            "code": f"{chance.getrandbits(40):010x}",
            "title": f"Offer {'é' if number % 9 == 0 else 'e'} {'x' * chance.randrange(4, 26)}",
            "price": round(chance.random() * 100, 2),
            "active": chance.random() < 0.5,
            "startsOn": f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
            "updatedAt": f"2026-11-24T{chance.randrange(24):02}:30:00Z",
        }
        for number in range(ROWS)
    ]


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    rows = made_up_rows(seed=1)
    array = json.dumps(rows, ensure_ascii=False, separators=(",", ": ")).encode()
    body = b'{"data": {"offers": ' + array + b"}}"
    mapping = OutboundMapping(sample={"data": {"offers": rows[:3]}})
    works: dict[str, Callable[[], object]] = {
        "answer reader": lambda: read_answer([body], mapping, url="benchmark").standard,
        "pl.read_json": lambda: pl.read_json(io.BytesIO(array), schema=SCHEMA),
    }
    if find_spec("pandas"):
        import pandas as pd

        path = ["data", "offers"]
        works["json_normalize (record_path)"] = lambda: pd.json_normalize(json.loads(body), record_path=path)
        works["json_normalize (flat list)"] = lambda: pd.json_normalize(json.loads(body)["data"]["offers"])
    else:
        print("pandas is not installed (extra 'bench'): json_normalize is left out.")
    table = read_answer([body], mapping, url="benchmark").standard
    assert table.height == ROWS
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(given.rounds):
        for name, work in works.items():
            times[name].append(milliseconds(work))
    own = statistics.median(times["answer reader"])
    print(f"{len(body):,} bytes, {ROWS:,} rows, {len(SCHEMA)} columns; medians of {given.rounds} rounds in turn.")
    print(f"{'':30}{'median':>10}{'fastest':>10}   answer reader takes")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:30}{median:>7.1f} ms{min(taken):>7.1f} ms   {own / median:.2f} times as long")


if __name__ == "__main__":
    main()
