"""Codes over a journaled channel: what the provider says of a message decides on its code."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tasks.channels.in_app import InAppOptions, Webhook
from tasks.content.personalization import PersonalizationOptions, PoolUse, Templates, personalize
from tasks.delivery.delivery import Delivery, send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.provider import provider_channel
from tasks.pools.stock import Pools
from tasks.send import Send
from tasks.settings import Settings
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
