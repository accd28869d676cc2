"""Arguments of the format filters: constants are checked when templates are read, others profile by profile."""

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from tasks.content.personalization import (
    PersonalizationOptions,
    TemplateFolder,
    Templates,
    personalize,
    read_templates,
)
from tasks.errors import TemplatesInvalid
from tasks.send import Send

SEND = Send(campaign="c", label="C", business_date="2026-01-01")


def test_all_wrong_arguments_are_told_at_once_before_the_data(tmp_path: Path) -> None:
    wrong = {
        "{{ d|date('YYYY') }}": "Y is the year of the week; write yyyy",
        "{{ d|date('D MMMM') }}": "D is the day of the year; write d",
        "{{ d|date('%d.%m.') }}": "is a pattern of strftime",
        "{{ d|date('HH:mm') }}": "which a date has not; use 'datetime'",
        "{{ d|time('d MMMM') }}": "which a time has not; use 'datetime'",
        "{{ d|date(locale='german') }}": "'german' is no known locale; write one like de or pt_BR",
        "{{ d|date('short', 'xx_YY') }}": "'xx_YY' is no known locale",
        "{{ d|datetime(tz='Mars/Base') }}": "'Mars/Base' is no time zone",
        "{{ n|currency('EURO') }}": "'EURO' is no code of a currency",
        "{{ n|currency }}": "it needs the code of a currency",
        "{{ n|number(decimals='two') }}": "'two' is no number of decimals",
        "{{ n|number(-1) }}": "-1 is no number of decimals",
        "{{ n|percent(digits=2) }}": "there is no argument 'digits'",
        "{{ n|number(1, 'de', 3) }}": "it takes 2 arguments, 3 are given",
    }
    (tmp_path / "subject.txt").write_text("s")
    (tmp_path / "body.html").write_text("h")
    (tmp_path / "body.txt").write_text("\n".join(wrong))
    with pytest.raises(TemplatesInvalid) as told:
        read_templates(TemplateFolder(folder=tmp_path))
    problems = str(told.value).split("; body.txt, ")
    for line, sentence in enumerate(wrong.values(), start=1):
        assert any(f"line {line}: " in problem and sentence in problem for problem in problems), sentence


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ n|number(2, 'en_IN') }}", "12,34,567.89"),
        ("{{ n|number(2, 'en-IN') }}", "12,34,567.89"),
        ("{{ s|percent(1, 'de') }}", "25,6\xa0%"),
        ("{{ s|percent(1, 'tr') }}", "%25,6"),
        ("{{ n|number(0, 'de') }}", "1.234.568"),
        ("{{ t|datetime('short', 'de', tz='Europe/Vienna') }}", "01.02.26, 00:30"),
        ("{{ t|date('short', 'de', tz='Europe/Vienna') }}", "01.02.26"),
        ("{{ t|time('HH:mm', tz='Europe/Vienna') }}", "00:30"),
        ("{{ d|date('d MMMM y', locale=language) }}", "31 janvier 2026"),
    ],
)
def test_a_value_is_written_as_its_language_writes_it(text: str, shown: str, row_by_row: bool) -> None:
    assert texts(text, ["fr"], row_by_row=row_by_row) == [shown]


def test_a_language_that_is_none_rejects_its_profile_only() -> None:
    assert texts("{{ d|date('d MMMM', locale=language) }}", ["de", "german", "pt-BR", None, "pt_BR"]) == [
        "31. Januar".replace("31.", "31"),
        "the template fails on the values: '…' is no known locale; write one like de or pt_BR",
        "31 janeiro",
        "no value for profile.language",
        "31 janeiro",
    ]


def texts(text: str, languages: list[str | None], *, row_by_row: bool = False) -> list[str]:
    """The texts of profiles, or the reasons why they have none."""
    parts = {"subject": "s", "html": "s", "text": "t"}
    templates = Templates(folder=Path(), parts=parts, sources={"s": "s", "t": text})
    rows = len(languages)
    profiles = pl.DataFrame(
        {
            "profile_id": [str(row) for row in range(rows)],
            "email": ["a@x.example"] * rows,
            "language": pl.Series(languages, dtype=pl.String()),
            "n": [1234567.891] * rows,
            "s": [0.256] * rows,
            "d": [date(2026, 1, 31)] * rows,
            "t": [datetime(2026, 1, 31, 23, 30)] * rows,
        }
    )
    made = personalize(profiles, PersonalizationOptions(templates=templates, send=SEND, row_by_row=row_by_row))
    shown = {**dict(made.standard.select("profile_id", "text").rows())}
    shown |= dict(made.rejects.select("profile_id", "reason").rows())
    return [shown[str(row)] for row in range(rows)]
