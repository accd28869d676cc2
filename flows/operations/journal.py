"""Journal: its statistics, a check of it, and its repair."""

from contextlib import closing

from prefect import flow, get_run_logger

from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.upkeep import Upkeep
from tasks.runs.artifacts import show_table
from tasks.settings import Settings


@flow(name="Journal")
def journal(*, repair: bool = False) -> int:
    """Show what the journal holds, and check it. Gives how many faults are left.

    Args:
        repair: Repair claims of senders that are gone, rows that belong to nothing, and the indexes.
    """
    logger = get_run_logger()
    with closing(open_journal(Settings.load().journal)) as opened:
        upkeep = Upkeep(opened)
        before = upkeep.faults()
        if repair:
            upkeep.repair()
        left = upkeep.faults()
        show_table(opened.sends.entries(), key="journal-sends", description="Messages of every send, by state")
        show_table(upkeep.counts(), key="journal-rows", description="Rows of the journal's tables")
    show_table(left, key="journal-faults", description="What is wrong with the journal")
    logger.info("%d kinds of fault found, %d left.", before.height, left.height)
    for fault, rows, is_repairable in left.iter_rows():
        cure = "run this flow with repair" if is_repairable else "restore a backup"
        logger.warning("The journal has a fault (%s, %d rows): %s.", fault, rows, cure)
    return left.height
