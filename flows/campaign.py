"""The configurable campaign: a whole campaign as parameters, for the form of the Prefect UI and for YAML.

query -> preparation -> for each content: deduplication -> external API -> enrichment
      -> for each pool of codes that runs low: external API -> code pool
then personalization -> perhaps preview, perhaps confirmation -> channel
"""

from datetime import date
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.channels import (
    AS_FILES,
    Channel,
    DirectMailChannel,
    EmailChannel,
    InAppChannel,
    OutboxChannel,
    PreviewOnly,
    PushChannel,
    SmsChannel,
)
from flows.closing import business_date_of
from flows.codes import Codes
from flows.plan import (
    CAMPAIGNS_HERE,
    EVERYONE,
    GREETING,
    AnyTemplates,
    Contents,
    PreviewRules,
    Recipients,
    check_characters,
    check_columns,
    check_paths,
    parsed_templates,
    prepared_for,
)
from flows.settings import CampaignSettings
from tasks.channels.confirmation import ConfirmationOptions, asked_about
from tasks.channels.confirmation import confirmation as ask_first
from tasks.channels.direct_mail import direct_mail
from tasks.channels.email import email
from tasks.channels.in_app import in_app
from tasks.channels.outbox import outbox
from tasks.channels.preparation import PreparationRules
from tasks.channels.preparation import preparation as prepare_audience
from tasks.channels.push import push
from tasks.channels.sms import sms
from tasks.content.personalization import PersonalizationOptions, Utm, personalization
from tasks.content.preview import preview as show_messages
from tasks.data_management.external_api import external_api
from tasks.endpoint.endpoint import Endpoint
from tasks.execution.report import CampaignReport, report
from tasks.forms import Storable
from tasks.runs.audience import Audience
from tasks.runs.engine import ENGINE
from tasks.runs.ownership import check_name
from tasks.send import Send
from tasks.tables.transitions import Transitions
from tasks.targeting.deduplication import DeduplicationOptions, deduplication
from tasks.targeting.enrichment import enrichment
from tasks.targeting.query import query

NO_RULES = PreparationRules()
NOT_SHOWN = PreviewRules()
NOT_ASKED = ConfirmationOptions()


@flow(name="Campaign", flow_run_name="{name}", task_runner=ENGINE)
def campaign(
    *,
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)] = "newsletter",
    label: Annotated[str, Field(min_length=1, max_length=200)] = "Newsletter",
    audience: Annotated[Recipients, Storable()] = EVERYONE,
    contents: Annotated[Contents, Storable()] = [],  # noqa: B006  # Prefect shows it as the form's default, and never changes it
    codes: Annotated[Codes, Storable()] = [],  # noqa: B006
    templates: Annotated[AnyTemplates, Storable()] = GREETING,
    inline_css: bool = False,
    utm: Utm | Annotated[None, Field(title="None")] = None,
    channel: Annotated[Channel, Storable()] = AS_FILES,
    preparation: Annotated[PreparationRules, Storable()] = NO_RULES,
    preview: Annotated[PreviewRules, Storable()] = NOT_SHOWN,
    confirmation: Annotated[ConfirmationOptions, Storable()] = NOT_ASKED,
    business_date: date | None = None,
) -> CampaignReport:
    """Run a campaign that is described by these parameters alone.

    Args:
        name: Identifier of the campaign: lower-case letters, digits and hyphens. Runs of the same name and
            business date never deliver a profile twice.
        label: Name of the campaign as people read it.
        audience: Who may get a message.
        contents: Content from partners' endpoints, each joined to the audience. Templates have one that is named
            coupons as content.coupons.code, or, where a profile has many rows, in a loop over coupons.
        codes: A code of their own for each recipient, from a pool. Templates have one that is named gift as
            content.gift.code.
        templates: What a message says, written here or in the files of a folder.
        inline_css: Write the rules of style elements into the style attributes of the templates, for mail
            programs that leave them out. What has to stay there, stays, and the log says why.
        utm: Parameters (utm_source and its like) to add to the links of the templates. Left out: none.
        channel: How messages are delivered.
        preparation: Who gets no message. Who has opted out, complained or cannot be reached never does.
        preview: Whether some messages are shown before the others are delivered.
        confirmation: Whether a person must say yes before anything is delivered.
        business_date: The day to run for. Left out, it is the day that the run was scheduled for.
    """
    check_characters(
        name=name,
        label=label,
        audience=audience,
        contents=contents,
        codes=codes,
        templates=templates,
        utm=utm,
        channel=channel,
        preparation=preparation,
        preview=preview,
    )
    settings = CampaignSettings.load()
    today = business_date_of(business_date, settings.zone)
    send = Send(campaign=name, label=label, business_date=today)
    check_name(name, CAMPAIGNS_HERE)
    check_paths(audience, templates, settings)
    channel.check(settings)
    written = parsed_templates(templates)
    who = audience.query_on(today, settings.profiles)
    endpoints = [content.endpoint_on(today, settings, audience) for content in contents]
    check_columns(who, contents, endpoints, channel, preparation)
    channel.check_codes(len(codes))

    selected = query(who)
    prepared = prepare_audience(selected, prepared_for(channel, preparation, who), send)
    enriched, fetched = prepared, list[Transitions]()
    for content, endpoint in zip(contents, endpoints, strict=True):
        answer = external_api(rows_to_send(selected, endpoint), endpoint)
        enriched = enrichment(enriched, answer.standard, content.relation_on(today))
        fetched.append(answer)
    key = who.source.key
    making = PersonalizationOptions(
        templates=written,
        send=send,
        key=key,
        address=channel.address_column or key,
        carried=channel.carried(settings),
        inline_css=inline_css,
        utm=utm,
        codes=tuple(each.use(channel.medium, sample=channel.is_proof) for each in codes),
    )
    for each in () if channel.is_proof else codes:
        each.refill(prepared, settings, send)
    leaving = personalization(enriched, making) if channel.has_messages else enriched
    if channel.has_messages and (preview.shown or isinstance(channel, PreviewOnly)):
        show_messages(enriched, preview.options(making))
    if confirmation.required:
        leaving = leaving.counted()
        ask_first(send, *asked_about(leaving), confirmation)
    sent = sent_over(leaving, channel, settings, send)
    return report(send, selected, *fetched, prepared, enriched, leaving, sent)


def rows_to_send(selected: Audience, endpoint: Endpoint) -> Audience | None:
    """What an endpoint is sent: the distinct values of its inbound columns, or nothing."""
    columns = list(endpoint.inbound.columns)
    return deduplication(selected, DeduplicationOptions(columns=columns)) if columns else None


def sent_over(leaving: Audience, channel: Channel, settings: CampaignSettings, send: Send) -> Audience:  # noqa: PLR0911
    """Deliver over the channel that was chosen, or not at all: the messages are what is reported then."""
    match channel:
        case OutboxChannel():
            return outbox(leaving, channel.options(settings), send)
        case EmailChannel():
            return email(leaving, channel.options(settings), send)
        case SmsChannel():
            return sms(leaving, channel.options(settings), send)
        case PushChannel():
            return push(leaving, channel.options(settings), send)
        case InAppChannel():
            return in_app(leaving, channel.options(settings), send)
        case DirectMailChannel():
            return direct_mail(leaving, channel.options(settings), send)
        case PreviewOnly():
            return leaving
