"""Use case: purchases of a file are linked to their profiles and kept; those of nobody known are told.

load file -> reconciliation (with query) -> update data
                                        \\ complement -> extract file
"""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from prefect import flow

from tasks.data_management.extract_file import ExtractFileOptions, extract_file
from tasks.data_management.load_file import LoadFileOptions, load_file
from tasks.data_management.reconciliation import ReconciliationOptions, reconciliation
from tasks.data_management.update_data import UpdateDataOptions, update_data
from tasks.sources.database import DatabaseTable
from tasks.sources.files import ProfileFile
from tasks.sources.selection import AdditionalData
from tasks.sources.sql import Database
from tasks.targeting.query import QueryOptions, query

PURCHASES = LoadFileOptions(
    file="purchases.txt",
    format="fixed_width",
    widths={"order": 4, "name": 4, "zip": 6, "amount": 7},
    header=False,
    columns={
        "order_id": {"key": "order"},
        "buyer": {"key": "name"},
        "zip": {"key": "zip"},
        "amount": {"key": "amount", "type": "decimal", "decimal_separator": ","},
    },
)
BY_NAME_AND_ZIP = ReconciliationOptions(criteria=[{"buyer": "first_name", "zip": "zip_code"}], ignore_case=True)


def test_each_purchase_is_kept_with_its_profile(
    people: ProfileFile, database: Database, make_table: Callable, storage: Path, result_folder: Path
) -> None:
    make_table("purchases", "order_id VARCHAR(9) PRIMARY KEY, profile_id TEXT, amount NUMERIC(10, 2)")
    (storage / "purchases.txt").write_text(
        "o1  ADA 94016   10,50\no2  Dee 10001    3,00\no3  Zed 99999    1,00\no4  Ada 94016    2,25\n"
    )
    table = DatabaseTable(database=database, table="purchases", key="order_id")

    @flow
    def purchases() -> None:
        linked = reconciliation(load_file(PURCHASES).standard, query(QueryOptions(source=people)), BY_NAME_AND_ZIP)
        columns = {"order_id": "order_id", "profile_id": "profile_id", "amount": "amount"}
        options = UpdateDataOptions(database=database, table="purchases", key=["order_id"], columns=columns)
        update_data(linked.standard, options)
        extract_file(linked.complement, ExtractFileOptions(file="unknown.csv", columns={"Order": "order_id"}))

    @flow
    def spent() -> dict[str, Decimal | None]:
        total = AdditionalData(
            name="bought",
            source=table,
            on={"profile_id": "profile_id"},
            cardinality="many",
            aggregates={"total": "SUM(amount)"},
        )
        rows = query(QueryOptions(source=people, where="state <> 'TX'", additional_data=[total]))
        return {row["profile_id"]: row["bought"]["total"] for row in rows.collect().iter_rows(named=True)}

    purchases()
    assert (storage / "unknown.csv").read_text() == "Order\no3\n"
    assert spent() == {"p1": Decimal("12.75"), "p2": None, "p3": None, "p4": Decimal("3.00"), "p6": None}
