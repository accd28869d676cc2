"""Match day: mail everyone the latest match of their favourite team.

query -> preparation ---> enrichment -> personalization -> outbox
external API (schedule) _/
"""

from datetime import date
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.closing import business_date_of
from flows.endpoints import days_before, schedule_between
from flows.settings import CampaignSettings
from tasks.channels.outbox import outbox
from tasks.channels.preparation import PreparationOptions, preparation
from tasks.content.personalization import PersonalizationOptions, personalization, read_templates
from tasks.data_management.external_api import external_api
from tasks.execution.report import CampaignReport, report
from tasks.runs.engine import ENGINE
from tasks.send import Send
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.query import QueryOptions, has_text, query


@flow(name="Match day", task_runner=ENGINE)
def match_day(business_date: date | None = None, days: Annotated[int, Field(ge=1, le=28)] = 7) -> CampaignReport:
    """Mail the latest match of their favourite team to the profiles who may be contacted.

    Args:
        business_date: The day to run for. Left out, it is the day that the run was scheduled for, in the time
            zone of the settings. A second run of a day sends no second messages.
        days: How many days a match may lie back, the business date included. Whose team played in none of them
            gets no message.
    """
    settings = CampaignSettings.load()
    today = business_date_of(business_date, settings.zone)
    first = days_before(today, days)
    send = Send(campaign="match-day", label="Match day", business_date=today)
    templates = read_templates(settings.match_day_templates)
    who = QueryOptions(
        source=settings.profiles,
        where=" AND ".join([has_text("favourite_team"), has_text("email"), "may_contact"]),
    )

    audience = query(who)
    matches = external_api(None, schedule_between(settings.schedule, first, today))
    prepared = preparation(audience, PreparationOptions(selection=who), send)
    enriched = enrichment(
        prepared,
        matches.standard,
        EnrichmentOptions(
            name="match",
            on={"favourite_team": "team"},
            cardinality="many",
            where=f"CAST(kickoff AS DATE) BETWEEN DATE '{first}' AND DATE '{today}'",
            order_by=["kickoff"],
            descending=True,
            lines=1,
        ),
    )
    making = PersonalizationOptions(templates=templates, send=send, carried=settings.outbox.carried)
    messages = personalization(enriched, making)
    sent = outbox(messages, settings.outbox, send)
    return report(send, audience, matches, prepared, enriched, messages, sent)


if __name__ == "__main__":
    from deployments.terminal.running import run_from_terminal

    run_from_terminal(match_day, calls="schedule")
