"""Codes over a journaled channel: what the provider says of a message decides on its code."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import polars as pl
import pytest
from pydantic import SecretStr

from deployments.sandbox.mail_server import MailBehaviour, MailSandbox, running_mail_server
from tasks.channels.email import email_channel
from tasks.channels.in_app import InAppOptions, Webhook
from tasks.channels.push import PushOptions, push_channel
from tasks.channels.sms import SmsOptions, sms_channel
from tasks.content.personalization import PersonalizationOptions, PoolUse, Templates, personalize
from tasks.delivery.delivery import Channel, Delivery, send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.provider import provider_channel
from tasks.pools.stock import Pools
from tasks.send import Send
from tasks.settings import Settings
from tests.tasks.channels.email_flow import options_for
from tests.tasks.provider_server import ALLOWED, Asked, ProviderAnswer, ProviderServer, running_provider

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
TEMPLATES = Templates(
    folder=Path("made-up"),
    parts={"subject": "subject", "html": "body.html", "text": "text"},
    sources=dict.fromkeys(("subject", "body.html", "text"), "{{ content.gift.code }}"),
)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Callable[[Asked], ProviderAnswer]], ProviderServer]]:
    """Starts a provider that answers as a function says."""
    with ExitStack() as running:
        yield lambda answer: running.enter_context(running_provider(tmp_path, answer))


def messages(count: int, **use: Any) -> pl.DataFrame:
    people = pl.DataFrame(
        {"profile_id": [str(one) for one in range(count)], "email": [f"u{one}" for one in range(count)]}
    )
    uses = (PoolUse(name="gift", **{"channel": "in-app", **use}),)
    return personalize(people, PersonalizationOptions(templates=TEMPLATES, send=SEND, codes=uses)).standard


def sent(provider: ProviderServer, folder: Path, made: pl.DataFrame, **options: Any) -> Delivery:
    chosen = InAppOptions(
        url=f"{provider.url}/hook", connection=provider.connection(), round_seconds=0.05, folder=folder, **options
    )
    with closing(open_journal(Settings.load().journal)) as journal:
        delivery, _ = send_messages(
            made,
            provider_channel("In-app", Webhook(chosen), chosen, ALLOWED),
            chosen,
            SEND,
            journal=journal,
            tally=Tally(made.height),
        )
        journal.give_back_codes(SEND, chosen.channel("in-app"), "")
    return delivery


def fill(count: int) -> None:
    with closing(open_journal(Settings.load().journal)) as journal:
        Pools(journal.database).fill("gift", pl.DataFrame({"code": [f"GIFT-{one:04}" for one in range(count)]}))


def stock() -> dict[str, int]:
    with closing(open_journal(Settings.load().journal)) as journal:
        pools = Pools(journal.database)
        return {str(state): count for state, count in pools.stock(pools.pool("gift")).items() if count}


def test_taken_uses_it_up_refused_gives_it_back_and_no_answer_keeps_it(serve: Callable, tmp_path: Path) -> None:
    answers: dict[str, ProviderAnswer] = {"1": (400, {}, {"error": "no"}), "2": (0, {}, {}), "3": (504, {}, {})}
    got: dict[str, str] = {}

    def answer(asked: Asked) -> ProviderAnswer:
        said = json.loads(asked.body)
        got[said["profile_id"]] = said["text"]
        return answers.get(said["profile_id"], (200, {}, {"ok": True}))

    fill(12)
    provider = serve(answer)
    sent(provider, tmp_path, messages(10))
    assert stock() == {"used": 7, "held": 2, "free": 3}
    answers.clear()
    before = dict(got)
    sent(provider, tmp_path, messages(10), resend_unknown=True, resend_refused=True)
    assert stock() == {"used": 10, "free": 2}
    assert {who: code for who, code in got.items() if who != "1"} == {who: before[who] for who in got if who != "1"}
    assert len(set(got.values())) == 10


def test_a_proof_shows_samples_and_a_send_never_does(serve: Callable, tmp_path: Path) -> None:
    texts: list[str] = []

    def answer(asked: Asked) -> ProviderAnswer:
        texts.append(json.loads(asked.body)["text"])
        return 200, {}, {"ok": True}

    fill(3)
    provider = serve(answer)
    proofs = sent(provider, tmp_path, messages(2, sample=True), proof="first")
    assert proofs.standard.height == 2
    assert texts == ["SAMPLE-CODE"] * 2
    kept_back = sent(provider, tmp_path, messages(2, sample=True))
    assert kept_back.rejects["reason"].str.contains("sample").all()
    real = sent(provider, tmp_path, messages(2), proof="second")
    assert real.rejects["reason"].str.contains("another message's").all()
    assert len(texts) == 2
    assert stock()["free"] == 3 - stock().get("reserved", 0)


def said_by_sms(asked: Asked) -> tuple[str, str]:
    form = parse_qs(asked.body.decode())
    return form["To"][0], form["Body"][0]


def said_by_push(asked: Asked) -> tuple[str, str]:
    message = json.loads(asked.body)["message"]
    return message["token"], message["notification"]["body"]


SMS = SmsOptions(account_sid="AC1", password=SecretStr("s3cret"), sender="+15550100")
PUSH = PushOptions(project="shop", access_token=SecretStr("ya29.s3cret"))


@pytest.mark.parametrize(
    ("made", "options", "said", "taken"),
    [
        (sms_channel, SMS, said_by_sms, (201, {}, {"sid": "SM1", "status": "queued"})),
        (push_channel, PUSH, said_by_push, (200, {}, {"name": "projects/shop/messages/1"})),
    ],
    ids=["sms", "push"],
)
def test_a_provider_is_sent_each_code_once_and_the_refused_come_back(
    serve: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[Any], Channel],
    options: Any,
    said: Callable[[Asked], tuple[str, str]],
    taken: ProviderAnswer,
) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", json.dumps(["localhost"]))
    got: dict[str, str] = {}

    def answer(asked: Asked) -> ProviderAnswer:
        who, text = said(asked)
        got[who] = text
        return (400, {}, {"code": 1, "message": "no"}) if who == "+43155500000" else taken

    fill(12)
    provider = serve(answer)
    chosen = options.model_copy(
        update={"url": provider.url, "connection": provider.connection(), "folder": tmp_path, "round_seconds": 0.05}
    )
    channel = made(chosen)
    messages = coded(channel.name, [f"+4315550000{number}" for number in range(10)])
    delivery = sent_over(channel, chosen, messages)
    assert delivery.standard.height == 9
    assert len(set(got.values())) == 10
    assert all(text.startswith("GIFT-") for text in got.values())
    assert stock() == {"used": 9, "free": 3}


def test_a_mail_server_is_sent_each_code_once_and_the_refused_come_back(tmp_path: Path) -> None:
    fill(12)
    with running_mail_server(MailSandbox(behaviour=MailBehaviour.PICKY)) as server:
        chosen = options_for(server.port, tmp_path)
        messages = coded("email", [f"{'bad' if number == 0 else 'p'}{number}@x.example" for number in range(10)])
        delivery = sent_over(email_channel(chosen, SEND, datetime.now(UTC)), chosen, messages)
    texts = {
        one.recipient: message_from_bytes(one.content, policy=default).get_body(("plain",)).get_content().strip()
        for one in server.taken
    }
    assert delivery.standard.height == len(texts) == len(set(texts.values())) == 9
    assert all(text.startswith("GIFT-") for text in texts.values())
    assert stock() == {"used": 9, "free": 3}


def coded(channel: str, addresses: list[str]) -> pl.DataFrame:
    people = pl.DataFrame({"profile_id": [str(one) for one in range(len(addresses))], "email": addresses})
    uses = (PoolUse(name="gift", channel=channel),)
    return personalize(people, PersonalizationOptions(templates=TEMPLATES, send=SEND, codes=uses)).standard


def sent_over(channel: Channel, options: Any, made: pl.DataFrame) -> Delivery:
    with closing(open_journal(Settings.load().journal)) as journal:
        delivery, failure = send_messages(made, channel, options, SEND, journal=journal, tally=Tally(made.height))
    assert failure is None
    return delivery
