"""Mails of the kinds that people send: whole columns at once give what Jinja gives profile by profile.

`welcome`, `offers` and `event` were compiled by MJML 4 from its sources, with the placeholders in them.
"""

from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from polars.testing import assert_frame_equal

from tasks.content._options import PersonalizationOptions, Renderers
from tasks.content.personalization import TemplateFolder, read_templates
from tasks.send import Send

MAILS = Path(__file__).parent / "mails"
NAMES = ["birthday", "cart", "digest", "event", "loyalty", "offers", "order", "security", "weather", "welcome"]
SEND = Send(campaign="spring", label="Spring & friends", business_date=date(2026, 3, 20))

OFFERS = pl.DataFrame(
    {
        "id": [1, 2, 3],
        "title": ["Tea & cake", "<b>Bread</b>", None],
        "price": [9.5, None, 1234.5],
        "sold_out": [False, True, None],
        "image": ["https://x.example/1.png", None, "https://x.example/3.png?a=1&b=2"],
        "text": ["t " * 60, None, "Kürbis"],
        "tags": [["new"], ["a&b", "c"], []],
    }
).to_dicts()
ITEMS = pl.DataFrame(
    {
        "title": ['Mug "blue"', "A very long name of an article, longer than forty characters", None, "Ωmega"],
        "number": [2, 1, 0, 3],
        "price": [7.25, None, 3.0, 0.1],
        "image": ["https://x.example/m.png", None, None, None],
    }
).to_dicts()
STARTS = datetime(2026, 4, 1, 19, 30)
EVENTS = [{"starts": STARTS, "venue": "Hall & Co", "seats": 12}, {"starts": STARTS, "venue": " ", "seats": None}]
WEATHER = [
    {"temperature": 21.5, "sky": "Sun"},
    {"temperature": -2.5, "sky": None},
    None,
    {"temperature": 12.0, "sky": "RAIN"},
]


def some(values: list[object], rows: int) -> list[object]:
    return [values[row % len(values)] for row in range(rows)]


def audience(rows: int = 330) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "profile_id": [f"P{row:04d}" for row in range(rows)],
            "email": [f"p{row}+x@profiles.example" for row in range(rows)],
            "first_name": some(["Ada", "zoë", None, "O'NEIL", "Jean & Marie", "", "<i>", "健太", "ß"], rows),
            "last_name": some(["Smith & Sons", None, "Müller"], rows),
            "city": some(["Wien", " Coeur d'Alene ", None, "Łódź", "<x>"], rows),
            "joined": some([date(2019, 5, 4), None, date(2000, 2, 29)], rows),
            "ordered_at": some([datetime(2026, 3, 19, 8, 5), None], rows),
            "seen_at": some([None, datetime(2026, 3, 18, 23, 59, 59)], rows),
            "order_id": some(["A-1", "B&2"], rows),
            "total": some([49.99, 50.0, None, 1250.125], rows),
            "points": some([0, 999, 1000, 10_000, None, 123_456], rows),
            "vip": some([True, False, None], rows),
            "color": some(["#2a3448", None, "red; x: url(y)", "rgb(1, 2, 3)"], rows),
            "tags": some([["partner"], ["<new>", "x"], [], None], rows),
            "coupons": some(
                [{"code": "C<1>", "url": "https://x.example/c"}, None, {"code": None, "url": "javascript:x"}], rows
            ),
            "offers": some([OFFERS, None, [], OFFERS[1:], OFFERS[:1]], rows),
            "items": some([ITEMS, ITEMS[:1], ITEMS[2:3], []], rows),
            "event": some(EVENTS, rows),
            "weather": some(WEATHER, rows),
        }
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_mail_is_the_same_either_way(name: str) -> None:
    templates = read_templates(
        TemplateFolder(folder=MAILS, subject="subject.txt", html=f"{name}.html", text="body.txt")
    )
    options = PersonalizationOptions(templates=templates, send=SEND, locale="en_GB")
    profiles = audience()
    fast = Renderers(profiles.schema, options)
    slow = Renderers(profiles.schema, options.model_copy(update={"row_by_row": True}))
    whole = pl.when(pl.col("reason").is_null()).then(pl.col("subject", "html", "text"))
    one, other = (pl.concat(each.slices([profiles])).with_columns(whole) for each in (fast, slow))
    assert [f"{each.construct} ({each.where})" for each in fast.by_code[""].slow.values()] == []
    assert_frame_equal(one, other)
    assert one["html"].n_unique() > 20


def test_a_mail_is_what_jinja_itself_makes_of_it() -> None:
    items = pl.DataFrame(ITEMS).select("title", "number", image=pl.lit("https://x.example/i.png")).drop_nulls()
    profile = {"profile_id": "P1", "email": "p@x.example", "first_name": "Jean & <Marie>"}
    jinja = Environment(loader=FileSystemLoader(MAILS), autoescape=True, undefined=StrictUndefined)
    expected = jinja.get_template("cart.html").render(
        profile=profile, content=SimpleNamespace(items=items.to_dicts())
    )
    templates = read_templates(
        TemplateFolder(folder=MAILS, subject="footer.html", html="cart.html", text="cart.html")
    )
    table = pl.DataFrame([{**profile, "items": items.to_dicts()}])
    made = pl.concat(
        Renderers(table.schema, PersonalizationOptions(templates=templates, send=SEND)).slices([table])
    )
    assert made["html"].item() == expected
