"""Release: let somebody be written to again who is in quarantine, has complained or opted out."""

from contextlib import closing
from typing import Literal

from prefect import flow, get_run_logger
from pydantic import SecretStr

from flows.operations.private import NOBODY, revealed
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.suppressions import Kind
from tasks.errors import DecisionIncomplete
from tasks.runs.artifacts import show_table
from tasks.settings import Settings


@flow(name="Release")
def release(
    *,
    address: SecretStr = NOBODY,
    profile_id: str = "",
    kind: Literal["quarantine", "complaint", "opt-out"] = "quarantine",
    channel: str = "",
    released_by: str = "",
    why: str = "",
) -> int:
    """Let somebody be written to again. With neither address nor profile, show who is suppressed.

    Args:
        address: The address to release. It is taken out of the run's record at once.
        profile_id: The profile to release.
        kind: What is released. An opt-out may only be released when the person asks for it.
        channel: Over which channel. Left empty: over all.
        released_by: Who released it. It is kept.
        why: Why. It is kept.
    """
    (given,) = revealed(address=address)
    with closing(open_journal(Settings.load().journal)) as journal:
        released = 0
        if given or profile_id:
            needed = {"who released it": released_by, "why": why}
            if missing := [name for name, value in needed.items() if not value]:
                raise DecisionIncomplete(operation="release", missing=", ".join(missing))
            released = journal.suppressions.release(
                by=released_by, why=why, address=given, profile_id=profile_id, kind=Kind(kind), channel=channel
            )
        held = journal.suppressions.entries(holding=True)
    counts = held.group_by("kind", "channel", "source").len("people").sort("kind", "channel", "source")
    show_table(counts, key="suppressions", description="Who must not be contacted")
    get_run_logger().info("%d suppressions released, %d hold.", released, held.height)
    return released
