"""The whole surface of settings: those of every campaign (`tasks.settings`) and those of the campaigns here.

Environment variables have the prefix `CAMPAIGN_` and `__` between levels (`CAMPAIGN_COUPONS__URL`); a `.env` file
in the working directory is read too, and the environment wins. `.env.example` lists every one.
"""

import json
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from textwrap import wrap
from typing import ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic.fields import FieldInfo

from flows.endpoints import (
    CODES,
    COUPONS,
    OFFERS,
    SCHEDULE,
    WEATHER,
    Place,
    asked_on,
    days_before,
    forecast_of,
    schedule_between,
)
from flows.feedback_services import PROVIDERS, ProviderAccess, ProviderList
from tasks.channels.direct_mail import DirectMailOptions
from tasks.channels.email import EmailOptions
from tasks.channels.in_app import InAppOptions
from tasks.channels.outbox import OutboxOptions
from tasks.channels.push import PushOptions
from tasks.channels.sms import SmsOptions
from tasks.content.personalization import TemplateFolder
from tasks.endpoint.block import endpoint_of_block
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import ConfigurationError
from tasks.feedback.mailboxes.mailbox import MailboxOptions
from tasks.settings import DELIMITER, PREFIX, Settings
from tasks.sources.files import ProfileFile
from tasks.tables.transitions import nearest, quoted
from tasks.tables.zones import ZoneName

ROOT = Path(__file__).parents[1]
REGIONS = {
    "Berlin": Place(latitude=52.52, longitude=13.41),
    "Paris": Place(latitude=48.85, longitude=2.35),
    "Lyon": Place(latitude=45.76, longitude=4.84),
}


def template_folder_of(campaign: str) -> TemplateFolder:
    """The templates that come with a campaign here."""
    return TemplateFolder(folder=ROOT / "flows" / "templates" / campaign)


class FeedbackSettings(BaseModel):
    """Where the flow Feedback hears what became of messages."""

    model_config = ConfigDict(extra="forbid")

    mailbox: MailboxOptions = Field(default=MailboxOptions(), title="Mailbox")
    providers: dict[Literal["sendgrid", "postmark"], ProviderAccess] = Field(
        default={},
        title="Providers",
        description="Whose lists are read, {sendgrid: {account: header-account/sendgrid}}.",
    )
    ses_events: str = Field(
        default="",
        title="Events of Amazon SES",
        description="Folder of the storage with files of events, as Firehose writes them to S3. Empty: none.",
    )

    @property
    def lists(self) -> dict[str, tuple[ProviderList, ProviderAccess]]:
        """Every list that is read, by its name."""
        return {
            listed.endpoint.name: (listed, access)
            for provider, access in self.providers.items()
            for listed in PROVIDERS[provider]
        }


class RootSettings(BaseModel):
    """Where the paths are that parameters of a run may name. Paths in settings are the operator's, and free."""

    model_config = ConfigDict(extra="forbid")

    templates: Path = Field(
        default=ROOT / "flows" / "templates",
        title="Root of templates",
        description="Folder in which the template folders are that a run's parameters may name.",
    )
    profiles: Path = Field(
        default=Path("samples"),
        title="Root of profiles",
        description="Folder in which the profile files are that a run's parameters may name.",
    )


class CampaignSettings(Settings):
    """Settings of the campaigns."""

    are_all: ClassVar[bool] = True

    roots: RootSettings = Field(default=RootSettings(), title="Roots")
    profiles: ProfileFile = Field(default=ProfileFile(), title="Profiles")
    coupons: Endpoint = Field(default=COUPONS, title="Coupon system")
    codes: Endpoint = Field(default=CODES, title="Maker of codes")
    schedule: Endpoint = Field(default=SCHEDULE, title="Schedule of matches")
    offers: Endpoint = Field(default=OFFERS, title="Products on offer")
    weather: Endpoint = Field(default=WEATHER, title="Weather service")
    endpoints: dict[str, Endpoint] = Field(
        default={},
        title="Further endpoints",
        description=(
            "Endpoints of other partners, {name: {url: ..., ...}}, or CAMPAIGN_ENDPOINTS__<name>__URL and so on;"
            " the form offers them, and a flow takes one by its name (endpoint_on). {business_date} in the address,"
            " query, params or body is the day of the run."
        ),
    )
    regions: dict[str, Place] = Field(
        default=REGIONS,
        min_length=1,
        title="Regions",
        description="Where each region's weather is asked for, {region: {latitude: ..., longitude: ...}}.",
    )
    templates: TemplateFolder = Field(default=template_folder_of("birthday_coupons"), title="Templates")
    match_day_templates: TemplateFolder = Field(
        default=template_folder_of("match_day"), title="Templates of match day"
    )
    latest_offers_templates: TemplateFolder = Field(
        default=template_folder_of("latest_offers"), title="Templates of latest offers"
    )
    regional_weather_templates: TemplateFolder = Field(
        default=template_folder_of("regional_weather"), title="Templates of regional weather"
    )
    outbox: OutboxOptions = Field(default=OutboxOptions(), title="Outbox")
    email: EmailOptions = Field(default=EmailOptions(), title="Email")
    sms: SmsOptions = Field(default=SmsOptions(), title="SMS")
    push: PushOptions = Field(default=PushOptions(), title="Push")
    in_app: InAppOptions = Field(default=InAppOptions(), title="In-app")
    direct_mail: DirectMailOptions = Field(default=DirectMailOptions(), title="Direct mail")
    senders: frozenset[str] = Field(
        default=frozenset(),
        title="Senders",
        description=(
            "Addresses and domains that a run's parameters may send from and let answers go to. A JSON list; empty"
            " allows the domains of the senders of these settings."
        ),
    )
    feedback: FeedbackSettings = Field(default=FeedbackSettings(), title="Feedback")
    time_zone: ZoneName = Field(
        default="UTC",
        title="Time zone",
        description=(
            "Time zone of the business date of a run that names none and was started by hand, by an API call or an"
            " event. The day of a scheduled run is its schedule's, in the schedule's own time zone."
        ),
    )

    def endpoint_on(self, name: str, day: date) -> Endpoint:
        """One of these endpoints, or of the blocks (`endpoint/<name>`), as it is asked on a day.

        Errors: `ConfigurationError` for an unknown name; those of `endpoint_of_block`.
        """
        match name:
            case "schedule":
                return schedule_between(self.schedule, days_before(day, 7), day)
            case "weather":
                return forecast_of(self.weather, self.regions, day)
            case "coupons" | "codes" | "offers" as own:
                return self.all_endpoints[own]
            case other if other in self.endpoints:
                return asked_on(self.endpoints[other], day)
            case block if "/" in block:
                return asked_on(endpoint_of_block(block), day)
        known = list(self.all_endpoints)
        raise ConfigurationError(
            setting="CAMPAIGN_ENDPOINTS",
            reason=f"there is no endpoint '{name}', only {quoted(known)}. {nearest([name], known)}".rstrip(". "),
        )

    @property
    def all_endpoints(self) -> dict[str, Endpoint]:
        """Every endpoint, by its name."""
        names = ("coupons", "codes", "schedule", "offers", "weather")
        return {**{name: getattr(self, name) for name in names}, **self.endpoints}

    @property
    def allowed_senders(self) -> frozenset[str]:
        """Addresses and domains that parameters may send from."""
        own = (self.email.sender_address, self.outbox.sender_address)
        return self.senders or frozenset(address.rpartition("@")[2] for address in own)

    @property
    def ca_files(self) -> frozenset[Path]:
        """The authority files that these endpoints trust."""
        known = self.all_endpoints.values()
        return frozenset(endpoint.ca_file for endpoint in known if endpoint.ca_file is not None)

    @field_validator("endpoints", mode="before")
    @classmethod
    def _are_named(cls, endpoints: object) -> object:
        """Each endpoint has its own name, where it gives no other."""
        if not isinstance(endpoints, dict):
            return endpoints
        named = {}
        for name, options in endpoints.items():
            if name in cls.model_fields:
                raise ValueError(f"'{name}' is an endpoint of its own: set CAMPAIGN_{name.upper()}__*")
            named[name] = {"name": name, **options} if isinstance(options, dict) else options
        return named

    @property
    def zone(self) -> ZoneInfo:
        """The time zone itself."""
        return ZoneInfo(self.time_zone)


def documented_environment() -> str:
    """The text of `.env.example`: every setting with its description and default, ready to be uncommented."""
    lines = [
        "# Every setting, with its default. Copy this file to .env and uncomment what should differ;",
        "# variables of the environment win over .env. Made by `campaign settings`.",
    ]
    for group in _groups(CampaignSettings.model_construct()):
        lines += ["", *group]
    return "\n".join(lines) + "\n"


def _groups(settings: CampaignSettings) -> Iterator[list[str]]:
    """A setting with its comment; of a further endpoint or template folder, in one group, what differs."""
    first: dict[type, tuple[str, dict[str, str]]] = {}
    for name, about in CampaignSettings.model_fields.items():
        value = getattr(settings, name)
        prefix = f"{PREFIX}{name.upper()}"
        leaves = _leaves(value, f"{prefix}{DELIMITER}") if isinstance(value, BaseModel) else _leaf(settings, name)
        described = [(variable.removeprefix(prefix), field, default) for variable, field, default in leaves]
        like, known = first.setdefault(type(value), (prefix, {rest: default for rest, _, default in described}))
        if isinstance(value, BaseModel) and like != prefix:
            yield [
                f"# {about.title}: as {like}, but for these.",
                *(f"#{prefix}{rest}={default}" for rest, _, default in described if known.get(rest) != default),
            ]
            continue
        for rest, field, default in described:
            text = f"{field.title}. {field.description}"
            yield [*wrap(text, 100, initial_indent="# ", subsequent_indent="# "), f"#{prefix}{rest}={default}"]


def _leaf(settings: CampaignSettings, name: str) -> Iterator[tuple[str, FieldInfo, str]]:
    return (leaf for leaf in _leaves(settings, PREFIX) if leaf[0] == f"{PREFIX}{name.upper()}")


def _leaves(values: BaseModel, prefix: str) -> Iterator[tuple[str, FieldInfo, str]]:
    as_json = values.model_dump(mode="json")
    as_json |= values.model_dump(mode="json", exclude_defaults=True)
    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name.upper()}{DELIMITER}")
        elif isinstance(value, SecretStr):
            yield f"{prefix}{name.upper()}", field, field.default.get_secret_value() if field.default else ""
        else:
            default = "" if as_json[name] is None else as_json[name]
            shown = default.removeprefix(f"{ROOT}/") if isinstance(default, str) else json.dumps(default)
            yield f"{prefix}{name.upper()}", field, shown


if __name__ == "__main__":
    sys.stdout.write(documented_environment())
