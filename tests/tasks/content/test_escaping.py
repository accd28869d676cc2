"""What a value may be depends on where in the HTML it is printed; either way of rendering refuses the same."""

from pathlib import Path

import polars as pl
import pytest

from tasks.content.personalization import (
    PersonalizationOptions,
    TemplateFolder,
    Templates,
    personalize,
    read_templates,
)
from tasks.errors import TemplatesInvalid
from tasks.send import Send

SEND = Send(campaign="c", label="C", business_date="2026-01-01")


def html_of(template: str, value: object, *, row_by_row: bool) -> str:
    """The HTML, or the reason why there is none."""
    parts = {"subject": "s.txt", "html": "b.html", "text": "s.txt"}
    templates = Templates(folder=Path(), parts=parts, sources={"s.txt": "s", "b.html": f"Hello{template}"})
    options = PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row)
    profile = pl.DataFrame({"profile_id": ["1"], "email": ["a@x.example"], "v": [value], "w": ["script:alert(1)"]})
    made = personalize(profile, options)
    if made.standard.is_empty():
        return str(made.rejects["reason"].item())
    return str(made.standard["html"].item()).removeprefix("Hello")


HREF = '<a href="{{ v }}">x</a>'
RUNS_CODE = "the address in 'href' does not begin with one of https, http, mailto, tel, sms, cid"
HOST = "the value in 'href' changes the host of the address"
ONE = "the value in 'srcset' has a space, comma, quote or parenthesis, which ends the address there"
REVEALED = "<!--[if !mso]><!-->"
NO_STYLE = "the value in 'style' is not a plain color, number, unit or word"


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize(
    ("template", "value", "html"),
    [
        ("<p>{{ v }}</p>", "<b> & 'x'", "<p>&lt;b&gt; &amp; &#39;x&#39;</p>"),
        ('<p title="{{ v }}">', '" onclick="x', '<p title="&#34; onclick=&#34;x">'),
        ("<p title={{ v }}>", "a onclick=x", "<p title=a&#32;onclick&#61;x>"),
        (HREF, "https://x.example/?a=1&b=2", '<a href="https://x.example/?a=1&amp;b=2">x</a>'),
        (HREF, "/path/javascript:x", '<a href="/path/javascript:x">x</a>'),
        (HREF, "mailto:a@x.example", '<a href="mailto:a@x.example">x</a>'),
        *(
            (HREF, f"{before}{scheme}:x", RUNS_CODE)
            for before in ("", " ", "\t\n")
            for scheme in ("javascript", "DATA")
        ),
        (HREF, "java\nscript:alert(1)", RUNS_CODE),
        (HREF, "vbscript:x", RUNS_CODE),
        ("<a href='{{ v }}'>", "javascript:x", RUNS_CODE),
        ("<a href={{ v }}>", "javascript:x", RUNS_CODE),
        ("<a class=b\n HREF = '{{ v }}'>", "javascript:x", RUNS_CODE),
        ('<img src="{{ v }}">', "data:image/png;base64,x", RUNS_CODE.replace("href", "src")),
        ('<a href="{{ v }}{{ w }}">', "java", RUNS_CODE),
        ('<a href="https://x.example/{{ v }}">', "javascript:x", '<a href="https://x.example/javascript:x">'),
        ('<a href="{% if v %}{{ v }}{% else %}https://x.example/{% endif %}">', "javascript:x", RUNS_CODE),
        ('{% set url = "javascript:" ~ v %}<a href="{{ url }}">', "x", RUNS_CODE),
        ('<!--[if mso]><v:rect href="{{ v }}"><![endif]-->', "javascript:x", RUNS_CODE),
        ('<a href="{{ v|safe }}">', "javascript&#58;x", RUNS_CODE),
        ('<td style="color:{{ v }}">', "#b4532a", '<td style="color:#b4532a">'),
        ('<td style="width:{{ v }}%">', 12, '<td style="width:12%">'),
        ('<td style="color:{{ v }}">', "red;background:url(//x)", NO_STYLE),
        ('<td style="color:{{ v }}">', "expression (alert(1))", NO_STYLE),
        (f'{REVEALED}<a href="{{{{ v }}}}">x</a><!--<![endif]-->', "javascript:x", RUNS_CODE),
        ('<!-- a --!><a href="{{ v }}">', "javascript:x", RUNS_CODE),
        ('<title><!-- </title><a href="{{ v }}">', "javascript:x", RUNS_CODE),
        ('<svg><animate to="{{ v }}"></svg>', "javascript:x", RUNS_CODE.replace("href", "to")),
        ('<a href="{{ v }}:{{ w }}">', "javascript", RUNS_CODE),
        ('<a href="java{{ v }}">', "script:x", RUNS_CODE),
        ('<a href="&#106;{{ v }}">', "avascript:x", RUNS_CODE),
        ('<a href=" {{ v }}">', "\x01javascript:x", RUNS_CODE),
        (HREF, "//evil.example", RUNS_CODE),
        (HREF, "blob:https://x.example", RUNS_CODE),
        (HREF, "https://shop.example@evil.example/", RUNS_CODE),
        ('<a href="https://x.example{{ v }}">', ".evil.example", HOST),
        ('<a href="https://x.example{{ v }}">', "@evil.example", RUNS_CODE),
        ('<a href="https://x.example{{ v }}">', "/a", '<a href="https://x.example/a">'),
        # As a browser reads addresses: any number of slashes, backslashes too, without tabs and line breaks
        (HREF, "https:x.example/a", '<a href="https:x.example/a">x</a>'),
        (HREF, "https:x.example@evil.example", RUNS_CODE),
        (HREF, "https:\\\\x.example@evil.example", RUNS_CODE),
        (HREF, "ht\ntps:/\t/x.example@evil.example", RUNS_CODE),
        (HREF, "/\t/evil.example", RUNS_CODE),
        ('<a href="/{{ v }}">', "\t\\evil.example", RUNS_CODE),
        ('<a href="https:x.example{{ v }}">', ".evil.example", HOST),
        ('<a href="https:\\x.example{{ v }}">', ".evil.example", HOST),
        ('<a href="ht\ntps://x.example{{ v }}">', ".evil.example", HOST),
        ('<a href="https&#58;//x.example{{ v }}">', ".evil.example", HOST),
        ('<a href="https://x.example{{ v }}">', "\t.evil.example", HOST),
        ('<a href="https://x.example{{ v }}">', "\uff0eevil.example", HOST),
        ('<a href="https://{{ v }}.x.example/a">', "shop", '<a href="https://shop.x.example/a">'),
        *(
            ('<a href="https://{{ v }}.x.example/a">', f"evil.example{end}", HOST)
            for end in ("/", "?", "#", "\\", "/\t", "/https://y.x.example")
        ),
        ('<a href="https://{{ v }}.{{ v }}.x.example">', "evil.example/", HOST),
        ('<a href="https://a{{ v }}.x.example:443/">', "evil.example?", HOST),
        ('<a href="mailto:info+{{ v }}@x.example">', "5", '<a href="mailto:info+5@x.example">'),
        ('<a href="tel:+43{{ v }}">', "123", '<a href="tel:+43123">'),
        (
            '<meta http-equiv="refresh" content="0;url={{ v }}">',
            "javascript:x",
            RUNS_CODE.replace("href", "content"),
        ),
        ('<meta name="description" content="{{ v }}">', "5 a: b", '<meta name="description" content="5 a: b">'),
        ('<img srcset="{{ v }} 1x">', "javascript:x", RUNS_CODE.replace("href", "srcset")),
        ('<img srcset="https://x.example/{{ v }} 1x">', "a 1x, https://evil.example/b", ONE),
        (
            '<td style="background:url({{ v }})">',
            "https://x.example/a.png",
            '<td style="background:url(https://x.example/a.png)">',
        ),
        ('<td style="background:url({{ v }})">', "javascript:x", RUNS_CODE.replace("href", "style")),
        ('<td style="background:url({{ v }})">', "x);color:red", ONE.replace("srcset", "style")),
        (
            "{% macro b(t) %}<b title='{{ t }}'>{% endmacro %}<p title='{{ b(v) }}'>",
            "onclick=x",
            "<p title='&lt;b title=&#39;onclick=x&#39;&gt;'>",
        ),
        (
            '{% set t %}<b class="x">{% endset %}<p title="{{ t }}{{ v }}">',
            "a",
            '<p title="&lt;b class=&#34;x&#34;&gt;a">',
        ),
        ("{% set t | striptags %}{{ v }}{% endset %}{{ t }}", "<i>", "&lt;i&gt;"),
        ("{% filter striptags %}{{ v }}{% endfilter %}", "<i>", "&lt;i&gt;"),
        (
            "{% set c = \"'Courier New'\" %}<style>a{font-family:{{ c }}}</style>{{ v }}",
            "x",
            "<style>a{font-family:'Courier New'}</style>x",
        ),
        (
            '{% set c = "\'Courier New\'" %}<td style="font-family:{{ c }}">{{ v }}',
            "x",
            '<td style="font-family:&#39;Courier New&#39;">x',
        ),
        (
            '<script type="application/ld+json">{"a":{{ v|tojson }}}</script>',
            "</script><b>",
            '<script type="application/ld+json">{"a":"\\u003c/script\\u003e\\u003cb\\u003e"}</script>',
        ),
        ("<p title={{ v|d('') }} class=a>", None, "an empty value stands in an attribute without quotes"),
        ("<!-- {{ v }}> --><b>{{ v }}</b>", "--", "<!-- --> --><b>--</b>"),
        ("<!-- {{ v }} -->", "--><script>", "<!-- --&gt;&lt;script&gt; -->"),
        ("<script>var a = 1;</script><p>{{ v }}</p>", "x", "<script>var a = 1;</script><p>x</p>"),
        ("<style>a{}</style>{{ v }}", "x", "<style>a{}</style>x"),
        ("<style>{{ 'a{}' }}</style>{{ v }}", "x", "<style>a{}</style>x"),
    ],
)
def test_a_value_is_escaped_for_its_place_or_the_profile_is_rejected(
    template: str, value: object, html: str, row_by_row: bool
) -> None:
    assert html_of(template, value, row_by_row=row_by_row) == html


@pytest.mark.parametrize(
    ("html", "says"),
    [
        ("\n<script>var name = '{{ v }}';</script>", "body.html, line 2: a value stands inside <script>"),
        ("<style>a { color: {{ v }} }</style>", "inside <style>"),
        ("<SCRIPT type=x>\n{{ v }}", "inside <script>"),
        ("<td onclick=\"go('{{ v }}')\">", "the event handler 'onclick'"),
        ("<td {{ v }}>", "not in the value of an attribute"),
        ("<{{ v }}>", "not in the value of an attribute"),
        ("<td {{ v }}='1'>", "not in the value of an attribute"),
        ("<iframe srcdoc='{{ v }}'>", "inside 'srcdoc'"),
        ("{% if v %}<script>{% endif %}{{ v }}</script>", "inside <script>"),
        ("{% for x in tags %}<p style='{{ v }}'></p>{% if v %}<script>{% endif %}{% endfor %}", "inside <script>"),
        ("{% if v %}<p title='{% endif %}{{ v }}'>{{ v }}{% if v %}<p title={% endif %}{{ v }}>", "in each branch"),
        (
            "<a {% include 'value.txt' %}>",
            "value.txt, line 1 .from body.html, line 1.: a value stands inside a tag",
        ),
        ("{% include 'open.txt' %}", "the include of 'open.txt' does not end where it begins"),
        ("{% set t %}<a href='{% endset %}", "the 'set' block ends inside a tag"),
        ("{% macro m() %}<!-- {% endmacro %}", "the macro 'm' ends inside a tag, a comment"),
        ("<a href='{% if v %}{{ v }}'{% else %}x'{% endif %}>", "does not begin and end in the same branch"),
        ("{% for x in tags %}<a {% endfor %}", "the template ends inside a tag"),
        (f"{REVEALED}<script>{{{{ v }}}}</script><!--<![endif]-->", "inside <script>"),
        (f"{REVEALED}<td onclick='{{{{ v }}}}'><!--<![endif]-->", "the event handler 'onclick'"),
        ("<title><!--</title><script>{{ v }}</script>", "inside <script>"),
        ("<!-- --!><script>{{ v }}</script>", "inside <script>"),
        ("<script src='{{ v }}'></script>", "inside an attribute of <script>"),
        ("<link rel=stylesheet href='{{ v }}'>", "inside an attribute of <link>"),
        ("<script type='application/ld+json'>{{ v }}</script>", "inside <script>"),
        ("<script type='text/javascript'>{{ v|tojson }}</script>", "inside <script>"),
        ("<svg><style><a xlink:href='{{ v }}'></style></svg>", "inside <style>"),
        ("<svg><set attributeName='{{ v }}'></svg>", "inside 'attributename'"),
        ("{% autoescape false %}{{ v }}{% endautoescape %}", "escaping cannot be switched off"),
        ("{% if v %}{% set c = 'red' %}{% endif %}<style>{{ c }}</style>", "inside <style>"),
        ("{{ v|_own }}", "there is no filter '_own'"),
        ("{% extends 'base.html' %}{% block look %}{{ v }}{% endblock %}", "inside <style>"),
    ],
)
def test_a_value_where_none_is_safe_is_an_error_of_the_template(tmp_path: Path, html: str, says: str) -> None:
    (tmp_path / "subject.txt").write_text("s")
    (tmp_path / "body.txt").write_text("t")
    (tmp_path / "body.html").write_text(html)
    (tmp_path / "value.txt").write_text("{{ v }}")
    (tmp_path / "open.txt").write_text("<p")
    (tmp_path / "base.html").write_text("<style>{% block look %}{% endblock %}</style>")
    with pytest.raises(TemplatesInvalid, match=says):
        read_templates(TemplateFolder(folder=tmp_path))
