"""Regional weather: the weather of a profile's region chooses what the mail says.

query -> preparation --> enrichment -> personalization (a choice) -> outbox
external API (weather) _/
"""

from datetime import date

from prefect import flow

from flows.closing import business_date_of
from flows.endpoints import forecast_of
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


@flow(name="Regional weather", task_runner=ENGINE)
def regional_weather(business_date: date | None = None) -> CampaignReport:
    """Mail what goes with the day's weather in their region to the profiles who may be contacted.

    Args:
        business_date: The day to run for. Left out, it is the day that the run was scheduled for, in the time
            zone of the settings. A second run of a day sends no second messages.
    """
    settings = CampaignSettings.load()
    today = business_date_of(business_date, settings.zone)
    send = Send(campaign="regional-weather", label="Regional weather", business_date=today)
    templates = read_templates(settings.regional_weather_templates)
    who = QueryOptions(
        source=settings.profiles,
        where=" AND ".join([has_text("region"), has_text("email"), "may_contact"]),
    )

    audience = query(who)
    forecast = external_api(None, forecast_of(settings.weather, settings.regions, today))
    prepared = preparation(audience, PreparationOptions(selection=who), send)
    enriched = enrichment(
        prepared,
        forecast.standard,
        EnrichmentOptions(name="weather", on={"region": "region"}, where=f"day = DATE '{today}'"),
    )
    making = PersonalizationOptions(templates=templates, send=send, carried=settings.outbox.carried)
    messages = personalization(enriched, making)
    sent = outbox(messages, settings.outbox, send)
    return report(send, audience, forecast, prepared, enriched, messages, sent)


if __name__ == "__main__":
    from deployments.terminal.running import run_from_terminal

    run_from_terminal(regional_weather, calls="weather")
