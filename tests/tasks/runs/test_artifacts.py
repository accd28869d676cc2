"""Values in artifacts stay values: rendered as the Prefect UI renders them, each is read as its own text."""

import re
from html import unescape

import polars as pl
import pytest
from markdown_it import MarkdownIt
from prefect import flow
from prefect.artifacts import Artifact

from tasks.runs.artifacts import as_block, as_text, begin_progress, show_link, show_table

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
