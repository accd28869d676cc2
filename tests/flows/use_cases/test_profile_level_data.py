"""The documented way for data about single profiles, which is no case for External API.

transfer file -> load file -> reconciliation -> enrichment -> email
                     query --/              /
                          \\----------------/
"""

from collections.abc import Callable
from pathlib import Path

import polars as pl
from prefect import flow

from tasks.data_management.load_file import LoadFileOptions, load_file
from tasks.data_management.reconciliation import ReconciliationOptions, reconciliation
from tasks.data_management.transfer_file import TransferFileOptions, transfer_file
from tasks.files.remote.local import LocalFolder
from tasks.sources.files import ProfileFile
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.query import QueryOptions, query

RENEWALS = LoadFileOptions(
    columns={"address": {"key": "email"}, "renews_on": {"key": "renews", "type": "date"}, "plan": {"key": "plan"}},
)
RENEWAL_FILES = TransferFileOptions(place=LocalFolder(folder="partner"), file="renewals_*.csv", folder="in")
BY_ADDRESS = ReconciliationOptions(criteria=[{"address": "email"}])
RENEWAL_OF_PROFILE = EnrichmentOptions(
    name="renewal", on={"profile_id": "profile_id"}, cardinality="many", order_by=["renews_on"], lines=1
)


def test_each_profile_is_told_of_its_own_next_renewal(
    people: ProfileFile, storage: Path, deliver: Callable, mails: Callable
) -> None:
    (storage / "partner").mkdir()
    (storage / "partner" / "renewals_1124.csv").write_text(
        "email,renews,plan\nbob@x.example,2027-03-01,Gold\nbob@x.example,2026-12-01,Basic\n"
        "stranger@x.example,2026-12-01,Basic\ndee@x.example,2026-02-30,Gold\n"
    )

    @flow
    def renewals() -> dict[str, int]:
        files = transfer_file(RENEWAL_FILES)
        loaded = load_file(RENEWALS, files)
        profiles = query(QueryOptions(source=people, where="may_contact AND email IS NOT NULL"))
        linked = reconciliation(loaded.standard, profiles, BY_ADDRESS)
        enriched = enrichment(profiles, linked.standard, RENEWAL_OF_PROFILE)
        due = enriched.collect().filter(pl.col("renewal").is_not_null())
        deliver(
            due, "renewal", "{{ profile.first_name }}: {{ content.renewal.plan }}, {{ content.renewal.renews_on }}"
        )
        return {"rejected": loaded.rejects.height, "unknown": linked.complement.height, "due": due.height}

    assert renewals() == {"rejected": 1, "unknown": 1, "due": 1}
    assert mails("renewal") == {"bob@x.example": "Bob: Basic, 2026-12-01"}
