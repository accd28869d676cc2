"""What senders check before they send: findings about one message, each a sentence."""

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser

CLIPPED_BYTES = 102 * 1024
"""Gmail shows no more of a message's HTML than this."""

WIDEST = 640
"""Pixels beyond which a table of a fixed width does not fit a phone that shows it whole."""

PLACEHOLDERS = ("{{", "}}", "{%", "%}", "{#", "[[", "%%")
FINE_SCHEMES = ("https:", "mailto:", "tel:", "sms:", "#", "cid:")


class _Seen(HTMLParser):
    """Links and images of an HTML part."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        """Address and text of each link."""
        self.images: list[dict[str, str | None]] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in {"a", "area"} and attributes.get("href") is not None:
            self.links.append((str(attributes["href"]).strip(), ""))
            self._open = tag == "a"
        if tag == "img":
            self.images.append(attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            href, text = self.links[-1]
            self.links[-1] = (href, text + data)


def findings(
    subject: str, html: str, text: str, *, longest_subject: int, unsubscribe: Sequence[str]
) -> Iterator[str]:
    """What a sender would want to know of a message before it is sent; nothing for a message without fault."""
    size = len(html.encode())
    if size > CLIPPED_BYTES:
        yield f"the HTML has {size // 1024} KB; Gmail clips it at 102 KB"
    if len(subject) > longest_subject:
        yield f"the subject has {len(subject)} characters, more than {longest_subject}"
    for part, content in (("subject", subject), ("HTML", html), ("text", text)):
        left = [mark for mark in PLACEHOLDERS if mark in content]
        if left:
            yield f"the {part} has a placeholder left unfilled: {' '.join(left)}"
    if not text.strip():
        yield "the plain text is empty"
    yield from _of_html(html, unsubscribe)


def template_findings(html: str) -> Iterator[str]:
    """What the templates of an HTML part lack on phones and in dark mode, once for all messages.

    Only of whole documents, with a `<head>`: a fragment is a part of a page that is not known here.
    """
    shown = html.lower()
    if "<head" not in shown:
        return
    if not re.search(r"<meta[^>]*\bviewport\b", shown):
        yield "the HTML has no <meta name=viewport>; phones show it as a small desktop page"
    if not re.search(r"\b(prefers-)?color-scheme\b", shown):
        yield "the HTML says nothing of dark mode (color-scheme); mail programs choose its dark colors"
    widths = [int(width) for width in re.findall(r"<table[^>]*\bwidth=[\"']?(\d+)(?![\d%])", shown)]
    if max(widths, default=0) > WIDEST and "@media" not in shown:
        yield f"the HTML has a table of {max(widths)} pixels and no @media; phones cut or shrink it"


def _of_html(html: str, unsubscribe: Sequence[str]) -> Iterator[str]:
    seen = _Seen()
    seen.feed(html)
    for href, _ in dict.fromkeys(seen.links):
        if not href:
            yield "a link has no address"
        elif not href.lower().startswith(FINE_SCHEMES):
            yield f"the link {href} is not https"
    for image in seen.images:
        source = image.get("src") or "without address"
        if image.get("alt") is None:
            yield f"the image {source} has no alt text"
        if source.lower().startswith("http:"):
            yield f"the image {source} is not https"
    words = [word.lower() for word in unsubscribe]
    if not any(word in f"{href} {shown}".lower() for href, shown in seen.links for word in words):
        yield "there is no link to unsubscribe"
