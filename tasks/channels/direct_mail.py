"""Direct mail: writes the extraction file that a printer makes letters of, each profile in one file only.

A send's files are `direct-mail-001.csv`, `-002.csv` and so on in `<folder>/<campaign>/<business date>/`, a new one
for a run that has new profiles. `.direct-mail/` beside them is the record of who is in a file, also once the
printer has taken it away (`tasks.messages.delivered`).
"""

from collections import Counter
from dataclasses import dataclass
from errno import EEXIST
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import ParameterInvalid
from tasks.files.delimited import delimited
from tasks.messages.delivered import DeliveredKeys
from tasks.messages.send_folder import folder_of, placed, writable, write_rejects
from tasks.messages.sendable import sendable, unsendable
from tasks.runs.part import current_part
from tasks.runs.published import show_outcome
from tasks.runs.sink import Closing, sink_activity
from tasks.runs.table import Part
from tasks.send import Send
from tasks.tables.keys import key_texts
from tasks.tables.transitions import Transitions, require_columns

CHANNEL = "direct-mail"
KEY = "message_key"
"""First column of every file: by it a letter that comes back is known again."""


class DirectMailOptions(BaseModel):
    """Options of the Direct mail activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(default=Path("outbox"), title="Folder", description="Where the files of sends are kept.")
    key: str = Field(default="profile_id", title="Key", description="Column that tells profiles apart.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description="Columns of the file in their order, {column: label}; empty: all of the audience's.",
    )
    required: tuple[str, ...] = Field(
        default=(),
        title="Required columns",
        description="Columns of an address that must not be empty: a profile that lacks one is rejected.",
    )
    separator: str = Field(
        default=";", min_length=1, max_length=1, title="Separator", description="Between values."
    )

    def labels(self, audience: pl.DataFrame) -> dict[str, str]:
        """The file's columns, each with its label."""
        return self.columns or {name: name for name in audience.columns}


@dataclass(frozen=True)
class Extracted(Transitions):
    """Outbound transitions of Direct mail."""

    standard: pl.DataFrame
    """Profiles that this run's file has: profile_id, message_key."""
    complement: pl.DataFrame
    """Profiles that an earlier file has: the same columns."""
    rejects: pl.DataFrame
    """Profiles that no file has: profile_id, email (null), reason."""


def extract(audience: pl.DataFrame, options: DirectMailOptions, send: Send, part: Part) -> Extracted:
    """Write the profiles that no file of the send has yet into a new file; none is written without profiles.

    Errors: `ColumnsMissing`, `ParameterInvalid`, `OutboxUnwritable`.
    """
    labels = options.labels(audience)
    needed = dict.fromkeys((options.key, *labels, *options.required))
    require_columns(audience, needed, activity="Direct mail", where="the inbound transition")
    _check(labels)
    rows, rejects = _complete(audience, options)
    keys = [send.message_key(CHANNEL, profile) for profile in key_texts(rows, options.key)]
    rows = rows.with_columns(pl.Series(KEY, keys, dtype=pl.String()))
    folder = folder_of(options.folder, send)
    with writable(folder):
        record = DeliveredKeys(folder / f".{CHANNEL}", part)
        new = _placed(rows, labels, options, folder, record)
    person = rows.select(key_texts(rows, options.key).alias("profile_id"), KEY)
    return Extracted(
        standard=person.join(new, on=KEY, how="semi", maintain_order="left"),
        complement=person.join(new, on=KEY, how="anti", maintain_order="left"),
        rejects=rejects,
    )


def _check(labels: dict[str, str]) -> None:
    """Errors: `ParameterInvalid` for a file that a printer could not read."""
    twice = [label for label, count in Counter(labels.values()).items() if count > 1]
    if twice:
        reason = f"two columns have the label '{twice[0]}'"
    elif KEY in labels.values():
        reason = f"'{KEY}' is the file's own first column"
    else:
        return
    raise ParameterInvalid(parameter="columns", reason=reason)


def _complete(audience: pl.DataFrame, options: DirectMailOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Profiles that a letter can be written to, and the others with the reason."""
    lacks = [
        pl.when(pl.col(name).cast(pl.String()).str.strip_chars().fill_null("") == "").then(pl.lit(name))
        for name in options.required
    ]
    missing = pl.lit("no value for ") + pl.coalesce(*lacks, pl.lit(None, pl.String()))
    why = audience.with_columns(unsendable(audience, options.key)).select(pl.coalesce("reason", missing))
    reasons = why.to_series()
    rows, rejects = sendable(audience, reasons, options.key)
    return rows, rejects.with_columns(email=pl.lit(None, pl.String()))


def _placed(
    rows: pl.DataFrame, labels: dict[str, str], options: DirectMailOptions, folder: Path, record: DeliveredKeys
) -> pl.DataFrame:
    """Put the rows that no file had into the next file; gives the keys of those that this part's files have."""
    with record.locked():
        own = record.of_part()
        known = pl.concat([own, record.of_others()])
        new = rows.filter(~pl.col(KEY).is_in(known.implode()))
        if new.height:
            table = new.select(KEY, *(pl.col(column).alias(label) for column, label in labels.items()))
            content = delimited(
                table,
                activity="Direct mail",
                separator=options.separator,
                quote_style="non_numeric",
                include_bom=True,
            )
            number = record.count() + 1  # the printer takes files away: theirs are not given again
            if not placed(folder / f"{CHANNEL}-{number:03}.csv", content):
                raise FileExistsError(EEXIST, "a file of that name is there, and the record does not know it")
            record.add(new[KEY])
        return rows.filter(pl.col(KEY).is_in(pl.concat([own, new[KEY].rename("digits")]).implode())).select(KEY)


@sink_activity("Direct mail", key=lambda options, send: [options.key])  # noqa: ARG005
def direct_mail(audience: pl.DataFrame, options: DirectMailOptions, send: Send) -> Extracted:
    """Write the extraction files of a send for the printer; a profile is in one of the send's files only.

    In: the audience, with the columns that the options name. Out: `standard` (in this run's files, one for each
    part of the audience), `complement` (in an earlier one) with profile_id, message_key; `rejects` (profile_id,
    email, reason). Errors: `ColumnsMissing`, `OutboxUnwritable`.

    Example:
        ```python
        options = DirectMailOptions(columns={"first_name": "Name", "zip_code": "Postcode"}, required=("zip_code",))
        letters = direct_mail(audience, options, send)
        ```
    """
    return extract(audience, options, send, current_part())


@direct_mail.closing
def close_direct_mail(closing: Closing, options: DirectMailOptions, send: Send) -> None:
    """Write the rejects file. Errors: `OutboxUnwritable`."""
    folder = folder_of(options.folder, send)
    rejects = write_rejects(closing.rejects, folder)
    show_outcome(
        send,
        "letter",
        {"are in a new file": closing.rows(), "are in an earlier file": closing.rows("complement")},
        closing.rejects,
        {"The files for the printer": folder, "Who gets no letter, and why": rejects},
    )
