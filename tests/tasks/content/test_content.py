"""Content that Enrichment has added: each profile sees the rows that are linked to it, on both paths."""

from pathlib import Path

import polars as pl
import pytest

from tasks.content.personalization import PersonalizationOptions, Templates, personalize
from tasks.send import Send
from tasks.targeting.enrichment import EnrichmentOptions, enrichment

SEND = Send(campaign="spring", label="Spring", business_date="2026-02-28")
OFFERS = pl.DataFrame(
    {
        "area": ["south", "north", "south", None, "south"],
        "title": ["Tea & cake", "Skis", None, "Nowhere", "<b>Sun</b>"],
        "price": [9.5, 100.0, 3.25, 1.0, None],
    }
)
AUDIENCE = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3", "4", "5"],
        "email": [f"p{number}@x.example" for number in range(5)],
        "first_name": ["Ada", None, "Eve", "Flo", "Gus"],
        "region": ["south", "north", "east", None, "south"],
    }
)
PARTS = {"subject": "s.txt", "html": "b.html", "text": "s.txt"}


ENRICHED = enrichment.fn(
    AUDIENCE, OFFERS, EnrichmentOptions(name="offers", on={"region": "area"}, cardinality="many")
)


def options(html: str, **given: object) -> PersonalizationOptions:
    templates = Templates(folder=Path("t"), parts=PARTS, sources={"s.txt": "s", "b.html": f"-{html}"})
    return PersonalizationOptions(templates=templates, send=SEND, **given)


LIST = (
    "{% for o in content.offers %}{{ loop.index }} {{ o.title|d('?') }} {{ o.price|d(0) }};"
    "{% else %}none{% endfor %}"
)


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize(
    ("html", "messages"),
    [
        (LIST, ["1 Tea &amp; cake 9.5;2 ? 3.25;3 &lt;b&gt;Sun&lt;/b&gt; 0;", "1 Skis 100.0;", "none", "none"]),
        ("{{ content.offers|length }}{{ offers|length }}", ["33", "11", "00", "00"]),
        ("{% for o in offers %}{{ first_name|d('you') }}{% endfor %}", ["AdaAdaAda", "you", "", ""]),
        ("{% for o in offers[:1] %}{{ o.title }}{% endfor %}", ["Tea &amp; cake", "Skis", "", ""]),
        ("{% for o in offers if o.price|d(0) > 5 %}{{ o.price }}{% endfor %}", ["9.5", "100.0", "", ""]),
        ("{% if first_name %}{% for o in offers %}x{% endfor %}{% endif %}", ["xxx", "", "", ""]),
        ("{% if offers %}some{% else %}none{% endif %}", ["some", "some", "none", "none"]),
    ],
)
def test_a_profile_sees_the_rows_that_match_it(html: str, messages: list[str], row_by_row: bool) -> None:
    made = personalize(ENRICHED, options(html, row_by_row=row_by_row))
    assert made.rejects.is_empty()
    assert made.standard["html"].head(4).to_list() == [f"-{message}" for message in messages]


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_row_without_a_value_rejects_only_the_profiles_that_see_it(row_by_row: bool) -> None:
    html = "{% for o in offers %}{{ o.title }}{% endfor %}"
    made = personalize(ENRICHED, options(html, row_by_row=row_by_row))
    assert made.standard["profile_id"].to_list() == ["2", "3", "4"]
    assert made.rejects["reason"].to_list() == ["no value for content.offers[].title"] * 2
