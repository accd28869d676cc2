"""Every mail is what plain Jinja makes of it, with the same filters and values, but for how values are escaped."""

from functools import cache
from html import unescape
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Template

from tasks.content.personalization import PersonalizationOptions, personalize, read_templates
from tasks.send import Send
from tasks.templates.filters import OWN_FILTERS
from tests.tasks.content.every_mail import EVERY, FLOW_NAMES, mail
from tests.tasks.content.test_mails import audience

SEND = Send(campaign="spring", label="Spring & friends", business_date="2026-03-20")


class Values(dict[str, Any]):
    """A struct whose fields come before the methods of a dict, as in messages."""

    def __getattribute__(self, name: str) -> Any:
        return self[name] if name in self else super().__getattribute__(name)


def known(value: Any) -> Any:
    """What Jinja has of a value: what is missing, it does not have."""
    match value:
        case dict():
            found = {key: known(inner) for key, inner in value.items()}
            return Values({key: inner for key, inner in found.items() if inner is not None})
        case list():
            return [known(inner) for inner in value]
        case str() if not value.strip():
            return None
    return value


@cache
def plain_templates(name: str) -> dict[str, Template]:
    """The parts of a mail as plain Jinja compiles them."""
    folder, _ = mail(name)
    compiled = {}
    for part in ("subject", "html", "text"):
        jinja = Environment(
            loader=FileSystemLoader(folder.folder), autoescape=part == "html", undefined=ChainableUndefined
        )
        jinja.filters.update(OWN_FILTERS)
        jinja.locale = "en_GB"  # what the format filters ask for
        compiled[part] = jinja.get_template(getattr(folder, part))
    return compiled


def plainly(name: str, profile: dict[str, Any]) -> dict[str, str]:
    """The parts of the profile's message by plain Jinja."""
    values = known(profile)
    campaign = SimpleNamespace(name=SEND.campaign, label=SEND.label, business_date=SEND.business_date)
    given = {**values, "profile": values, "content": values, "campaign": campaign}
    return {part: template.render(**given) for part, template in plain_templates(name).items()}


@pytest.mark.parametrize("row_by_row", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_a_mail_is_what_plain_jinja_makes_of_it_but_for_escaping(name: str, row_by_row: bool) -> None:
    folder, whole = mail(name)
    table = pl.DataFrame([whole]) if name in FLOW_NAMES else audience(90)
    profiles = {row["profile_id"]: row for row in table.to_dicts()}
    options = PersonalizationOptions(
        templates=read_templates(folder), send=SEND, locale="en_GB", row_by_row=row_by_row
    )
    messages = personalize(table, options).standard
    assert messages.height > table.height // 4
    for message in messages.to_dicts():
        expected = plainly(name, profiles[message["profile_id"]])
        assert message["subject"] == expected["subject"]
        assert message["text"] == expected["text"]
        assert unescape(message["html"]) == unescape(expected["html"])
