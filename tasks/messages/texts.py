"""Text parts of messages, as mail carries them: those of a whole table together, which is fast."""

import binascii

import polars as pl

from tasks.messages.headers import LONGEST_LINE

SEVEN_BITS = "Content-Transfer-Encoding: 7bit\r\n\r\n"
QUOTED = "Content-Transfer-Encoding: quoted-printable\r\n\r\n"


def encoded_texts(texts: pl.Series) -> pl.Series:
    """Encoding header and body of each text's part: as it is where every server takes it, else quoted-printable.

    In: texts with any ends of lines. Out: ASCII, with CRLF after each line.
    """
    text = pl.col("text")
    named = texts.alias("text").to_frame()
    if texts.str.contains("\r", literal=True).any():
        named = named.select(
            text.str.replace_all("\r\n", "\n", literal=True).str.replace_all("\r", "\n", literal=True)
        )
    longest = text.str.split("\n").list.eval(pl.element().str.len_bytes()).list.max()
    is_ascii = text.str.len_bytes() == text.str.len_chars()
    is_plain = is_ascii & ~text.str.contains("\x00", literal=True) & (longest <= LONGEST_LINE)
    lines = text.str.strip_suffix("\n").str.replace_all("\n", "\r\n", literal=True)
    header = pl.when("plain").then(pl.lit(SEVEN_BITS)).otherwise(pl.lit(""))
    # In two steps: what is plain is found once.
    known = named.with_columns(plain=is_plain)
    made = known.select("plain", body=pl.concat_str(header, lines, pl.lit("\r\n")))
    bodies = made["body"].alias(texts.name)
    if made["plain"].all():
        return bodies
    encoded = [one if plain else _quoted(one) for one, plain in zip(bodies, made["plain"], strict=True)]
    return pl.Series(texts.name, encoded, pl.String())


def _quoted(body: str) -> str:
    return QUOTED + binascii.b2a_qp(body.encode(), quotetabs=False, istext=True, header=False).decode("ascii")
