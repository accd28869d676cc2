"""Use case: the people of a file are subscribed to a service; who is no profile is left out.

load file -> reconciliation (with query) -> subscription services
"""

from datetime import date
from pathlib import Path

from prefect import flow

from tasks.data_management.load_file import LoadFileOptions, load_file
from tasks.data_management.reconciliation import ReconciliationOptions, reconciliation
from tasks.data_management.subscription_services import SubscriptionServicesOptions, subscription_services
from tasks.sources.database import DatabaseTable
from tasks.sources.files import ProfileFile
from tasks.sources.sql import Database
from tasks.targeting.query import QueryOptions, query

TODAY = date(2026, 11, 24)
SIGN_UPS = LoadFileOptions(
    file="sign-ups.csv",
    separator=";",
    columns={"address": {"key": "Mail"}, "signed_on": {"key": "On", "type": "date", "format": "%d.%m.%Y"}},
)


def test_who_signed_up_is_subscribed_since_that_day(
    people: ProfileFile, database: Database, storage: Path, result_folder: Path
) -> None:
    (storage / "sign-ups.csv").write_text("Mail;On\nBOB@x.example;01.11.2026\nnobody@x.example;02.11.2026\n")

    @flow
    def sign_ups() -> tuple[int, int]:
        known = reconciliation(
            load_file(SIGN_UPS).standard,
            query(QueryOptions(source=people)),
            ReconciliationOptions(criteria=[{"address": "email"}], ignore_case=True),
        )
        news = SubscriptionServicesOptions(database=database, service="news", date_column="signed_on")
        return subscription_services(known.standard, news, TODAY).standard.height, known.complement.height

    assert sign_ups() == (1, 1)
    subscriptions = DatabaseTable(database=database, table="subscriptions").select("TRUE").collect()
    assert [(row[0], row[1], str(row[2])) for row in subscriptions.rows()] == [("news", "p2", "2026-11-01")]
    assert sign_ups() == (0, 1)
