"""Messages as they lie in an outbox: what was delivered, whatever templates say by now."""

import os
from collections.abc import Iterator, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import polars as pl

from tasks.messages.delivered import DIGITS_OF_KEY
from tasks.messages.sendable import MESSAGE_PARTS

PARTS = ("email", *MESSAGE_PARTS)
PLACED = dict.fromkeys(("sender", *PARTS), pl.String())


def placed_messages(folder: Path, digits: Sequence[str]) -> pl.DataFrame:
    """The messages of these keys' digits that are still in the folder, a Maildir or one of Parquet files.

    Out: sender (null in Parquet files, which have none), email, subject, html, text; in the order of the digits.
    Errors: `OSError`.
    """
    rows = _mails(folder, digits) if (folder / "new").is_dir() else _of_parquet(folder, digits)
    return pl.DataFrame(list(rows), schema=PLACED)


def _mails(folder: Path, digits: Sequence[str]) -> Iterator[dict[str, str]]:
    read = {entry.name.partition(":")[0]: Path(entry) for entry in os.scandir(folder / "cur")}
    for one in digits:
        path = folder / "new" / one if (folder / "new" / one).exists() else read.get(one)
        if path is None:  # a reader has moved or deleted it
            continue
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        yield {
            "sender": str(mail["From"]),
            "email": str(mail["To"]),
            "subject": str(mail["Subject"]),
            "html": _part(mail, "html"),
            "text": _part(mail, "plain"),
        }


def _part(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    return str(part.get_content()) if part is not None else ""


def _of_parquet(folder: Path, digits: Sequence[str]) -> Iterator[dict[str, str]]:
    wanted = pl.Series("digits", digits, pl.String())
    found = pl.DataFrame(schema=dict.fromkeys(("digits", *PARTS), pl.String()))
    for file in sorted(folder.glob("[!.]*.parquet")):
        if found.height == wanted.len():  # each key is there once; the first messages are in the first file
            break
        rows = pl.scan_parquet(file).filter(DIGITS_OF_KEY.is_in(wanted.implode()))
        found = pl.concat([found, rows.select(DIGITS_OF_KEY.alias("digits"), *PARTS).collect()])
    ordered = wanted.to_frame().join(found, on="digits", how="inner", maintain_order="left").drop("digits")
    yield from ordered.iter_rows(named=True)
