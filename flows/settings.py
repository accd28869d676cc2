"""The whole surface of settings: those of every campaign (`tasks.settings`) and those of the campaigns here.

Environment variables have the prefix `CAMPAIGN_` and `__` between levels (`CAMPAIGN_COUPONS__URL`); a `.env` file
in the working directory is read too, and the environment wins. `.env.example` lists every one.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic.fields import FieldInfo

from tasks.answer.column import OutboundColumn
from tasks.answer.mapping import OutboundMapping
from tasks.channels.outbox import OutboxOptions
from tasks.content.personalization import TemplateFolder
from tasks.endpoint import Endpoint
from tasks.inbound import InboundMapping
from tasks.settings import DELIMITER, PREFIX, Settings
from tasks.sources.files import ProfileFile

COUPONS = Endpoint(
    name="coupons",
    inbound=InboundMapping(columns={"zip_code": "zipCode"}, add_count=True),
    outbound=OutboundMapping(
        path="codeData.codes",
        columns={"code": OutboundColumn(key="code"), "zip_code": OutboundColumn(key="zipCode")},
    ),
)
"""The coupon system's shape of request and answer; its address comes from `CAMPAIGN_COUPONS__URL`."""


ROOT = Path(__file__).parents[1]
BIRTHDAY_TEMPLATES = TemplateFolder(folder=ROOT / "flows" / "templates" / "birthday_coupons")


class CampaignSettings(Settings):
    """Settings of the campaigns."""

    profiles: ProfileFile = Field(default=ProfileFile(), title="Profiles")
    coupons: Endpoint = Field(default=COUPONS, title="Coupon system")
    templates: TemplateFolder = Field(default=BIRTHDAY_TEMPLATES, title="Templates")
    outbox: OutboxOptions = Field(default=OutboxOptions(), title="Outbox")
    time_zone: str = Field(
        default="UTC",
        title="Time zone",
        description="Time zone in which 'today' is decided when a run names no business date.",
    )

    @field_validator("time_zone")
    @classmethod
    def _is_a_time_zone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"'{name}' is not a time zone; write one like Europe/Vienna")
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The time zone itself."""
        return ZoneInfo(self.time_zone)


def documented_environment() -> str:
    """The text of `.env.example`: every setting with its description and default, ready to be uncommented."""
    lines = [
        "# Every setting, with its default. Copy this file to .env and uncomment what should differ;",
        "# variables of the environment win over .env. Made by `python -m flows.settings`.",
    ]
    for variable, field, default in _leaves(CampaignSettings, CampaignSettings(_env_file=None), PREFIX):
        lines += [
            "",
            *wrap(f"{field.title}. {field.description}", 100, initial_indent="# ", subsequent_indent="# "),
        ]
        lines.append(f"#{variable}={default}")
    return "\n".join(lines) + "\n"


def _leaves(model: type[BaseModel], values: BaseModel, prefix: str) -> Iterator[tuple[str, FieldInfo, str]]:
    as_json = values.model_dump(mode="json")
    as_json |= values.model_dump(mode="json", exclude_defaults=True)
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            yield from _leaves(type(value), value, f"{prefix}{name.upper()}{DELIMITER}")
        elif isinstance(value, SecretStr):
            yield f"{prefix}{name.upper()}", field, field.default.get_secret_value() if field.default else ""
        else:
            default = "" if as_json[name] is None else as_json[name]
            shown = default.removeprefix(f"{ROOT}/") if isinstance(default, str) else json.dumps(default)
            yield f"{prefix}{name.upper()}", field, shown


if __name__ == "__main__":
    sys.stdout.write(documented_environment())
