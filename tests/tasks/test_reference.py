"""The page tasks/README.md: made from the code, and every example on it runs."""

import importlib
import json
import mailbox as mailboxes
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from prefect import flow
from pydantic import SecretStr

from deployments import palette
from deployments.reference import PAGES
from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from deployments.sandbox.server import Call, Reply, Server
from flows.settings import CampaignSettings
from tasks.channels.in_app import InAppOptions
from tasks.channels.push import PushOptions
from tasks.channels.sms import SmsOptions
from tasks.content.personalization import PersonalizationOptions, TemplateFolder, personalization, read_templates
from tasks.runs.audience import Audience
from tasks.send import Send
from tasks.sources.sql import Database, transaction
from tasks.targeting.query import QueryOptions, query
from tasks.targeting.save_audience import SaveAudienceOptions, save_audience
from tests.tasks.provider_server import Asked, ProviderAnswer, ProviderServer, running_provider

TODAY = date(2026, 11, 24)
SEND = Send(campaign="spring-offers", label="Spring offers", business_date=TODAY)
ACTIVITIES = palette.activities()
PEOPLE = """\
profile_id,email,first_name,zip_code,may_contact,phone,device
1,ada@people.test,Ada,80331,true,+4315550101,device-1
2,grace@people.test,Grace,01067,true,+4315550102,device-2
3,noor@people.test,Noor,80331,false,+4315550103,device-3
"""
VOUCHERS = {"vouchers": [{"zip": "80331", "code": "MUNICH-9"}]}
TEMPLATES = {"subject.txt": "Hello", "body.html": "<p>{{ profile.first_name }}</p>", "body.txt": "Hello"}
PROVIDERS = {"SmsOptions": SmsOptions, "PushOptions": PushOptions, "InAppOptions": InAppOptions}


@pytest.mark.parametrize(("file", "page"), PAGES, ids=lambda one: one.parent.name if isinstance(one, Path) else "")
def test_a_page_is_what_the_code_says(file: Path, page: Callable[[], str]) -> None:
    assert file.read_text() == page(), "write the pages again: make reference"


@pytest.mark.parametrize("activity", ACTIVITIES, ids=lambda activity: activity.name)
def test_an_activity_says_all_that_the_page_shows(activity: palette.Activity) -> None:
    assert activity.summary.endswith(".")
    assert {label.split()[0] for label in activity.labelled} & {"In", "Out"}
    assert 1 <= len(activity.example) <= 6
    assert activity.function in " ".join(activity.example)


def test_the_readme_names_every_activity() -> None:
    table = (
        (PAGES[0][0].parents[1] / "README.md")
        .read_text()
        .partition("| group | activities |")[2]
        .partition("\n\n")[0]
    )
    assert [activity.name for activity in ACTIVITIES if activity.name not in table] == []


@pytest.fixture
def folder(in_folder: Path, result_folder: Path) -> Path:
    """The files that the examples name."""
    templates = in_folder / "flows" / "templates" / "spring_offers"
    texts = {
        in_folder / "people.csv": PEOPLE,
        in_folder / "storage" / "purchases.csv": "Kunde;Betrag\n1;20.00\n",
        in_folder / "storage" / "incoming" / "purchases-1.csv": "Kunde;Betrag\n1;20.00\n",
        **{templates / name: text for name, text in TEMPLATES.items()},
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (in_folder / "storage" / "ses").mkdir()
    mailboxes.Maildir(in_folder / "bounces")
    return in_folder


def answers_of_providers(asked: Asked) -> ProviderAnswer:
    """What Twilio, Firebase and an application's own service say of a message that they took."""
    return 201 if "Messages" in asked.path else 200, {}, {"sid": "SM1", "name": "projects/our-app/messages/1"}


@pytest.fixture
def servers(
    folder: Path, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[MailSandbox, ProviderServer]]:
    """The partner, the mail server and the provider that the examples speak to."""

    def respond(_: Call) -> Reply:
        return Reply(json.dumps(VOUCHERS).encode())

    with ExitStack() as stack:
        partner = start_server(respond)
        mails = stack.enter_context(running_mail_server(MailSandbox()))
        provider = stack.enter_context(running_provider(tmp_path, answers_of_providers))
        for name, value in {
            "PROFILES__PATH": "people.csv",
            "PROFILES__TYPES": json.dumps({"may_contact": "boolean"}),
            "ENDPOINTS__VOUCHERS__URL": f"{partner.address}/vouchers",
            "ENDPOINTS__VOUCHERS__METHOD": "GET",
            "ENDPOINTS__VOUCHERS__CA_FILE": str(partner.ca_file),
            "ENDPOINTS__VOUCHERS__OUTBOUND": json.dumps({"sample": json.dumps(VOUCHERS)}),
            "NETWORK__ALLOWED_HOSTS": json.dumps(["localhost", "127.0.0.1"]),
            "EMAIL__SERVER__HOST": "127.0.0.1",
            "EMAIL__SERVER__PORT": str(mails.port),
            "EMAIL__SERVER__SECURITY": "none",
        }.items():
            monkeypatch.setenv(f"CAMPAIGN_{name}", value)
        yield mails, provider


class Ready(dict[str, Any]):
    """The names that the page says are ready, each made when an example first uses it."""

    def __init__(self, folder: Path, provider: ProviderServer) -> None:
        self.provider = provider
        database = Database(url=f"sqlite:///{folder}/customers.db")
        with transaction(database) as connection:
            connection.execute(sa.text("CREATE TABLE customers (id TEXT PRIMARY KEY, mail TEXT)"))
        super().__init__(
            settings=CampaignSettings.load(),
            today=TODAY,
            run_at=datetime(2026, 11, 24, 7, tzinfo=UTC),
            send=SEND,
            database=database,
            secret=SecretStr("s3cret"),
        )

    def __missing__(self, name: str) -> Any:
        makers: dict[str, Callable[[], Any]] = {
            "audience": self._audience,
            "templates": lambda: read_templates(TemplateFolder(folder="flows/templates/spring_offers")),
            "messages": lambda: personalization(
                self["audience"], PersonalizationOptions(templates=self["templates"], send=SEND)
            ),
        }
        if name not in makers:
            raise KeyError(name)
        self[name] = makers[name]()
        return self[name]

    def _audience(self) -> Audience:
        return query(QueryOptions(source=self["settings"].profiles))

    def import_for(self, activity: palette.Activity) -> None:
        """What the example's import lines import; a provider's options get the address of the test's server."""
        for name, module in activity.imported.items():
            self[name] = pl if not module else getattr(importlib.import_module(module), name)
            if name in PROVIDERS:
                self[name] = self._at_the_provider(PROVIDERS[name])

    def _at_the_provider(self, options: type[Any]) -> Callable[..., Any]:
        place = {"url": self.provider.url, "connection": self.provider.connection()}
        return lambda **given: options(**{**given, **place})


@pytest.mark.parametrize("activity", ACTIVITIES, ids=lambda activity: activity.name)
def test_every_example_runs(
    activity: palette.Activity, folder: Path, servers: tuple[MailSandbox, ProviderServer]
) -> None:
    mails, provider = servers
    ready = Ready(folder, provider)
    ready.import_for(activity)

    @flow
    def workflow() -> None:
        if activity.name == "Read audience":
            save_audience(ready["audience"], SaveAudienceOptions(name="VIP"), TODAY)
        exec("\n".join(activity.example), {}, ready)

    workflow()
    messages = len(mails.taken) + len(provider.asked)
    assert messages == (3 if activity.name in {"Email", "SMS", "Push", "In-app"} else 0)
