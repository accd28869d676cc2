"""Values in artifacts stay values: rendered as the Prefect UI renders them, each is read as its own text."""

import re
from html import unescape

import polars as pl
import pytest
from markdown_it import MarkdownIt
from prefect import flow
from prefect.artifacts import Artifact

from tasks.runs.artifacts import as_block, as_html, as_text, begin_progress, show_link, show_table

ATTACKS = [
    "[Reset](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "<img src=https://evil.example/x.png onerror=alert(1)>",
    "https://evil.example www.evil.example WWW.evil.example a@evil.example",
    "<https://evil.example>",
    "[x]: https://evil.example",
    "# heading",
    "* item",
    "- item",
    "+ item",
    "1. item",
    "1) item",
    "> quote",
    "| a | b |",
    "a `b` *c* __d__ ~~e~~ \\[f]",
    "&lt;b&gt; &#60;b",
    "    code",
    "--- \n===",
    "<script>alert(1)</script>",
    "javascript:alert(1)",
    "$$x$$",
    "</pre><b>x",
]
RENDERED = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
MARKUP = re.compile(r"</?(p|pre)>\n?")
LINKS = re.compile(r"(https?://|www\.|\w@\w)", re.IGNORECASE)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_text_is_read_as_itself_and_nothing_in_it_is_markup(attack: str) -> None:
    shown = MARKUP.sub("", RENDERED.render(as_text(attack)))
    assert "<" not in shown
    assert unescape(shown).strip() == " ".join(attack.split())
    assert not LINKS.search(as_text(attack)), "nor is it found as a link in plain text"


@pytest.mark.parametrize("attack", [*ATTACKS, f"first\n\n{ATTACKS[1]}\n\n    {ATTACKS[2]}"])
def test_a_block_keeps_its_lines_and_nothing_in_it_is_markup(attack: str) -> None:
    shown = MARKUP.sub("", RENDERED.render(as_block(attack)))
    assert "<" not in shown
    assert unescape(shown).strip("\n") == attack


HARMFUL = [
    "<script>alert(1)</script>",
    "<img src=https://evil.example/x.png onerror=alert(1)>",
    "<a href=https://evil.example>x</a>",
    "<form action=https://evil.example><input></form>",
    "<iframe src=https://evil.example></iframe>",
    "<p style='background:url(https://evil.example/x)'>x</p>",
    "<p onclick=alert(1) class=p-button id=x>x</p>",
    "<style>body{display:none}</style>",
    "<svg><a xlink:href=https://evil.example>x</a></svg>",
    "<object data=https://evil.example></object>",
    "<p style='position:fixed;inset:0'>x</p>",
    "</div></div>[x](https://evil.example)",
    "<p>a</p>\n\n# b\n\n[x](https://evil.example)\n\n![y](https://evil.example)",
]


@pytest.mark.parametrize("attack", HARMFUL)
def test_of_a_message_s_html_no_more_is_shown_than_what_loads_nothing_and_leads_nowhere(attack: str) -> None:
    shown = RENDERED.render(f"### Hi\n\n{as_html(attack)}\n\n---")
    assert not re.search(
        r"<(script|img|a|form|input|iframe|style|svg|object)|onerror|onclick|class=|id=|position|url\(|<h1", shown
    )
    assert shown.count("<div>") == shown.count("</div>") == 1


def test_a_message_is_shown_as_it_looks() -> None:
    shown = as_html("<body><table><tr><td style='color:#b4532a;padding:8px'>Café &lt;3\n\n\nAda</td></tr></table>")
    cell = '<td style="color:#b4532a;padding:8px">Café &lt;3 Ada</td>'
    assert shown == f"<div><table><tbody><tr>{cell}</tr></tbody></table></div>"


def test_every_kind_of_artifact_goes_through_the_one_writer(prefect_backend: str) -> None:
    attack = ATTACKS[0]

    @flow
    def artifacts() -> None:
        show_table(pl.DataFrame({"reason": [attack], "profiles": [1]}), key="a-table", description=attack)
        show_link("file:///page.html", attack, key="a-link", description=attack)
        begin_progress(attack, key="a-progress")

    artifacts()
    for key in ("a-table", "a-link", "a-progress"):
        artifact = Artifact.get(key)
        assert "evil" in f"{artifact.data}{artifact.description}"
        assert "](https" not in f"{artifact.data}{artifact.description}"
