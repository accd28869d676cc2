"""What the application's service gets."""

import hashlib
import hmac
import json

from pydantic import SecretStr

from tasks.channels.in_app import InAppOptions, Webhook
from tasks.delivery.provider import Meaning, ProviderAnswer, ProviderMessage

MESSAGE = ProviderMessage("k" * 40, "7", "user-7", "Grüße", "<p>hi</p>", "hi")


def test_the_body_is_signed_and_carries_the_key() -> None:
    request = Webhook(InAppOptions(url="https://app.example/hook", secret=SecretStr("s3cret"))).request(MESSAGE)
    assert request.headers["Idempotency-Key"] == "k" * 40
    assert request.headers["X-Signature-256"] == hmac.new(b"s3cret", request.body, hashlib.sha256).hexdigest()
    assert json.loads(request.body) == {
        "message_key": "k" * 40,
        "profile_id": "7",
        "address": "user-7",
        "title": "Grüße",
        "html": "<p>hi</p>",
        "text": "hi",
    }


def test_without_a_secret_nothing_is_signed() -> None:
    assert "X-Signature-256" not in Webhook(InAppOptions(url="https://app.example/hook")).request(MESSAGE).headers


def test_an_answer_is_kept_short() -> None:
    answer = Webhook(InAppOptions(url="https://app.example/hook")).answer(200, b"x" * 9000)
    assert answer == ProviderAnswer(Meaning.TAKEN, f"200 {'x' * 200}")
