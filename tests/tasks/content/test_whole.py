"""A message is checked as a whole before it leaves Personalization, whichever way it was rendered."""

from pathlib import Path

import polars as pl
import pytest

from tasks.content.personalization import (
    PersonalizationOptions,
    TemplateFolder,
    Templates,
    personalization,
    personalize,
    read_templates,
)
from tasks.send import Send

SEND = Send(campaign="c", label="C", business_date="2026-01-01")
UNFILLED = "has {{ or {%: a template that was not filled in"


def reason_of(part: str, template: str, values: dict[str, object], *, row_by_row: bool) -> str | None:
    sources = {"subject": "s", "html": "h", "text": "t", part: template}
    templates = Templates(folder=Path(), parts={name: name for name in sources}, sources=sources)
    options = PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row)
    person = {"profile_id": "1", "email": "a@x.example", "who": "Ada", "n": 3, "tags": ["a"], **values}
    made = personalize(pl.DataFrame([person]), options)
    return None if made.rejects.is_empty() else made.rejects["reason"].item()


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize(
    ("part", "template", "values", "reason"),
    [
        ("subject", " {{ who|replace('Ada', '') }} ", {}, "the subject is empty"),
        ("text", "\n {{ who|replace('Ada', '') }}\t", {}, "the text is empty"),
        ("html", "", {}, "the html is empty"),
        ("html", "<title>x</title><p>&nbsp;{% if n > 5 %}x{% endif %}</p>", {}, "the html is empty"),
        ("html", "<img src='https://x.example/a.png' alt=''>", {}, None),
        ("text", "{{ {'a': who} }}", {}, "a dict has no form in a message; name what to print of it"),
        ("text", "{{ {'a': 1} }}", {}, "a dict has no form in a message"),
        ("text", "{{ who.upper }}", {}, "'upper' is a method"),
        ("html", "{{ who.upper ~ '!' }}", {}, "the html shows an object of Python's instead of a value: <built-in"),
        ("text", "{{ '%s' % who.upper }}", {}, "the text shows an object of Python's"),
        ("text", "{{ '{}'.format(who.upper) }}", {}, "the text shows an object of Python's"),
        ("text", "{{ [who.upper]|join }}", {}, "the text shows an object of Python's"),
        ("text", "{{ who|list|string ~ {'a': 1} }}", {}, "the text shows an object of Python's"),
        ("html", "{% macro m() %}{% endmacro %}{{ m ~ '' }}", {}, "the html shows an object of Python's"),
        ("text", "{{ tags|map('upper') ~ '' }}", {}, "the text shows an object of Python's"),
        ("text", "{{ n.real }}{{ who }}", {"who": "<function f> {'a': 1}"}, None),
        ("html", "{{ who }}", {"who": "Hello {{ first_name }}"}, f"the value of profile.who {UNFILLED}"),
        ("subject", "{{ who }}", {"who": "Hello {% if x %}"}, f"the value of profile.who {UNFILLED}"),
        ("text", "{% for t in tags %}{{ t }}{% endfor %}", {"tags": ["", "{{x}}"]}, f"profile.tags {UNFILLED}"),
        ("html", "<style>@media x{a{b:c}}</style>{% raw %}{{ ours }}{% endraw %}", {}, None),
    ],
)
def test_what_no_reader_should_see_is_a_reject(
    part: str, template: str, values: dict[str, object], reason: str | None, row_by_row: bool
) -> None:
    found = reason_of(part, template, values, row_by_row=row_by_row)
    assert found == reason if reason is None else reason in str(found)


def test_a_value_in_a_query_that_is_not_encoded_is_a_finding_of_the_run(
    result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    html = (
        "<a href='https://x.example/?q={{ who }}'>x</a>\n<a href='https://x.example/?q={{ who|urlencode }}'>x</a>"
    )
    sources = {"subject": "s", "html": html, "text": "t"}
    templates = Templates(folder=Path(), parts={name: name for name in sources}, sources=sources)
    people = pl.DataFrame({"profile_id": ["1"], "email": ["a@x.example"], "who": ["Ada"]})
    personalization(people, PersonalizationOptions(templates=templates, send=SEND))
    told = [record.getMessage() for record in caplog.records if "not encoded" in record.getMessage()]
    assert told == ["html, line 1: a value in the query of an address is not encoded."]


PAGE = (
    "<html><head><title>No</title><style>p { color: red }</style></head><body><!--[if mso]><p>No</p><![endif]-->\n"
    "<h1>Hello {{ who }}</h1><p>Read <a class='x' href='https://x.example/?a=1&amp;b=2'><b>more</b></a> "
    "&eacute;t&eacute;<br>\nnow</p><ul><li>One</li><li>Two</li></ul><table><tr><td>a</td><td>b</td></tr></table>"
    "<img src='cid:x' alt='A cake'></body>"
)


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_text_is_made_of_the_html_where_templates_have_none(tmp_path: Path, row_by_row: bool) -> None:
    (tmp_path / "subject.txt").write_text("s")
    (tmp_path / "body.html").write_text(PAGE)
    templates = read_templates(TemplateFolder(folder=tmp_path, text=""))
    people = pl.DataFrame({"profile_id": ["1"], "email": ["a@x.example"], "who": ["<Ada> & Co"]})
    options = PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row)
    assert personalize(people, options).standard["text"].item() == (
        "Hello <Ada> & Co\nRead more (https://x.example/?a=1&b=2) été\nnow\n\n- One\n- Two\na b\n\nA cake"
    )


def test_a_message_that_gmail_clips_is_a_finding_of_the_run(
    result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = {"subject": "s", "html": "{{ who }}" * 2, "text": "t"}
    templates = Templates(folder=Path(), parts={name: name for name in sources}, sources=sources)
    people = pl.DataFrame({"profile_id": ["1", "2"], "email": "a@x.example", "who": ["Ada", "x" * 60_000]})
    personalization(people, PersonalizationOptions(templates=templates, send=SEND))
    assert "1 messages have more than 102 KB of HTML; Gmail clips them there." in caplog.text


HEAD = "<head>{}{}</head><body><table width={}><tr><td>{{{{ who }}}}</td></tr></table></body>"
VIEWPORT, SCHEME = (
    '<meta name="viewport" content="width=device-width">',
    '<meta name="color-scheme" content="light">',
)
SMALL = "the HTML has no <meta name=viewport>; phones show it as a small desktop page."
DARK = "the HTML says nothing of dark mode (color-scheme); mail programs choose its dark colors."
WIDE = "the HTML has a table of 800 pixels and no @media; phones cut or shrink it."


@pytest.mark.parametrize(
    ("html", "told"),
    [
        (HEAD.format("", "", '"600"'), [SMALL, DARK]),
        (HEAD.format(VIEWPORT, "", "100%"), [DARK]),
        (HEAD.format(VIEWPORT, SCHEME, '"800"'), [WIDE]),
        (HEAD.format(VIEWPORT, SCHEME, '"800%"'), []),
        (HEAD.format(VIEWPORT, "<style>@media (prefers-color-scheme: dark) {a{b:c}}</style>", "800"), []),
        ("{% include 'part' %}" + HEAD.format("", SCHEME, "600"), []),
        ("<p>{{ who }}</p>", []),
    ],
)
def test_what_phones_and_dark_mode_lack_is_a_finding_of_the_run_once(
    result_folder: Path, caplog: pytest.LogCaptureFixture, html: str, told: list[str]
) -> None:
    sources = {"subject": "s", "html": html, "text": "t", "part": f"<!-- {VIEWPORT} -->" + VIEWPORT}
    parts = {name: name for name in ("subject", "html", "text")}
    templates = Templates(folder=Path(), parts=parts, sources=sources)
    people = pl.DataFrame({"profile_id": ["1", "2"], "email": "a@x.example", "who": ["Ada", "Bo"]})
    personalization(people, PersonalizationOptions(templates=templates, send=SEND))
    assert [each.getMessage() for each in caplog.records if each.getMessage().startswith("the HTML")] == told
