"""Which templates a profile gets: by its language, its segment and by lot."""

from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from tasks.content.personalization import PersonalizationOptions, Templates, Variant, personalize
from tasks.errors import ColumnsMissing, TemplatesInvalid
from tasks.send import Send

SEND = Send(campaign="spring", label="Spring", business_date="2026-02-28")
PARTS = {"subject": "s.txt", "html": "b.html", "text": "t.txt"}


def templates(text: str) -> Templates:
    return Templates(folder=Path("t"), parts=PARTS, sources={"s.txt": "s", "b.html": "h", "t.txt": text})


def variant(code: str, **given: object) -> Variant:
    return Variant(code=code, templates=templates(code), **given)


def audience(rows: int = 1, **columns: object) -> pl.DataFrame:
    ids = [f"P{row}" for row in range(rows)]
    table = pl.DataFrame({"profile_id": ids, "email": [f"{each}@x.example" for each in ids]})
    return table.with_columns(**{name: pl.lit(value, pl.String()) for name, value in columns.items()})


def options(*variants: Variant, **given: object) -> PersonalizationOptions:
    return PersonalizationOptions(templates=templates("own"), send=SEND, variants=variants, **given)


BY_LANGUAGE = [variant("de", locale="de"), variant("pt", locale="pt"), variant("br", locale="pt-BR")]


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("de", "de"),
        ("de_AT", "de"),
        ("DE-CH", "de"),
        ("pt_BR", "br"),
        ("pt-PT", "pt"),
        ("fr", ""),
        (None, ""),
        ("", ""),
    ],
)
def test_a_profile_gets_its_language_or_the_nearest_more_general_one(
    language: str | None, code: str, row_by_row: bool
) -> None:
    made = personalize(audience(language=language), options(*BY_LANGUAGE, row_by_row=row_by_row)).standard
    assert made.select("variant", "text").row(0) == (code, code or "own")


@pytest.mark.parametrize(
    ("segment", "language", "code"),
    [("gold", "de", "gold-de"), ("gold", "fr", "gold"), ("new", "de", "de"), (None, "fr", ""), ("new", None, "")],
)
def test_the_segment_comes_before_the_language(segment: str | None, language: str | None, code: str) -> None:
    variants = [
        variant("de", locale="de"),
        variant("gold", segment="gold"),
        variant("gold-de", segment="gold", locale="de"),
    ]
    made = personalize(audience(segment_code=segment, language=language), options(*variants)).standard
    assert made["variant"].item() == code


def test_lots_are_near_the_shares_and_the_same_in_every_run_and_slice() -> None:
    given = options(variant("a", share=0.2), variant("b", share=0.5))
    made = personalize(audience(4000), given).standard
    shares = {code: count / 4000 for code, count in made["variant"].value_counts().iter_rows()}
    assert shares == pytest.approx({"a": 0.2, "b": 0.5, "": 0.3}, abs=0.03)
    assert made["profile_id"].to_list() == audience(4000)["profile_id"].to_list()
    again = personalize(audience(4000).tail(7).reverse(), given).standard
    assert again["variant"].to_list() == made["variant"].tail(7).reverse().to_list()
    other_seed = personalize(audience(4000), given.model_copy(update={"seed": 1})).standard
    assert other_seed["variant"].to_list() != made["variant"].to_list()


def test_the_filters_write_in_the_variants_language() -> None:
    money = templates("{{ 1234.5|currency('EUR') }}")
    german = Variant(code="de", templates=money, locale="de")
    own = PersonalizationOptions(templates=money, send=SEND, variants=[german])
    made = personalize(pl.concat([audience(language="de"), audience(language="en")]), own).standard
    assert made["text"].to_list() == ["1.234,50\xa0€", "€1,234.50"]


def test_the_variant_is_in_the_key_whose_digits_stay_those_of_the_profile() -> None:
    plain, with_variant = SEND.message_key("email", "P1"), SEND.message_key("email", "P1", "de")
    assert with_variant == f"{plain}.de"


def test_every_variants_templates_are_checked_before_the_first_message() -> None:
    wrong = Variant(code="de", templates=templates("{{ profile.nobody }}"), locale="de")
    with pytest.raises(TemplatesInvalid, match=r"profile\.nobody"):
        personalize(audience(language="fr"), options(wrong))


def test_a_variant_by_language_needs_the_column() -> None:
    with pytest.raises(ColumnsMissing, match="'language'"):
        personalize(audience(), options(*BY_LANGUAGE))


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ([variant("a", locale="de"), variant("a", locale="fr")], "the same code"),
        ([variant("a", locale="de"), variant("b", locale="de")], "a and b would go to the same profiles"),
        ([variant("a", share=0.7), variant("b", share=0.7)], "the shares of a and b are more than 1"),
    ],
)
def test_variants_that_cannot_be_told_apart_are_refused(variants: list[Variant], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        options(*variants)


def test_a_locale_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="'xx' is no known locale"):
        variant("a", locale="xx")
