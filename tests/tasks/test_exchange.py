import gzip
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.sandbox.partner import Behaviour
from tasks.errors import (
    ApiError,
    CertificateInvalid,
    ContentTypeRefused,
    DeadlineExceeded,
    HeaderNameInvalid,
    HeaderNameReserved,
    HeaderValueInvalid,
    HostNotAllowed,
    PartnerUnreachable,
    RequestTooLarge,
    ResponseTooLarge,
    SourceUnreadable,
    StatusRefused,
)
from tasks.exchange import Connection, backoff_delays, post, request_headers, retry_after_seconds

BODY = b'{"params": {"count": 1}, "data": [{"zipCode": "95124"}]}'
ALLOWED = frozenset({"localhost"})
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def connection_to(partner: object, **options: object) -> Connection:
    return Connection(**{"url": partner.url, "ca_file": partner.ca_file, **options})


def test_an_answer_comes_back_over_verified_tls(start_partner: Callable) -> None:
    partner = start_partner()
    answer = post(BODY, connection_to(partner, headers={"X-Api-Key": SecretStr("s3cret")}), ALLOWED)
    assert b'"zipCode": "95124"' in answer
    (request,) = partner.requests
    assert request["body"] == {"params": {"count": 1}, "data": [{"zipCode": "95124"}]}
    assert request["headers"]["accept"] == "application/json"
    assert request["headers"]["content-type"] == "application/json"
    assert request["headers"]["x-api-key"] == "s3cret"
    assert request["headers"]["host"].startswith("localhost:")


@pytest.mark.parametrize(
    ("behaviour", "error", "retryable", "says"),
    [
        (Behaviour.DOWN, StatusRefused, True, "HTTP - 503"),
        (Behaviour.BUSY, StatusRefused, True, "HTTP - 429"),
        (Behaviour.FORBIDDEN, StatusRefused, False, "HTTP - 401"),
        (Behaviour.REDIRECT, StatusRefused, False, "Redirects are not followed"),
        (Behaviour.HTML, ContentTypeRefused, False, "text/html"),
        (Behaviour.HUGE, ResponseTooLarge, False, "5242880"),
        (Behaviour.CUT, PartnerUnreachable, True, "it broke"),
    ],
)
def test_a_partner_that_fails_is_told_apart(
    start_partner: Callable, behaviour: Behaviour, error: type[ApiError], retryable: bool, says: str
) -> None:
    partner = start_partner(behaviour)
    with pytest.raises(error, match=says) as failed:
        post(BODY, connection_to(partner), ALLOWED)
    assert failed.value.retryable is retryable
    assert len(partner.requests) == 1, "an exchange is one request"


@pytest.mark.parametrize("behaviour", [Behaviour.SLOW, Behaviour.TRICKLE])
def test_one_clock_bounds_the_whole_exchange(start_partner: Callable, behaviour: Behaviour) -> None:
    partner = start_partner(behaviour)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.8 seconds") as failed:
        post(BODY, connection_to(partner, timeout_seconds=0.8), ALLOWED)
    assert failed.value.retryable
    assert time.monotonic() - begun < 5, "bytes that trickle in stretched the deadline"


def test_a_resolver_that_hangs_is_left_behind_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.network.socket.getaddrinfo", lambda *_, **__: time.sleep(6))
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        post(BODY, Connection(url="https://partner.example/", timeout_seconds=0.3), frozenset())
    assert time.monotonic() - begun < 4


def test_a_gzip_bomb_stops_at_the_limit(start_partner: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    monkeypatch.setattr(
        "deployments.sandbox.partner._CouponHandler._behave",
        lambda handler, _: handler._send(200, bomb, {"Content-Encoding": "gzip"}),
    )
    with pytest.raises(ResponseTooLarge, match="WKF-560239"):
        post(BODY, connection_to(start_partner()), ALLOWED)


def test_a_certificate_of_an_unknown_authority_is_refused(start_partner: Callable) -> None:
    with pytest.raises(CertificateInvalid, match="does not verify") as failed:
        post(BODY, Connection(url=start_partner().url), ALLOWED)
    assert not failed.value.retryable


def test_a_certificate_for_another_name_is_refused(start_partner: Callable) -> None:
    partner = start_partner(name="partner.example")
    with pytest.raises(CertificateInvalid, match="does not verify"):
        post(BODY, connection_to(partner), ALLOWED)
    assert partner.requests == []


def test_a_ca_file_that_is_no_certificate_is_named(start_partner: Callable, tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with pytest.raises(SourceUnreadable, match=r"none\.pem"):
        post(BODY, connection_to(start_partner(), ca_file=missing), ALLOWED)


def test_a_closed_port_is_worth_a_retry() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PartnerUnreachable) as failed:
        post(BODY, Connection(url=f"https://localhost:{port}/"), ALLOWED)
    assert failed.value.retryable


def test_a_name_that_nobody_knows_is_not_worth_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("tasks.network.socket.getaddrinfo", unknown)
    with pytest.raises(PartnerUnreachable, match="does not resolve") as failed:
        post(BODY, Connection(url="https://partner.example/"), frozenset())
    assert not failed.value.retryable


def test_loopback_is_refused_unless_it_is_allowed(start_partner: Callable) -> None:
    partner = start_partner()
    with pytest.raises(HostNotAllowed):
        post(BODY, connection_to(partner), frozenset())
    assert partner.requests == []


def test_a_request_over_the_limit_is_not_sent(start_partner: Callable) -> None:
    partner = start_partner()
    with pytest.raises(RequestTooLarge, match="WKF-560250"):
        post(BODY, connection_to(partner, max_request_bytes=len(BODY) - 1), ALLOWED)
    assert partner.requests == []


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("", "x", HeaderNameInvalid),
        ("X Key", "x", HeaderNameInvalid),
        ("X-Kéy", "x", HeaderNameInvalid),
        ("Host", "x", HeaderNameReserved),
        ("content-TYPE", "x", HeaderNameReserved),
        ("Accept", "x", HeaderNameReserved),
        ("X-Key", "top\r\nsecret: 1", HeaderValueInvalid),
        ("X-Key", "topsécret", HeaderValueInvalid),
    ],
)
def test_headers_keep_to_the_http_grammar_and_never_show_a_value(
    name: str, value: str, error: type[ApiError]
) -> None:
    with pytest.raises(error) as refused:
        request_headers({name: SecretStr(value)})
    assert "secret" not in str(refused.value)
    assert "sécret" not in repr(refused.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("86400", 100.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("Wed, 25 Nov 2026 12:00:00 GMT", 100.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_capped(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOON, limit=100.0) == seconds


def test_backoff_doubles_up_to_its_limit_with_full_jitter() -> None:
    connection = Connection(retries=6, backoff_seconds=2, backoff_limit_seconds=10)
    draws = [backoff_delays(connection) for _ in range(2000)]
    for place, bound in enumerate([2, 4, 8, 10, 10, 10]):
        delays = [draw[place] for draw in draws]
        assert 0 <= min(delays) < 0.1 * bound
        assert 0.9 * bound < max(delays) <= bound
