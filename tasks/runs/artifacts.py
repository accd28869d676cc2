"""Artifacts are data, not markup: the one writer of what the Prefect UI draws as Markdown.

The UI draws descriptions, texts of links and the texts of a table's cells as Markdown. Values of profiles, partners
and authors go there as references to characters, which are never markup: no link, no picture, no HTML.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

import nh3
import polars as pl
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
)

from tasks.runs.log import run_logger

SPECIAL = re.compile(r"""[!#$&()*:<>\[\\\]_`{|}~]|(?<=[\w.+-])@|^[-+]|^\d+\.|(?<=www)\.""", re.IGNORECASE)
"""What can begin, or be, markup in some place of Markdown, with the links that are found in plain text."""


@contextmanager
def harmlessly(what: str) -> Iterator[None]:
    """What is shown never stops the work: an API that is away is one line of the log."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever the API, or its client, says
        run_logger().warning("The artifact %s cannot be shown: %s.", what, type(error).__name__)


def as_text(value: object) -> str:
    """One line of Markdown that is read as the value's text.

    By backslashes: of references to characters the Prefect UI reads five, and shows the others as they are written.
    """
    return SPECIAL.sub(_escaped, " ".join(str(value).split()))


def as_block(text: str) -> str:
    """Markdown that is read as the text, its lines and spaces kept."""
    lines = (SPECIAL.sub(_references, line) for line in text.splitlines())
    return f"<pre>{'&#10;'.join(lines)}</pre>"


def _escaped(found: re.Match[str]) -> str:
    return "".join(char if char.isalnum() else f"\\{char}" for char in found.group())


def _references(found: re.Match[str]) -> str:
    return "".join(char if char.isalnum() else f"&#{ord(char)};" for char in found.group())


def show_table(table: pl.DataFrame, *, key: str, description: str) -> None:
    """Show a table as the artifact `key`."""
    rows = [
        {
            name: value if value is None or isinstance(value, int | float) else as_text(value)
            for name, value in row.items()
        }
        for row in table.iter_rows(named=True)
    ]
    with harmlessly(key):
        create_table_artifact(table=rows, key=key, description=as_text(description))


def show_markdown(markdown: str, *, key: str, description: str) -> None:
    """Show Markdown in which every value went through `as_text` or `as_block`, as the artifact `key`."""
    with harmlessly(key):
        create_markdown_artifact(markdown=markdown, key=key, description=as_text(description))


TAGS = frozenset(
    {
        *(
            "b",
            "blockquote",
            "br",
            "div",
            "em",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "hr",
            "i",
            "li",
            "ol",
            "p",
            "pre",
        ),
        *("small", "span", "strong", "sub", "sup", "u", "ul"),
        *("table", "tbody", "td", "tfoot", "th", "thead", "tr"),
    }
)
"""No link, no picture, no form: an artifact loads nothing and leads nowhere."""
UNSEEN = frozenset({"script", "style", "title", "head", "template", "noscript", "textarea"})
ATTRIBUTES = {"*": {"align", "dir", "lang", "style"}, "td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}}
STYLES = frozenset(
    {
        *("color", "background-color", "font-family", "font-size", "font-style", "font-weight", "letter-spacing"),
        *("line-height", "text-align", "text-decoration", "padding", "margin", "max-width"),
        *("border", "border-radius", "border-top", "border-bottom"),
    }
)


def as_html(html: str) -> str:
    """One block of Markdown that shows a message as HTML, of which only what is harmless stays.

    A block of HTML ends at a line that is empty, so there is none.
    """
    harmless = nh3.clean(
        html,
        tags=set(TAGS),
        clean_content_tags=set(UNSEEN),
        attributes=ATTRIBUTES,
        link_rel=None,
        filter_style_properties=set(STYLES),
    )
    return f"<div>{' '.join(harmless.split())}</div>"


def messages_shown(messages: Iterable[tuple[str, ...]]) -> str:
    """Markdown of messages, each with subject, address, HTML and text."""
    parts = [
        f"### {as_text(subject)}\n\nTo {as_text(address)}\n\n{as_html(html) if html.strip() else as_block(text)}"
        for subject, address, html, text in messages
    ]
    return "\n\n---\n\n".join(parts) or "No messages."


def show_link(link: str, text: str, *, key: str, description: str) -> None:
    """Show a link of our own, with its text, as the artifact `key`."""
    with harmlessly(key):
        create_link_artifact(link=link, link_text=as_text(text), key=key, description=as_text(description))


def begin_progress(description: str, *, key: str) -> UUID:
    """Show that something has begun, as the artifact `key`; gives the artifact, for its updates."""
    made: UUID = create_progress_artifact(0.0, key=key, description=as_text(description))  # type: ignore[assignment]
    return made
