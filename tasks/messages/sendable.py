"""Which rows can be sent to: one check for Preparation, Outbox and every channel."""

from collections.abc import Sequence

import polars as pl

from tasks.messages.address import AROUND, are_no_addresses
from tasks.tables.keys import key_text, key_texts
from tasks.tables.transitions import REJECT_COLUMNS

MESSAGE_COLUMNS = ("profile_id", "email", "subject", "html", "text")
"""What Personalization gives; `email` is the address over the channel, whatever the channel is."""
MESSAGE_PARTS = ("subject", "html", "text")
REPEATED = "the profile has another message in this send"
"""Why a profile's second row is a reject."""
WHY = "\x00why"
"""No column of anybody's."""


def unsendable(
    rows: pl.DataFrame, key: str, address: str = "", *, is_mail: bool = True, parts: Sequence[str] = ()
) -> pl.Series:
    """Why each row cannot be sent to, by itself; null where it can.

    In: rows with the columns `key` and, unless empty, `address`, and columns that must not be null (`parts`).
    `is_mail`: whether addresses must be valid for mail. Out: `reason` (text), a row each.
    """
    profile = key_texts(rows, key)
    reasons = {
        "no profile id": profile.fill_null("") == "",
        "the profile id has a character that nothing can store": profile.str.contains("\x00", literal=True),
    }
    if address:
        bare = rows[address].cast(pl.String()).str.strip_chars(AROUND)
        reasons["no address"] = bare.fill_null("") == ""
        if is_mail:
            reasons["the address is not valid"] = are_no_addresses(bare)
    if parts:
        reasons["the message lacks a part"] = rows.select(pl.any_horizontal(pl.col(parts).is_null())).to_series()
    flags = pl.DataFrame(reasons)
    first = pl.coalesce(*(pl.when(pl.col(reason)).then(pl.lit(reason)) for reason in reasons))
    return flags.select(first.alias("reason")).to_series()


def sendable(rows: pl.DataFrame, reasons: pl.Series, key: str = "profile_id") -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that can be sent to, each profile's first, and the others as rejects.

    In: rows with the columns `key` and perhaps email; what `unsendable` says of each.
    Out: the rows; profile_id, email, reason.
    """
    judged = rows.with_columns(reasons.alias(WHY))
    is_sendable = pl.col(WHY).is_null()
    again = is_sendable & ~pl.struct(key, is_sendable.alias("first")).is_first_distinct()
    judged = judged.with_columns(pl.when(again).then(pl.lit(REPEATED)).otherwise(WHY).alias(WHY))
    left_out = judged.filter(~is_sendable).with_columns(
        key_text(pl.col(key), rows.schema[key]).alias("profile_id"),
        pl.col("email").cast(pl.String()) if "email" in rows.columns else pl.lit(None, pl.String()).alias("email"),
        pl.col(WHY).alias("reason"),
    )
    return judged.filter(is_sendable).drop(WHY), left_out.select(REJECT_COLUMNS)
