"""Variants of a message: which templates a profile gets, by its language, its segment and by lot."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.send import Send
from tasks.tables.keys import key_texts
from tasks.tables.lots import lot
from tasks.templates.filters import known_locale
from tasks.templates.reading import Templates

DEFAULT = ""
"""Code of the messages that no variant takes."""


class Variant(BaseModel):
    """Templates that some of the profiles get instead of the activity's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(
        title="Code",
        description="Identifier of the variant, kept with each message: lower-case letters, digits and hyphens.",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
    )
    templates: Templates = Field(title="Templates", description="Templates of subject, HTML and text.")
    locale: str | None = Field(
        default=None,
        title="Locale",
        description="Language of the profiles that get it, for example pt_BR or pt; empty takes every language.",
    )
    segment: str | None = Field(
        default=None,
        title="Segment code",
        description="Segment of the profiles that get it; empty takes every segment.",
    )
    share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        title="Share",
        description="Part of the profiles of its language and segment that get it, by lot; empty takes the rest.",
    )

    @field_validator("locale")
    @classmethod
    def _is_a_locale(cls, name: str | None) -> str | None:
        return None if name is None else known_locale(name)


def language_chain(locale: str) -> list[str]:
    """Locales from the most to the least special: `zh_Hant_TW`, `zh_Hant`, `zh`."""
    parts = locale.replace("-", "_").split("_")
    return ["_".join(parts[:length]) for length in range(len(parts), 0, -1)]


def variant_codes(
    profiles: pl.DataFrame, variants: Sequence[Variant], send: Send, seed: int, columns: Mapping[str, str]
) -> pl.Series:
    """The code of each profile's variant, `DEFAULT` where none takes it.

    A profile gets the variants of its segment before those of every segment, and of its language before those of a
    more general one and those of every language. Where several are left, their shares are drawn by lot: the same
    profile draws the same in every run of the send with the same seed.
    In: `columns` names the columns of the `key`, the `language` and the `segment`.
    """
    language, segment = (
        profiles.get_column(columns[name]).cast(pl.String()) if columns[name] in profiles.columns else None
        for name in ("language", "segment")
    )
    cells = profiles.select(
        pl.Series("language", language if language is not None else [None] * profiles.height, dtype=pl.String()),
        pl.Series("segment", segment if segment is not None else [None] * profiles.height, dtype=pl.String()),
    )
    groups = cells.with_row_index("row").group_by("language", "segment").agg("row")
    keys = key_texts(profiles, columns["key"])
    codes = pl.repeat(DEFAULT, profiles.height, dtype=pl.String(), eager=True)
    for spoken, code, rows in groups.iter_rows():
        choices = _choices(variants, spoken, code)
        drawn = _drawn(keys.gather(rows), choices, send, seed)
        codes = codes.scatter(rows, drawn)
    return codes


def _choices(variants: Iterable[Variant], language: str | None, segment: str | None) -> list[Variant]:
    locales = [*(language_chain(language) if language else []), None]
    segments = [*([segment] if segment else []), None]
    for wanted_segment in segments:
        for locale in locales:
            found = [each for each in variants if each.segment == wanted_segment and _is(each.locale, locale)]
            if found:
                return found
    return []


def _is(variant: str | None, wanted: str | None) -> bool:
    if variant is None or wanted is None:
        return variant is wanted
    return variant.lower() == wanted.lower()


def _drawn(keys: pl.Series, choices: Sequence[Variant], send: Send, seed: int) -> pl.Series:
    rest = next((each.code for each in choices if each.share is None), DEFAULT)
    shared = [each for each in choices if each.share is not None]
    if not shared:
        return pl.repeat(rest, len(keys), dtype=pl.String(), eager=True)
    drawn_lot = lot(pl.col("key"), "variant", seed, send.campaign)
    lots = keys.alias("key").fill_null("").to_frame().select(drawn_lot).to_series()
    drawn = pl.repeat(rest, len(keys), dtype=pl.String(), eager=True)
    upper = sum(each.share or 0 for each in shared)
    for each in reversed(shared):
        drawn = pl.select(pl.when(lots < upper).then(pl.lit(each.code)).otherwise(drawn)).to_series()
        upper -= each.share or 0
    return drawn
