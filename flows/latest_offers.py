"""Latest offers: mail everyone the best offers of the day in their favourite category.

query -> preparation -> enrichment (a collection) -> personalization (a loop) -> outbox
external API (offers) _/
"""

from datetime import date
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.closing import business_date_of
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


@flow(name="Latest offers", task_runner=ENGINE)
def latest_offers(
    business_date: date | None = None, offers: Annotated[int, Field(ge=1, le=20)] = 3
) -> CampaignReport:
    """Mail the best offers of their favourite category to the profiles who may be contacted.

    Args:
        business_date: The day to run for. Left out, it is the day that the run was scheduled for, in the time
            zone of the settings. A second run of a day sends no second messages.
        offers: How many offers a message shows at most, those with the greatest discount first.
    """
    settings = CampaignSettings.load()
    today = business_date_of(business_date, settings.zone)
    send = Send(campaign="latest-offers", label="Latest offers", business_date=today)
    templates = read_templates(settings.latest_offers_templates)
    who = QueryOptions(
        source=settings.profiles,
        where=" AND ".join([has_text("favourite_category"), has_text("email"), "may_contact"]),
    )

    audience = query(who)
    products = external_api(None, settings.offers)
    prepared = preparation(audience, PreparationOptions(selection=who), send)
    enriched = enrichment(
        prepared,
        products.standard,
        EnrichmentOptions(
            name="offers",
            on={"favourite_category": "category"},
            cardinality="many",
            order_by=["discount"],
            descending=True,
            lines=offers,
        ),
    )
    making = PersonalizationOptions(templates=templates, send=send, carried=settings.outbox.carried)
    messages = personalization(enriched, making)
    sent = outbox(messages, settings.outbox, send)
    return report(send, audience, products, prepared, enriched, messages, sent)


if __name__ == "__main__":
    from deployments.terminal.running import run_from_terminal

    run_from_terminal(latest_offers, calls="offers")
