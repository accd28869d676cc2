"""CSS inlining: what is written into `style`, what stays in `<style>` and why; no other character moves."""

import logging
import re
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tasks.content._options import PersonalizationOptions, Renderers
from tasks.content.personalization import Templates, personalize, read_templates
from tasks.errors import TemplatesInvalid
from tasks.send import Send
from tasks.templates.inlining import inlined
from tasks.templates.rewriting import Rewritten
from tests.tasks.content.every_mail import EVERY, mail

SEND = Send(campaign="spring", label="Spring", business_date="2026-03-20")


def mail_of(html: str, **files: str) -> Templates:
    sources = {"s": "s", "body.html": html, **{name.replace("_", "."): text for name, text in files.items()}}
    parts = {"subject": "s", "html": "body.html", "text": "s"}
    return Templates(folder=Path("mail"), parts=parts, sources=sources)


def inlining(templates: Templates, *, row_by_row: bool = False) -> PersonalizationOptions:
    return PersonalizationOptions(templates=templates, send=SEND, inline_css=True, row_by_row=row_by_row)


def of(html: str, **files: str) -> Rewritten:
    return inlined(mail_of(html, **files))


def page(css: str, body: str) -> str:
    return f"<html><head><style>{css}</style></head><body>{body}</body></html>"


INLINED = [
    # The cascade: by specificity, then by place; shorthands stay before what they would undo.
    ("p{color:red} .x{color:blue} p{color:green}", "<p class=x>", '<p style="color:blue" class=x>'),
    ("#i{color:red} .x{color:blue}", '<p id="i" class="x">', '<p style="color:red" id="i" class="x">'),
    ("p{padding:0}", '<p style="padding-left:1px">', '<p style="padding:0;padding-left:1px">'),
    ("p{padding-left:9px} .x{padding:0}", "<p class=x>", '<p style="padding-left:9px;padding:0" class=x>'),
    ("p{color:red}", '<p style="color:blue">', '<p style="color:blue">'),
    ("p{color:red !important}", '<p style="color:blue">', '<p style="color:red !important;color:blue">'),
    ("p{color:red;color:var(--c)}", "<p>", '<p style="color:red;color:var(--c)">'),
    ('p{font-family:"A B",serif}', "<p>", "<p style=\"font-family:'A B',serif\">"),
    (r'p{font-family:"A\"B"}', "<p>", r"""<p style="font-family:&#34;A\&#34;B&#34;">"""),
    ("p{font-family:'A B'}", "<p style='color:red'>", "<p style='font-family:\"A B\";color:red'>"),
    ("p{color:red}", "<p style=margin:0>", '<p style="color:red;margin:0">'),
    (
        "td p, th{top:0}",
        "<table><tr><td><p><th></table>",
        '<table><tr><td><p style="top:0"><th style="top:0"></table>',
    ),
    # Jinja's pieces stay where they are
    ("td{color:red}", "<table>{% for x in xs %}<tr><td>{{ x }}</td></tr>{% endfor %}</table>", None),
    ("td{color:red}", "<table>{% if a %}<tr><td>1</td></tr>{% else %}<tr><td>2</td></tr>{% endif %}</table>", None),
    (
        "p{color:red}",
        '<p title="{{ a }}" {# why #}>{{ b }}',
        '<p style="color:red" title="{{ a }}" {# why #}>{{ b }}',
    ),
    ("p{margin:0}", '<p style="color:{{ c }}">', '<p style="margin:0;color:{{ c }}">'),
    ("p{margin:0}", "<p {% if a %}title='b'{% endif %}>", "<p style=\"margin:0\" {% if a %}title='b'{% endif %}>"),
    ("p{color:red}", "{% raw %}{{ x }}<p>{% endraw %}", '{% raw %}{{ x }}<p style="color:red">{% endraw %}'),
    ("p{color:red}", "a {{- b -}} <p>  {%- if c %}<p>{% endif %}", None),
    ("p{top:0}", "<!--[if mso]><p><![endif]--><p>", '<!--[if mso]><p style="top:0"><![endif]--><p style="top:0">'),
    (
        "p{color:red}",
        "<!--[if !mso]><!--><p><!--<![endif]-->",
        '<!--[if !mso]><!--><p style="color:red"><!--<![endif]-->',
    ),
    (
        "p{color:red}",
        "<!--[if !mso]><!-- --><p><!-- <![endif]--><!--[if mso]><p><![endif]-->",
        '<!--[if !mso]><!-- --><p style="color:red"><!-- <![endif]-->'
        '<!--[if mso]><p style="color:red"><![endif]-->',
    ),
    ("p{top:0", "<p>", '<p style="top:0">'),
    ("p{color:red}", '<img alt="<p>"><p>', '<img alt="<p>"><p style="color:red">'),
]


@pytest.mark.parametrize(("css", "body", "expected"), INLINED)
def test_rules_are_written_into_styles(css: str, body: str, expected: str | None) -> None:
    made = of(page(css, body))
    shown = made.templates.sources["body.html"]
    assert made.findings == ()
    if expected is None:
        expected = re.sub(r"<(td|p)>", r'<\1 style="color:red">', body)
    assert shown == f"<html><head></head><body>{expected}</body></html>"


STAYING = [
    # rule, body, what is still in <style>, what the finding says
    ("@media print{p{color:red}}", "<p>", "@media print", ""),
    ("a:hover{color:red}", "<a href=#>", "a:hover", ""),
    ("p::first-line{color:red}", "<p>", "first-line", ""),
    ("@font-face{font-family:x;src:url(y)}", "<p>", "@font-face", ""),
    ("#outlook a{padding:0}", "<a href=#>", "#outlook a", ""),
    ("#outlook a{padding:0}", "<a href=#><!--[if mso]><a href=#><![endif]-->", "#outlook a", ""),
    (
        "#outlook a{padding:0}",
        "<!--[if mso]><b id=outlook><a href=#><![endif]-->",
        "#outlook a",
        "what stands around",
    ),
    ("#outlook a{padding:0}", "{% if a %}<b id='{{ b }}'>{% endif %}<a href=#>", "#outlook a", "'id' is decided"),
    ("#outlook a{padding:0}", "<b{% if a %} id=outlook>{% else %}>{% endif %}<a href=#>", "#outlook a", "(body"),
    ("p{color:red} @media print{p{color:blue}}", "<p>", "p{color:red}", "has to win over it with 'color'"),
    ("a{color:red} a:hover{color:blue}", "<a href=#>", "a{color:red}", "has to win over it with 'color'"),
    (
        "p{margin:0} .x{margin-left:1px}",
        '<p class="{{ v }}">',
        "p{margin:0}",
        "has to win over it with 'margin-left'",
    ),
    (
        "td p{top:0}",
        "<td><p><!--[if mso]><p><![endif]-->",
        "td p{top:0}",
        "what stands around the element is not known",
    ),
    (".x{top:0}", '<!--[if mso]><v:rect class="x"><![endif]-->', ".x{top:0}", "it is also of Outlook's <v:rect>"),
    ("p{top:0}", "<p><!--[if mso]><style>p{top:1px}</style><![endif]-->", "p{top:0}", "win over it with 'top'"),
    ("p{color:{{ c }}}", "<p>", "{{ c }}", "has a piece of Jinja's in it"),
    (".{{ c }}{color:red}", "<p class=a>", "{{ c }}", "has a piece of Jinja's in it"),
    ("{% if a %}p{color:red}{% endif %}", "<p>", "p{color:red}", "stands in a condition or a loop"),
    (
        ".x{color:red}",
        '<p class="a {% if b %}x{% endif %}">',
        ".x{",
        "a class is decided by the template (body.html, line 1)",
    ),
    (".x{color:red}", '<p class="{{ v }}">', ".x{", "a class is decided by the template"),
    (".x-b{color:red}", '<p class="x-{{ v }}">', ".x-b{", "a class is decided by the template"),
    ("[width='1']{color:red}", '<p width="{{ v }}">', "[width", "the attribute 'width' is decided"),
    (
        "p td{color:red}",
        "<p><table><tbody><tr><td></table>",
        "p td{",
        "it matches the element in one place or program and not in another (body.html, line 1)",
    ),
    ("p:first-child{color:red}", "{% if a %}<p>{% endif %}<p>", "first-child", "what stands beside the element"),
    (
        "*{border:0}",
        "<table><tr><td></table>",
        "*{border:0}",
        "it is also of <tbody>, which a browser adds; write that tag",
    ),
    (
        "div p{color:red}",
        "{% if a %}<div>{% endif %}<p>",
        "div p",
        "does not close what it opens (body.html, line 1)",
    ),
    (
        "p{color:red}",
        '<p {% if a %}style="margin:0"{% endif %}>',
        "p{color:red}",
        "the attributes of the element are decided",
    ),
    (
        "p{color:red}",
        '<p style="margin:0"{% if a %}>{% else %} title="x">{% endif %}',
        "p{color:red}",
        "are decided",
    ),
]


@pytest.mark.parametrize(("css", "body", "left", "told"), STAYING)
def test_what_is_not_sure_stays_and_is_told(css: str, body: str, left: str, told: str) -> None:
    made = of(page(css, body))
    shown = made.templates.sources["body.html"]
    assert left in shown[: shown.index("</style>")]
    if told:
        assert any(told in finding and "(body.html, line 1)" in finding for finding in made.findings)
    else:
        assert made.findings == ()
    sure = body.split("<p", maxsplit=1)[0]
    assert 'style="color:red"' not in shown or sure.startswith("{%")


QUIRKS = '<!doctype html public "-//W3C//DTD HTML 4.0 Transitional//EN">'


@pytest.mark.parametrize(("doctype", "inside"), [("<!DOCTYPE html>", False), (QUIRKS, True)])
@pytest.mark.parametrize("before", ["", "{# x #}\n", "<!-- y -->{% macro a() %}<b>{% endmacro %}"])
def test_a_table_is_in_a_paragraph_as_the_document_type_says(before: str, doctype: str, inside: bool) -> None:
    table = "<p><table><tbody><tr><td></td></tr></tbody></table>"
    made = of(before + doctype + page("p td{color:red}", table))
    assert made.findings == ()
    assert ('<td style="color:red">' in made.templates.sources["body.html"]) is inside
    based = of("{% extends 'base.html' %}", base_html=doctype + page("p td{color:red}", table))
    assert ('<td style="color:red">' in based.templates.sources["base.html"]) is inside


@pytest.mark.parametrize("css", ["", " ", "/* x */", "}}", "@media{", "p{}"])
def test_a_sheet_without_rules_stays(css: str) -> None:
    html = page(css, "<p>x")
    assert of(html) == Rewritten(of(html).templates)
    assert of(html).templates.sources["body.html"] == html


def test_a_class_that_a_piece_cannot_give_is_inlined_all_the_same() -> None:
    made = of(page(".a{margin:0}.y{color:red}", '<p class="a {% if b %}x{% endif %}"><p class="y x-{{ v }}">'))
    assert made.findings == ()
    assert "<style>" not in made.templates.sources["body.html"]


def test_styles_reach_through_layouts_blocks_includes_and_macros() -> None:
    made = of(
        "{% extends 'base.html' %}{% from 'macros.html' import button %}"
        "{% block main %}{{ super() }}<div class=card>{% include 'part.html' %}</div>{{ button('x') }}"
        "{% endblock %}",
        base_html="<html><style>{% include 'mail.css' %}</style>{% block main %}<h1>x</h1>{% endblock %}",
        mail_css=".card p{margin:0}\nh1{color:red}\n.btn{padding:1px}\ndiv a{color:blue}",
        part_html="<p>{{ profile.a }}</p>",
        macros_html="{% macro button(text) %}<a class='btn' href='#'>{{ text }}</a>{% endmacro %}",
    )
    found = made.templates.sources
    assert found["base.html"].endswith('{% block main %}<h1 style="color:red">x</h1>{% endblock %}')
    assert found["part.html"] == '<p style="margin:0">{{ profile.a }}</p>'
    assert "<a style=\"padding:1px\" class='btn'" in found["macros.html"]
    assert found["mail.css"].split() == ["div", "a{color:blue}"]
    assert made.findings == (
        "the rule 'div a' (mail.css, line 4) stays in <style>:"
        " what stands around the element is not known (macros.html, line 1)",
    )


def test_a_file_of_two_places_gets_what_it_has_in_both() -> None:
    made = of(
        page(
            ".a p{color:red} p{margin:0}", "<div class=a>{% include 'part.html' %}</div>{% include 'part.html' %}"
        ),
        part_html="<p>x</p>",
    )
    assert made.templates.sources["part.html"] == '<p style="margin:0">x</p>'
    assert ".a p{color:red}" in made.templates.sources["body.html"]
    assert len(made.findings) == 1


@pytest.mark.parametrize(
    ("html", "files", "said"),
    [
        (page("[style]{color:red}", "<p>"), {}, "body.html, line 1: a selector asks for the attribute 'style'"),
        (page("p{color:red}", "{% include 's' %}"), {"s": "<p>x"}, "s: it is also part of the subject or the text"),
    ],
)
def test_what_cannot_be_inlined_is_refused(html: str, files: dict[str, str], said: str) -> None:
    with pytest.raises(TemplatesInvalid, match=re.escape(said)):
        of(html, **files)


def test_the_guard_judges_the_inlined_styles() -> None:
    templates = mail_of(page("p{color:red}", '<p style="background:url({{ v }})">x</p>'))
    people = pl.DataFrame(
        {"profile_id": ["1", "2"], "email": "a@b.example", "v": ["https://x.example/a", "javascript:x"]}
    )
    made = personalize(people, inlining(templates))
    assert made.standard["html"].to_list() == [
        '<html><head></head><body><p style="color:red;background:url(https://x.example/a)">x</p></body></html>'
    ]
    assert made.rejects.height == 1


@pytest.mark.parametrize("name", EVERY)
def test_both_ways_of_rendering_show_the_same(name: str) -> None:
    folder, profile = mail(name)
    people = pl.DataFrame([profile, {**profile, "profile_id": "P2", "first_name": None}])
    made = [
        Renderers(people.schema, inlining(read_templates(folder), row_by_row=slow)).rendered(people)
        for slow in (False, True)
    ]
    assert_frame_equal(*(each.filter(pl.col("reason").is_null()) for each in made))
    assert made[0]["reason"].to_list() == made[1]["reason"].to_list()


def test_a_run_tells_what_stayed(caplog: pytest.LogCaptureFixture) -> None:
    templates = mail_of(page("p{color:{{ 'red' }}}", "<p>x</p>"))
    people = pl.DataFrame({"profile_id": ["1"], "email": "a@b.example"})
    personalize(people, inlining(templates), logger=logging.getLogger("run"))
    assert "stays in <style>: it has a piece of Jinja's in it" in caplog.text
