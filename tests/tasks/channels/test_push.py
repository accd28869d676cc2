"""Push in FCM's HTTP v1 format, against a socket that answers as Firebase's documentation says."""

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from prefect import flow
from pydantic import SecretStr

from tasks.channels.push import FcmMessages, PushOptions, push
from tasks.delivery.provider import Meaning, ProviderMessage
from tasks.messages.address import Unsendable
from tasks.runs.audience import Audience
from tasks.send import Send
from tests.tasks.provider_server import Asked, ProviderAnswer, running_provider

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
OPTIONS = PushOptions(project="shop", access_token=SecretStr("ya29.s3cret"))


def error(status: int, name: str, code: str | None) -> tuple[int, dict[str, str], object]:
    kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    details = [{"@type": kind, "errorCode": code}] if code else []
    return status, {}, {"error": {"code": status, "message": "m", "status": name, "details": details}}


def fcm(asked: Asked) -> ProviderAnswer:
    """As its reference shows: 200 with the message's name, 404 with UNREGISTERED."""
    token = json.loads(asked.body)["message"]["token"]
    if token == "token-3":
        return error(404, "NOT_FOUND", "UNREGISTERED")
    return 200, {}, {"name": f"projects/shop/messages/0:{token}"}


def test_notifications_are_sent_once_and_a_device_that_is_gone_is_quarantined(
    tmp_path: Path, result_folder: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{tmp_path}/journal.db")
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", json.dumps(["localhost"]))
    people = pl.DataFrame(
        [(str(number), f"token-{number}", f"Title {number}", "h", "Grüße") for number in range(10)],
        schema=("profile_id", "email", "subject", "html", "text"),
        orient="row",
    )
    with running_provider(tmp_path, fcm) as provider:
        options = OPTIONS.model_copy(
            update={"url": f"{provider.url}/v1", "connection": provider.connection(), "folder": in_folder}
        )

        @flow
        def campaign() -> Audience:
            return push(people, options, SEND)

        delivery, again = campaign(), campaign()
    assert delivery.standard.height == again.complement.height == 9
    assert delivery.rejects.collect()["reason"].to_list() == ["refused: 404 UNREGISTERED m"]
    assert len(provider.asked) == 10
    one = next(asked for asked in provider.asked if b"token-7" in asked.body)
    assert one.path == "/v1/projects/shop/messages:send"
    assert one.headers["authorization"] == "Bearer ya29.s3cret"
    assert json.loads(one.body) == {
        "message": {
            "token": "token-7",
            "notification": {"title": "Title 7", "body": "Grüße"},
            "data": {"message_key": SEND.message_key("push", "7")},
        }
    }


@pytest.mark.parametrize(
    ("status", "name", "code", "meaning"),
    [
        (404, "NOT_FOUND", "UNREGISTERED", Meaning.BAD_ADDRESS),
        (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", Meaning.BAD_ADDRESS),
        (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", Meaning.REFUSED),
        (401, "UNAUTHENTICATED", None, Meaning.SENDER_REFUSED),
        (401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", Meaning.SENDER_REFUSED),
        (429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", Meaning.LATER),
        (503, "UNAVAILABLE", "UNAVAILABLE", Meaning.LATER),
        (500, "INTERNAL", "INTERNAL", Meaning.UNCLEAR),
    ],
)
def test_fcms_errors_mean_what_its_reference_says(
    status: int, name: str, code: str | None, meaning: Meaning
) -> None:
    _, _, said = error(status, name, code)
    assert FcmMessages(OPTIONS).answer(status, json.dumps(said).encode()) == (meaning, f"{status} {code or name} m")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"error": 1}',
        b'{"error": {"details": [{"errorCode": [1]}], "status": {}}}',
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=range(7),
)
def test_an_answer_that_is_no_json_of_fcms_is_judged_by_its_status(body: bytes) -> None:
    assert FcmMessages(OPTIONS).answer(502, body).meaning is Meaning.UNCLEAR
    assert FcmMessages(OPTIONS).answer(200, body).meaning is Meaning.TAKEN


def test_a_notification_that_is_too_long_is_rejected() -> None:
    with pytest.raises(Unsendable, match="4096"):
        FcmMessages(OPTIONS).request(ProviderMessage("k", "7", "token", "title", "", "x" * 4100))
