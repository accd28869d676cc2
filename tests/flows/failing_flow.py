"""Flows that fail, in a program: standard input names each, its parameters and its settings, as JSON."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import polars as pl
from prefect import flow, tags
from prefect.settings import temporary_settings

from flows.campaign import campaign
from flows.operations.erasure import erasure
from tasks.data_management.update_data import UpdateDataOptions, update_data
from tasks.sources.database import DatabaseTable
from tasks.sources.sql import Database
from tasks.targeting.query import QueryOptions, query
from tests.heartbeats import NO_HEARTBEATS


@flow(name="Reading a database")
def reading(url: str, where: str = "TRUE", table: str = "people") -> None:
    """The database's address is a secret of the code, as it would be of a block: a file has it."""
    address = Path(url).read_text()
    query(QueryOptions(source=DatabaseTable(database=Database(url=address), table=table), where=where))


@flow(name="Writing a database")
def writing(url: str, rows: str) -> None:
    database = Database(url=Path(url).read_text())
    written = update_data(pl.read_parquet(rows), UpdateDataOptions(database=database, table="people", key=["id"]))
    assert not written.rejects.height, "some rows were refused"


FLOWS: dict[str, Any] = {"campaign": campaign, "erasure": erasure, "reading": reading, "writing": writing}


def main() -> None:
    for kind, name, parameters, settings in json.load(sys.stdin):
        sys.stderr.write(f"=== {kind}\n")
        before = {setting: os.environ.get(setting) for setting in settings}
        os.environ.update(settings)
        try:
            with tags(kind):
                FLOWS[name](**parameters)
        except Exception:  # noqa: BLE001  # as a program that ends shows it
            traceback.print_exc()
        for setting, value in before.items():
            os.environ.pop(setting)
            if value is not None:
                os.environ[setting] = value


if __name__ == "__main__":
    with temporary_settings(NO_HEARTBEATS):
        main()
