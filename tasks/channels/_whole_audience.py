"""What Preparation must know of a whole audience, found part by part: addresses in several parts, and changes.

Memory is a few numbers for each profile, whatever the rows hold: texts are compared by their hashes first, and only
rows that may matter are looked at.
"""

from collections.abc import Callable, Iterable, Iterator

import polars as pl

from tasks.messages.address import AROUND, normalized_addresses
from tasks.runs.fate import tries
from tasks.runs.log import run_logger
from tasks.runs.table import part_size
from tasks.sources.selection import SelectionOptions, selected_batches
from tasks.tables.transitions import require_columns

Pieces = Callable[[], Iterator[pl.DataFrame]]
"""Gives the rows of the audience, one part at a time, as often as it is called."""

SHARED = pl.DataFrame(schema={"same": pl.String(), "keeps": pl.String()})
"""Addresses, as they are compared, that rows of several parts have, each with the profile that keeps it."""
CHANGED = pl.DataFrame(schema={"profile_id": pl.String(), "reason": pl.String()})
"""Profiles that are not now what they were when the audience was read."""
GONE = "not selected any more since the run began"
MOVED = "has another address since the run began"


def shared_addresses(pieces: Pieces, address: str, left: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """The addresses that several parts have, each with the first profile that keeps it: `SHARED`.

    `left` gives, of some rows, those who get a message: profile_id, same.
    """
    several = _repeated(_compared(piece, address).hash().unique() for piece in pieces())
    firsts = [SHARED]
    for piece in pieces() if several.len() else ():
        rows = left(piece.filter(_compared(piece, address).hash().is_in(several.implode())))
        firsts.append(rows.select("same", keeps="profile_id").drop_nulls("same"))
    return pl.concat(firsts).unique("same", keep="first", maintain_order=True)


def _compared(rows: pl.DataFrame, address: str) -> pl.Series:
    """The addresses as they are compared; those that are none do not count."""
    require_columns(rows, [address], activity="Preparation", where="the inbound transition")
    return normalized_addresses(rows[address].cast(pl.String()))


def _repeated(numbers: Iterable[pl.Series]) -> pl.Series:
    """The numbers that several of the series have; each has a number once."""
    of_parts = [*numbers]
    if len(of_parts) < 2:
        return pl.Series(dtype=pl.UInt64())
    found = pl.concat([one.rename("number") for one in of_parts]).to_frame()
    return found.filter(pl.col("number").is_duplicated())["number"].unique()


def changed_profiles(pieces: Pieces, selection: SelectionOptions | None, key: str, address: str) -> pl.DataFrame:
    """Who is not selected any more, or has another address, in a later try of the run: `CHANGED`.

    Nobody in the first try: the audience has just been read. Errors: those of the selection.
    """
    tried = tries()
    if tried < 2:
        return CHANGED
    if selection is None:
        run_logger().warning(
            "This is try %d of the run: profiles, addresses and consent are those of an earlier try, templates and"
            " who must not be contacted are read again.",
            tried,
        )
        return CHANGED
    address = address if address in selection.source.types_of_columns() else ""
    now = pl.concat([_people(rows, key, address) for rows in _selected(selection)])
    changes = [CHANGED]
    then = pl.concat([_people(piece, key, address) for piece in pieces()])
    gone = then.join(now, on="person", how="anti")["person"]
    moved = then.join(now, on="written", how="anti")["person"]
    for piece in pieces() if gone.len() or moved.len() else ():
        person = _people(piece, key, address)["person"]
        reason = pl.when(person.is_in(gone.implode())).then(pl.lit(GONE)).when(person.is_in(moved.implode()))
        rows = piece.select(profile_id=pl.col(key).cast(pl.String()), reason=reason.then(pl.lit(MOVED)))
        changes.append(rows.drop_nulls().unique("profile_id", maintain_order=True))
    changed = pl.concat(changes).unique("profile_id", maintain_order=True)
    run_logger().warning(
        "This is try %d of the run, and its audience was read in an earlier one: %d people who are not selected any"
        " more, or have another address now, are left out. Who was added since gets no message of this run: start"
        " another one for them.",
        tried,
        changed.height,
    )
    return changed


def _selected(selection: SelectionOptions) -> Iterator[pl.DataFrame]:
    bare = selection.model_copy(update={"additional_data": []})
    return selected_batches(bare, part_size(), activity="Preparation")


def _people(rows: pl.DataFrame, key: str, address: str) -> pl.DataFrame:
    """Numbers that tell who a row is, and who with which address."""
    person = rows[key].cast(pl.String()).fill_null("")
    written = rows[address].cast(pl.String()).str.strip_chars(AROUND) if address else person
    both = pl.DataFrame({"person": person, "address": written.fill_null("")})
    return both.select(pl.col("person").hash(), written=pl.struct("person", "address").hash())
