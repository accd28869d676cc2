"""Birthday coupons: mail a coupon to everyone whose birthday is today.

query -> deduplication of zip codes -> external API -> enrichment -> personalization -> outbox
   \\_________________ preparation _________________/
"""

from datetime import date

from prefect import flow

from flows.closing import business_date_of
from flows.settings import CampaignSettings
from tasks.channels.outbox import outbox
from tasks.channels.preparation import PreparationOptions, preparation
from tasks.content.personalization import PersonalizationOptions, personalization, read_templates
from tasks.data_management.external_api import external_api
from tasks.execution.report import CampaignReport, report
from tasks.runs.engine import ENGINE
from tasks.send import Send
from tasks.targeting.deduplication import DeduplicationOptions, deduplication
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.query import QueryOptions, birthday_on, has_text, query


@flow(name="Birthday coupons", task_runner=ENGINE)
def birthday_coupons(business_date: date | None = None) -> CampaignReport:
    """Mail a coupon to the profiles whose birthday is on the business date and who may be contacted.

    Args:
        business_date: The day to run for. Left out, it is the day that the run was scheduled for, in the time
            zone of the settings. A second run of a day sends no second messages.
    """
    settings = CampaignSettings.load()
    today = business_date_of(business_date, settings.zone)
    send = Send(campaign="birthday-coupons", label="Birthday coupons", business_date=today)
    templates = read_templates(settings.templates)
    where = [birthday_on("birth_date", today), has_text("zip_code"), has_text("email"), "may_contact"]
    who = QueryOptions(source=settings.profiles, where=" AND ".join(where))

    audience = query(who)
    zip_codes = deduplication(audience, DeduplicationOptions(columns=["zip_code"]))
    coupons = external_api(zip_codes, settings.coupons)
    with_coupon = EnrichmentOptions(name="coupons", on={"zip_code": "zip_code"})
    prepared = preparation(audience, PreparationOptions(selection=who), send)
    enriched = enrichment(prepared, coupons.standard, with_coupon)
    making = PersonalizationOptions(templates=templates, send=send, carried=settings.outbox.carried)
    messages = personalization(enriched, making)
    sent = outbox(messages, settings.outbox, send)
    return report(send, audience, zip_codes, coupons, prepared, enriched, messages, sent)


if __name__ == "__main__":
    from deployments.terminal.running import run_from_terminal

    run_from_terminal(birthday_coupons, calls="coupons")
