"""How messages come to lie in an outbox: each whole and on the disk before it has its name, and noted after it."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from tasks.files.storage import make_private, private_draft
from tasks.messages.address import Unsendable
from tasks.messages.delivered import DIGITS_OF_KEY, DeliveredKeys, forced
from tasks.messages.letter import Letter, Skeleton
from tasks.runs.stopping import end_if_stopped
from tasks.send import CODES_SHOWN, DIGITS

MAILS_AT_ONCE = 500
"""Mails that are forced to the disk together, and noted together."""
FORCING = 16
"""Threads that do so: a disk takes many such requests at one time, in the time of one."""
ROW_GROUP = 10_000
"""Messages that are encoded together: more of them take more memory, and no less room."""


PLACES = {"parquet": "messages", "maildir": "maildir"}
"""Folder of the messages in a send's folder, by format."""

Held = Callable[[Sequence[str]], dict[str, str]]
"""Holds the codes of messages that are about to be placed, by their digits, in the lock of the record. Gives those
that must stay, with the reason."""


def holds_nothing(_: Sequence[str]) -> dict[str, str]:
    """For messages without codes."""
    return {}


def place_parquet(
    messages: pl.DataFrame, folder: Path, record: DeliveredKeys, hold: Held = holds_nothing
) -> tuple[pl.DataFrame, pl.Series]:
    """Place the messages of a part that nobody delivered yet in a Parquet file.

    In: messages with message_key and `name`, no two with the same. Out: those that must stay, with the column
    reason; the digits of the part's own. That is more than this call placed where an earlier attempt at the part
    was cut off before it could tell. Errors: `OSError`, `OutboxUnwritable`.
    """
    kept = messages.select("message_key", pl.exclude("message_key", "name", "reason", "variant", CODES_SHOWN))
    with private_draft(folder / record.name) as draft:
        _write(kept, draft)  # before its turn: others need not wait for it
        with record.locked():
            _note_what_was_cut_off(record)
            own = record.of_part()
            known = pl.concat([own, record.of_others(), _in_maildir(record)])
            fresh = kept.filter(~DIGITS_OF_KEY.is_in(known.implode())) if len(known) else kept
            stay = hold(fresh.select(DIGITS_OF_KEY).to_series().to_list())
            fresh = fresh.filter(~DIGITS_OF_KEY.is_in(list(stay))) if stay else fresh
            if fresh.height:
                if fresh.height < kept.height:
                    _write(fresh, draft)
                place = folder / record.next_name()
                place.hardlink_to(draft)
                forced(folder)
                record.add(fresh["message_key"], place.name)
    ours = pl.concat([own, fresh.select(DIGITS_OF_KEY.alias("digits"))["digits"]])
    return _with_reasons(messages, stay), ours


def _with_reasons(messages: pl.DataFrame, reasons: dict[str, str]) -> pl.DataFrame:
    """The messages that have a reason, by the key's digits, in the column reason."""
    of_digits = DIGITS_OF_KEY.replace_strict(reasons, default=None, return_dtype=pl.String())
    return messages.with_columns(reason=of_digits).filter(pl.col("reason").is_not_null())


def _write(messages: pl.DataFrame, draft: Path) -> None:
    messages.write_parquet(draft, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)
    forced(draft)


def _note_what_was_cut_off(record: DeliveredKeys) -> None:
    """Note what a writer of Parquet placed, of this run or another, that was gone before it noted it."""
    noted = record.names()
    for file in sorted((record.folder.parent / PLACES["parquet"]).glob("[!.]*.parquet")):
        if file.name not in noted:
            record.add(pl.read_parquet(file, columns=["message_key"])["message_key"], file.name)


def _in_maildir(record: DeliveredKeys) -> pl.Series:
    """Digits of mails that lie beside, noted or not: the format of a send may be changed after one was cut off."""
    maildir = record.folder.parent / PLACES["maildir"]
    mails = [mail for folder in ("new", "cur") for mail in (maildir / folder).glob("*") if _is_whole(mail)]
    return pl.Series("digits", [mail.name.partition(":")[0] for mail in mails], pl.String())


def place_mail(
    messages: pl.DataFrame,
    maildir: Path,
    record: DeliveredKeys,
    skeleton: Skeleton,
    hold: Held = holds_nothing,
) -> tuple[pl.DataFrame, pl.Series]:
    """Place messages that nobody delivered yet in a Maildir, a file each, named by the key's digits.

    In: messages with message_key and `name`, no two with the same. Out: those that cannot be made, with the column
    reason; the digits of those that this part placed. Errors: `OSError`, `OutboxUnwritable`.
    """
    for folder in ("tmp", "new", "cur"):
        make_private(maildir / folder)
    with record.locked():
        _note_what_was_cut_off(record)
        known = set(record.of_part()) | set(record.of_others())
    reasons: dict[str, str] = {}
    ours: list[str] = list(record.of_part())
    fresh = messages.filter(~DIGITS_OF_KEY.is_in(pl.Series(sorted(known), dtype=pl.String()).implode()))
    for some in fresh.iter_slices(MAILS_AT_ONCE):
        end_if_stopped()
        with ExitStack() as drafts:
            made: dict[str, Path] = {}
            for letter, content in _mails(some, skeleton, reasons):
                digits = letter.key[:DIGITS]
                made[digits] = drafts.enter_context(private_draft(maildir / "new" / digits, maildir / "tmp"))
                made[digits].write_bytes(content)
            with ThreadPoolExecutor(FORCING) as pool:
                list(pool.map(forced, made.values()))
            with record.locked():
                others = set(record.of_others())
                wanted = {digits: draft for digits, draft in made.items() if digits not in others}
                stay = hold(list(wanted))
                reasons |= stay
                ours += _linked({each: wanted[each] for each in wanted if each not in stay}, maildir, record)
    return _with_reasons(messages, reasons), pl.Series("digits", ours, pl.String())


def _mails(messages: pl.DataFrame, skeleton: Skeleton, reasons: dict[str, str]) -> Iterator[tuple[Letter, bytes]]:
    """The mails that can be made; why the others cannot be is put into `reasons`, by digits."""
    for letter in skeleton.letters(messages):
        try:
            yield letter, skeleton.message(letter).content.replace(b"\r\n", b"\n")
        except Unsendable as reason:
            reasons[letter.key[:DIGITS]] = str(reason)


def _linked(made: dict[str, Path], maildir: Path, record: DeliveredKeys) -> list[str]:
    """Give drafts their names, by a link, which no system makes twice; gives the digits of those that were new."""
    read = {entry.name.partition(":")[0]: Path(entry) for entry in os.scandir(maildir / "cur")}
    linked, there = [], []
    for digits, draft in made.items():
        path = maildir / "new" / digits
        if _is_whole(path) or (digits in read and _is_whole(read[digits])):
            there.append(digits)  # placed, and not noted: its writer was gone before it could
            continue
        path.unlink(missing_ok=True)  # an empty file, as a power cut leaves it
        path.hardlink_to(draft)
        linked.append(digits)
    forced(maildir / "new")
    record.add([*linked, *there])
    return linked


def _is_whole(mail: Path) -> bool:
    return mail.exists() and mail.stat().st_size > 0
