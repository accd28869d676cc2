"""UTM parameters: which links of the templates get them and where, which do not, and what is told."""

import logging
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tasks.content._options import PersonalizationOptions, Renderers
from tasks.content.personalization import Templates, personalize
from tasks.send import Send
from tasks.templates.links import Utm, with_parameters
from tasks.templates.rewriting import Rewritten

SEND = Send(campaign="spring", label="Spring", business_date="2026-03-20")
UTM = "utm_source=news&amp;utm_medium=email&amp;utm_campaign=spring"
PLAIN = UTM.replace("&amp;", "&")


def of(html: str, text: str = "t", **given: object) -> Rewritten:
    sources = {"s": "see https://x.example/", "body.html": html, "body.txt": text}
    parts = {"subject": "s", "html": "body.html", "text": "body.txt"}
    templates = Templates(folder=Path("mail"), parts=parts, sources=sources)
    return with_parameters(templates, Utm(source="news", **given), "spring")


CHOSEN = "{% if v %}a{% else %}b{% endif %}"
OTHERS = "utm_source=a&amp;utm_medium=b"
LINKS = [
    '<a href="%s">x</a>',
    "<area href='%s'>",
    '<!--[if mso]><v:rect href="%s"><![endif]-->',
    '<!--[if !mso]><!--><a href="%s">x</a><!--<![endif]-->',
    '<!--[if !mso]><!-- --><a href="%s">x</a><!-- <![endif]-->',
    '<!--[if !mso]><!-- --><p><!-- <![endif]--><!--[if mso]><v:rect href="%s"><![endif]-->',
    '<!--[if mso]><style>p{}<![endif]--><!--[if mso]><v:rect href="%s"><![endif]-->',
]
TAGGED = [
    ("https://x.example", f"https://x.example?{UTM}"),
    ("HTTP://x.example/a", f"HTTP://x.example/a?{UTM}"),
    ("https://x.example/a?b=1&amp;c=2", f"https://x.example/a?{UTM}&amp;b=1&amp;c=2"),
    ("https://x.example/a?", f"https://x.example/a?{UTM}"),
    ("https://x.example/a#f", f"https://x.example/a?{UTM}#f"),
    ("https://x.example/a?b=1#f?g", f"https://x.example/a?{UTM}&amp;b=1#f?g"),
    ("https://x.example/?id={{ v }}#{{ v }}", f"https://x.example/?{UTM}&amp;id={{{{ v }}}}#{{{{ v }}}}"),
    ("https://x.example/{{ v|urlencode }}/b", f"https://x.example/{{{{ v|urlencode }}}}/b?{UTM}"),
    (f"https://x.example/{CHOSEN}", f"https://x.example/{CHOSEN}?{UTM}"),
    (f"https://x.example/?{OTHERS}", f"https://x.example/?utm_campaign=spring&amp;{OTHERS}"),
    (f"https://x.example/?{UTM}", f"https://x.example/?{UTM}"),
    # Not a link of the web, and the one to unsubscribe
    ("mailto:a@b.example", "mailto:a@b.example"),
    ("tel:+4312345", "tel:+4312345"),
    ("#top", "#top"),
    ("{{ campaign.unsubscribe_url }}", "{{ campaign.unsubscribe_url }}"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "expected"), TAGGED)
@pytest.mark.parametrize("link", LINKS)
def test_a_link_gets_the_parameters_first_in_its_query(link: str, address: str, expected: str) -> None:
    made = of(link % address)
    assert made.templates.sources["body.html"] == link % expected
    assert made.findings == ()


UNSURE = [
    ("{{ v }}", "its address is a value"),
    ("{% if v %}https://x.example{% endif %}", "its address is a value"),
    ("https://{{ v }}/a", "its host is a value"),
    ("https://x.example{{ v }}", "its host is a value"),
    ("https://x.example/{{ v }}", "a value in it may have a '?' or '#'; write it with '|urlencode'"),
    ("https://x.example/{{ v ~ v|urlencode }}", "a value in it may have a '?' or '#'"),
    ("https://x.example/{% include 's' %}", "a value in it may have a '?' or '#'"),
    ("https://x.example/{% if v %}?a=1{% endif %}", "a condition in it decides where its query begins"),
    ("https://x.example/a&quest;b", "an entity in it may be a '?' or '#'; write the character"),
]


@pytest.mark.parametrize(("address", "told"), UNSURE)
def test_a_link_whose_query_is_not_sure_stays_and_is_told(address: str, told: str) -> None:
    made = of(f'\n<a href="{address}">x</a>')
    assert made.templates.sources["body.html"] == f'\n<a href="{address}">x</a>'
    assert len(made.findings) == 1
    assert made.findings[0].startswith(f"body.html, line 2: the link {address} has no UTM parameters: {told}")


TEXTS = [
    ("See https://x.example/a.", f"See https://x.example/a?{PLAIN}."),
    ("(https://x.example/a?b=1)", f"(https://x.example/a?{PLAIN}&b=1)"),
    ("<https://x.example>, or {{ v }}", f"<https://x.example?{PLAIN}>, or {{{{ v }}}}"),
    ("https://x.example/{{ v|urlencode }}!", f"https://x.example/{{{{ v|urlencode }}}}?{PLAIN}!"),
    ("{% if v %}https://x.example/{% endif %} b", f"{{% if v %}}https://x.example/?{PLAIN}{{% endif %}} b"),
    ("https://x.example/{% if v %} b{% endif %}", f"https://x.example/?{PLAIN}{{% if v %}} b{{% endif %}}"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_addresses_in_the_text_get_them_too(text: str, expected: str) -> None:
    made = of("<p>https://x.example/</p>", text)
    assert made.templates.sources["body.txt"] == expected
    assert made.templates.sources["body.html"] == "<p>https://x.example/</p>"
    assert made.templates.sources["s"] == "see https://x.example/"
    assert made.findings == ()


def test_a_text_to_be_translated_is_not_changed() -> None:
    text = "{% trans %}See https://x.example/{% endtrans %}"
    made = of("x", text)
    assert made.templates.sources["body.txt"] == text
    assert "it stands in a text to be translated; write it outside" in made.findings[0]


def test_only_the_hosts_that_are_named() -> None:
    html = '<a href="https://x.example/">1</a><a href="https://www.X.example:443/">2</a><a href="https://y.example/">3</a>'
    made = of(html + '<a href="https://notx.example/">4</a>', hosts=("x.example",))
    assert made.templates.sources["body.html"].count("utm_source") == 2
    assert made.findings == ()


def test_values_are_encoded_and_the_campaign_can_be_named() -> None:
    made = of('<a href="https://x.example">x</a>', campaign="a b&c", content="{{ v }}", term="é")
    assert made.templates.sources["body.html"].endswith(
        'utm_campaign=a%20b%26c&amp;utm_content=%7B%7B%20v%20%7D%7D&amp;utm_term=%C3%A9">x</a>'
    )


@pytest.mark.parametrize("text", ["See https://x.example/{{ v|urlencode }}", None])
def test_both_ways_of_rendering_show_the_same_and_a_run_tells_what_has_none(
    text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    html = '<a href="https://x.example/{{ v|urlencode }}#f">x</a><a href="{{ u }}">y</a>'
    sources = {"s": "s", "h": html, **({"t": text} if text else {})}
    parts = {"subject": "s", "html": "h", **({"text": "t"} if text else {})}
    templates = Templates(folder=Path(), parts=parts, sources=sources)
    people = pl.DataFrame({"profile_id": ["1"], "email": "a@b.example", "v": "a/b c?", "u": "https://x.example/u"})
    given = {"templates": templates, "send": SEND, "utm": Utm(source="news")}
    made = [
        Renderers(people.schema, PersonalizationOptions(**given, row_by_row=slow)).rendered(people)
        for slow in (False, True)
    ]
    assert_frame_equal(*made)
    assert f'href="https://x.example/a/b%20c%3F?{UTM}#f"' in made[0]["html"][0]
    assert f"https://x.example/a/b%20c%3F?{PLAIN}" in made[0]["text"][0]
    personalize(people, PersonalizationOptions(**given), logger=logging.getLogger("run"))
    assert "the link {{ u }} has no UTM parameters" in caplog.text
