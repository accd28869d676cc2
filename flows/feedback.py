"""Feedback: what became of messages after they were taken, written into the journal, on a schedule.

mailbox ---------------------------------\\
external API (each list) -> provider list -> feedback (and what was unmatched before)
events of Amazon SES --------------------/
"""

import polars as pl
from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from flows.settings import CampaignSettings
from tasks.data_management.external_api import external_api
from tasks.data_management.feedback import feedback, read_so_far
from tasks.data_management.mailbox import mailbox
from tasks.data_management.provider_list import provider_list
from tasks.data_management.ses_events import ses_events
from tasks.errors import FeedbackIncomplete


class FeedbackReport(BaseModel):
    """What a run did, in numbers."""

    model_config = ConfigDict(frozen=True)

    outcomes: int = Field(description="Outcomes of messages that were written down.")
    sends: int = Field(description="Sends that they are of.")
    unmatched: int = Field(description="Reports that are kept, as they belong to no known message.")


@flow(name="Feedback")
def what_comes_back(*, from_the_beginning: bool = False) -> FeedbackReport:
    """Read bounces, complaints and providers' lists, and write into the journal what became of which message.

    Args:
        from_the_beginning: Read mailbox and lists whole, not only what is new. Nothing is counted twice.
    """
    settings = CampaignSettings.load().feedback
    lists = settings.lists
    read_to = {} if from_the_beginning else read_so_far(lists)

    failed: dict[str, str] = {}
    reports: list[pl.DataFrame] = []
    for name, (listed, access) in lists.items():
        answer = external_api(None, listed.asked(access, read_to.get(name, "")))
        failed |= dict(answer.failure.select("endpoint", "reason").iter_rows())
        reports.append(provider_list(answer.standard, name, listed.mapping))
    if settings.ses_events:
        reports.append(ses_events(settings.ses_events))
    came = mailbox(settings.mailbox, from_the_beginning=from_the_beginning, return_state=True)
    if came.is_completed():
        reports.append(came.result())
    else:
        failed["mailbox"] = str(came.result(raise_on_failure=False))

    recorded = feedback(reports, {name: listed.mapping for name, (listed, _) in lists.items()})
    if failed:
        raise FeedbackIncomplete(sources=", ".join(failed), reason=" ".join(failed.values()))
    return FeedbackReport(
        outcomes=recorded.standard.height, sends=recorded.sends.height, unmatched=recorded.unmatched.height
    )
