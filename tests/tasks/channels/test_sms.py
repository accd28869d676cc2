"""SMS in Twilio's format, against a socket that answers as Twilio's documentation says."""

import base64
import json
from datetime import date
from pathlib import Path
from urllib.parse import parse_qs

import polars as pl
import pytest
from prefect import flow
from pydantic import SecretStr

from tasks.channels.sms import SmsOptions, TwilioMessages, international, sms
from tasks.delivery.provider import Meaning, ProviderMessage
from tasks.messages.address import Unsendable
from tasks.runs.audience import Audience
from tasks.send import Send
from tests.tasks.provider_server import Asked, ProviderAnswer, running_provider

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
OPTIONS = SmsOptions(account_sid="AC1", password=SecretStr("s3cret"), sender="+15550100")


def message(number: str = "+43 (1) 555-0100", text: str = "Grüße ✓") -> ProviderMessage:
    return ProviderMessage("k" * 40, "7", number, "subject", "<p>html</p>", text)


def twilio(asked: Asked) -> ProviderAnswer:
    """As its reference shows: 201 with the resource, 400 with a code of the error dictionary."""
    to = parse_qs(asked.body.decode())["To"][0]
    if to.endswith("9"):
        error = {
            "code": 21211,
            "message": f"The 'To' number {to} is not a valid phone number.",
            "more_info": "https://www.twilio.com/docs/errors/21211",
            "status": 400,
        }
        return 400, {}, error
    return 201, {}, {"sid": f"SM{abs(hash(to)):032x}", "status": "queued", "to": to, "error_code": None}


def test_texts_are_sent_once_and_a_bad_number_is_quarantined_and_masked(
    tmp_path: Path,
    result_folder: Path,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{tmp_path}/journal.db")
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", json.dumps(["localhost"]))
    people = pl.DataFrame(
        [(str(number), f"+4315550{number:03}", "s", "h", f"Hello {number}") for number in range(20)],
        schema=("profile_id", "email", "subject", "html", "text"),
        orient="row",
    )
    with running_provider(tmp_path, twilio) as provider:
        options = OPTIONS.model_copy(
            update={"url": provider.url, "connection": provider.connection(), "folder": in_folder}
        )

        @flow
        def campaign() -> Audience:
            return sms(people, options, SEND)

        delivery, again = campaign(), campaign()
    assert delivery.standard.height == 18
    assert delivery.rejects.collect()["reason"].str.starts_with("refused: 400 21211 The 'To' number").all()
    assert again.complement.height == 18
    assert len(provider.asked) == 20
    first = provider.asked[0]
    assert first.path == "/Accounts/AC1/Messages.json"
    assert base64.b64decode(first.headers["authorization"].removeprefix("Basic ")) == b"AC1:s3cret"
    bodies = sorted(parse_qs(one.body.decode())["Body"][0] for one in provider.asked)
    assert bodies == sorted(people["text"])
    assert "+4315550" not in caplog.text
    manifest = pl.read_parquet(in_folder / "birthday" / "2026-11-24" / "sms-manifest.parquet")
    assert dict(manifest["outcome"].value_counts().iter_rows()) == {"sent": 18, "refused": 2}


def test_a_messaging_service_and_an_api_key_are_said_as_twilio_wants_them() -> None:
    options = OPTIONS.model_copy(update={"sender": "MG123", "username": "SK1"})
    request = TwilioMessages(options).request(message())
    assert parse_qs(request.body.decode()) == {
        "To": ["+4315550100"],
        "MessagingServiceSid": ["MG123"],
        "Body": ["Grüße ✓"],
    }
    assert base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"SK1:s3cret"


@pytest.mark.parametrize(
    ("number", "text"),
    [("0664 555", "x"), ("+0123456789", "x"), ("a@b", "x"), ("+4315550100", "  "), ("+4315550100", "x" * 1601)],
)
def test_what_twilio_would_not_take_is_rejected_before_it_costs_anything(number: str, text: str) -> None:
    with pytest.raises(Unsendable):
        TwilioMessages(OPTIONS).request(message(number, text))


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (400, 21211, Meaning.BAD_ADDRESS),
        (400, 21610, Meaning.BAD_ADDRESS),
        (400, 21614, Meaning.BAD_ADDRESS),
        (400, 21606, Meaning.REFUSED),
        (401, 20003, Meaning.SENDER_REFUSED),
        (429, 20429, Meaning.LATER),
        (503, 20503, Meaning.LATER),
        (500, 20500, Meaning.UNCLEAR),
    ],
)
def test_twilios_codes_mean_what_its_dictionary_says(status: int, code: int, meaning: Meaning) -> None:
    said = TwilioMessages(OPTIONS).answer(status, json.dumps({"code": code, "message": "m\nm"}).encode())
    assert said == (meaning, f"{status} {code} m m")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"status": "queued"}',
        b"null",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"sid":' * 40 + b"1" + b"}" * 40,
        b'{"code": 1e400}',
        b'{"code": 1e300}',
        b'{"code": ' + b"9" * 5000 + b"}",
    ],
    ids=range(10),
)
def test_an_answer_that_is_no_json_of_twilios_is_judged_by_its_status(body: bytes) -> None:
    assert TwilioMessages(OPTIONS).answer(502, body).meaning is Meaning.UNCLEAR
    assert TwilioMessages(OPTIONS).answer(201, body).meaning is Meaning.TAKEN


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("+43 (0)1 555-0100", "+4315550100"),
        ("+44 (0)20 7946 0018", "+442079460018"),
        ("\u00a0+49 (0) 30 / 901820 ", "+4930901820"),
        ("+39 06 6982 1234", "+390669821234"),
        ("+1 (212) 555.0100", "+12125550100"),
    ],
)
def test_a_number_is_taken_as_people_write_it(written: str, known: str) -> None:
    assert international(written) == known


@pytest.mark.parametrize(
    "written",
    ["01 555 0100", "+43", "+4315550100 ext. 5", "+4315550100 +4315550101", "+999 1234567", "+1 800 FLOWERS"],
)
def test_what_is_no_international_number_is_refused(written: str) -> None:
    with pytest.raises(Unsendable, match="not international"):
        international(written)
