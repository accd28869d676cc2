"""Preparation: who of an audience gets a message over a channel, and who does not, each with the reason.

The reasons, the first that holds: not a test profile (in a proof), no consent, what no channel
can send to (no profile id, no address, an address that is not valid), quarantine, opt-out, complaint, control
group, duplicate address, already sent, already refused, perhaps already sent.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import polars as pl
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field

from tasks.delivery.journal.states import State
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.suppressions import Person
from tasks.messages.address import AROUND, normalized_addresses
from tasks.messages.sendable import unsendable
from tasks.runs.shapes import row_activity
from tasks.send import Send
from tasks.settings import Settings
from tasks.tables.lots import lot
from tasks.tables.transitions import REJECT_COLUMNS, Transitions, require_columns

SETTLED = {
    str(State.SENT): "already sent",
    str(State.REFUSED): "already refused",
    str(State.UNKNOWN): "perhaps already sent",
}
"""States of a message that must not be created again, each with the reason."""


class PreparationOptions(BaseModel):
    """Options of the Preparation activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: str = Field(default="email", title="Channel", description="Channel as message keys have it.")
    key: str = Field(default="profile_id", title="Key", description="Column that tells profiles apart.")
    address: str = Field(default="email", title="Address", description="Column of the address to send to.")
    addresses_are_mail: bool = Field(
        default=True, title="Mail addresses", description="Whether addresses must be valid for mail."
    )
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


@dataclass(frozen=True)
class Prepared(Transitions):
    """Outbound transitions of Preparation."""

    standard: pl.DataFrame
    """Profiles to send to: the rows of the audience as they came."""
    rejects: pl.DataFrame
    """Profiles that are left out: profile_id, email (the address), reason."""


@dataclass(frozen=True)
class KnownBefore:
    """What the journal says of profiles: who is not to be written to, with the reason, and states of messages."""

    suppressed: dict[str, str] = field(default_factory=dict)
    settled: dict[str, str] = field(default_factory=dict)


SHARED = pl.DataFrame(schema={"same": pl.String(), "keeps": pl.String()})
"""Addresses, as they are compared, that rows of several parts have, each with the profile that keeps it."""


def prepare(
    audience: pl.DataFrame,
    options: PreparationOptions,
    send: Send,
    known: KnownBefore,
    shared: pl.DataFrame = SHARED,
) -> Prepared:
    """Split an audience into those who get a message and those who do not.

    In: the rows of an audience, or of one part of it; then `shared` are addresses that other parts have too.
    Errors: `ColumnsMissing`.
    """
    rows = _judged(audience, options, send, known).join(shared, on="same", how="left", maintain_order="left")
    rows = rows.with_columns(_and_then("duplicate address", _is_duplicate(options)))
    settled = {key: SETTLED[state] for key, state in known.settled.items() if state in SETTLED}
    rows = rows.with_columns(reason=pl.coalesce("reason", _told(rows["profile_id"], settled)))
    return Prepared(
        standard=audience.filter(rows["reason"].is_null()),
        rejects=rows.filter(pl.col("reason").is_not_null()).select(REJECT_COLUMNS),
    )


def shared_addresses(
    pieces: Iterator[pl.DataFrame],
    options: PreparationOptions,
    send: Send,
    shared: pl.DataFrame = SHARED,  # noqa: ARG001
) -> dict[str, pl.DataFrame]:
    """The addresses that rows of several parts have. Errors: `ColumnsMissing`, `JournalUnavailable`."""
    if options.duplicates:
        return {}
    firsts = [pl.DataFrame(schema={"same": pl.String(), "profile_id": pl.String()})]
    for piece in pieces:
        rows = _judged(piece, options, send, known_before(piece, options, send))
        left = rows.filter(pl.col("reason").is_null()).select("same", "profile_id")
        firsts.append(left.unique("same", keep="first", maintain_order=True))
    found = pl.concat(firsts).group_by("same", maintain_order=True).agg(pl.col("profile_id").first(), pl.len())
    return {"shared": found.filter(pl.col("len") > 1).select("same", keeps="profile_id")}


def _judged(audience: pl.DataFrame, options: PreparationOptions, send: Send, known: KnownBefore) -> pl.DataFrame:
    """Each row with the reason that it has by itself: profile_id, email, same, reason."""
    columns = [options.key, options.address, *filter(None, (options.consent, options.test_profiles))]
    require_columns(audience, columns, activity="Preparation", where="the inbound transition")
    key = audience[options.key].cast(pl.String())
    address = audience[options.address].cast(pl.String()).str.strip_chars(AROUND)
    cannot = unsendable(audience, options.key, options.address, is_mail=options.addresses_are_mail)
    nobody = pl.Series([False]).new_from_index(0, audience.height)

    def unset(column: str) -> pl.Series:
        return ~audience[column].cast(pl.Boolean()).fill_null(value=False) if column else nobody

    reasons = {
        "not a test profile": unset(options.test_profiles),
        "no consent for the channel": unset(options.consent),
    }
    flags = pl.DataFrame(reasons)
    first = pl.coalesce(*(pl.when(pl.col(reason)).then(pl.lit(reason)) for reason in reasons))
    rows = pl.DataFrame({"profile_id": key, "email": address, "same": normalized_addresses(address)})
    rows = rows.with_columns(flags.select(first.alias("reason")))
    rows = rows.with_columns(reason=pl.coalesce("reason", cannot))
    rows = rows.with_columns(reason=pl.coalesce("reason", _told(key, known.suppressed)))
    return rows.with_columns(_and_then("control group", pl.lit(_control(key, options, send))))


def _and_then(reason: str, condition: pl.Expr) -> pl.Expr:
    """The reasons so far, and a further one for rows that have none."""
    return pl.when(pl.col("reason").is_null() & condition).then(pl.lit(reason)).otherwise("reason").alias("reason")


def _is_duplicate(options: PreparationOptions) -> pl.Expr:
    if options.duplicates:
        return pl.lit(value=False)
    again = pl.col("same").cum_count().over("same", "reason") > 1
    return again | (pl.col("keeps") != pl.col("profile_id")).fill_null(value=False)


def _told(keys: pl.Series, reasons: dict[str, str]) -> pl.Series:
    """The reason that the journal has for each profile; null for the others."""
    if not reasons:
        return pl.Series([None], dtype=pl.String()).new_from_index(0, len(keys))
    return pl.Series([reasons.get(key) for key in keys], dtype=pl.String())


def known_before(audience: pl.DataFrame, options: PreparationOptions, send: Send) -> KnownBefore:
    """What the journal says of an audience. Errors: `ColumnsMissing`, `JournalUnavailable`."""
    require_columns(
        audience, [options.key, options.address], activity="Preparation", where="the inbound transition"
    )
    named = audience.select(pl.col(options.key, options.address).cast(pl.String()).fill_null(""))
    people = {key: Person(key, address) for key, address in named.iter_rows()}
    with closing(open_journal(Settings.load().journal)) as journal:
        medium = options.channel.partition("-proof-")[0]
        suppressed = journal.suppressions.of(people, medium)
        if not journal.has_any(send, options.channel):
            return KnownBefore(suppressed)
        keys = {send.message_key(options.channel, key): key for key in people}
        known = journal.known(send, options.channel, keys)
        return KnownBefore(suppressed, {keys[key]: str(one.state) for key, one in known.items()})


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
    across=shared_addresses,
)
def preparation(
    audience: pl.DataFrame, options: PreparationOptions, send: Send, shared: pl.DataFrame = SHARED
) -> Prepared:
    """Leave out of an audience who must not, need not or cannot get a message, each with the reason.

    In: the audience, with the columns that the options name. Out: `standard` (the audience's rows that are left),
    `rejects` (profile_id, email, reason). What is quarantined or already sent is the journal's to say. Of profiles
    with one address the first of the audience gets the message; for many parts `shared` is found before.
    Errors: `ColumnsMissing`, `JournalUnavailable`.
    """
    return prepare(audience, options, send, known_before(audience, options, send), shared)
