"""What a template may cost: each message has a budget, in both ways of rendering, and so has a run."""

import signal
from pathlib import Path

import polars as pl
import pytest

from tasks.content import _rendering
from tasks.content.personalization import (
    PersonalizationOptions,
    TemplateFolder,
    Templates,
    personalization,
    personalize,
    read_templates,
)
from tasks.errors import TemplatesEndless, TemplatesInvalid
from tasks.lowering import plan
from tasks.send import Send
from tasks.templates import apart

SEND = Send(campaign="c", label="C", business_date="2026-01-01")
SLOW = "the template takes more than 2 seconds of a processor"
SOON_SLOW = "the template takes more than 0.2 seconds of a processor"
"""Of those that no memory ends before: a tenth of the budget shows as much."""
LARGE = "the template takes more than 256 MiB of memory"
LONG = "the text has more than 5000000 bytes"
DEEP = "maximum recursion depth exceeded"
DIGITS = "Exceeds the limit (4300 digits)"

ATTACKS = [
    ("{{ who.ljust(2000000000) }}", LARGE),
    ("{{ 'x'.ljust(2000000000) }}", LARGE),
    ("{{ who.zfill(2000000000) }}", LARGE),
    ("{{ 'x'|center(2000000000) }}", LARGE),
    ("{{ who|center(2000000000) }}", LARGE),
    ("{{ who|indent(2000000000, true) }}", LARGE),
    ("{{ 'x'.expandtabs(2000000000) ~ '\\t'.expandtabs(2000000000) }}", LARGE),
    ("{{ '%2000000000d'|format(n) }}", LARGE),
    ("{{ '%2000000000d' % n }}", LARGE),
    ("{{ '%2000000000d' % 1 }}", LARGE),
    ("{{ '{:2000000000}'.format(n) }}", LARGE),
    ("{{ 'aaaaaaaa'|replace('a', 'b' * 100000000) }}", LARGE),
    ("{{ ('a' * 100000).replace('', 'b' * 100000)|length }}", LARGE),
    ("{{ ('b' * 100000000)|list|length }}", LARGE),
    ("{{ range(100000)|join('b' * 100000) }}", LARGE),
    ("{{ ('b' * 100000).join(who * 100000)|length }}", LARGE),
    ("{{ who * 2000000000 }}", LARGE),
    ("{{ [n] * 2000000000 }}", LARGE),
    ("{{ [1]|batch(2000000000, 0)|list|length }}", LARGE),
    ("{{ [1]|slice(2000000000, 0)|list|length }}", (LARGE, SOON_SLOW)),
    ("{{ n ** 99999999999 }}", SOON_SLOW),
    ("{{ 9 ** 99999 }}", DIGITS),
    ("{{ ((n**1000)**1000)**1000 }}", SOON_SLOW),
    ("{{ ((9**1000)**1000)**1000 }}", SOON_SLOW),
    ("{{ 1|round(999999999, 'ceil') }}", SOON_SLOW),
    ("{{ n|round(999999999, 'ceil') }}", SOON_SLOW),
    ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", SOON_SLOW),
    ("{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}", LONG),
    ("{% for a in range(60) %}{{ who.ljust(100000) }}{% endfor %}", LONG),
    ("{% set x = who %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}", LARGE),
    ("{% set x = who %}" + "{% set x = x + x %}" * 40 + "{{ x }}", LARGE),
    ("{% set x = 'y' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}", LARGE),
    ("{% set x = who %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40 + "{{ x }}", LARGE),
    ("{% set x = who %}" + "{% set x = x|replace('a', 'aaaaaaaaaa') %}" * 20 + "{{ x }}", LARGE),
    ("{% macro two(t) %}{{ t }}{{ t }}{% endmacro %}{{ " + "two(" * 35 + "who" + ")" * 35 + " }}", LARGE),
    ("{% set ns = namespace(x='x') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", LARGE),
    ("{% set x = [1] %}" + "{% set x = [x, x] %}" * 40 + "{{ x }}", (SOON_SLOW, LARGE, LONG)),
    ("{% set x = [1] %}" + "{% set x = [x, x] %}" * 40 + "{{ x|tojson }}", (SOON_SLOW, LARGE)),
    ("{% set x = [1] %}" + "{% set x = [x, x] %}" * 40 + "{{ x|pprint }}", (SOON_SLOW, LARGE)),
    (
        "{% macro a() %}{{ b() }}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        DEEP,
    ),
    ("{% macro a(k) %}{% if k %}{{ a(k - 1) }}{{ a(k - 1) }}{% endif %}{% endmacro %}{{ a(60) }}", SOON_SLOW),
    ("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", DEEP),
    ("{% include 't' %}", DEEP),
    ("{% set c = cycler('x' * 1000000) %}{% for a in range(99999) %}{{ c.next() }}{% endfor %}", LONG),
    ("{% set k = joiner('x' * 1000000) %}{% for a in range(99999) %}{{ k() }}{% endfor %}", LONG),
    ("{{ range(10000000)|length }}", "Range too big"),
    ("{{ ('a@' * 50000000)|urlize }}", (LARGE, SLOW)),
    ("{{ ('<' * 50000000)|striptags }}", (LARGE, SLOW, LONG)),
    ("{{ ('a ' * 50000000)|wordwrap(1) }}", (LARGE, SLOW)),
    ("{{ '\\ud800' }}{{ n.real }}", "half a character"),
    ("{{ who.upper }}", "'upper' is a method; call it, or name a field"),
]


def options(text: str, *, row_by_row: bool = False, **more: str) -> PersonalizationOptions:
    parts = {"subject": "s", "html": "s", "text": "t"}
    templates = Templates(folder=Path("mails"), parts=parts, sources={"s": "s", "t": text, **more})
    return PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row)


def profiles(count: int = 1, **values: object) -> pl.DataFrame:
    people = {"profile_id": [str(number) for number in range(count)], "email": ["a@x.example"] * count}
    return pl.DataFrame(people).with_columns(who=pl.lit("Ada"), n=pl.lit(9)).with_columns(**values)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "says"), ATTACKS)
def test_a_template_without_end_is_a_reject(
    text: str, says: str | tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if SOON_SLOW in says:
        monkeypatch.setattr(apart, "SECONDS", 0.2)
    made = personalization.fn(profiles(), options(text))
    assert made.standard.is_empty()
    reason = made.rejects["reason"].item()
    assert any(each in reason for each in ([says] if isinstance(says, str) else says)), reason


@pytest.mark.slow
def test_only_the_profiles_whose_messages_go_beyond_the_budget_are_rejected() -> None:
    text = "{% if who == 'Eve' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    slow = pl.int_range(pl.len()) % 600 == 7
    people = profiles(1200).with_columns(who=pl.when(slow).then(pl.lit("Eve")).otherwise("who"))
    made = personalize(people, options(text + "{% endif %}{{ n.real }}"))
    assert made.standard["text"].to_list() == ["9"] * 1198
    assert made.rejects["profile_id"].to_list() == ["7", "607"]
    assert set(made.rejects["reason"]) == {SLOW}


def test_the_budget_holds_where_the_signal_that_ends_a_renderer_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 0.2)
    monkeypatch.setattr(apart, "CHILDREN", apart.Children())
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)  # a new child ignores it too
    try:
        made = personalize(profiles(), options("{{ ((n**1000)**1000)**1000 }}"))
    finally:
        signal.signal(signal.SIGPROF, before)
        apart.CHILDREN.close()
    assert made.rejects["reason"].to_list() == [SOON_SLOW]


def test_a_run_ends_where_too_many_messages_go_beyond_their_budget() -> None:
    with pytest.raises(TemplatesEndless, match="more than 20 messages went beyond their budget") as ended:
        personalize(profiles(30), options("\n{{ who.ljust(2000000000) }}"))
    assert "because of a call (t, line 2)" in str(ended.value)


def test_a_run_has_a_budget_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rendering, "MOST_SECONDS", 0.0)
    with pytest.raises(TemplatesEndless, match="they took more than 0 seconds of a processor"):
        personalize(profiles(3), options("{{ n.real }}"))


def test_includes_that_double_are_refused_before_the_first_message(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"{{% include '{number + 1}.txt' %}}" * 2)
    (tmp_path / "40.txt").write_text("x")
    (tmp_path / "b.html").write_text("{% include '0.txt' %}")
    with pytest.raises(TemplatesInvalid, match="more than 2000 files"):
        read_templates(TemplateFolder(folder=tmp_path, subject="40.txt", html="b.html", text="40.txt"))
    with pytest.raises(TemplatesInvalid, match="more than 2000 files"):
        read_templates(TemplateFolder(folder=tmp_path, subject="40.txt", html="40.txt", text="0.txt"))


def test_a_template_that_nests_too_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("s")
    (tmp_path / "t.txt").write_text("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}")
    with pytest.raises(TemplatesInvalid, match=r"t\.txt: it nests too deep"):
        read_templates(TemplateFolder(folder=tmp_path, subject="s.txt", html="s.txt", text="t.txt"))


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize(
    ("text", "column", "named"),
    [
        ("{{ who }}", pl.lit("x" * 3_000_000), "profile.who"),
        ("{{ who|first }}", pl.lit(pl.Series([["a", "x" * 3_000_000]])), "profile.who"),
        ("{% for o in who %}{{ o.t }}{% endfor %}", pl.lit(pl.Series([[{"t": "x" * 3_000_000}]])), "content.who"),
    ],
)
def test_a_value_has_a_longest_printed_length(text: str, column: pl.Expr, named: str, row_by_row: bool) -> None:
    made = personalize(profiles(who=column), options(text, row_by_row=row_by_row))
    assert made.rejects["reason"].item() == f"the value of {named} has more than 100000 bytes"


def test_what_is_wide_is_rendered_in_smaller_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{% for a in tags %}{% for b in tags %}{{ b }}{{ who ~ a }},{% endfor %}{% endfor %}"
    people = profiles(50, tags=pl.concat_list(pl.lit("a"), pl.lit("b"), pl.lit("c")), who=pl.col("profile_id"))
    whole = personalize(people, options(text)).standard
    monkeypatch.setattr(plan, "MOST_ROUNDS", 40)
    monkeypatch.setattr(plan, "LARGEST_TOGETHER", 20_000)
    assert personalize(people, options(text)).standard.equals(whole)
