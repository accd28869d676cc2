"""Both ways of rendering give the same: over whole columns, and row by row in Jinja's sandbox."""

import os
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tasks.content._options import Renderers
from tasks.content.personalization import PersonalizationOptions, Templates, Utm
from tasks.send import Send

SEND = Send(campaign="spring", label="Spring & <more>", business_date=date(2026, 2, 28))

NASTY = [
    "Ada", "O'Neil", "Jean & Marie", "<b>Bold</b>", "\"Ace\"", "", "  ", "\x1c", None, "ß", "straße",
    "ŉ", "İstanbul", "ǆ", "ﬁne", "Ολυμπος", "健太", "فاطمة", "🎉 Pip", "{{ 7*7 }}", "a\nb", "\u2028",
    " padded ", "\x1fcontrol\x1f", "x" * 500, "javascript:alert(1)", "A&amp;B", "100%", "red", "1", "-7",
    "3.5", "1e400", "vip", "https://example.com/?a=b&c=d", "None",
]  # fmt: skip
NUMBERS = [0.0, -0.0, 1e-5, 0.1, 2.5, 3.5, -1.25, 1e15, 1e16, 1e22, 123456.789, float("inf"), float("nan"), None]
INTEGERS = [0, 1, 2, 3, 7, -7, 2**31, 2**53 + 1, -(2**63), 2**63 - 1, None]


def of(values: list, rows: int) -> list:
    return [values[row % len(values)] for row in range(rows)]


def audience(rows: int = 120) -> pl.DataFrame:
    """Profiles with every kind of value, each also missing; the lists have different lengths, so all meet all."""
    offers = [
        [],
        None,
        [{"title": "Tea & <cake>", "price": 9.5, "sold": True}],
        [{"title": "A", "price": 1e-7, "sold": False}, {"title": "B", "price": 20.0, "sold": None}],
        [{"title": "Z", "price": None, "sold": True}, {"title": None, "price": 3.0, "sold": False}],
        [{"title": f"T{number}", "price": float(number), "sold": number % 2 == 0} for number in range(7)],
        [None, {"title": "after nothing", "price": 1.0, "sold": True}],
    ]
    return pl.DataFrame(
        {
            "profile_id": [f"P{row}" for row in range(rows)],
            "email": [f"p{row}@example.com" for row in range(rows)],
            "who": of(NASTY, rows),
            "city": of([*NASTY[7:], "Łódź", "Wien"], rows),
            "plain": of(["Ann", "Bob", "Christopher", "de la Cruz", "x-ray", ""], rows),
            "full": of(["here", "and <there>"], rows),
            "points": of(INTEGERS, rows),
            "small": of([1, 2, 3, -4, 0], rows),
            "score": of(NUMBERS, rows),
            "vip": of([True, False, None], rows),
            "born": of([date(2000, 2, 29), date(1940, 12, 31), date(999, 1, 1), None], rows),
            "seen": of([datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, 60), None], rows),
            "wakes": of([time(7, 30), time(23, 59, 59, 1), None], rows),
            "price": of([Decimal("9.50"), Decimal("-0.05"), Decimal("12345.00"), None], rows),
            "tags": of([["vip", "new"], [], ["a", None, "vip"], None, ["<x>"], [""], ["new"]], rows),
            "coupons": of(
                [{"code": "C<1>", "left": 3}, None, {"code": None, "left": 0}, {"code": "D'2", "left": None}], rows
            ),
            "offers": of(offers, rows),
            "solid": of(offers[:6], rows),
        },
        schema_overrides={"price": pl.Decimal(12, 2), "points": pl.Int64()},
    )


def renderings(
    profiles: pl.DataFrame,
    html: str = "h",
    *,
    subject: str = "s",
    text: str = "t",
    more: dict[str, str] | None = None,
    **options_given: object,
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """The messages over whole columns, row by row, and what could not be lowered."""
    sources = {"subject.txt": subject, "body.html": html, "body.txt": text, **(more or {})}
    parts = {"subject": "subject.txt", "html": "body.html", "text": "body.txt"}
    templates = Templates(folder=Path("templates"), parts=parts, sources=sources)
    options = PersonalizationOptions(templates=templates, send=SEND, **options_given)
    fast = Renderers(profiles.schema, options)
    slow = Renderers(profiles.schema, options.model_copy(update={"row_by_row": True}))
    whole = pl.when(pl.col("reason").is_null()).then(pl.col("subject", "html", "text"))
    one, other = (pl.concat(renderers.slices([profiles])).with_columns(whole) for renderers in (fast, slow))
    return one, other, [f"{entry.construct} ({entry.where})" for entry in fast.by_code[""].slow.values()]


def assert_same(profiles: pl.DataFrame, **templates: object) -> pl.DataFrame:
    one, other, not_lowered = renderings(profiles, **templates)
    assert not_lowered == []
    assert_frame_equal(one, other)
    return one


FIELDS = [
    "who",
    "city",
    "plain",
    "full",
    "points",
    "small",
    "score",
    "vip",
    "born",
    "seen",
    "wakes",
    "price",
    "tags",
]

LOWERED = [
    *(f"{{{{ profile.{field} }}}}" for field in FIELDS),
    *(f"{{{{ {field}|default('friend') }}}}" for field in FIELDS),
    *(f"{{% if profile.{field} %}}yes{{% else %}}no{{% endif %}}" for field in FIELDS),
    *(f"{{{{ profile.{field} is defined }}}} {{{{ {field} is none }}}}" for field in FIELDS),
    *(f"{{{{ profile.full|{name} }}}}{{{{ plain|d('-')|{name} }}}}{{{{ city|d('x')|{name} }}}}" for name in (
        "upper", "lower", "title", "capitalize", "trim", "length", "urlencode", "e", "safe", "truncate(9)",
        "truncate(5, true, '…')", "replace('a', '<o>')", "replace('', '-')", "replace('e', 'E', 1)", "trim('xA ')",
    )),
    *(f"{{{{ profile.score|d(1.5)|{name} }}}}" for name in ("round", "round(1)", "abs", "number", "percent(1)")),
    "{{ profile.score|d(1.5)|float }}",
    *(
        f"{{{{ profile.{name} }}}}"
        for name in (
            "who|upper", "who|title", "who|trim", "who|length", "who|truncate(3)", "who|replace('a', 'b')", "who|e",
            "who|urlencode", "who|capitalize", "who|safe", "who|int", "who|float", "score|round", "score|abs",
            "small|int", "points|float", "points|abs", "price|number", "born|date", "seen|datetime", "wakes|time",
            "seen|date", "score|percent", "price|currency('EUR')",
        )
    ),
    *(f"{{{{ profile.small|{name} }}}}" for name in ("abs", "int", "float", "number", "currency('EUR', 'de')")),
    "{{ profile.price|d(1)|currency('USD') }} {{ price|d(0)|number(3, locale='de') }}",
    "{{ profile.born|d(campaign.business_date)|date }}{{ born.year }}{{ born.strftime('%d.%m.%Y') }}",
    "{{ profile.born|date('d MMMM', locale='de') }} {{ seen|datetime('short', 'fr') }} "
    "{{ wakes|time }} {{ seen.hour }}",
    "{{ profile.who|upper|lower|title|trim|e }}",
    "{{ price > 9 }} {{ price >= 9.5 }} {{ 12345 == price }} {{ price == price }}",
    "{{ small is even }} {{ small is odd }} {{ profile.small is divisibleby(3) }}{{ points is divisibleby 7 }}",
    "{% for o in solid|d([]) %}{{ 'odd' if loop.index is odd else 'even' }}{% endfor %}",
    "{{ tags[0]|d('none') }}", "{{ profile.tags[1] }}", "{{ (content.solid|d([]))[0].title }}",
    "{% if solid %}{{ solid[0].title|d('?') }}{% endif %}",
    "{{ 'a' if profile.vip else profile.who }}",
    "{{ (profile.who if profile.vip else profile.points)|default('none') }}",
    "{{ profile.who or profile.city or 'nobody' }}{{ profile.vip and profile.points }}",
    "{{ profile.points + 1 }} {{ points - small }} {{ points * small }} {{ small // 2 }} "
    "{{ small % 3 }} {{ -small }}",
    "{{ small / 2 }} {{ small * 1.5 }} {{ 1 - small }} {{ score + 1 }} {{ 2 * score }} {{ small - score }}",
    "{{ 1 // small }}",
    "{{ 1 / small }}",
    "{{ 5 % small }}",
    "{{ small / 0 }}",
    "{{ 1.0 / small }}",
    "{{ score / score }}",
    "{{ profile.full == 'here' }} {{ who == 'Ada' }}",
    "{{ who != city }}",
    "{{ small < 2 }} {{ 1 < small <= 3 }}",
    "{{ score > 2 }} {{ score == score }}",
    "{{ score - score == 0 }} {{ score - score != 0 }}",
    "{{ born > campaign.business_date }} {{ vip == true }} {{ full == small }} {{ full != 3 }}",
    "{{ not profile.vip }} {{ profile.vip and not profile.who }}",
    "{{ profile.who in ['Ada', 'ß'] }} {{ full not in ['here'] }} {{ small in [1, 2] }}",
    "{{ 'her' in profile.full }}",
    "{{ profile.full in 'there and here' }}",
    "{{ 'vip' in profile.tags }}",
    "{{ 'b' in profile.who }}",
    "{{ profile.who ~ '-' ~ profile.points ~ profile.vip }}",
    "{{ full ~ 1 }} {{ 'Dr. <x> ' ~ plain|upper }}",
    "{{ ('<b>'|safe) ~ full }} {{ full|e ~ full }}",
    "{{ full + '!' }} {{ plain + full }}",
    "{% if profile.small > 2 %}big {{ who }}{% elif profile.small > 0 %}{{ city }} some{% else %}"
    "{{ plain }}{% endif %}!",
    "{% if profile.vip %}{% if small == 1 %}{{ who }}{% endif %}{% elif points %}{{ points }}{% endif %}",
    "{% set hello = 'Dear ' ~ plain %}{{ hello }}{% if vip %}{% set hello = small %}{% endif %}{{ hello }}",
    "{% set t %}<i>{{ full }}</i>{% endset %}{{ t }}{{ t|length }}",
    "{% for tag in profile.tags %}{{ loop.index }}/{{ loop.length }} {{ tag }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for tag in profile.tags|d([]) %}{{ tag|d('?') }}{{ profile.who|d('x') }}"
    "{% else %}none for {{ plain }}{% endfor %}",
    "{% for o in content.offers|d([]) %}{{ o.title|d('-') }}: {{ o.price|d(0) }}"
    "{{ ' sold' if o.sold else '' }}; {% endfor %}",
    "{% for o in offers|d([]) if o.price|d(0) > 2 %}{{ o.title }}{{ who }}{% endfor %}",
    "{% for o in solid|d([]) if o.price|d(0) > 2 %}{{ loop.index }}{{ o.title }}{{ loop.revindex }}{% endfor %}",
    "{% for o in offers %}{{ loop.cycle('odd', 'even') }}{% if loop.first %}{{ o.title }}{% endif %}{% endfor %}",
    "{% for o in offers|d([]) %}{% for tag in profile.tags|d([]) %}{{ o.price|d('x') }}"
    "{{ tag|d('y') }}{% endfor %}|{% endfor %}",
    "{% for o in content.offers[:2] %}{{ o.title }}{% endfor %}{{ profile.full[:3] }}",
    "{% for n in [1, 2, 'three'] %}{{ n }}{{ loop.index0 }}{{ profile.full }}{% endfor %}"
    "{% for x in [] %}{% else %}e{% endfor %}",
    "{{ profile.tags|length }} {{ content.offers|length }}",
    "{{ profile.tags|first }}",
    "{{ profile.tags|last }}",
    "{{ profile.tags|join(' & ') }}",
    "{{ tags|d([])|join }}",
    "{{ (offers|d([])|first).title }}",
    "{{ content.coupons.code }} {{ coupons.left|d(0) }} {{ code|d('none') }}",
    "{{ campaign.label }} {{ campaign.business_date|date }}",
    "{% macro b(url, label='go', n=1) %}<a href=\"{{ url }}\">{{ label }} {{ n }}</a>{% endmacro %}"
    "{{ b(who, plain) }}{{ b('x', n=small) }}",
    "{% macro b(t) %}<p>{{ t }}</p>{% endmacro %}{{ b(full)|safe }}{{ b(full) ~ full }}"
    "{{ b(who) if vip else '' }}",
    "{% macro box() %}<div>{{ caller() }}</div>{% endmacro %}{% call box() %}{{ full }}{% endcall %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m() }}",
    "{% with a = full, b = 2 %}{{ a }}{{ b }}{% endwith %}",
    "{% filter e %}{{ full }}{% endfilter %}",
    "{# a comment #}  {%- if vip -%}  x  {%- endif -%}  y",
    "{{ small is eq 1 }}",
    "{{ full is string }}{{ small is number }}{{ small is gt 2 }}",
    '<a href="{{ profile.who|d("x") }}">x</a><a href="https://x/?q={{ city|d("y")|urlencode }}">',
    '<img src="{{ full }}" alt="{{ full }}"><td style="color:{{ who|d("red") }}"><p title={{ full }}>',
    '<a href="{{ plain|d("https") }}{{ city|d("x") }}">',
    '<a href="{% if vip %}https://x/{% endif %}{{ who }}">',
    "<td{% if vip %} class='a'{% endif %}>{{ full }}</td>",
    "<!-- {{ full }} --><!--[if mso]><a href='{{ city }}'><![endif]-->",
]  # fmt: skip


@pytest.mark.parametrize("template", dict.fromkeys(LOWERED))
def test_both_ways_give_the_same_message_or_the_same_reason(template: str) -> None:
    assert_same(audience(), html=template)
    assert_same(audience(), text=template)


KINDS = pl.DataFrame(
    {
        "profile_id": ["1", "2"],
        "email": ["a@x.example", "b@x.example"],
        "nothing": pl.Series([None, None], dtype=pl.Null()),
        "category": pl.Series(["<a>", None], dtype=pl.Categorical()),
        "choice": pl.Series(["b", "a"], dtype=pl.Enum(["a", "b"])),
        "single": pl.Series([0.1, 1e-9], dtype=pl.Float32()),
        "byte": pl.Series([255, None], dtype=pl.UInt8()),
        "large": pl.Series([2**64 - 1, 0], dtype=pl.UInt64()),
        "huge": pl.Series([2**100, -(2**100)], dtype=pl.Int128()),
        "fine": pl.Series([datetime(2026, 1, 2, 3, 4, 5, 6), None], dtype=pl.Datetime("ns")),
        "zoned": pl.Series([datetime(2026, 7, 1, 12), None], dtype=pl.Datetime("ms", "UTC")).dt.convert_time_zone(
            "Europe/Vienna"
        ),
        "pair": pl.Series([["a", "<b>"], ["c", None]], dtype=pl.Array(pl.String(), 2)),
        "singles": pl.Series([[0.1, 0.25], []], dtype=pl.List(pl.Float32())),
    }
)


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("nothing|d('-')", ["-", "-"]),
        ("category|d('-')", ["&lt;a&gt;", "-"]),
        ("choice", ["b", "a"]),
        ("single", ["0.1", "1e-09"]),
        ("byte|d(0)", ["255", "0"]),
        ("large", ["18446744073709551615", "0"]),
        ("huge", ["1267650600228229401496703205376", "-1267650600228229401496703205376"]),
        ("fine|d('-')", ["2026-01-02 03:04:05.000006", "-"]),
        ("zoned|d('-')", ["2026-07-01 14:00:00+02:00", "-"]),
        ("pair|first", ["a", "c"]),
        ("pair[:1]", ["a", "c"]),
    ],
)
def test_each_kind_of_column_has_one_rendering(field: str, shown: list[str]) -> None:
    assert assert_same(KINDS, html=f"{{{{ profile.{field} }}}}")["html"].to_list() == shown


INHERITED = {
    "base.html": "{% set a = 'A' %}<b>{% block one %}{{ a }}{{ plain|d('x') }}{% endblock %}</b>"
    "{% block two %}2{% endblock %}",
    "macros.html": "{% macro m(x) %}<i>{{ x }}</i>{% endmacro %}{% set sign = '&' %}",
}


@pytest.mark.parametrize(
    "template",
    [
        "{% extends 'base.html' %}{% block one %}[{{ super() }}{{ full }}]{% endblock %}",
        "{% extends 'base.html' %}{% set a = 'B' %}{% block two %}{{ a }}{% endblock %}",
        "{% extends 'base.html' %}{% macro n(x) %}<u>{{ x }}</u>{% endmacro %}"
        "{% block two %}{{ n(full) }}{% endblock %}",
        "{% extends 'base.html' %}{% from 'macros.html' import m, sign as s %}"
        "{% block two %}{{ m(full) }}{{ s }}{% endblock %}",
        "{% import 'macros.html' as k %}{{ k.m(who|d('')) }}{{ k.sign }}",
        "{% block own %}{{ full }}{% block inner %}{{ small }}{% endblock %}{% endblock %}",
        "{% set _hidden = 1 %}{% set open = 2 %}{% block own %}{{ open }}{% endblock %}",
        "{% include 'base.html' %}{% for tag in tags|d([]) %}{% include 'base.html' %}{% endfor %}",
        "{{ 'yes' if vip }}",
    ],
)  # fmt: skip
def test_inheritance_imports_and_includes_are_resolved(template: str) -> None:
    assert_same(audience(), html=template, more=INHERITED)


def test_a_block_sees_only_what_jinja_shows_it() -> None:
    hidden = "{% with city = 1 %}{% block own %}{{ city|d('-') }}{% endblock %}{% endwith %}"
    one, other, not_lowered = renderings(audience(3), hidden)
    assert_frame_equal(one, other)
    assert not_lowered == ["a block inside a loop or another statement (body.html, line 1)"]


@pytest.mark.parametrize(
    ("template", "construct"),
    [
        ("{{ tags|sort|join }}", "the filter 'sort' on a list (body.html, line 1)"),
        ("a\n{{ who|d('')|center(20) }}", "the filter 'center' on text (body.html, line 2)"),
        ("{{ tags[-1]|d('') }}", "an element by such a number (body.html, line 1)"),
        ("{{ points * points * points }}", "'*' of such large numbers (body.html, line 1)"),
        ("{% set n = namespace(x=1) %}{{ n.x }}", "a call (body.html, line 1)"),
        ("{% for a, b in [[1, 2]] %}{{ a }}{% endfor %}", "a loop that unpacks (body.html, line 1)"),
        ("{% include 'part.html' %}", "the filter 'wordcount' on text (part.html, line 2)"),
    ],
)
def test_what_cannot_be_lowered_goes_row_by_row_and_is_named(template: str, construct: str) -> None:
    more = {"part.html": "\n{{ city|d('')|wordcount }}"}
    one, other, not_lowered = renderings(audience(), template, more=more)
    assert not_lowered == [construct]
    assert_frame_equal(one, other)


# Any template of the lowered language, over any profiles

TEXTS = st.none() | st.sampled_from(NASTY) | st.text(st.characters(codec="utf-8"), max_size=12)
SCHEMA = {
    "profile_id": pl.String(),
    "email": pl.String(),
    "who": pl.String(),
    "city": pl.String(),
    "points": pl.Int64(),
    "small": pl.Int64(),
    "score": pl.Float64(),
    "vip": pl.Boolean(),
    "born": pl.Date(),
    "tags": pl.List(pl.String()),
    "offers": pl.List(pl.Struct({"title": pl.String(), "price": pl.Float64()})),
}
OFFERS = st.none() | st.fixed_dictionaries({"title": TEXTS, "price": st.none() | st.floats()})
ROWS = st.fixed_dictionaries(
    {
        "profile_id": st.just("P"),
        "email": st.just("p@example.com"),
        "who": TEXTS,
        "city": TEXTS,
        "points": st.none() | st.integers(-(2**63), 2**63 - 1),
        "small": st.none() | st.integers(-5, 5),
        "score": st.none() | st.floats() | st.sampled_from(NUMBERS),
        "vip": st.none() | st.booleans(),
        "born": st.none() | st.dates(),
        "tags": st.none() | st.lists(TEXTS, max_size=4),
        "offers": st.none() | st.lists(OFFERS, max_size=3),
    }
)
PROFILES = st.lists(ROWS, min_size=1, max_size=6).map(lambda rows: pl.DataFrame(rows, schema=SCHEMA))

CONSTANTS = st.sampled_from(["''", "'<b>'", "'Ada'", "'it\\'s'", "'ß'", "' '", "('<i>'|safe)"])
TEXT_FIELDS = st.sampled_from(["profile.who", "city", "campaign.label", "profile.who|d('friend')", "city|d('')"])
NUMBER_FIELDS = st.sampled_from(["points", "profile.small", "score", "small|d(1)", "score|d(0.5)", "points|d(0)"])
TEXT_FILTERS = st.sampled_from(
    [
        "upper",
        "lower",
        "title",
        "capitalize",
        "trim",
        "e",
        "urlencode",
        "truncate(4)",
        "replace('a', '&')",
        "length",
    ]
)
ANYTHING = st.sampled_from(
    [
        "vip",
        "born",
        "tags",
        "born|d(campaign.business_date)",
        "vip|d(true)",
        "tags|d([])",
        "tags[0]|d('')",
        "born.year|d(0)",
    ]
)


def template_of(draw: st.DrawFn, depth: int, loop: tuple[str, ...]) -> str:
    pieces = [draw(statements(depth, loop)) for _ in range(draw(st.integers(1, 3)))]
    return "".join(pieces)


@st.composite
def text_expressions(draw: st.DrawFn, depth: int, loop: tuple[str, ...]) -> str:  # noqa: PLR0911
    if depth <= 0:
        return draw(st.sampled_from(loop) | TEXT_FIELDS | CONSTANTS if loop else TEXT_FIELDS | CONSTANTS)
    inner = text_expressions(depth - 1, loop)
    match draw(st.sampled_from(["leaf", "filter", "concat", "choice", "or", "default"])):
        case "filter":
            return f"({draw(inner)})|{draw(TEXT_FILTERS)}"
        case "concat":
            return f"({draw(inner)} ~ {draw(inner | NUMBER_FIELDS)})"
        case "choice":
            return f"({draw(inner)} if {draw(conditions(depth - 1, loop))} else {draw(inner)})"
        case "or":
            return f"({draw(inner)} or {draw(inner)})"
        case "default":
            return f"({draw(inner)}|d({draw(inner)}, {draw(st.sampled_from(['true', 'false']))}))"
        case _:
            return draw(text_expressions(0, loop))


@st.composite
def number_expressions(draw: st.DrawFn, depth: int) -> str:
    if depth <= 0 or draw(st.booleans()):
        return draw(NUMBER_FIELDS | st.sampled_from(["0", "1", "-3", "2.5", "10"]))
    operation = draw(st.sampled_from(["+", "-", "*", "/"]))
    return f"({draw(number_expressions(depth - 1))} {operation} {draw(number_expressions(depth - 1))})"


@st.composite
def conditions(draw: st.DrawFn, depth: int, loop: tuple[str, ...]) -> str:  # noqa: PLR0911
    text, number = text_expressions(max(depth - 1, 0), loop), number_expressions(max(depth - 1, 0))
    compared = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
    match draw(st.sampled_from(["text", "number", "field", "in", "defined", "not", "and", "or"])):
        case "text":
            return f"({draw(text)} {compared} {draw(text)})"
        case "number":
            return f"({draw(number)} {compared} {draw(number)})"
        case "in":
            return f"({draw(text)} in ['Ada', 'vip', ''])"
        case "defined":
            return f"({draw(TEXT_FIELDS)} is {draw(st.sampled_from(['defined', 'none', 'undefined']))})"
        case "not" if depth > 0:
            return f"(not {draw(conditions(depth - 1, loop))})"
        case "and" | "or" as word if depth > 0:
            return f"({draw(conditions(depth - 1, loop))} {word} {draw(conditions(depth - 1, loop))})"
        case _:
            return draw(
                st.sampled_from(
                    ["vip", "who", "small", "score", "tags", "born", "points", "offers", "small is odd"]
                )
            )


@st.composite
def statements(draw: st.DrawFn, depth: int, loop: tuple[str, ...]) -> str:  # noqa: PLR0911, PLR0912
    if depth <= 0:
        shown = draw(text_expressions(1, loop) | number_expressions(1) | ANYTHING)
        return f"{draw(st.sampled_from(['<p>', ' - ', ' ', 'x']))}{{{{ {shown} }}}}"

    def inner(*names: str) -> str:
        return template_of(draw, depth - 1, names or loop)

    match draw(
        st.sampled_from(
            [
                "if",
                "if else",
                "tags",
                "offers",
                "set",
                "macro",
                "attribute",
                "filter",
                "with",
                "include",
                "trans",
                "reject",
            ]
        )
    ):
        case "if":
            return f"{{% if {draw(conditions(depth, loop))} %}}{inner()}{{% endif %}}"
        case "if else":
            tests = draw(conditions(depth, loop)), draw(conditions(depth - 1, loop))
            return (
                f"{{% if {tests[0]} %}}{inner()}{{% elif {tests[1]} %}}{inner()}{{% else %}}{inner()}{{% endif %}}"
            )
        case "tags":
            where = draw(st.sampled_from(["", " if tag", " if tag == 'vip'"]))
            each = inner("tag", "tag|d('none')")
            return f"{{% for tag in tags|d([]){where} %}}{each},{{% else %}}{inner()}{{% endfor %}}"
        case "offers":
            each = inner("o.title", "o.title|d('?')", "o.price", "loop.index")
            return (
                f"{{% for o in content.offers|d([]) %}}{each}{{% if not loop.last %}};{{% endif %}}{{% endfor %}}"
            )
        case "set":
            return f"{{% set x = {draw(text_expressions(depth, loop))} %}}{inner()}{{{{ x }}}}"
        case "with":
            return f"{{% with x = {draw(text_expressions(depth, loop))} %}}{inner()}{{{{ x }}}}{{% endwith %}}"
        case "include":
            return f"{{% set x = {draw(text_expressions(depth - 1, loop))} %}}{{% include 'part.html' %}}{inner()}"
        case "trans":
            shown = draw(text_expressions(depth - 1, loop))
            count = draw(st.sampled_from(["points|d(0)", "small|d(1)", "tags|d([])|length"]))
            one, many = "one for {{ y }}", "{{ n }} for {{ y }}"
            return f"{{% trans n={count}, y={shown} %}}{one}{{% pluralize n %}}{many}{{% endtrans %}}{inner()}"
        case "reject":
            refused = f"{{{{ reject({draw(text_expressions(0, loop))}) }}}}"
            return f"{{% if {draw(conditions(depth, loop))} %}}{refused}{{% endif %}}"
        case "macro":
            argument = draw(text_expressions(depth - 1, loop))
            return f"{{% macro m(y) %}}<i>{{{{ y }}}}</i>{{% endmacro %}}{{{{ m({argument}) }}}}{inner()}"
        case "attribute":
            values = draw(text_expressions(depth - 1, loop)), draw(text_expressions(depth - 1, loop))
            address = draw(st.sampled_from(["", "https://x.example/", "https://x.example/a?b=", "/c#"]))
            encoded = "|urlencode" if address else ""
            link = (
                f'<a href="{address}{{{{ ({values[0]}){encoded} }}}}" title="{{{{ {values[1]} }}}}">{inner()}</a>'
            )
            return f"<!--[if !mso]><!-- -->{link}<!-- <![endif]-->" if draw(st.booleans()) else link
        case _:
            return f"{{% filter {draw(st.sampled_from(['upper', 'trim', 'e']))} %}}{inner()}{{% endfilter %}}"


PART = "<b>{{ x }}</b>{% if vip %}{% set x = 'inside' %}{{ x }}{% endif %}{{ points|d(0)|number }}"


SHEET = (
    "<style>p{color:red;margin:0} a{color:blue} a:hover{color:red} p b, [title]{margin:1px}"
    " i{top:0 !important}</style>"
)


PARTS = {"part.html": PART, "part.txt": PART}


@st.composite
def whole_templates(draw: st.DrawFn) -> str:
    return template_of(draw, draw(st.integers(0, 2)), ())


@pytest.mark.slow
@settings(
    max_examples=int(os.environ.get("TEMPLATES_TRIED", "150")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
@given(
    profiles=PROFILES, html=whole_templates(), text=whole_templates(), inline=st.booleans(), tagged=st.booleans()
)
def test_any_template_gives_the_same_either_way(
    profiles: pl.DataFrame, html: str, text: str, inline: bool, tagged: bool
) -> None:
    given = {"inline_css": inline, "utm": Utm(source="news") if tagged else None}
    one, other, not_lowered = renderings(
        profiles, SHEET + html, text=text.replace("part.html", "part.txt"), more=PARTS, **given
    )
    event("lowered" if not not_lowered else f"row by row: {not_lowered[0]}")
    assert_frame_equal(one, other)


@pytest.mark.parametrize(
    "template", ["{{ score / 2.5 }}", "{{ score / 3 }}", "{{ 0.1 / score }}", "{{ score + 0 }}"]
)
@pytest.mark.parametrize("scores", [[3.0], [0.0, 3.0], [3.0, None, -0.0, 1e300]])
def test_a_constant_beside_a_column_gives_python_s_number(template: str, scores: list[float | None]) -> None:
    profiles = pl.DataFrame(
        {"profile_id": [str(n) for n in range(len(scores))], "email": "a@x.example", "score": scores},
        schema_overrides={"score": pl.Float64()},
    )
    assert_same(profiles, text=template)
