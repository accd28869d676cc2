"""Use case: two deliveries, one to a segment and one to its complement.

query -> segmentation -> Californians -> email
                      \\ complement    -> email
"""

from collections.abc import Callable

from prefect import flow

from tasks.execution.execution_options import with_segment_codes
from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, has_text, query
from tasks.targeting.segmentation import SegmentationOptions, segment, segmentation

CALIFORNIANS = SegmentationOptions(segments=[{"code": "ca", "where": "state = 'CA'"}])


def test_everyone_gets_exactly_one_of_the_two_mails(
    people: ProfileFile, deliver: Callable, mails: Callable
) -> None:
    @flow
    def two_deliveries() -> set[str]:
        audience = query(QueryOptions(source=people, where=f"may_contact AND {has_text('email')}"))
        divided = with_segment_codes(segmentation(audience, CALIFORNIANS), {"complement": "elsewhere"})
        deliver(segment(divided, "ca"), "beach", "To the beach, {{ profile.first_name }}")
        deliver(divided.complement, "home", "At home, {{ profile.first_name }} ({{ profile.segment_code }})")
        return set(audience.collect()["email"])

    everyone = two_deliveries()
    assert set(mails("beach")) == {"ada@x.example", "bob@x.example", "ADA@x.example"}
    assert mails("home") == {
        "dee@x.example": "At home, Dee (elsewhere)",
        "gus@x.example": "At home, Gus (elsewhere)",
        "hal@x.example": "At home, Hal (elsewhere)",
    }
    assert set(mails("beach")) | set(mails("home")) == everyone
