"""`{% trans %}` with a catalogue for each locale, and `{{ reject() }}`: the same in both ways of rendering."""

from pathlib import Path

import polars as pl
import pytest

from tasks.content._options import Renderers
from tasks.content.personalization import (
    PersonalizationOptions,
    Personalized,
    TemplateFolder,
    Variant,
    personalize,
    read_templates,
)
from tasks.errors import TemplatesInvalid
from tasks.send import Send

SEND = Send(campaign="c", label="C", business_date="2026-01-01")
GERMAN = """
msgid "Hello %(who)s!"
msgstr "Grüß dich, %(who)s!"

msgid "%(n)s item, 100%% new"
msgid_plural "%(n)s items, 100%% new"
msgstr[0] "%(n)s Stück, 100%% neu"
msgstr[1] "%(n)s Stücke, 100%% neu"
"""
POLISH = """
msgid "%(n)s item, 100%% new"
msgid_plural "%(n)s items, 100%% new"
msgstr[0] "%(n)s sztuka"
msgstr[1] "%(n)s sztuki"
msgstr[2] "%(n)s sztuk"
"""
TEMPLATE = (
    "{% trans who=profile.who %}Hello {{ who }}!{% endtrans %}"
    "{% trans n=profile.n %}{{ n }} item, 100% new{% pluralize n %}{{ n }} items, 100% new{% endtrans %}"
    "{{ _('Bye') }}"
)
PEOPLE = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3", "4"],
        "email": ["a@x.example"] * 4,
        "who": ["Ada & <Eve>", "Bob", None, "Flo"],
        "n": [1, 2, 3, 5],
        "language": ["de_AT", "pl", "de", "fr"],
    }
)


def made(folder: Path, template: str, *, row_by_row: bool, **catalogues: str) -> Personalized:
    for name, text in {"subject.txt": "s", "body.txt": template, "body.html": template}.items():
        (folder / name).write_text(text)
    (folder / "locale").mkdir()
    for name, text in catalogues.items():
        (folder / "locale" / f"{name}.po").write_text(text)
    templates = read_templates(TemplateFolder(folder=folder))
    variants = tuple(Variant(code=each, templates=templates, locale=each) for each in ("de", "pl", "fr"))
    options = PersonalizationOptions(templates=templates, send=SEND, variants=variants, row_by_row=row_by_row)
    outbound = personalize(PEOPLE, options)
    if not row_by_row:
        renderers = Renderers(PEOPLE.schema, options)
        renderers.rendered(PEOPLE)
        assert not any(each.slow for each in renderers.by_code.values())
    return outbound


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_text_is_shown_in_the_locale_s_translation_or_as_it_stands(tmp_path: Path, row_by_row: bool) -> None:
    outbound = made(tmp_path, TEMPLATE, row_by_row=row_by_row, de=GERMAN, pl=POLISH)
    assert outbound.standard["text"].to_list() == [
        "Grüß dich, Ada & <Eve>!1 Stück, 100% neuBye",
        "Hello Bob!2 sztukiBye",
        "Hello Flo!5 items, 100% newBye",
    ]
    assert outbound.standard["html"][0] == "Grüß dich, Ada &amp; &lt;Eve&gt;!1 Stück, 100% neuBye"
    assert outbound.rejects["reason"].to_list() == ["no value for profile.who"]


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_text_of_a_call_has_percent_signs_and_whole_numbers(tmp_path: Path, row_by_row: bool) -> None:
    template = "{{ _('100%% ok') }} {{ ngettext('%(num)d item', '%(num)d items', n) }} {{ _('%(n)d', n=n) }}"
    outbound = made(tmp_path, template, row_by_row=row_by_row, de='msgid "100%% ok"\nmsgstr "100 %% gut"\n')
    assert outbound.standard["html"].to_list() == [
        "100 % gut 1 item 1",
        "100% ok 2 items 2",
        "100 % gut 3 items 3",
        "100% ok 5 items 5",
    ]


def test_a_whole_number_that_a_text_asks_for_is_never_cut(tmp_path: Path) -> None:
    for name in ("subject.txt", "body.txt", "body.html"):
        (tmp_path / name).write_text("{{ _('%(n)d left', n=n) }}")
    templates = read_templates(TemplateFolder(folder=tmp_path))
    people = pl.DataFrame({"profile_id": ["1", "2"], "email": "a@x.example", "n": [9.5, None]})
    for row_by_row in (False, True):
        options = PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row)
        assert personalize(people, options).rejects["reason"].to_list() == [
            "the template fails on the values: 'n' is no whole number; write %(n)s in the translated text",
            "no value for profile.n",
        ]
        whole = people.with_columns(n=pl.Series([9, None]))
        outbound = personalize(whole, options)
        assert outbound.standard["text"].to_list() == ["9 left"]
        assert outbound.rejects["reason"].to_list() == ["no value for profile.n"]


MONTHS = """
msgctxt "month"
msgid "May"
msgstr "Mai"

msgctxt "permission"
msgid "May"
msgstr "Darf"

msgctxt "shop"
msgid "%(n)s order in the %(context)s"
msgid_plural "%(n)s orders in the %(context)s"
msgstr[0] "%(n)s Bestellung (%(context)s)"
msgstr[1] "%(n)s Bestellungen (%(context)s)"
"""


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_text_is_translated_by_its_context(tmp_path: Path, row_by_row: bool) -> None:
    template = (
        "{% trans 'month' %}May{% endtrans %}, {{ pgettext('permission', 'May') }}, {{ _('May') }}, "
        "{% trans 'shop' n=profile.n, context='shop' %}{{ n }} order in the {{ context }}{% pluralize n %}"
        "{{ n }} orders in the {{ context }}{% endtrans %}"
    )
    outbound = made(tmp_path, template, row_by_row=row_by_row, de=MONTHS)
    assert outbound.standard["text"].to_list() == [
        "Mai, Darf, May, 1 Bestellung (shop)",
        "May, May, May, 2 orders in the shop",
        "Mai, Darf, May, 3 Bestellungen (shop)",
        "May, May, May, 5 orders in the shop",
    ]


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_value_of_any_name_is_filled_in_and_an_empty_text_is_empty(tmp_path: Path, row_by_row: bool) -> None:
    template = (
        "{% trans text=n, number=n, one=n, context=n %}{{ text }}{{ number }}{{ one }}{% endtrans %}{{ _('') }}"
    )
    outbound = made(tmp_path, template, row_by_row=row_by_row, de="")
    assert outbound.standard["text"].to_list() == ["111", "222", "333", "555"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("de.mo", "locale/de.mo: only .po files are read"),
        (
            "de/LC_MESSAGES/messages.po",
            "locale/de/LC_MESSAGES/messages.po: a catalogue has its place in locale/de.po",
        ),
    ],
)
def test_a_catalogue_that_would_be_passed_over_is_refused(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "locale" / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "locale" / path).write_bytes(b"")
    for name in ("subject.txt", "body.txt", "body.html"):
        (tmp_path / name).write_text("x")
    with pytest.raises(TemplatesInvalid, match=says):
        read_templates(TemplateFolder(folder=tmp_path))


@pytest.mark.parametrize(
    ("template", "catalogue", "says"),
    [
        ("{% trans %}<b>x</b>{% endtrans %}", "", "body.html, line 1: a text to be translated has markup"),
        ("x", 'msgid "x"\nmsgstr "<b>x</b>"\n', "de.po, line 1: the translation of 'x' has markup"),
        ("x", 'msgid "x"\nmsgstr "%(y)s"\n', "de.po, line 1: the translation of 'x' has a placeholder that"),
        ("x", 'msgid "x"\nmsgstr "%d"\n', "de.po, line 1: the translation of 'x' has a '%' that is no placeholder"),
        ("x", 'msgid "%(y)s"\nmsgstr "%(y)d"\n', "de.po, line 1: the translation of '%(y)s' has a placeholder"),
        ("{{ _('50% off') }}", "", "body.txt, line 1: the text '50% off' has a '%' that is no placeholder; write"),
        (
            "{{ _('Hello %s', s=who) }}",
            "",
            "body.html, line 1: the text 'Hello %s' has a '%' that is no placeholder",
        ),
        ("{{ _('%(who)5s', who=who) }}", "", "body.html, line 1: the text '%(who)5s' has a '%' that is no"),
        ("{{ _('%(a)s %(who)s', a=n) }}", "", "has no value for 'who'; write who=... in the call"),
        ("{{ ngettext('%(num)s', '%(n)s', n) }}", "", "the text '%(n)s' has no value for 'n'"),
        ("x", "nonsense", "locale/de.po: it is no catalogue of gettext"),
    ],
)
def test_a_catalogue_is_checked_when_the_templates_are_read(
    tmp_path: Path, template: str, catalogue: str, says: str
) -> None:
    with pytest.raises(TemplatesInvalid) as invalid:
        made(tmp_path, template, row_by_row=False, de=catalogue)
    assert says in str(invalid.value)


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_template_rejects_a_profile_with_its_reason(tmp_path: Path, row_by_row: bool) -> None:
    template = "{% if n > 2 %}{{ reject('only ' ~ n ~ ' left') }}{% elif n == 2 %}{{ reject(who) }}{% endif %}Hi"
    outbound = made(tmp_path, template, row_by_row=row_by_row)
    assert outbound.standard["text"].to_list() == ["Hi"]
    assert outbound.rejects["reason"].to_list() == ["Bob", "only 3 left", "only 5 left"]
