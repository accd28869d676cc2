import gzip
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.sandbox.partner import Behaviour
from deployments.sandbox.server import Reply
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
from tasks.http.exchange import (
    Connection,
    PartnerRequest,
    request_headers,
)
from tasks.http.session import Client, Session, from_any_thread, send_one

BODY = b'{"params": {"count": 1}, "data": [{"zipCode": "95124"}]}'
ALLOWED = frozenset({"localhost"})


def post(body: bytes, connection: Connection, allowed_hosts: frozenset[str]) -> bytes:
    request = PartnerRequest("POST", connection.url, body, headers=connection.headers)
    return send_one(request, connection, allowed_hosts).body


def connection_to(partner: object, **options: object) -> Connection:
    return Connection(**{"url": partner.url, "ca_file": partner.ca_file, **options})


def test_an_answer_comes_back_over_verified_tls(start_partner: Callable) -> None:
    partner = start_partner()
    answer = post(BODY, connection_to(partner, headers={"X-Api-Key": SecretStr("s3cret")}), ALLOWED)
    assert b'"zipCode": "95124"' in answer
    (request,) = partner.requests
    assert request.body == BODY
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-api-key"] == "s3cret"
    assert request.headers["host"].startswith("localhost:")


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
    monkeypatch.setattr("tasks.http.network.socket.getaddrinfo", lambda *_, **__: time.sleep(6))
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        post(BODY, Connection(url="https://partner.example/", timeout_seconds=0.3), frozenset())
    assert time.monotonic() - begun < 4


def gzipped(decoded: bytes) -> Reply:
    return Reply(gzip.compress(decoded), headers={"Content-Encoding": "gzip"})


def reply_to(start_server: Callable, reply: Reply, **options: object) -> bytes:
    server = start_server(lambda call: reply)
    return post(BODY, Connection(**{"url": f"{server.address}/api", "ca_file": server.ca_file, **options}), ALLOWED)


def test_a_compressed_answer_is_decoded(start_server: Callable) -> None:
    assert reply_to(start_server, gzipped(b'{"a": 1}')) == b'{"a": 1}'
    assert (
        reply_to(
            start_server, Reply(gzip.compress(b"[1,") + gzip.compress(b"2]"), 200, {"Content-Encoding": "gzip"})
        )
        == b"[1,2]"
    )


def test_a_gzip_bomb_stops_at_the_limit_and_is_never_held(start_server: Callable) -> None:
    reply = gzipped(b" " * (256 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLarge, match="WKF-560239"):
            reply_to(start_server, reply)
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("size", "passes"), [(1000, True), (1001, False)], ids=["just the limit", "one byte over"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_limit_is_counted_in_decoded_bytes(
    start_server: Callable, size: int, passes: bool, packed: bool
) -> None:
    reply = gzipped(b" " * size) if packed else Reply(b" " * size)
    if passes:
        assert len(reply_to(start_server, reply, max_response_bytes=1000)) == 1000
    else:
        with pytest.raises(ResponseTooLarge, match="more than 1000 bytes"):
            reply_to(start_server, reply, max_response_bytes=1000)


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (Reply(gzip.compress(b"[]")[:-4], headers={"Content-Encoding": "gzip"}), PartnerUnreachable, "cut short"),
        (Reply(b"no gzip at all", headers={"Content-Encoding": "gzip"}), PartnerUnreachable, "damaged"),
        (Reply(b"[]", headers={"Content-Encoding": "br"}), ContentTypeRefused, "br-encoded"),
        (Reply(b"[]", headers={"Content-Type": "text/json"}), ContentTypeRefused, "text/json"),
        (Reply(b"[]", headers={"Content-Type": "application/jsonp"}), ContentTypeRefused, "application/jsonp"),
        (Reply(b"{}", 302, {"Location": "/"}), StatusRefused, "Redirects are not followed"),
        (Reply(b"{}", 304), StatusRefused, "HTTP - 304"),
        (Reply(b"{}", 407), StatusRefused, "CAMPAIGN_NETWORK__PROXY"),
    ],
)
def test_an_answer_that_cannot_be_taken_says_why(
    start_server: Callable, reply: Reply, error: type[ApiError], says: str
) -> None:
    with pytest.raises(error, match=says):
        reply_to(start_server, reply)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"[]", headers={"Content-Type": "Application/JSON; charset=UTF-8"}),
        Reply(b"[]", 201),
        Reply(b"", 204, {"Content-Type": "text/plain"}),
    ],
)
def test_every_success_is_an_answer(start_server: Callable, reply: Reply) -> None:
    assert reply_to(start_server, reply) == reply.body


def test_the_requests_of_a_session_share_one_clock_and_one_limit(start_server: Callable) -> None:
    server = start_server(lambda call: Reply(b" " * 400, wait_seconds=float(call.query["wait"])))
    connection = Connection(ca_file=server.ca_file, timeout_seconds=1.5, max_response_bytes=1000)

    async def get(session: Session, wait: float) -> bytes:
        return (await session.send(PartnerRequest("GET", f"{server.address}/?wait={wait}"))).body

    async def run() -> None:
        async with Client(connection, ALLOWED) as client:
            session = Session(client)
            assert len(await get(session, 0)) == len(await get(session, 0)) == 400
            with pytest.raises(ResponseTooLarge):
                await get(session, 0)
            session = Session(client)
            await get(session, 0.8)
            with pytest.raises(DeadlineExceeded):
                await get(session, 0.8)

    from_any_thread(run)


def test_a_get_has_no_body_and_no_content_type(start_server: Callable) -> None:
    server = start_server(lambda call: Reply(b"[]"))
    send_one(PartnerRequest("GET", f"{server.address}/?x=1"), Connection(ca_file=server.ca_file), ALLOWED)
    (call,) = server.calls
    assert (call.method, call.target, call.body) == ("GET", "/?x=1", b"")
    assert "content-type" not in call.headers


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

    monkeypatch.setattr("tasks.http.network.socket.getaddrinfo", unknown)
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
        request_headers(PartnerRequest("POST", "https://partner.example/", b"", headers={name: SecretStr(value)}))
    assert "secret" not in str(refused.value)
    assert "sécret" not in repr(refused.value)
