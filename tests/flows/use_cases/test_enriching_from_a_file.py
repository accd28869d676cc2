"""Use case: the audience is enriched with what a file knows of it.

query ------------------> enrichment -> email
load file (loyalty) ---/
"""

from collections.abc import Callable
from pathlib import Path

from prefect import flow

from tasks.data_management.load_file import LoadFileOptions, load_file
from tasks.sources.files import ProfileFile
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.query import QueryOptions, query

LOYALTY = LoadFileOptions(
    file="loyalty.csv",
    columns={"profile_id": {"key": "Customer"}, "points": {"key": "Points", "type": "integer"}},
)


def test_the_mail_tells_what_the_file_knows(
    people: ProfileFile, storage: Path, deliver: Callable, mails: Callable
) -> None:
    (storage / "loyalty.csv").write_text("Customer,Points\np1,120\np2,many\np4,7\n")

    @flow
    def points_news() -> list[int]:
        audience = query(QueryOptions(source=people, where="state IN ('CA', 'NY') AND may_contact"))
        loyalty = load_file(LOYALTY)
        on = {"profile_id": "profile_id"}
        enriched = enrichment(audience, loyalty.standard, EnrichmentOptions(name="loyalty", on=on))
        deliver(enriched, "points", "{{ profile.first_name }}: {{ content.loyalty.points | default('no') }} points")
        return loyalty.rejects.collect()["row"].to_list()

    assert points_news() == [2]
    assert mails("points") == {
        "ada@x.example": "Ada: 120 points",
        "bob@x.example": "Bob: no points",
        "dee@x.example": "Dee: 7 points",
        "ADA@x.example": "Fay: no points",
    }
