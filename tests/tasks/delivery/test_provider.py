"""Messages to a provider over HTTPS, whatever it answers: by the webhook's format, which has nothing of its own."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from pydantic import SecretStr

from tasks.channels.in_app import InAppOptions, Webhook
from tasks.delivery.delivery import Delivery, send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.provider import provider_channel
from tasks.errors import HostNotAllowed, ProviderRefuses, ProviderUnavailable, UrlNotSecure
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.journal import suppressed
from tests.tasks.provider_server import ALLOWED, Asked, ProviderAnswer, ProviderServer, running_provider

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
TAKEN: ProviderAnswer = (200, {}, {"ok": True})


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Callable[[Asked], ProviderAnswer]], ProviderServer]]:
    """Starts a provider that answers as a function says."""
    with ExitStack() as running:
        yield lambda answer: running.enter_context(running_provider(tmp_path, answer))


def messages(count: int) -> pl.DataFrame:
    return pl.select(number=pl.int_range(count).cast(pl.String())).select(
        profile_id="number",
        email=pl.format("user-{}", "number"),
        subject=pl.format("Hello {} ✓", "number"),
        html=pl.lit("<p>h</p>"),
        text=pl.lit("t"),
    )


def journal_in(folder: Path) -> object:
    return open_journal(JournalSettings(url=SecretStr(f"sqlite:///{folder}/journal.db"), lease_seconds=3))


def sent(
    provider: ProviderServer,
    folder: Path,
    count: int = 40,
    *,
    connection: dict[str, object] | None = None,
    **options,
) -> tuple[Delivery, object]:
    chosen = InAppOptions(
        url=f"{provider.url}/hook",
        connection=provider.connection(**(connection or {})),
        round_seconds=0.05,
        folder=folder,
        **options,
    )
    return send_messages(
        messages(count),
        provider_channel("In-app", Webhook(chosen), chosen, ALLOWED),
        chosen,
        SEND,
        journal=journal_in(folder),
        tally=Tally(count),
    )


def counts(delivery: Delivery) -> dict[str, int]:
    return {name: table.height for name, table in delivery.tables().items() if table.height}


def taken_once(provider: ProviderServer, kept: list[str]) -> None:
    assert max(Counter(kept).values(), default=1) == 1, "a message was taken twice"


FIRST_OF_TEN = [
    # what one message in ten is answered with, once; what becomes of 40
    ("busy", (429, {"Retry-After": "0"}, {}), {"standard": 40}),
    ("away", (503, {}, {}), {"standard": 40}),
    ("out of order", (500, {}, {}), {"standard": 36, "unknown": 4}),
    ("a gateway's timeout", (504, {}, {}), {"standard": 36, "unknown": 4}),
    ("no answer", (0, {}, {}), {"standard": 36, "unknown": 4}),
    ("no", (400, {}, {"error": "bad"}), {"standard": 36, "rejects": 4}),
    ("a redirect", (302, {"Location": "https://elsewhere.example/"}, {}), {"standard": 36, "unknown": 4}),
]


@pytest.mark.parametrize(
    ("answer", "expected"), [row[1:] for row in FIRST_OF_TEN], ids=[row[0] for row in FIRST_OF_TEN]
)
def test_what_a_provider_says_decides_what_becomes_of_a_message(
    serve: Callable, tmp_path: Path, answer: ProviderAnswer, expected: dict[str, int]
) -> None:
    struck: set[str] = set()
    kept: list[str] = []

    def answers(asked: Asked) -> ProviderAnswer:
        key = asked.headers["idempotency-key"]
        if json.loads(asked.body)["profile_id"].endswith("7") and key not in struck:
            struck.add(key)
            return answer
        kept.append(key)
        return TAKEN

    provider = serve(answers)
    delivery, failure = sent(provider, tmp_path)
    assert failure is None
    assert counts(delivery) == expected
    taken_once(provider, kept)
    asked = len(provider.asked)
    again, _ = sent(provider, tmp_path)
    assert len(provider.asked) == asked, "a second run asks for nothing"
    assert again.complement.height == expected["standard"]
    assert again.unknown.height == expected.get("unknown", 0)


@pytest.mark.parametrize("answer", [(0, {}, {}), (500, {}, {}), (504, {}, {})])
def test_a_service_that_knows_repeats_is_asked_again(
    serve: Callable, tmp_path: Path, answer: ProviderAnswer
) -> None:
    seen: list[str] = []

    def answers(asked: Asked) -> ProviderAnswer:
        key = asked.headers["idempotency-key"]
        seen.append(key)
        return TAKEN if seen.count(key) > 1 else answer

    delivery, failure = sent(serve(answers), tmp_path, 10, idempotent=True)
    assert failure is None
    assert counts(delivery) == {"standard": 10}
    assert set(Counter(seen).values()) == {2}


def test_a_user_who_is_gone_is_quarantined(serve: Callable, tmp_path: Path) -> None:
    gone = serve(lambda asked: (410, {}, {}) if b"user-3" in asked.body else TAKEN)
    delivery, _ = sent(gone, tmp_path, 5)
    assert counts(delivery) == {"standard": 4, "rejects": 1}
    people = {user: ("", user) for user in ("user-2", "user-3")}
    assert list(suppressed(journal_in(tmp_path), people, "in-app")) == ["user-3"]


def test_a_provider_that_refuses_the_account_ends_the_run_at_once(serve: Callable, tmp_path: Path) -> None:
    provider = serve(lambda _: (401, {}, {"error": "who are you"}))
    delivery, failure = sent(provider, tmp_path)
    assert isinstance(failure, ProviderRefuses)
    assert "who are you" in str(failure)
    assert counts(delivery) == {"rejects": 40}
    assert len(provider.asked) <= 8
    provider.answer = lambda _: TAKEN
    assert counts(sent(provider, tmp_path)[0]) == {"standard": 40}


@pytest.mark.parametrize(("status", "left_unknown"), [(503, False), (500, True)])
def test_a_provider_that_takes_nothing_is_given_up_and_little_is_left_in_doubt(
    serve: Callable, tmp_path: Path, status: int, left_unknown: bool
) -> None:
    provider = serve(lambda _: (status, {}, {}))
    delivery, failure = sent(provider, tmp_path, 400, connection={"patience_seconds": 0.5})
    assert isinstance(failure, ProviderUnavailable)
    assert delivery.standard.height == 0
    assert delivery.rejects.height + delivery.unknown.height == 400
    assert bool(delivery.unknown.height) is left_unknown
    assert delivery.unknown.height < 200


def test_a_certificate_that_does_not_verify_ends_the_run_at_once(serve: Callable, tmp_path: Path) -> None:
    provider = serve(lambda _: TAKEN)
    provider.ca_file = None
    delivery, failure = sent(provider, tmp_path, 4)
    assert isinstance(failure, ProviderRefuses)
    assert "certificate does not verify" in str(failure)
    assert counts(delivery) == {"rejects": 4}
    assert provider.asked == []


def test_a_provider_that_is_down_is_given_up_and_nothing_is_in_doubt(serve: Callable, tmp_path: Path) -> None:
    provider = serve(lambda _: TAKEN)
    port = provider.url.rpartition(":")[2]
    provider.url = "https://localhost:1"
    delivery, failure = sent(provider, tmp_path, 4, connection={"patience_seconds": 0.2})
    assert isinstance(failure, ProviderUnavailable)
    assert counts(delivery) == {"rejects": 4}
    provider.url = f"https://localhost:{port}"
    assert counts(sent(provider, tmp_path, 4)[0]) == {"standard": 4}


@pytest.mark.parametrize(
    ("url", "error"),
    [("http://localhost:8443/hook", UrlNotSecure), ("https://127.0.0.1/hook", HostNotAllowed)],
)
def test_an_address_that_may_not_be_reached_is_refused_before_the_first_message(
    url: str, error: type[Exception]
) -> None:
    options = InAppOptions(url=url)
    with pytest.raises(error):
        provider_channel("In-app", Webhook(options), options, frozenset()).carrier()


def test_a_channel_is_good_for_many_sends(serve: Callable, tmp_path: Path) -> None:
    provider = serve(lambda _: TAKEN)
    options = InAppOptions(
        url=f"{provider.url}/hook", connection=provider.connection(connections=2), folder=tmp_path
    )
    channel = provider_channel("In-app", Webhook(options), options, ALLOWED)
    journal = journal_in(tmp_path)
    for day in (1, 2):
        send = SEND.model_copy(update={"business_date": date(2026, 11, day)})
        delivery, failure = send_messages(messages(20), channel, options, send, journal=journal, tally=Tally(20))
        assert (counts(delivery), failure) == ({"standard": 20}, None)
