"""Birthday coupons: mail a coupon to everyone whose birthday is today.

query -> deduplication of zip codes -> external API -> enrichment -> personalization -> outbox
   \\_________________ primary set _________________/
"""

from datetime import date

import polars as pl
from prefect import flow
from prefect.runtime import flow_run

from flows.settings import CampaignSettings
from tasks.channels.outbox import outbox
from tasks.content.personalization import PersonalizationOptions, personalization, read_templates
from tasks.data_management.external_api import external_api
from tasks.execution.report import CampaignReport, report
from tasks.send import Send
from tasks.targeting.deduplication import DeduplicationOptions, deduplication
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.query import QueryOptions, birthday_on, has_text, query


@flow(name="Birthday coupons")
def birthday_coupons(business_date: date | None = None) -> CampaignReport:
    """Mail a coupon to the profiles whose birthday is on the business date and who may be contacted.

    Args:
        business_date: The day to run for. Left out, it is the day that the run was scheduled for, in the time
            zone of the settings. Running a day again delivers nobody a second message.
    """
    settings = CampaignSettings.load()
    today = business_date or flow_run.scheduled_start_time.astimezone(settings.zone).date()
    send = Send(campaign="birthday-coupons", label="Birthday coupons", business_date=today)
    templates = read_templates(settings.templates)

    who = [birthday_on("birth_date", today), has_text("zip_code"), has_text("email"), "may_contact"]
    audience = query(QueryOptions(source=settings.profiles, where=" AND ".join(who)))
    zip_codes = deduplication(audience, DeduplicationOptions(columns=["zip_code"]))
    coupons = external_api(zip_codes.standard, settings.coupons)
    enriched = enrichment(
        audience, coupons.standard, EnrichmentOptions(name="coupons", on={"zip_code": "zip_code"})
    )
    messages = personalization(enriched, PersonalizationOptions(templates=templates, send=send))
    sent = outbox(messages.standard, messages.rejects, settings.outbox, send)

    rejects = pl.concat([messages.rejects, sent.rejects])
    report(
        send,
        {
            "Query": audience,
            "Deduplication": zip_codes,
            "External API": coupons,
            "Enrichment": enriched,
            "Personalization": messages,
            "Outbox": sent,
        },
        messages.standard,
        rejects,
    )
    return CampaignReport(
        send=send,
        queried=audience.height,
        enriched=enriched.height - enriched["coupons"].null_count(),
        personalized=messages.standard.height,
        rejected=rejects.height,
        delivered=sent.standard.height,
        delivered_before=sent.complement.height,
    )


if __name__ == "__main__":
    from deployments.local_run import run_from_terminal

    run_from_terminal(birthday_coupons)
