from collections.abc import Callable
from datetime import date
from html import escape
from pathlib import Path

import polars as pl
import pytest

from tasks.content._options import Renderers
from tasks.content.personalization import (
    PersonalizationOptions,
    TemplateFolder,
    personalization,
    personalize,
    read_templates,
)
from tasks.errors import CampaignError, ColumnsMissing, TemplatesInvalid, TemplatesUnreadable
from tasks.messages.unsubscribe import who_unsubscribes
from tasks.send import Send

SEND = Send(campaign="birthday", label="Birthday & more", business_date=date(2026, 11, 24))
AUDIENCE = pl.DataFrame(
    {
        "profile_id": ["1"],
        "email": ["ada@x.example"],
        "first_name": ["<Ada> & 'co'"],
        "visits": [3],
        "score": [0.5],
        "since": [date(2020, 2, 29)],
        "vip": [True],
        "tags": [["new", "<b>"]],
        "coupons": [{"code": "A1", "email": "partner@x.example"}],
    }
)
Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    def write(**files: str) -> Path:
        texts = {"subject.txt": "s", "body.html": "h", "body.txt": "t"}
        texts |= {name.replace("_", "."): text for name, text in files.items()}
        for name, text in texts.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write


def options(folder: Path) -> PersonalizationOptions:
    return PersonalizationOptions(templates=read_templates(TemplateFolder(folder=folder)), send=SEND)


def with_values(**values: object) -> pl.DataFrame:
    return AUDIENCE.with_columns(**{name: pl.lit(value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("Hello {{ profile.first_name }}!", "Hello <Ada> & 'co'!"),
        ("{{ first_name }}", "<Ada> & 'co'"),
        ("{{ content.coupons.code }} {{ coupons.code }} {{ code }}", "A1 A1 A1"),
        ("{{ campaign.label }}, {{ campaign.business_date }}", "Birthday & more, 2026-11-24"),
        ("{{ visits + 1 }} {{ score }} {{ vip }}", "4 0.5 True"),
        ("{{ since.year }} {{ profile.since.strftime('%d.%m.') }}", "2020 29.02."),
        ("{% for tag in tags %}{{ tag }};{% endfor %}", "new;<b>;"),
        ("{% set who = first_name %}{{ who | upper }}", "<ADA> & 'CO'"),
        ("{% macro greet(name) %}Hi {{ name }}{% endmacro %}{{ greet(first_name) }}", "Hi <Ada> & 'co'"),
    ],
)
def test_a_template_sees_the_profile_its_content_and_the_campaign(
    folder: Folder, template: str, shown: str
) -> None:
    messages = personalize(AUDIENCE, options(folder(body_txt=template))).standard
    assert messages.select("profile_id", "email", "text").rows() == [("1", "ada@x.example", shown)]


def test_html_is_escaped_and_subject_and_text_are_not(folder: Folder) -> None:
    hello = "{{ first_name }}"
    row = personalize(AUDIENCE, options(folder(subject_txt=hello, body_html=hello, body_txt=hello))).standard.row(
        0, named=True
    )
    assert row["html"] == "&lt;Ada&gt; &amp; &#39;co&#39;"
    assert row["subject"] == row["text"] == "<Ada> & 'co'"


def test_templates_include_and_inherit_from_their_folder(folder: Folder) -> None:
    made = folder(
        body_html="{% extends 'layout.html' %}{% block main %}{% include 'hello.html' %}{% endblock %}",
        layout_html="<p>{% block main %}{% endblock %}</p>",
        hello_html="Hello {{ first_name }}",
    )
    assert personalize(AUDIENCE, options(made)).standard["html"].item() == (
        "<p>Hello &lt;Ada&gt; &amp; &#39;co&#39;</p>"
    )


@pytest.mark.parametrize("missing", [None, "", "  \n"])
@pytest.mark.parametrize(
    ("template", "text", "reason"),
    [
        ("Dear {{ profile.first_name }}", None, "no value for profile.first_name"),
        ("Dear {{ first_name }}", None, "no value for profile.first_name"),
        ("Dear {{ profile.first_name | upper }}", None, "no value for profile.first_name"),
        ("Dear {{ profile.first_name | default('friend') }}", "Dear friend", None),
        ("Dear {{ profile.first_name or 'friend' }}", "Dear friend", None),
        ("{% if profile.first_name %}Dear {{ first_name }}{% else %}Hello{% endif %}", "Hello", None),
        ("{% if profile.first_name is none %}Hello{% endif %}", "Hello", None),
        ("{{ 'Hello' if profile.first_name is undefined else first_name }}", "Hello", None),
        ("Hello", "Hello", None),
    ],
)
def test_a_missing_value_is_a_reject_unless_the_template_has_a_default(
    folder: Folder, missing: str | None, template: str, text: str | None, reason: str | None
) -> None:
    audience = pl.concat([with_values(first_name=missing).cast(AUDIENCE.schema), AUDIENCE])
    outbound = personalize(audience, options(folder(body_txt=template)))
    assert outbound.standard.height + outbound.rejects.height == 2
    if reason is None:
        assert outbound.standard["text"][0] == text
    else:
        assert outbound.rejects.rows() == [("1", "ada@x.example", reason)]
    assert not any("None" in message for message in outbound.standard["text"])


@pytest.mark.parametrize(
    ("values", "template", "reason"),
    [
        ({"coupons": None}, "{{ content.coupons.code }}", "no value for content.coupons.code"),
        ({"score": float("nan")}, "{{ score }}", "no value for profile.score"),
        ({"visits": None}, "{{ visits + 1 }}", "no value for profile.visits"),
        ({"visits": 0}, "{{ 1 / visits }}", "the template fails on the values: division by zero"),
        ({}, "{{ tags.append(1) }}", "the template does what is not allowed"),
    ],
)
def test_a_profile_that_cannot_be_rendered_is_a_reject_with_the_reason(
    folder: Folder, values: dict[str, object], template: str, reason: str
) -> None:
    audience = pl.concat([with_values(**values).cast(AUDIENCE.schema), with_values(profile_id="2")])
    rejects = personalize(audience, options(folder(body_txt=template))).rejects
    assert rejects.row(0)[:2] == ("1", "ada@x.example")
    assert rejects["reason"][0].startswith(reason)


@pytest.mark.parametrize(
    "template",
    ["{{ {}[first_name] }}", "{{ first_name | round }}", "{{ 'ab'[first_name] }}"],
)
def test_a_reason_does_not_quote_the_profile(folder: Folder, template: str) -> None:
    """Reasons are counted in an artifact, which more people see than the rejects."""
    rejects = personalize(with_values(first_name="O'Neil\n"), options(folder(body_txt=template))).rejects
    assert rejects.height == 1
    assert "Neil" not in rejects["reason"][0]


@pytest.mark.parametrize(
    ("subject", "reason"),
    [("{{ first_name }}\nBcc: x", "the subject has a line break"), ("{# nothing #} ", "the subject is empty")],
)
def test_a_subject_is_one_line_of_text(folder: Folder, subject: str, reason: str) -> None:
    assert personalize(AUDIENCE, options(folder(subject_txt=subject))).rejects["reason"].to_list() == [reason]


def test_every_unknown_name_is_told_before_the_first_message(folder: Folder) -> None:
    made = folder(
        subject_txt="{{ profile.frist_name }}",
        body_html="\n{{ content.coupons.cod }}",
        body_txt="{{ email }}\n{{ nobody }} {{ profile }} {{ first_name.uper() }}",
    )
    with pytest.raises(TemplatesInvalid) as invalid:
        personalize(AUDIENCE.clear(), options(made))
    told = str(invalid.value)
    assert "5 error(s)" not in told
    assert "6 error(s)" in told
    for problem in (
        "subject.txt, line 1: 'profile.frist_name' is unknown. Did you mean 'profile.first_name'",
        "body.html, line 2: 'content.coupons.cod' is unknown. Did you mean 'content.coupons.code'",
        "body.txt, line 1: 'email' is ambiguous, write profile.email or content.coupons.email",
        "body.txt, line 2: 'nobody' is unknown",
        "body.txt, line 2: 'profile' is no field",
        "body.txt, line 2: 'profile.first_name' has no 'uper'",
    ):
        assert problem in told


@pytest.mark.parametrize(
    ("files", "error", "says"),
    [
        ({"body_txt": "a\n{% if %}"}, TemplatesInvalid, "body.txt, line 2"),
        ({"body_txt": "{{ first_name | uper }}"}, TemplatesInvalid, "body.txt, line 1.*uper"),
        ({"body_txt": "{% include 'none.txt' %}"}, TemplatesInvalid, "body.txt, line 1: 'none.txt' does not exist"),
        ({"body_txt": "{% include '../../../etc/passwd' %}"}, TemplatesInvalid, "outside the template folder"),
        ({"body_txt": "{% include first_name %}"}, TemplatesInvalid, "not a fixed text"),
    ],
)
def test_a_template_that_cannot_be_read_is_named(
    folder: Folder, files: dict[str, str], error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        read_templates(TemplateFolder(folder=folder(**files)))


def test_files_that_are_missing_or_no_text_are_named(folder: Folder, tmp_path: Path) -> None:
    made = folder()
    (made / "body.html").write_bytes(b"\xff\xfe")
    with pytest.raises(TemplatesUnreadable, match=r"body\.html.*not UTF-8"):
        read_templates(TemplateFolder(folder=made))
    with pytest.raises(TemplatesUnreadable, match=r"none.*does not exist"):
        read_templates(TemplateFolder(folder=tmp_path / "none"))


def test_an_audience_without_address_is_refused(folder: Folder) -> None:
    with pytest.raises(ColumnsMissing, match="'email'"):
        personalize(AUDIENCE.drop("email"), options(folder()))


def test_long_messages_come_in_small_slices(folder: Folder) -> None:
    audience = pl.concat([AUDIENCE] * 600)
    long = options(folder(body_html="x" * 1_000_000))
    slices = list(Renderers(audience.schema, long).slices([audience]))
    assert sum(messages.height for messages in slices) == 600
    assert max(messages.estimated_size() for messages in slices) <= 100_000_000


def test_nobody_gets_no_message(folder: Folder) -> None:
    outbound = personalize(AUDIENCE.clear(), options(folder()))
    assert outbound.standard.columns == ["profile_id", "email", "subject", "html", "text"]
    assert outbound.rejects.columns == ["profile_id", "email", "reason"]
    assert outbound.standard.is_empty()
    assert outbound.rejects.is_empty()


def test_the_task_runs_alone_and_logs_its_counts(
    folder: Folder, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audience = pl.concat([AUDIENCE, with_values(first_name=None).cast(AUDIENCE.schema)])
    outbound = personalization(audience, options(folder(body_txt="{{ first_name }}")))
    assert outbound.standard.height == 1
    assert "Personalization: standard: 1, rejects: 1." in caplog.text


def test_the_log_says_what_is_rendered_row_by_row_and_why_and_what_it_costs(
    folder: Folder, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = folder(body_txt="Hi\n{{ tags | sort | join }}", body_html="{{ first_name }}")
    assert personalization(AUDIENCE, options(made)).standard["text"].item() == "Hi\n<b>new"
    assert "text is rendered row by row because of the filter 'sort' on a list (body.txt, line 2)" in caplog.text
    assert "1 messages in" in caplog.text
    assert "html is rendered row by row" not in caplog.text


def test_the_log_lists_the_fields_that_profiles_lack_and_that_have_no_default(
    folder: Folder, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audience = pl.concat([AUDIENCE, with_values(first_name=" ", visits=None).cast(AUDIENCE.schema)])
    text = "{{ first_name }}{{ visits | default(0) }}\n{{ profile.first_name }}{% if since %}{{ since }}{% endif %}"
    personalization(audience, options(folder(body_txt=text)))
    assert (
        "profile.first_name has no value for 1 profiles, and no default (body.txt, line 1; body.txt, line 2)."
        in caplog.text
    )
    assert "profile.visits has no value" not in caplog.text


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        (
            {
                "subject_txt": "{{ x | uper }}",
                "body_html": "{% include 'fotter.html' %}\n{{ y is evne }}",
                "body_txt": "{% if %}",
                "footer_html": "",
            },
            [
                "subject.txt, line 1: there is no filter 'uper'. Did you mean 'upper'?",
                "body.html, line 1: 'fotter.html' does not exist. Did you mean 'footer.html'?",
                "body.html, line 2: there is no test 'evne'. Did you mean 'even'?",
                "body.txt, line 1: ",
                "4 error(s)",
            ],
        ),
        ({"body_html": "{% for o in offers %}{{ o.titel }}{% endfor %}"}, []),
    ],
)
def test_all_that_is_wrong_with_the_templates_is_told_at_once(
    folder: Folder, files: dict[str, str], problems: list[str]
) -> None:
    offers = AUDIENCE.with_columns(offers=pl.lit([{"title": "Tea"}]))
    with pytest.raises(TemplatesInvalid) as invalid:
        personalize(offers, options(folder(**files)))
    for problem in problems or ["body.html, line 1: 'content.offers[]' has no 'titel'. Did you mean 'title'?"]:
        assert problem.rstrip("?") in str(invalid.value)


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_template_has_the_link_that_unsubscribes_the_profile(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, row_by_row: bool
) -> None:
    written = folder(
        body_html='<a href="{{ campaign.unsubscribe_url }}">No more</a>',
        body_txt="{% if campaign.unsubscribe_url %}{{ campaign.unsubscribe_url }}{% endif %}",
    )
    chosen = options(written).model_copy(update={"row_by_row": row_by_row})
    people = pl.concat([AUDIENCE, AUDIENCE.with_columns(profile_id=pl.lit("ü/2"))])
    without = personalize(people, chosen)
    assert set(without.rejects["reason"]) == {"no value for campaign.unsubscribe_url"}
    monkeypatch.setenv("CAMPAIGN_UNSUBSCRIBE__URL", "https://example.com/unsubscribe")
    monkeypatch.setenv("CAMPAIGN_UNSUBSCRIBE__SECRET", "a secret of the tests")
    made = personalize(people, chosen).standard
    for profile, html, text in made.select("profile_id", "html", "text").iter_rows():
        who = who_unsubscribes(text, b"a secret of the tests")
        assert who == ("birthday", "2026-11-24", profile)
        assert html == f'<a href="{escape(text)}">No more</a>'
