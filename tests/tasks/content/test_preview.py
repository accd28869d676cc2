"""Messages are shown before they are sent: which ones, how, and what is wrong with them."""

from pathlib import Path

import polars as pl
import pytest
from prefect import flow

from tasks.content.personalization import PersonalizationOptions, Templates
from tasks.content.preview import PreviewOptions, preview, previews, write_page
from tasks.errors import PreviewUnwritable
from tasks.send import Send
from tests.shown import newest_artifact

SEND = Send(campaign="spring", label="Spring <&> more", business_date="2026-02-28")
HTML = """<p>Hello {{ profile.first_name }}</p>
{% if profile.vip %}
<p>A very special present, just for you: {{ content.coupons.code|default('soon') }}</p>
{% elif profile.city %}
<p>See you in {{ profile.city }}</p>
{% else %}
<p>See you</p>
{% endif %}
<p>Sent to {{ profile.email }}</p>
<a href="https://x.example/unsubscribe?m={{ profile.email|urlencode }}">Unsubscribe</a>
"""
AUDIENCE = pl.DataFrame(
    {
        "profile_id": [f"P{number}" for number in range(8)],
        "email": [f"person{number}@profiles.example" for number in range(8)],
        "first_name": ["Ada", "Bartholomew", None, "Eve", "Flo", "Gus", "Hal", "Ida"],
        "vip": [None, None, True, False, False, True, False, False],
        "city": ["Wien", None, "Linz", "Graz", None, "Rom", "Bonn", "Ulm"],
        "coupons": [None, None, {"code": "C2"}, None, None, {"code": "C5"}, None, None],
    }
)


def options(
    folder: Path = Path(), html: str = HTML, of_personalization: dict[str, object] | None = None, **given: object
) -> PreviewOptions:
    templates = Templates(
        folder=Path("templates"),
        parts={"subject": "subject.txt", "html": "body.html", "text": "body.txt"},
        sources={
            "subject.txt": "Hi {{ profile.first_name }}",
            "body.html": html,
            "body.txt": "{{ profile.email }}",
        },
    )
    personalization = PersonalizationOptions(templates=templates, send=SEND, **(of_personalization or {}))
    return PreviewOptions(personalization=personalization, folder=folder, **given)


def shown(made: pl.DataFrame, why: str) -> dict[str, object]:
    return made.filter(pl.col("why").str.contains(why, literal=True)).row(0, named=True)


def test_the_longest_the_shortest_and_one_message_per_branch_are_shown() -> None:
    made = previews(AUDIENCE, options(random=0))
    assert shown(made, "the longest message")["profile_id"] == "P5"
    assert shown(made, "the shortest message")["profile_id"] == "P4"
    assert shown(made, "body.html, line 2 (if)")["profile_id"] == "P5"
    assert "See you in Wien" in shown(made, "body.html, line 4 (if)")["html"]
    assert "<p>See you</p>" in shown(made, "body.html, line 6 (else)")["html"]


def test_a_message_without_any_value_that_can_be_missing_is_shown() -> None:
    bare = shown(previews(AUDIENCE, options(random=0)), "without any value")
    assert "<p>See you</p>" in bare["html"]
    assert bare["findings"] == []


def test_chosen_profiles_are_shown_and_those_by_lot_are_the_same_for_the_same_seed() -> None:
    made = previews(AUDIENCE, options(profiles=("P7", "P2", "nobody"), random=2, seed=5, branches=False))
    assert shown(made, "chosen")["profile_id"] == "P7"
    assert made.equals(previews(AUDIENCE, options(profiles=("P7", "P2"), random=2, seed=5, branches=False)))
    assert made["why"].str.contains("chosen by lot").sum() == 2
    rejected = made.filter(pl.col("profile_id") == "P2").row(0, named=True)
    assert rejected["html"] is None
    assert rejected["findings"] == ["there is no message: no value for profile.first_name"]


def test_no_address_can_be_read(tmp_path: Path) -> None:
    given = options(tmp_path)
    made = previews(AUDIENCE, given)
    page = write_page(made, AUDIENCE.height, given).read_text(encoding="utf-8")
    for text in (page, *made["html"].drop_nulls(), *made["text"].drop_nulls(), *made["email"]):
        assert "person" not in text
    assert "p…@profiles.example" in page


def test_the_page_needs_nothing_else_and_no_message_can_run_or_leave_its_frame(tmp_path: Path) -> None:
    given = options(tmp_path, html='<p>"{{ first_name }}"</p></iframe><img src="https://x.example/a.png">')
    write_page(previews(AUDIENCE, given), AUDIENCE.height, given)
    page = given.page.read_text(encoding="utf-8")
    assert page.count("<iframe") == page.count("sandbox title=") > 0
    assert "</p></iframe>" not in page
    assert "<script" not in page
    assert "<link" not in page
    assert "Spring &lt;&amp;&gt; more" in page
    assert "has no alt text" in page
    assert given.page.stat().st_mode & 0o077 == 0


def test_what_a_run_says_of_the_templates_stands_beside_each_message(tmp_path: Path) -> None:
    html = "<html><head><style>a{color:red}a:hover{color:blue}</style></head><table width=700><tr><td>"
    html += "<a href='https://x.example/unsubscribe?n={{ first_name }}'>x</a></table>" + "<p>" + "a" * 110_000
    given = options(tmp_path, html=html, of_personalization={"inline_css": True}, random=0, branches=False)
    made = previews(AUDIENCE, given)
    page = write_page(made, AUDIENCE.height, given).read_text(encoding="utf-8")
    told = [
        "the HTML has no &lt;meta name=viewport&gt;",
        "the HTML says nothing of dark mode",
        "the HTML has a table of 700 pixels and no @media",
        "Gmail clips it at 102 KB",
        "a value in the query of an address is not encoded",
        "stays in &lt;style&gt;: the rule &#39;a:hover&#39;",
    ]
    assert [page.count(finding) for finding in told] == [made["html"].count()] * len(told)


def test_the_page_shows_inlined_styles_and_counted_links(tmp_path: Path) -> None:
    html = "<style>p{color:red}</style><p>{{ first_name }} <a href='https://x.example/'>x</a></p>"
    given = options(tmp_path, html=html, of_personalization={"inline_css": True, "utm": {"source": "news"}})
    made = previews(AUDIENCE, given)
    assert made["html"].drop_nulls().str.starts_with('<p style="color:red">').all()
    page = write_page(made, AUDIENCE.height, given).read_text(encoding="utf-8")
    views = 3  # desktop, phone, dark mode
    assert page.count("utm_source=news&amp;amp;utm_medium=email") == views * made["html"].count()


def test_nobody_is_no_error(tmp_path: Path) -> None:
    given = options(tmp_path)
    made = previews(AUDIENCE.clear(), given)
    assert made.is_empty()
    assert "Nobody to show" in write_page(made, 0, given).read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PreviewUnwritable, match="file"):
        write_page(previews(AUDIENCE, options()), 1, options(tmp_path / "file"))


def test_the_task_links_the_page_as_an_artifact(
    result_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = options(tmp_path, html='<a href="http://x.example">x</a>')

    @flow
    def proof() -> None:
        preview(AUDIENCE, given)

    proof()
    assert "the link http://x.example is not https" in caplog.text
    assert "person" not in caplog.text
    assert given.page.resolve().as_uri() in newest_artifact("spring-messages").data
