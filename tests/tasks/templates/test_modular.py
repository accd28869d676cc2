"""Templates of several files: what an include, a base and a macro see, and how the part decides what is escaped."""

import re
from pathlib import Path

import polars as pl
import pytest
from jinja2 import DictLoader, Environment, StrictUndefined

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
PROFILE = {"profile_id": "1", "email": "a@x.example", "who": "<Ada>", "tags": ["a", "<b>"]}


def written(folder: Path, **files: str) -> TemplateFolder:
    texts = {"subject.txt": "s", "body.html": "h", "body.txt": "t", **files}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return TemplateFolder(folder=folder)


def message_of(templates: Templates, *, row_by_row: bool = False, **values: object) -> dict[str, str]:
    options = PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row)
    made = personalize(pl.DataFrame([{**PROFILE, **values}]), options)
    return (made.standard if made.standard.height else made.rejects).row(0, named=True)


FILES = {
    "row.html": "<li>{{ tag }} of {{ profile.who }}</li>",
    "badge.html": "{{ label }}: {{ size }};",
    "base.html": "<i>{% block a %}{{ color }}{% endblock %}</i>{% block b %}{% endblock %}",
    "macros.html": "{% macro m(x) %}<b>{{ x }}</b>{% endmacro %}{% macro f() %}{{ who }}{% endmacro %}",
    "styles.css": "a { font-family: 'Courier New' }",
}


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize(
    "html",
    [
        "{% for tag in profile.tags %}{% include 'row.html' %}{% endfor %}",
        "{% set label = 'L' %}{% with size = 2 %}{% include 'badge.html' %}{% endwith %}",
        "{% set label, size = 'L', 3 %}{% include 'badge.html' %}",
        "{% extends 'base.html' %}{% set color = 'red' %}{% block b %}{{ color }}{{ profile.who }}{% endblock %}",
        "{% extends 'base.html' %}{% set color = profile.who %}",
        "{% from 'macros.html' import m %}{{ m(profile.who) }}",
        "{% from 'macros.html' import f with context %}{{ f() }}",
        "{% for tag in profile.tags %}{% set label = tag %}{% set size = loop.index %}{% include 'badge.html' %}"
        "{% endfor %}",
        "<style>{% include 'styles.css' %}</style>{{ profile.who }}",
        "{% set label = 'x' %}{% if profile.who %}{% set size = 1 %}{% else %}{% set size = 2 %}{% endif %}"
        "{% include 'badge.html' %}",
        "{% include ['none.html', 'styles.css'] ignore missing %}",
    ],
)
def test_a_modular_template_is_what_jinja_makes_of_it(tmp_path: Path, html: str, row_by_row: bool) -> None:
    templates = read_templates(written(tmp_path, **FILES, **{"body.html": html, "none.html": "none"}))
    jinja = Environment(
        loader=DictLoader({**FILES, "body.html": html, "none.html": "none"}),
        autoescape=True,
        undefined=StrictUndefined,
    )
    expected = jinja.get_template("body.html").render(profile=PROFILE, who=PROFILE["who"])
    assert message_of(templates, row_by_row=row_by_row)["html"] == expected


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize("name", ["body.html.j2", "x.jinja", "plain.txt"])
def test_the_part_decides_what_is_escaped_not_the_name_of_the_file(
    tmp_path: Path, name: str, row_by_row: bool
) -> None:
    folder = written(tmp_path, **{name: "<p>{% include 'hello.txt' %}</p>", "hello.txt": "Hello {{ who }}"})
    templates = read_templates(folder.model_copy(update={"html": name, "text": "hello.txt"}))
    message = message_of(templates, row_by_row=row_by_row)
    assert message["html"] == "<p>Hello &lt;Ada&gt;</p>"
    assert message["text"] == "Hello <Ada>"


def test_an_unknown_name_is_told_with_the_files_that_lead_to_it(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        **{
            "body.html": "\n{% include 'outer.html' %}{% from 'macros.html' import f %}{{ f() }}",
            "outer.html": "{% include 'inner.html' %}",
            "inner.html": "{{ nobody }}",
            "macros.html": FILES["macros.html"],
        },
    )
    with pytest.raises(TemplatesInvalid) as told:
        message_of(read_templates(folder))
    assert "inner.html, line 1 (from outer.html, line 1, body.html, line 2): 'nobody' is unknown" in str(told.value)
    assert "macros.html, line 1 (from body.html, line 2): a file without context does not see 'who'" in str(
        told.value
    )


def test_a_file_that_is_included_in_a_loop_knows_the_loop(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        **{
            "body.html": "{% for a in [1, 2] %}{% for b in [3, 4] %}{% if b %}{% include 'in.html' %}"
            "{% endif %}{% endfor %}{% endfor %}",
            "in.html": "{{ a }}{{ b }}{{ loop.index }}{% if loop.last %};{% endif %}",
        },
    )
    assert message_of(read_templates(folder))["html"] == "131142;231242;"


def test_a_default_sees_the_arguments_before_it(tmp_path: Path) -> None:
    folder = written(
        tmp_path, **{"body.html": "{% macro f(a, b=a, c='-' ~ b) %}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}"}
    )
    assert message_of(read_templates(folder))["html"] == "1-1"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"body.html": "\n{% macro f(who=who) %}{% endmacro %}"},
            "body.html, line 2: the default of 'who' is the argument 'who'",
        ),
        (
            {"body.html": "{% extends 'in.html' %}", "in.html": "\n{% block a required %}{% endblock %}"},
            "in.html, line 2: the block 'a'",
        ),
        ({"body.html": "{% extends 'a' %}\n{% extends 'a' %}", "a": "x"}, "body.html, line 2: a second 'extends'"),
        ({"body.html": "{% extends 'a' %}", "a": "{% extends 'body.html' %}"}, "body.html: it extends itself"),
        (
            {"body.html": "{% if who %}{% extends 'a' %}{% endif %}", "a": "<a href='{{ who }}'>"},
            "body.html, line 1: an 'extends' in a condition; extend one file",
        ),
        (
            {"body.html": "{% block a %}{{ self.b() }}{% endblock %}{% block b %}{{ self.a() }}{% endblock %}"},
            "body.html, line 1: the block 'a' shows itself",
        ),
        ({"body.html": "<style>@media print{#a{top:0}}</style>"}, "in CSS write '{ #'"),
        ({"body.html": "{% autoescape false %}{{ who }}{% endautoescape %}"}, "escaping cannot be switched off"),
        (
            {"body.html": "{% include 'in.html' without context %}", "in.html": "{{ who }}"},
            "take it in 'with context'",
        ),
    ],
)
def test_what_jinja_would_pass_over_or_tell_late_is_told(tmp_path: Path, files: dict[str, str], told: str) -> None:
    with pytest.raises(TemplatesInvalid, match=re.escape(told)):
        message_of(read_templates(written(tmp_path, **files)))


def test_the_byte_order_mark_of_a_file_is_no_text(tmp_path: Path) -> None:
    folder = written(tmp_path, **{"subject.txt": "\ufeffHello", "body.html": "{% include 'in.html' %}"})
    (tmp_path / "in.html").write_bytes(b"\xef\xbb\xbfin")
    message = message_of(read_templates(folder))
    assert (message["subject"], message["html"]) == ("Hello", "in")
