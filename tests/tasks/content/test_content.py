"""Content tables: each profile sees the rows that match it, and what is the same for many is rendered once."""

from pathlib import Path

import polars as pl
import pytest

from tasks.content._options import PersonalizationOptions, Renderers
from tasks.content.personalization import Templates, personalize
from tasks.errors import CampaignError, ColumnsMissing, ColumnTaken, KeyTypesDiffer, RelationsDiffer
from tasks.lowering.plan import Joined
from tasks.send import Send

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


def options(html: str, **given: object) -> PersonalizationOptions:
    templates = Templates(folder=Path("t"), parts=PARTS, sources={"s.txt": "s", "b.html": html})
    return PersonalizationOptions(
        templates=templates, send=SEND, **{"relations": {"offers": {"region": "area"}}, **given}
    )


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
    made = personalize(AUDIENCE, options(html, row_by_row=row_by_row), {"offers": OFFERS})
    assert made.rejects.is_empty()
    assert made.standard["html"].head(4).to_list() == messages


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_row_without_a_value_rejects_only_the_profiles_that_see_it(row_by_row: bool) -> None:
    html = "{% for o in offers %}{{ o.title }}{% endfor %}"
    made = personalize(AUDIENCE, options(html, row_by_row=row_by_row), {"offers": OFFERS})
    assert made.standard["profile_id"].to_list() == ["2", "3", "4"]
    assert made.rejects["reason"].to_list() == ["no value for content.offers[].title"] * 2


@pytest.mark.parametrize(
    ("html", "once"), [(LIST, True), ("{% for o in offers %}{{ first_name|d('') }}{% endfor %}", False)]
)
def test_what_is_the_same_for_many_profiles_is_rendered_once(html: str, once: bool) -> None:
    renderers = Renderers(AUDIENCE.schema, options(html), {"offers": OFFERS})
    renderers.rendered(AUDIENCE)
    plan = renderers.by_code[""].plans()["html"]
    assert any(isinstance(stage, Joined) for stage in plan.stages) is once


@pytest.mark.parametrize(
    ("relations", "content", "error"),
    [
        ({}, {"offers": OFFERS}, RelationsDiffer),
        ({"offers": {"region": "area"}}, {}, RelationsDiffer),
        ({"offers": {"regoin": "area"}}, {"offers": OFFERS}, ColumnsMissing),
        ({"offers": {"region": "aera"}}, {"offers": OFFERS}, ColumnsMissing),
        ({"offers": {"region": "price"}}, {"offers": OFFERS}, KeyTypesDiffer),
        ({"region": {"region": "area"}}, {"region": OFFERS}, ColumnTaken),
    ],
)
def test_content_that_cannot_be_linked_is_an_error(
    relations: dict[str, dict[str, str]], content: dict[str, pl.DataFrame], error: type[CampaignError]
) -> None:
    with pytest.raises(error):
        personalize(AUDIENCE, options("x", relations=relations), content)
