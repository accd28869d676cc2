"""What a sender is told of a message before it is sent."""

import pytest

from tasks.content._checks import findings

UNSUBSCRIBE = '<a href="https://x.example/u">Unsubscribe</a>'


def found(
    subject: str = "Hello", html: str = "", text: str = "Hello", *, unsubscribe: str = UNSUBSCRIBE
) -> list[str]:
    words = ("unsubscribe", "abmelden")
    return list(findings(subject, html + unsubscribe, text, longest_subject=60, unsubscribe=words))


@pytest.mark.parametrize(
    "html",
    [
        "",
        '<a href="https://x.example">x</a><a href="mailto:a@x.example">m</a>',
        '<a href="#top">t</a><a href="tel:1">p</a>',
        '<img src="https://x.example/a.png" alt=""><img src="cid:logo" alt="Logo">',
        "x" * (100 * 1024),
    ],
)
def test_a_message_without_fault_has_no_finding(html: str) -> None:
    assert found(html=html) == []


@pytest.mark.parametrize(
    ("message", "finding"),
    [
        ({"html": "x" * (102 * 1024)}, "the HTML has 102 KB; Gmail clips it at 102 KB"),
        ({"html": "ß" * (52 * 1024)}, "the HTML has 104 KB; Gmail clips it at 102 KB"),
        ({"subject": "x" * 61}, "the subject has 61 characters, more than 60"),
        ({"subject": "Dear {{ name }}"}, "the subject has a placeholder left unfilled: {{ }}"),
        ({"html": "<p>{% if x %}</p>"}, "the HTML has a placeholder left unfilled: {% %}"),
        ({"text": "[[name]]"}, "the text has a placeholder left unfilled: [["),
        ({"text": " \n"}, "the plain text is empty"),
        ({"html": '<a href="http://x.example">x</a>'}, "the link http://x.example is not https"),
        ({"html": '<a href=" ">x</a>'}, "a link has no address"),
        ({"html": '<a href="x.html">x</a>'}, "the link x.html is not https"),
        ({"html": '<img src="https://x.example/a.png">'}, "the image https://x.example/a.png has no alt text"),
        ({"html": '<img src="http://x.example/a.png" alt="">'}, "the image http://x.example/a.png is not https"),
        ({"unsubscribe": '<a href="https://x.example">Shop</a>'}, "there is no link to unsubscribe"),
        ({"unsubscribe": "unsubscribe by mail"}, "there is no link to unsubscribe"),
    ],
)
def test_what_a_sender_would_want_to_know_is_said(message: dict[str, str], finding: str) -> None:
    assert found(**message) == [finding]


def test_a_link_to_unsubscribe_is_known_by_its_text_or_its_address() -> None:
    assert found(unsubscribe='<a href="https://x.example/u"><b>Jetzt ABMELDEN</b></a>') == []
    assert found(unsubscribe='<a href="https://x.example/unsubscribe?p=1">x</a>') == []
