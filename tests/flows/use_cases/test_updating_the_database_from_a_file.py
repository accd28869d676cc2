"""Use case: the database's profiles are updated from a file.

transfer file -> load file -> update data
"""

from collections.abc import Callable
from pathlib import Path

from prefect import flow

from tasks.data_management.load_file import LoadFileOptions, load_file
from tasks.data_management.transfer_file import TransferFileOptions, transfer_file
from tasks.data_management.update_data import UpdateDataOptions, update_data
from tasks.files.remote.local import LocalFolder
from tasks.sources.database import DatabaseTable
from tasks.sources.sql import Database
from tasks.targeting.query import QueryOptions, query

CRM = LoadFileOptions(
    columns={
        "profile_id": {"key": "ID"},
        "email": {"key": "E-Mail", "letter_case": "lower", "white_space": "trim"},
        "city": {"key": "City", "on_empty": "null"},
    },
    rejects_file="rejects.csv",
)
DELIVERED_FILES = TransferFileOptions(
    place=LocalFolder(folder="crm"), file="profiles_*.csv", folder="in", delete_after=True, when_none="nothing"
)


def test_the_database_knows_what_the_file_says(
    database: Database, make_table: Callable, storage: Path, result_folder: Path
) -> None:
    stored = [("1", "ada@x", "Wien"), ("2", "bob@x", "Graz")]
    make_table("profiles", "profile_id VARCHAR(9) PRIMARY KEY, email TEXT, city TEXT", stored)
    (storage / "crm").mkdir()
    lines = "ID,E-Mail,City\n1, ADA@new ,Wien\n2,bob@x,Graz\n3,cid@x,\n"
    (storage / "crm" / "profiles_1.csv").write_text(lines)
    profiles = DatabaseTable(database=database, table="profiles")

    @flow
    def nightly_update() -> tuple[int, ...]:
        rows = load_file(CRM, transfer_file(DELIVERED_FILES)).standard
        options = UpdateDataOptions(database=database, table="profiles", key=["profile_id"])
        return update_data(rows, options).transition("counts").collect().row(0)

    assert nightly_update() == (1, 1, 0, 1)
    assert nightly_update() == (0, 0, 0, 0), "the file is done with"

    @flow
    def look() -> list[tuple[str, ...]]:
        return query(QueryOptions(source=profiles)).collect().rows()

    assert look() == [("1", "ada@new", "Wien"), ("2", "bob@x", "Graz"), ("3", "cid@x", None)]
