"""Preparation: who of an audience gets a message over a channel, and who does not, each with the reason.

The reasons, the first that holds: not a test profile (in a proof), no consent, what no channel can send to (no
profile id, no address, an address that is not valid), quarantine, opt-out, complaint, changed since the run began
(in a later try of it), control group, duplicate address. What was sent before the channel knows, at the claim.
"""

from contextlib import closing
from dataclasses import dataclass

import polars as pl
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field

from tasks.channels._whole_audience import CHANGED, SHARED, Pieces, changed_profiles, shared_addresses
from tasks.delivery.journal.storage import open_journal
from tasks.errors import ParameterInvalid
from tasks.messages.address import AROUND, normalized_addresses
from tasks.messages.sendable import unsendable
from tasks.runs.shapes import row_activity
from tasks.send import Send
from tasks.settings import Settings
from tasks.sources.selection import SelectionOptions
from tasks.tables.keys import key_texts
from tasks.tables.lots import lot
from tasks.tables.transitions import REJECT_COLUMNS, Transitions, require_columns


class PreparationRules(BaseModel):
    """Who gets no message, beside those whom the journal names."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Preparation")

    consent: str = Field(
        default="",
        title="Consent",
        description="Boolean column: may the profile be contacted over this channel? Empty: all may.",
    )
    duplicates: bool = Field(
        default=False, title="Duplicate addresses", description="Whether one address may get several messages."
    )
    control_share: float = Field(
        default=0,
        ge=0,
        lt=1,
        title="Control group",
        description="Share of the profiles that gets no message, to compare with; the same ones in every run.",
    )
    control_seed: int = Field(
        default=1, title="Seed", description="Another number makes another control group of the same share."
    )
    test_profiles: str = Field(
        default="",
        title="Test profiles",
        description="Boolean column. For a proof, which goes to these profiles only. Empty: no proof.",
    )


class PreparationOptions(PreparationRules):
    """Options of the Preparation activity."""

    channel: str = Field(default="email", title="Channel", description="Channel as message keys have it.")
    key: str = Field(default="profile_id", title="Key", description="Column that tells profiles apart.")
    address: str = Field(
        default="email",
        title="Address",
        description="Column of the address to send to; empty: the channel has none.",
    )
    addresses_are_mail: bool = Field(
        default=True, title="Mail addresses", description="Whether addresses must be valid for mail."
    )
    selection: SelectionOptions | None = Field(
        default=None,
        title="Selection",
        description=(
            "The query that gave the audience. A later try of the run asks it again, and leaves out who is not"
            " selected any more or has another address."
        ),
    )


@dataclass(frozen=True)
class Prepared(Transitions):
    """Outbound transitions of Preparation."""

    standard: pl.DataFrame
    """Profiles to send to: the rows of the audience as they came."""
    rejects: pl.DataFrame
    """Profiles that are left out: profile_id, email (the address), reason."""


def prepare(
    audience: pl.DataFrame,
    options: PreparationOptions,
    send: Send,
    *,
    suppressed: pl.Series | None = None,
    shared: pl.DataFrame = SHARED,
    changed: pl.DataFrame = CHANGED,
) -> Prepared:
    """Split an audience into those who get a message and those who do not.

    In: the rows of an audience, or of one part of it; `suppressed`, why each row's person must not be contacted,
    null for most; then what is known of all parts. Errors: `ColumnsMissing`.
    """
    rows = _judged(audience, options, send, suppressed, changed)
    rows = rows.join(shared, on="same", how="left", maintain_order="left")
    rows = rows.with_columns(_and_then("duplicate address", _is_duplicate(options)))
    return Prepared(
        standard=audience.filter(rows["reason"].is_null()),
        rejects=rows.filter(pl.col("reason").is_not_null()).select(REJECT_COLUMNS),
    )


def of_the_whole(
    pieces: Pieces, options: PreparationOptions, send: Send, **_: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """What must be known of all parts before the first is judged: `shared` and `changed`.

    Only rows that share an address with another part are judged here. Errors: `ColumnsMissing`,
    `JournalUnavailable`; those of the selection.
    """
    changed = changed_profiles(pieces, options.selection, options.key, options.address)
    if options.duplicates or not options.address:
        return {"shared": SHARED, "changed": changed}

    def left(rows: pl.DataFrame) -> pl.DataFrame:
        judged = _judged(rows, options, send, suppressed_in(rows, options), changed)
        return judged.filter(pl.col("reason").is_null())

    return {"shared": shared_addresses(pieces, options.address, left), "changed": changed}


def _judged(
    audience: pl.DataFrame,
    options: PreparationOptions,
    send: Send,
    suppressed: pl.Series | None,
    changed: pl.DataFrame,
) -> pl.DataFrame:
    """Each row with the reason that it has by itself: profile_id, email, same, reason."""
    columns = [options.key, *filter(None, (options.address, options.consent, options.test_profiles))]
    require_columns(audience, columns, activity="Preparation", where="the inbound transition")
    key = key_texts(audience, options.key)
    address = _addresses(audience, options).str.strip_chars(AROUND)
    cannot = unsendable(audience, options.key, options.address, is_mail=options.addresses_are_mail)
    nothing = pl.Series([None], dtype=pl.String()).new_from_index(0, audience.height)
    nobody = pl.Series([False]).new_from_index(0, audience.height)

    def unset(option: str) -> pl.Series:
        column: str = getattr(options, option)
        return ~_truths(audience, column, option).fill_null(value=False) if column else nobody

    flags = {
        "not a test profile": unset("test_profiles"),
        "no consent for the channel": unset("consent"),
    }
    first = pl.coalesce(*(pl.when(pl.col(reason)).then(pl.lit(reason)) for reason in flags))
    rows = pl.DataFrame(
        {
            "profile_id": key,
            "email": address,
            "same": normalized_addresses(address),
            "own": pl.DataFrame(flags).select(first).to_series(),
            "cannot": cannot,
            "suppressed": nothing if suppressed is None else suppressed,
        }
    ).join(changed.rename({"reason": "changed"}), on="profile_id", how="left", maintain_order="left")
    rows = rows.with_columns(reason=pl.coalesce("own", "cannot", "suppressed", "changed"))
    rows = rows.select("profile_id", "email", "same", "reason")
    return rows.with_columns(_and_then("control group", pl.lit(_control(key, options, send))))


def _truths(audience: pl.DataFrame, column: str, option: str) -> pl.Series:
    """A column of true and false. Errors: `ParameterInvalid` for any other: what 'J' or 2 means is not guessed."""
    truths = audience[column]
    if truths.dtype == pl.Null():
        return truths.cast(pl.Boolean())
    if truths.dtype != pl.Boolean():
        reason = (
            f"the column '{column}' is {truths.dtype}, and not true or false; the source makes it so by its types"
            f" ({{{column}: boolean}}) and, for words of its own, by its remapping"
        )
        raise ParameterInvalid(parameter=option, reason=reason)
    return truths


def _addresses(audience: pl.DataFrame, options: PreparationOptions) -> pl.Series:
    """The address of each row; null where the channel has none."""
    if options.address:
        return audience[options.address].cast(pl.String())
    return pl.Series("email", [None], dtype=pl.String()).new_from_index(0, audience.height)


def _and_then(reason: str, condition: pl.Expr) -> pl.Expr:
    """The reasons so far, and a further one for rows that have none."""
    return pl.when(pl.col("reason").is_null() & condition).then(pl.lit(reason)).otherwise("reason").alias("reason")


def _is_duplicate(options: PreparationOptions) -> pl.Expr:
    if options.duplicates:
        return pl.lit(value=False)
    again = pl.col("same").cum_count().over("same", "reason") > 1
    return again | (pl.col("keeps") != pl.col("profile_id")).fill_null(value=False)


def suppressed_in(audience: pl.DataFrame, options: PreparationOptions) -> pl.Series:
    """Why the person of each row must not be contacted, by the journal; null for most.

    Errors: `ColumnsMissing`, `JournalUnavailable`.
    """
    columns = [options.key, *filter(None, [options.address])]
    require_columns(audience, columns, activity="Preparation", where="the inbound transition")
    people = pl.DataFrame({"profile_id": key_texts(audience, options.key), "email": _addresses(audience, options)})
    medium = options.channel.partition("-proof-")[0]
    with closing(open_journal(Settings.load().journal)) as journal:
        return journal.suppressions.reasons(people.fill_null(""), medium)


def _control(keys: pl.Series, options: PreparationOptions, send: Send) -> pl.Series:
    if not options.control_share:
        return pl.Series([False]).new_from_index(0, len(keys))
    drawn = lot(pl.col("key"), "control group", options.control_seed, send.campaign)
    # Who has no key is a member like others, with one lot for all of them.
    return keys.alias("key").fill_null("").to_frame().select(drawn < options.control_share).to_series()


@row_activity(
    "Preparation",
    task_run_name="Preparation {options.channel}",
    cache_policy=NO_CACHE,
    across=of_the_whole,
)
def preparation(
    audience: pl.DataFrame,
    options: PreparationOptions,
    send: Send,
    shared: pl.DataFrame = SHARED,
    changed: pl.DataFrame = CHANGED,
) -> Prepared:
    """Leave out the profiles that must not, need not or cannot get a message, each with the reason.

    In: the audience, with the columns that the options name. Out: `standard` (the audience's rows that are left),
    `rejects` (profile_id, email, reason). Who is in quarantine, has opted out or complained is the journal's to
    say, again in each try of a run. Of profiles with one address the first of the audience gets the message.
    `shared` and `changed` are what is known of all parts; they are found before the first is judged.
    Errors: `ColumnsMissing`, `ParameterInvalid`, `JournalUnavailable`; those of the selection.

    Example:
        ```python
        options = PreparationOptions(consent="may_contact", control_share=0.1)
        prepared = preparation(audience, options, send)
        left_out = prepared.transition("rejects")
        ```
    """
    suppressed = suppressed_in(audience, options)
    return prepare(audience, options, send, suppressed=suppressed, shared=shared, changed=changed)
