"""Birthday coupons: mail a coupon to everyone whose birthday is today.

query -> deduplication of zip codes -> external API -> enrichment -> personalization -> outbox
   \\_________________ primary set _________________/    each partition of the primary set on its own
"""

from datetime import UTC, date, datetime

import polars as pl
from prefect import flow, task, unmapped

from flows.closing import business_date_of, closed_partitions
from flows.settings import CampaignSettings
from tasks.channels.outbox import OutboxOptions, deliver, outbox_of_partitions
from tasks.content.personalization import PersonalizationOptions, personalization, read_templates
from tasks.data_management.external_api import external_api
from tasks.execution.report import CampaignReport
from tasks.runs.engine import ENGINE
from tasks.runs.partitions import Outcome, Part, within
from tasks.runs.results import ARROW, PER_RUN
from tasks.send import Send
from tasks.targeting.deduplication import DeduplicationOptions, deduplication_of_partitions
from tasks.targeting.enrichment import EnrichmentOptions, enrichment
from tasks.targeting.query import QueryOptions, birthday_on, has_text, query_partitions


@flow(name="Birthday coupons", task_runner=ENGINE)
def birthday_coupons(business_date: date | None = None) -> CampaignReport:
    """Mail a coupon to the profiles whose birthday is on the business date and who may be contacted.

    Args:
        business_date: The day to run for. Left out, it is the day that the run was scheduled for, in the time
            zone of the settings. Running a day again delivers nobody a second message.
    """
    settings = CampaignSettings.load()
    today = business_date_of(business_date, settings.zone)
    send = Send(campaign="birthday-coupons", label="Birthday coupons", business_date=today)
    content = PersonalizationOptions(templates=read_templates(settings.templates), send=send)

    who = [birthday_on("birth_date", today), has_text("zip_code"), has_text("email"), "may_contact"]
    birthdays = QueryOptions(source=settings.profiles, where=" AND ".join(who))
    audience = query_partitions(birthdays, settings.partitions)
    zip_codes = deduplication_of_partitions(audience, DeduplicationOptions(columns=["zip_code"]))
    coupons = external_api(zip_codes, settings.coupons)
    deliveries = messages_of_partition.map(
        audience, unmapped(coupons.standard), unmapped(content), unmapped(settings.outbox)
    )
    outcome = Outcome.joined(deliveries.result())
    outbox_of_partitions(outcome, settings.outbox, send)
    return closed_partitions(
        send,
        {"Deduplication": zip_codes, "External API": coupons},
        audience=audience,
        content="coupons",
        outcome=outcome,
        channel="Outbox",
    )


@task(name="Messages", task_run_name="Messages {part.number}", cache_policy=PER_RUN, result_serializer=ARROW)
def messages_of_partition(
    part: Part, coupons: pl.DataFrame, content: PersonalizationOptions, options: OutboxOptions
) -> Outcome:
    """Enrich one partition with its coupons, personalize its messages and deliver them."""
    with_coupon = EnrichmentOptions(name="coupons", on={"zip_code": "zip_code"})
    enriched = within(part, enrichment)(part.read(), coupons, with_coupon)
    messages = within(part, personalization)(enriched, content)
    sent = deliver(messages.standard, options, content.send, datetime.now(UTC), part)
    return Outcome.of({"Enrichment": enriched, "Personalization": messages, "Outbox": sent}, messages.standard)


if __name__ == "__main__":
    from deployments.local_run import run_from_terminal

    run_from_terminal(birthday_coupons, calls="coupons")
