"""Use case: each age group gets its own mail; who has no birth date gets none.

query (with the age) -> segmentation -> young   -> email
                                     -> grown   -> email
                                     -> senior  -> email
"""

from collections.abc import Callable

from prefect import flow

from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, query
from tasks.targeting.segmentation import SegmentationOptions, segment, segmentation

AGE_GROUPS = SegmentationOptions(
    segments=[
        {"code": "young", "label": "Under 25", "where": "age < 25"},
        {"code": "grown", "label": "25 to 59", "where": "age < 60"},
        {"code": "senior", "label": "60 and over", "where": "age >= 60"},
    ]
)


def test_each_age_group_gets_its_own_mail(people: ProfileFile, deliver: Callable, mails: Callable) -> None:
    @flow
    def age_groups() -> dict[str, int]:
        audience = query(
            QueryOptions(source=people, where="may_contact", fields={"age": "2026 - EXTRACT(YEAR FROM birth_date)"})
        )
        groups = segmentation(audience, AGE_GROUPS)
        counts = groups.transition("counts").collect()
        for code, label in counts.select("segment_code", "label").iter_rows():
            deliver(segment(groups, code), f"age-{code}", f"{label}: {{{{ profile.first_name }}}}")
        return dict(counts.select("segment_code", "rows").iter_rows()) | {"none": groups.complement.height}

    assert age_groups() == {"young": 2, "grown": 3, "senior": 1, "none": 1}
    assert mails("age-young") == {"bob@x.example": "Under 25: Bob", "gus@x.example": "Under 25: Gus"}
    assert mails("age-grown") == {"ada@x.example": "25 to 59: Ada", "ADA@x.example": "25 to 59: Fay"}
    assert mails("age-senior") == {"dee@x.example": "60 and over: Dee"}
