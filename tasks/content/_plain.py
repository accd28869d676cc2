"""The plain text of an HTML part, for templates that have no text of their own."""

import html

import polars as pl

STEPS = (
    (r"(?s)<!--.*?-->", ""),
    *((rf"(?is)<{name}\b.*?</{name}>", "") for name in ("style", "script", "title", "head")),
    (r"[\s\u{a0}]+", " "),
    (r"""(?i)<a\s[^>]*?\bhref=["']?((?:https?|mailto|tel|sms):[^"'\s>]*)["']?[^>]*>(.*?)</a>""", "$2 ($1)"),
    (r"""(?i)<img\b[^>]*?\balt=["']([^"']*)["'][^>]*>""", "$1"),
    (r"(?i)<li\b[^>]*>", "\n- "),
    (r"(?i)<br\b[^>]*>|</(?:p|div|tr|h[1-6]|table|ul|ol)>", "\n"),
    (r"(?i)</t[dh]>", " "),
    (r"<[^>]*>", ""),
    (r" *\n *", "\n"),
    (r" {2,}", " "),
    (r"\n{3,}", "\n\n"),
    (r" \(\)", ""),
)
"""Patterns in the order in which they are replaced."""


def plain_texts(messages: pl.Series) -> pl.Series:
    """What a reader sees of each HTML part, a line per paragraph, each link with its address behind it."""
    texts = messages
    for pattern, replacement in STEPS:
        texts = texts.str.replace_all(pattern, replacement)
    texts = texts.str.strip_chars()
    with_entities = texts.str.contains(r"&#?\w+;").fill_null(value=False).arg_true()
    if not len(with_entities):
        return texts
    return texts.scatter(with_entities, [html.unescape(text) for text in texts.gather(with_entities)])
