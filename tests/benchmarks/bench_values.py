"""What the one door of values costs: `python tests/benchmarks/bench_values.py [rows]`.

A file of profiles becomes a typed audience; in the same interleaved run, polars alone reads it with the same
schema. The tables are compared, and the ratios of the medians are shown: of the time on the clock, and of the
processors' time, which other work on the machine alters less.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl

from tasks.sources.files import ProfileFile
from tasks.sources.selection import selected_batches
from tasks.tables.columns import ColumnType
from tasks.targeting.query import QueryOptions

PART = 100_000
TYPES: dict[str, ColumnType] = {
    "profile_id": "text",
    "email": "text",
    "birth_date": "date",
    "zip_code": "text",
    "may_contact": "boolean",
    "visits": "integer",
    "spent": "number",
    "seen_at": "datetime",
}
SCHEMA: dict[str, pl.DataType] = {
    "profile_id": pl.String(),
    "email": pl.String(),
    "first_name": pl.String(),
    "last_name": pl.String(),
    "birth_date": pl.Date(),
    "zip_code": pl.String(),
    "may_contact": pl.Boolean(),
    "visits": pl.Int64(),
    "spent": pl.Float64(),
    "seen_at": pl.Datetime("us"),
}


def people(rows: int) -> pl.DataFrame:
    """Made-up profiles; a tenth of the values that may be missing are."""
    chance = random.Random(7)
    few = 10_000
    table = pl.DataFrame(
        {
            "first_name": [f"First{chance.randrange(2000)}" for _ in range(few)],
            "last_name": [f"Last, {chance.randrange(5000)}" if n % 50 == 0 else f"Last{n}" for n in range(few)],
            "birth_date": [
                date(1940, 1, 1) + timedelta(days=chance.randrange(25_000)) if n % 10 else None for n in range(few)
            ],
            "zip_code": [f"{chance.randrange(100_000):05}" for _ in range(few)],
            "may_contact": [chance.random() < 0.8 for _ in range(few)],
            "visits": [chance.randrange(100) if n % 10 else None for n in range(few)],
            "spent": [round(chance.random() * 1000, 2) for _ in range(few)],
        },
        schema_overrides=SCHEMA,
    )
    number = pl.int_range(rows, eager=True)
    return table[number % few].select(
        pl.Series("profile_id", number).cast(pl.String()),
        (pl.lit("user") + pl.Series(number).cast(pl.String()) + "@mail.example").alias("email"),
        pl.all(),
        (pl.lit(datetime(2026, 1, 1)) + pl.duration(seconds=pl.Series(number) * 17 % 20_000_000)).alias("seen_at"),
    )


def audience(path: Path, *, distinct: bool) -> pl.DataFrame:
    """Ours: the typed audience of a file."""
    source = ProfileFile(path=path, types=TYPES)
    options = QueryOptions(source=source, remove_duplicates=distinct)
    return pl.concat(selected_batches(options, PART, activity="Query"))


def bare(path: Path) -> pl.DataFrame:
    """Polars alone, with the same schema."""
    scan = pl.scan_csv(path, schema=SCHEMA) if path.suffix == ".csv" else pl.scan_parquet(path)
    return scan.collect(engine="streaming")


def bare_distinct(path: Path) -> pl.DataFrame:
    """Polars alone, each profile once."""
    scan = pl.scan_csv(path, schema=SCHEMA) if path.suffix == ".csv" else pl.scan_parquet(path)
    return scan.unique("profile_id", keep="first", maintain_order=True).collect(engine="streaming")


def texts(rows: pl.DataFrame) -> pl.DataFrame:
    """The profiles as a system that knows no types writes them."""
    return rows.with_columns(
        pl.col("birth_date", "visits", "spent").cast(pl.String()),
        pl.col("seen_at").dt.strftime("%Y-%m-%dT%H:%M:%S"),
        pl.when("may_contact").then(pl.lit("true")).otherwise(pl.lit("false")).alias("may_contact"),
    )


def cast(path: Path) -> pl.DataFrame:
    """Polars alone, texts of Parquet cast."""
    scan = pl.scan_parquet(path).with_columns(
        pl.col("birth_date").str.to_date("%Y-%m-%d"),
        pl.col("visits").cast(pl.Int64()),
        pl.col("spent").cast(pl.Float64()),
        pl.col("seen_at").str.to_datetime("%Y-%m-%dT%H:%M:%S"),
        pl.col("may_contact") == "true",
    )
    return scan.collect(engine="streaming")


Reader = Callable[[Path], pl.DataFrame]
CASES: list[tuple[str, Literal["people.csv", "people.parquet", "texts.parquet"], Reader, Reader]] = [
    ("CSV", "people.csv", lambda path: audience(path, distinct=False), bare),
    ("Parquet", "people.parquet", lambda path: audience(path, distinct=False), bare),
    ("Parquet of texts", "texts.parquet", lambda path: audience(path, distinct=False), cast),
    ("CSV, each profile once", "people.csv", lambda path: audience(path, distinct=True), bare_distinct),
    ("Parquet, each profile once", "people.parquet", lambda path: audience(path, distinct=True), bare_distinct),
]


def measured(read: Reader, path: Path) -> tuple[tuple[float, float], pl.DataFrame]:
    """Seconds on the clock and of the processors, and the table."""
    begun, worked = time.perf_counter(), time.process_time()
    table = read(path)
    return (time.perf_counter() - begun, time.process_time() - worked), table


def main(rows: int, rounds: int) -> None:
    """Read every file in both ways in turn, round after round, and print the table."""
    times: dict[str, list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = people(rows)
        table.write_csv(folder / "people.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
        table.write_parquet(folder / "people.parquet")
        texts(table).write_parquet(folder / "texts.parquet")
        for turn in range(rounds):
            for case, file, ours, plain in CASES:
                seconds, taken = measured(ours, folder / file)
                plainly, expected = measured(plain, folder / file)
                times.setdefault(case, []).append((*seconds, *plainly))
                if turn == 0:
                    assert taken.equals(expected), case
    print(f"{rows:,} rows of {len(SCHEMA)} columns, medians of {rounds}")
    print(f"{'file':28}{'seconds':>9}{'polars':>9}{'ratio':>7}{'CPU':>9}{'polars':>9}{'ratio':>7}")
    for case, taken in times.items():
        clock, worked, plain_clock, plain_worked = map(statistics.median, zip(*taken, strict=True))
        print(
            f"{case:28}{clock:9.2f}{plain_clock:9.2f}{clock / plain_clock:7.2f}"
            f"{worked:9.2f}{plain_worked:9.2f}{worked / plain_worked:7.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    main(**vars(parser.parse_args()))
