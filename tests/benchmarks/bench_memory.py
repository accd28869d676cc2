"""What selecting many profiles from a file holds in memory: `python tests/benchmarks/bench_memory.py [millions]`.

A folder of Parquet files, all profiles different, is selected part by part, each key once, as Query does; each part
is written and forgotten. Shown is the peak beside what the process held before, in MiB.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import polars as pl
import psutil

from tasks.sources.files import ProfileFile
from tasks.sources.selection import selected_batches
from tasks.targeting.query import QueryOptions

FILES = 20
PART = 50_000
MEBIBYTE = 1024 * 1024


def write_profiles(folder: Path, profiles: int) -> None:
    """Ten columns, four of texts that hardly repeat, in twenty files."""
    each = profiles // FILES
    number = pl.col("number")
    for file in range(FILES):
        pl.DataFrame({"number": pl.int_range(file * each, (file + 1) * each, eager=True)}).select(
            profile_id=pl.format("P{}", number.cast(pl.String()).str.zfill(9)),
            email=pl.format("person{}@example{}.example", number, number % 97),
            first_name=pl.format("First {}", number.hash() % 100_003),
            last_name=pl.format("Last {}", number.hash(3) % 1_000_003),
            zip_code=(number % 99_999).cast(pl.String()),
            city=pl.format("City {}", number % 3001),
            birth_date=pl.lit("1990-01-01").str.to_date() + pl.duration(days=number % 9000),
            joined=pl.lit("2020-01-01").str.to_datetime() + pl.duration(seconds=number),
            score=number * 0.37,
            may_contact=number % 2 == 0,
        ).write_parquet(folder / f"profiles-{file:02}.parquet")


def select(folder: Path) -> None:
    """Select all, and say how many, in how many seconds, with which peak."""
    process = psutil.Process()
    before = peak = process.memory_info().rss
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    begun = time.perf_counter()
    options = QueryOptions(source=ProfileFile(path=folder))
    rows = 0
    with tempfile.TemporaryDirectory() as parts:
        for part in selected_batches(options, PART, activity="Query"):
            part.write_ipc(Path(parts, "part.arrow"))
            rows += part.height
    over.set()
    watching.join()
    seconds = time.perf_counter() - begun
    print(f"{rows:>12,} profiles {seconds:8.1f} s   peak {(peak - before) / MEBIBYTE:6.0f} MiB", flush=True)


def main() -> None:
    """Write the files, and select them in processes of their own: a tenth, then all."""
    if sys.argv[1:2] == ["--child"]:
        select(Path(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("millions", type=float, nargs="?", default=10)
    millions = parser.parse_args().millions
    for profiles in (int(millions * 100_000), int(millions * 1_000_000)):
        with tempfile.TemporaryDirectory() as name:
            write_profiles(Path(name), profiles)
            subprocess.run([sys.executable, __file__, "--child", name], check=True)


if __name__ == "__main__":
    main()
