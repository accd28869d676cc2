"""Inlined styles in Chromium: every element looks as before, on a desktop, on a phone, in print and for Outlook."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tasks.content.personalization import PersonalizationOptions, Templates, personalize, read_templates
from tasks.send import Send
from tests.browser import browser_page
from tests.tasks.content.every_mail import EVERY, mail

pytestmark = pytest.mark.slow

SEND = Send(campaign="spring", label="Spring", business_date="2026-03-20")
DOCUMENTS = 120
VALUES = {
    "color": ["red", "blue", "#123456"],
    "margin": ["0", "1px 2px"],
    "margin-left": ["3px", "9px"],
    "padding": ["0", "4px"],
    "border": ["1px solid red", "0"],
    "border-top": ["2px dotted blue"],
    "font": ["12px/1 serif", "bold 20px/2 'Courier New',monospace"],
    "line-height": ["1.5"],
    "font-size": ["30px"],
}
PROPERTIES = list(VALUES)
MEDIA = ["(max-width:500px)", "print", "(prefers-color-scheme:dark)"]
COMPOUNDS = ["p", "td", "div", "a", ".x", ".y", ".z", "#i", "p.x", "a.y", "*", "[title]", ".x.y", "b"]
BODIES = [
    "<p class=x>1</p>",
    '<p class="x y" style="margin-left:7px">2</p>', "<div class=y><p title=t>3</p><b>4</b></div>",
    "{% if vip %}<div class=z><p>5</p></div>{% else %}<p class=z>6</p>{% endif %}",
    '<p class="x {% if vip %}y{% endif %}">7</p>', '<p class="{{ kind }}">8</p>',
    "<a href=# class='{{ kind }} y'>9</a>",
    "<table>{% for n in numbers %}<tr><td class=x>{{ n }}</td><td>b</td></tr>{% endfor %}</table>",
    "<p {% if vip %}class='z'{% endif %} id=i>10</p>", "{{ shown('x') }}",
    "<div class=x>{% include 'part' %}</div>",
    "<p class=y>18<table><tbody><tr><td>19</td></tr></tbody></table></p>",
    "{% if vip %}<div class=y>{% endif %}<p>11</p>{% if vip %}</div>{% endif %}", "<b><p class=y>12</b>13</p>",
    "<!--[if mso]><table><tbody><tr><td class=x><p class=y>16</p></td></tr></tbody></table><![endif]-->",
    "<!--[if mso]><style>.x{margin:8px}p{color:gray !important}</style><![endif]--><p class=x>17</p>",
    "<p style='color:{{ tint }}'>14</p>", "<div {% if vip %}style='margin:5px'{% endif %}><a href=#>15</a></div>",
]  # fmt: skip
LOOKS = """async documents => {
  const found = []
  for (const html of documents) {
    document.open()
    document.write(html)
    document.close()
    if (document.readyState !== 'complete')
      await new Promise(loaded => addEventListener('load', loaded, {once: true}))
    await Promise.allSettled([...document.images].map(image => image.decode()))
    const names = [...getComputedStyle(document.body)]
    found.push([...document.querySelectorAll('body, body *:not(style)')].map(each => {
      const style = getComputedStyle(each)
      let digest = 7
      for (const name of names)
        for (const letter of style.getPropertyValue(name) + ';')
          digest = Math.imul(digest, 31) + letter.codePointAt(0) | 0
      return each.localName + digest
    }))
  }
  return found
}"""
"""Every computed style of every element, as a number: the texts are megabytes for each document."""

Looks = dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browser_page() as page:
        page.route("**/*", lambda route: route.abort())
        one, other = "<p>a</p>", "<p style='color:red'>a</p>"
        found = looks(page, [one, other])
        assert found[one] != found[other], "it can tell them apart"
        yield page


def looks(browser: Any, documents: list[str]) -> Looks:
    """How each document looks on each kind of page: all on one, then all on the next, as changing it takes long."""
    found: Looks = {html: [] for html in documents}
    for width, media, scheme in ((1280, "screen", "light"), (360, "screen", "dark"), (1280, "print", "light")):
        browser.set_viewport_size({"width": width, "height": 800})
        browser.emulate_media(media=media, color_scheme=scheme)
        for html, look in zip(found, browser.evaluate(LOOKS, list(found)), strict=True):
            found[html].append(look)
    return found


def as_outlook_reads(html: str) -> str:
    return html.replace("<!--[if mso]>", "").replace("<![endif]-->", "")


def both(templates: Templates, people: pl.DataFrame) -> list[list[str]]:
    """The HTML of each profile, as written and inlined."""
    return [
        personalize(people, PersonalizationOptions(templates=templates, send=SEND, inline_css=inline))
        .standard["html"]
        .to_list()
        for inline in (False, True)
    ]


@pytest.mark.parametrize("name", EVERY)
def test_a_mail_looks_as_before(browser: Any, name: str) -> None:
    folder, profile = mail(name)
    plain, inlined = both(read_templates(folder), pl.DataFrame([profile]))
    assert len(plain) == 1
    found = looks(browser, [*plain, *inlined])
    for one, other in zip(plain, inlined, strict=True):
        assert found[one] == found[other]


def sheet(lots: random.Random) -> str:
    rules = []
    for _ in range(lots.randint(2, 9)):
        chosen = [lots.choice(COMPOUNDS)]
        while lots.random() < 0.35:
            chosen += [lots.choice([" ", " > ", " + ", ","]), lots.choice(COMPOUNDS)]
        selector = "".join(chosen) + lots.choice(["", "", "", "", ":hover", ":first-child", "::before", ":not(.x)"])
        declared = [
            f"{name}:{lots.choice(VALUES[name])}{lots.choice(['', '', '', ' !important'])}"
            for name in lots.sample(PROPERTIES, lots.randint(1, 3))
        ]
        rule = f"{selector}{{{';'.join(declared)}}}"
        around = lots.random()
        if around < 0.15:
            rule = f"@media {lots.choice(MEDIA)}{{ {rule} }}"
        elif around < 0.25:
            rule = f"{{% if vip %}} {rule} {{% endif %}}"
        rules.append(rule)
    return "\n".join(rules)


def test_documents_by_lot_look_as_before(browser: Any) -> None:
    written, pairs = 0, []
    people = pl.DataFrame(
        {"profile_id": ["1", "2"], "email": "a@b.example", "vip": [True, False], "kind": ["x", "z q"]}
        | {"tint": "green", "numbers": [[1, 2], [1]]}
    )
    for seed in range(DOCUMENTS):
        lots = random.Random(seed)
        body = "\n".join(lots.sample(BODIES, 7))
        sources = {
            "s": "s",
            "h": "{% macro shown(t) %}<p class=x>{{ t }}</p>{% endmacro %}"
            f"{lots.choice(['<!doctype html>', ''])}<html><head><style>"
            f"{sheet(lots)}</style></head><body>{body}</body></html>",
            "part": "<p class=y>part</p>",
        }
        templates = Templates(folder=Path(), parts={"subject": "s", "html": "h", "text": "s"}, sources=sources)
        plain, inlined = both(templates, people)
        assert len(plain) == 2
        written += inlined[0].count("style=") - plain[0].count("style=")
        for one, other in zip(plain, inlined, strict=True):
            pairs += [(seed, read(one), read(other)) for read in (str, as_outlook_reads)]
    assert written > DOCUMENTS
    found = looks(browser, [html for _, *pair in pairs for html in pair])
    for seed, one, other in pairs:
        assert found[one] == found[other], f"seed {seed}\n{one}\n\n{other}"
