"""What a template may cost, and what it never prints."""

from pathlib import Path

import polars as pl
import pytest

from tasks.content.personalization import PersonalizationOptions, Templates, personalize
from tasks.send import Send

SEND = Send(campaign="c", label="C", business_date="2026-01-01")


def reason_of(text: str, name: str, *, row_by_row: bool) -> str:
    parts = {"subject": "s", "html": "s", "text": "t"}
    templates = Templates(folder=Path(), parts=parts, sources={"s": "s", "t": text})
    options = PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row)
    profiles = pl.DataFrame({"profile_id": ["1", "2"], "email": ["a@x.example"] * 2, "who": [name, "Ada"], "n": 9})
    rejects = personalize(profiles, options).rejects
    return rejects["reason"][0] if rejects.height else ""


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ who.ljust(2000000000) }}", "a text padded to more than 100000 characters"),
        ("{{ who.zfill(width=2000000000) }}", ""),
        ("{{ ((n**1000)**1000)**1000 }}", "a number of more than 10000 bits"),
        ("{{ who * 2000000000 }}", "a repetition longer than 100000"),
        ("{{ who.upper }}", "'upper' is a method; call it, or name a field"),
        ("{% for a in range(60) %}{{ who.ljust(100000) }}{% endfor %}", "the text has more than 5000000 bytes"),
        (
            "{% macro a() %}{{ b() }}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
            "maximum recursion depth exceeded",
        ),
    ],
)
def test_a_template_without_end_is_a_reject(text: str, says: str, row_by_row: bool) -> None:
    reason = reason_of(text, "Ada", row_by_row=row_by_row)
    assert says in reason
    assert reason


@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_value_has_a_longest_printed_length(row_by_row: bool) -> None:
    reason = reason_of("{{ who }}", "x" * 3_000_000, row_by_row=row_by_row)
    assert reason == "the value of profile.who has more than 100000 bytes"
