"""Use case: duplicates are identified before a delivery, and kept in a file to be cleaned.

query -> deduplication (address) -> email
                    \\ complement -> extract file
"""

from collections.abc import Callable
from pathlib import Path

from prefect import flow

from tasks.data_management.extract_file import ExtractFileOptions, extract_file
from tasks.sources.files import ProfileFile
from tasks.targeting.deduplication import DeduplicationOptions, deduplication
from tasks.targeting.query import QueryOptions, query

SAME_ADDRESS = DeduplicationOptions(expressions=["LOWER(TRIM(email))"], which="smallest", by="birth_date")


def test_one_address_gets_one_mail_and_the_duplicates_are_listed(
    people: ProfileFile, storage: Path, deliver: Callable, mails: Callable
) -> None:
    @flow
    def californian_news() -> None:
        audience = query(QueryOptions(source=people, where="state = 'CA' AND email IS NOT NULL"))
        unique = deduplication(audience, SAME_ADDRESS)
        extract_file(
            unique.complement, ExtractFileOptions(file="duplicates.csv", columns={"Profile": "profile_id"})
        )
        deliver(unique.standard, "news", "News for {{ profile.first_name }}")

    californian_news()
    assert mails("news") == {"ADA@x.example": "News for Fay", "bob@x.example": "News for Bob"}
    assert (storage / "duplicates.csv").read_text() == "Profile\np1\n"
