"""Erasure: remove a person from everything that campaigns have written; first as a dry run."""

from contextlib import closing

import polars as pl
from prefect import flow, get_run_logger
from pydantic import SecretStr

from flows.operations.private import NOBODY, revealed
from flows.operations.stores import stores
from flows.settings import CampaignSettings
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.upkeep import Upkeep
from tasks.errors import DecisionIncomplete
from tasks.operations.erasure import FOUND, Person, erased
from tasks.runs.artifacts import show_table

NOT_SEARCHED = (
    "Databases that campaigns read or write, results that are not on this machine, and Prefect's own logs"
)


@flow(name="Erasure")
def erasure(*, profile_id: SecretStr = NOBODY, address: SecretStr = NOBODY, dry_run: bool = True) -> int:
    """Remove a person from the journal, outboxes, audiences, histories, previews, the storage folder and results.

    The suppression stays in the journal, as a keyed hash of the address. Give both, profile and
    address: each store knows a person by one of them. Gives how many items were found.

    Args:
        profile_id: The person's profile. It is taken out of the run's record at once, as is the address.
        address: The person's address.
        dry_run: Only say where the person was found.
    """
    person = Person(*revealed(profile_id=profile_id, address=address))
    if not dry_run and not (person.profile_id and person.address):
        raise DecisionIncomplete(operation="erasure", missing="the profile and the address")
    settings = CampaignSettings.load()
    with closing(open_journal(settings.journal)) as journal:
        rows = Upkeep(journal).erase(person.profile_id, person.address, dry_run=dry_run)
    in_journal = pl.DataFrame(
        [("journal", table, "rows", count) for table, count in rows.items()], FOUND, orient="row"
    )
    in_files = erased(stores(settings), person, dry_run=dry_run)
    found = pl.concat([pl.DataFrame(in_journal, FOUND, orient="row"), in_files])
    done = "Found" if dry_run else "Removed"
    show_table(found, key="erasure", description=f"{done}. Not searched: {NOT_SEARCHED}")
    get_run_logger().info("%s: %d items. %s are not searched.", done, found["items"].sum(), NOT_SEARCHED)
    return int(found["items"].sum())
