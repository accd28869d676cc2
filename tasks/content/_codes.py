"""Codes of pools in messages: which message shows its code, and what is given back."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import polars as pl

from tasks.content._options import PersonalizationOptions, Renderers
from tasks.delivery.journal.codes import IN_MESSAGES, SAMPLE
from tasks.pools.codes import CODE, SAMPLE_CODE
from tasks.pools.use import Coded, PoolsInUse, pools_in_use
from tasks.send import CODES_SHOWN
from tasks.templates.reading import PARTS

SURE = 8
"""A code of so many characters is not in a message by chance."""


def reserved_for_all(
    pieces: Callable[[], Iterable[pl.DataFrame]], options: PersonalizationOptions
) -> dict[str, Any]:
    """Reserve for every part before the first message, where a pool that is short stops the run.

    Errors: `PoolDry`, `PoolUnknown`, `JournalUnavailable`.
    """
    uses = [use for use in options.codes if use.when_dry == "stop" and not use.sample]
    if uses:
        with pools_in_use(uses, options.send) as pools:
            for piece in pieces():
                pools.coded(piece, options.key)
    return {}


def coded_slices(coded: Coded, renderers: Renderers, pools: PoolsInUse) -> Iterator[pl.DataFrame]:
    """Messages of an audience with codes: those of `Renderers.slices`, and `codes`, those that each shows.

    A code that its message does not show, or whose message is a reject, is given back.
    """
    begin = 0
    shown: dict[str, set[str]] = {name: set() for name in coded.keys}
    for messages in renderers.slices([coded.rows]):
        here = slice(begin, begin + messages.height)
        begin += messages.height
        judged = messages.with_columns(reason=pl.coalesce(coded.reasons[here], pl.col("reason")))
        codes = []
        for name, keys in coded.keys.items():
            is_shown = _is_shown(name, judged, coded, here, renderers)
            shown[name].update(keys[here].filter(is_shown))
            code = coded.rows[name][here].struct.field(CODE)
            one = pl.struct(coded.numbers[name][here].alias("number"), code.alias("code"))
            codes.append(pl.concat_list(pl.when(is_shown).then(one)))
        listed = pl.concat_list(codes).list.drop_nulls().cast(IN_MESSAGES)
        yield judged.with_columns(listed.alias(CODES_SHOWN))
    for name, numbers in coded.numbers.items():
        # A profile that comes twice has one code, and one of its messages may show it.
        real = coded.keys[name].filter((numbers != SAMPLE).fill_null(value=False))
        pools.give_back(name, [key for key in real if key not in shown[name]])


def _is_shown(name: str, messages: pl.DataFrame, coded: Coded, here: slice, renderers: Renderers) -> pl.Series:
    """Which rows have a message that shows their code. A sample counts as shown: it leaves in proofs only."""
    numbers = coded.numbers[name][here]
    is_made = messages["reason"].is_null()
    is_sample = (numbers == SAMPLE).fill_null(value=False)
    asked = is_made & numbers.is_not_null() & ~is_sample
    return _shown(name, messages, coded.rows[here], asked, renderers) | (is_sample & is_made)


def _shown(
    name: str,
    messages: pl.DataFrame,
    rows: pl.DataFrame,
    asked: pl.Series,
    renderers: Renderers,
) -> pl.Series:
    """Which messages show their code: they contain it, or read otherwise with a sample in its place."""
    code = rows[name].struct.field(CODE).alias("\x00code")
    looked = messages.select(PARTS).with_columns(code, asked.alias("\x00asked"))
    contains = pl.any_horizontal(pl.col(part).str.contains(pl.col("\x00code"), literal=True) for part in PARTS)
    is_long = pl.col("\x00code").str.len_chars() >= SURE
    shown = looked.select((pl.col("\x00asked") & is_long & contains).fill_null(value=False)).to_series()
    unsure = asked & ~shown
    if not unsure.any():
        return shown
    other_code = pl.col(name).struct.with_fields(pl.lit(SAMPLE_CODE).alias(CODE))
    again = renderers.rendered(rows.filter(unsure).with_columns(other_code))
    first = messages.filter(unsure)
    differs = again["reason"].is_not_null()
    for part in PARTS:
        differs |= again[part].ne_missing(first[part])
    return shown.scatter(unsure.arg_true(), differs)
