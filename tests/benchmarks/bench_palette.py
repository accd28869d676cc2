"""What the palette's activities cost on a million rows: `python tests/benchmarks/bench_palette.py [rows]`.

Pure functions, no Prefect around them. Where there is a plainer way that people would take, it runs in the same
interleaved run on the same rows, its result is compared, and the table gives the ratio of the medians.
"""

import argparse
import csv
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from tasks.data_management.load_file import LoadFileOptions, load
from tasks.data_management.reconciliation import ReconciliationOptions, reconcile
from tasks.data_management.update_data import UpdateDataOptions, update
from tasks.sources.sql import Database
from tasks.tables.columns import ColumnDefinition
from tasks.targeting.deduplication import DeduplicationOptions, deduplication
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.exclusion import ExclusionOptions, exclusion
from tasks.targeting.segmentation import SegmentationOptions, segmentation
from tasks.targeting.union import UnionOptions, union

Case = tuple[str, Callable[[], object], Callable[[], object] | None]


def audience(rows: int) -> pl.DataFrame:
    """Made-up profiles."""
    number = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "profile_id": number.cast(pl.String()),
            "email": "user" + (number % (rows * 9 // 10)).cast(pl.String()) + "@x.example",
            "age": number % 90,
            "state": pl.Series(["CA", "NY", "TX", "WA"]).gather(number % 4),
        }
    )


def upsert_by_row(folder: Path, people: pl.DataFrame) -> int:
    """The plain way into SQLite: one INSERT ... ON CONFLICT a row."""
    with sqlite3.connect(folder / "plain.db") as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS p (profile_id TEXT PRIMARY KEY, email TEXT, age INT, state TEXT)"
        )
        connection.executemany(
            "INSERT INTO p VALUES (?, ?, ?, ?) ON CONFLICT (profile_id) DO UPDATE SET"
            " email = excluded.email, age = excluded.age, state = excluded.state",
            people.iter_rows(),
        )
    return people.height


def loaded_by_row(path: Path) -> int:
    """The plain way of reading a file: the csv module, an int a row."""
    with path.open(newline="") as file:
        return len(
            [(row["profile_id"], row["email"], int(row["age"]), row["state"]) for row in csv.DictReader(file)]
        )


def cases(rows: int, folder: Path) -> list[Case]:
    """Name, our way, the plain way (giving an equal number) if there is one."""
    people = audience(rows)
    half = people.filter(pl.col("age") < 45)
    purchases = people.select("profile_id", amount=pl.col("age")).vstack(half.select("profile_id", amount="age"))
    segments = SegmentationOptions(
        segments=[
            {"code": "young", "where": "age < 25", "limit": {"percentage": 50}},
            {"code": "ca", "where": "state = 'CA'", "limit": {"maximum": 1000, "order_by": "age"}},
            {"code": "rest"},
        ]
    )
    unique = DeduplicationOptions(expressions=["LOWER(email)"], which="largest", by="age")
    totals = EnrichmentOptions(
        name="bought", on={"profile_id": "profile_id"}, cardinality="many", aggregates={"total": "SUM(amount)"}
    )
    by_mail = ReconciliationOptions(criteria=[{"mail": "email"}], ignore_case=True)
    known = people.unique("email", keep="first", maintain_order=True)
    strangers = people.select(mail=pl.col("email").str.to_uppercase())
    people.write_csv(folder / "people.csv")
    columns = {name: ColumnDefinition(key=name) for name in people.columns}
    columns["age"] = ColumnDefinition(key="age", type="integer")
    loading = LoadFileOptions(columns=columns)
    database = Database(url=f"sqlite:///{folder / 'ours.db'}")
    with sqlite3.connect(folder / "ours.db") as connection:
        connection.execute("CREATE TABLE p (profile_id TEXT PRIMARY KEY, email TEXT, age INT, state TEXT)")
    updating = UpdateDataOptions(database=database, table="p", key=["profile_id"])
    return [
        ("Union", lambda: union.fn({"all": people, "half": half}, UnionOptions()).standard.height, None),
        (
            "Exclusion",
            lambda: exclusion.fn({"all": people, "half": half}, ExclusionOptions()).standard.height,
            None,
        ),
        ("Segmentation", lambda: segmentation.fn(people, segments).standard.height, None),
        ("Deduplication", lambda: deduplication.fn(people, unique).standard.height, None),
        ("Enrichment, aggregates", lambda: enrichment.fn(people, purchases, totals).height, None),
        ("Reconciliation", lambda: reconcile(strangers, known, by_mail).standard.height, None),
        (
            "Load file / csv module",
            lambda: load(["people.csv"], loading, folder).standard.height,
            lambda: loaded_by_row(folder / "people.csv"),
        ),
        (
            "Update data, SQLite / upsert a row",
            lambda: update(people, updating).standard.height,
            lambda: upsert_by_row(folder, people),
        ),
    ]


def measured(work: Callable[[], object]) -> tuple[float, object]:
    """Seconds, and the result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def main(rows: int, rounds: int) -> None:
    """Run every case in turn, round after round, and print the table."""
    with tempfile.TemporaryDirectory() as name:
        table = cases(rows, Path(name))
        times: dict[str, tuple[list[float], list[float]]] = {case: ([], []) for case, _, _ in table}
        for _ in range(rounds):
            for case, ours, plain in table:
                seconds, result = measured(ours)
                times[case][0].append(seconds)
                if plain is not None:
                    seconds, expected = measured(plain)
                    times[case][1].append(seconds)
                    assert result == expected, case
    print(
        f"{rows:,} rows, medians of {rounds}\n"
        f"{'activity':36}{'seconds':>9}{'rows/s':>14}{'plain way':>11}{'ratio':>7}"
    )
    for case, (ours, plain) in times.items():
        median = statistics.median(ours)
        other = f"{statistics.median(plain):11.2f}{statistics.median(plain) / median:7.1f}" if plain else ""
        print(f"{case:36}{median:9.2f}{rows / median:14,.0f}{other}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    main(**vars(parser.parse_args()))
