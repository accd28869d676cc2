import base64
import json
import logging
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from deployments.sandbox.server import Call, Reply, Server
from tasks.errors import (
    ApiError,
    AuthorizationServerUnreachable,
    CredentialsRefused,
    HostNotAllowed,
    OAuthSetupInvalid,
    SourceUnreadable,
    TokenNotFetched,
    UrlNotSecure,
)
from tasks.http.credentials import basic
from tasks.http.exchange import Connection, PartnerRequest
from tasks.http.oauth import OAuthCredentials, OAuthSetup, Token, token_of, token_request
from tasks.http.session import send_one

SECRET = "canary-s3cret/:%"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ALLOWED = frozenset({"localhost"})
GIVEN = Reply(b'{"access_token": "canary-token", "token_type": "Bearer", "expires_in": 3600}')
StartServer = Callable[[Callable[[Call], Reply]], Server]


@dataclass
class Memory:
    """A token store of one process."""

    kept: dict[str, Token] = field(default_factory=dict)

    def read(self, setup: str) -> Token | None:
        return self.kept.get(setup)

    def write(self, setup: str, token: Token) -> None:
        self.kept[setup] = token


def setup_of(**options: object) -> OAuthSetup:
    return OAuthSetup(
        **{
            "provider": "oauth2-account/coupons",
            "token_url": "https://login.example/token",
            "client_id": "campaign flows",
            "client_secret": SecretStr(SECRET),
            **options,
        }
    )


def credentials_at(server: Server, **options: object) -> OAuthCredentials:
    return OAuthCredentials(
        setup_of(token_url=f"{server.address}/token", **options),
        Memory(),
        Connection(ca_file=server.ca_file),
        ALLOWED,
        logging.getLogger("test.credentials"),
    )


def bearer(credentials: OAuthCredentials) -> str:
    return credentials.headers()["Authorization"].get_secret_value()


def test_a_basic_header_is_user_and_password_in_utf_8() -> None:
    header = basic("Zoë", SecretStr("pä:ss")).headers()["Authorization"].get_secret_value()
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == "Zoë:pä:ss"
    with pytest.raises(ValueError, match="no colon"):
        basic("a:b", SecretStr("x"))


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({}, {"grant_type": ["client_credentials"]}),
        (
            {"scope": "a b", "audience": "api"},
            {"grant_type": ["client_credentials"], "scope": ["a b"], "audience": ["api"]},
        ),
        (
            {"client_authentication": "body"},
            {"grant_type": ["client_credentials"], "client_id": ["campaign flows"], "client_secret": [SECRET]},
        ),
    ],
)
def test_the_request_for_a_token_is_that_of_the_standard(
    options: dict[str, object], form: dict[str, list[str]]
) -> None:
    request = token_request(setup_of(**options))
    assert parse_qs(request.body.decode()) == form
    assert request.content_type == "application/x-www-form-urlencoded"
    if "client_authentication" not in options:
        header = request.headers["Authorization"].get_secret_value().removeprefix("Basic ")
        assert base64.b64decode(header).decode() == "campaign%20flows:canary-s3cret%2F%3A%25"
    assert SECRET not in repr(request.headers)


@pytest.mark.parametrize("absent", ["token_url", "client_id", "client_secret"])
def test_an_incomplete_account_is_told_before_a_call(absent: str) -> None:
    value = SecretStr("") if absent == "client_secret" else ""
    with pytest.raises(OAuthSetupInvalid, match=f"no {absent}.*WKF-560278"):
        token_request(setup_of(**{absent: value}))


def test_a_token_is_fetched_once_and_kept_until_it_expires(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server = start_server(lambda call: GIVEN)
    credentials = credentials_at(server)
    credentials.now = lambda: NOON
    assert bearer(credentials) == bearer(credentials) == "Bearer canary-token"
    assert len(server.calls) == 1
    assert "Fetched access token from server for provider ID 'oauth2-account/coupons'." in caplog.text
    assert "Using cached access token for provider ID 'oauth2-account/coupons'." in caplog.text
    credentials.now = lambda: NOON + timedelta(seconds=3580)
    bearer(credentials)
    assert len(server.calls) == 2, "a token that is about to expire is not used"
    other = OAuthCredentials(
        setup_of(token_url=credentials.setup.token_url, scope="more"),
        credentials.store,
        credentials.connection,
        ALLOWED,
        credentials.logger,
    )
    bearer(other)
    assert len(server.calls) == 3, "a token of another setup is not used"
    assert "canary" not in caplog.text


def test_a_token_that_names_no_end_is_kept() -> None:
    token = token_of(b'{"access_token": "t", "token_type": "bearer"}', setup_of(), NOON)
    assert token.is_fresh(NOON + timedelta(days=999))


def test_fresh_credentials_are_taken_once(start_server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = start_server(lambda call: GIVEN)
    credentials = credentials_at(server)
    assert credentials.renew()
    assert not credentials.renew()
    assert len(server.calls) == 1
    assert "Refreshing OAuth access token due to error (HTTP: '401')." in caplog.text


@pytest.mark.parametrize(
    ("reply", "error", "retryable", "says"),
    [
        (Reply(b'{"error": "invalid_client"}', 401), CredentialsRefused, False, "CRL-290200"),
        (Reply(b'{"error": "invalid_scope"}', 400), CredentialsRefused, False, "the partner says: invalid_scope"),
        (Reply(b'{"error": "invalid_client"}'), CredentialsRefused, False, "CRL-290200"),
        (Reply(b"{}", 503), TokenNotFetched, True, "HTTP - 503"),
        (Reply(b"{}", 404), TokenNotFetched, False, "HTTP - 404"),
        (Reply(b"{}"), TokenNotFetched, False, "no access token"),
        (Reply(b"[]"), TokenNotFetched, False, "WKF-560283"),
        (Reply(b'{"access_token": "canary-t", "token_type": "mac"}'), TokenNotFetched, False, "not a bearer token"),
        (Reply(b'{"access_token": "canary-t", "expires_in": "soon"}'), TokenNotFetched, False, "not a token"),
        (Reply(b'{"access_token": "canary-t", "expires_in": 1e400}'), TokenNotFetched, False, "not a token"),
        (Reply(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), TokenNotFetched, False, "not a token"),
        (Reply(b"{}", sends_all=False), AuthorizationServerUnreachable, True, "CRL-290199"),
    ],
)
def test_a_server_that_gives_no_token_is_told_apart(
    start_server: StartServer, reply: Reply, error: type[ApiError], retryable: bool, says: str
) -> None:
    with pytest.raises(error, match=says) as failed:
        credentials_at(start_server(lambda call: reply)).headers()
    assert failed.value.retryable is retryable
    assert "canary" not in str(failed.value)


@pytest.mark.parametrize(
    ("url", "error"),
    [("http://login.example/token", UrlNotSecure), ("https://10.0.0.1/token", HostNotAllowed)],
)
def test_the_authorization_server_is_under_the_same_rules(url: str, error: type[ApiError]) -> None:
    credentials = OAuthCredentials(
        setup_of(token_url=url), Memory(), Connection(), ALLOWED, logging.getLogger("test.credentials")
    )
    with pytest.raises(error):
        credentials.headers()


def test_a_header_that_the_activity_sets_itself_is_left_out_with_a_warning(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(lambda call: GIVEN)
    headers = {"X-Tenant": SecretStr("ours"), "Host": SecretStr("canary"), "Authorization": SecretStr("canary")}
    bearer(credentials_at(server, headers=headers))
    (call,) = server.calls
    assert call.headers["x-tenant"] == "ours"
    assert call.headers["authorization"].startswith("Basic ")
    assert "OAuth credential header key is not allowed: 'Host'" in caplog.text
    assert "OAuth credential header key is not allowed: 'Authorization'" in caplog.text
    assert "canary" not in caplog.text
    assert json.dumps(call.headers).count("canary") == 0


@pytest.mark.parametrize("seconds", ["1e300", "99999999999", "9" * 300])
def test_a_token_that_says_it_lasts_for_ages_is_kept_for_a_year(seconds: str) -> None:
    body = f'{{"access_token": "t", "token_type": "Bearer", "expires_in": {seconds}}}'.encode()
    try:
        assert token_of(body, setup_of(), NOON).expires_at == NOON + timedelta(days=366)
    except TokenNotFetched:
        assert seconds != "99999999999", "only what is no time at all is refused"


def asked(call: Call) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(call.body.decode()).items()}


def test_further_parameters_a_request_in_json_and_another_word_before_the_token(start_server: StartServer) -> None:
    answer = Reply(b'{"access_token": "t", "token_type": "custom", "expires_in": 3600}')
    server = start_server(lambda call: answer)
    more = {"parameters": {"resource": SecretStr("https://api.example")}, "token_type": "Token"}
    credentials = credentials_at(server, encoding="json", client_authentication="body", **more)
    assert bearer(credentials) == "Token t"
    assert server.calls[0].headers["content-type"] == "application/json"
    assert json.loads(server.calls[0].body) == {
        "grant_type": "client_credentials",
        "resource": "https://api.example",
        "client_id": "campaign flows",
        "client_secret": SECRET,
    }
    with pytest.raises(TokenNotFetched, match="name its type in token_type"):
        bearer(credentials_at(server))


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(b'{"error": "invalid_scope", "error_description": "No such scope"}'), CredentialsRefused),
        (Reply(b'{"error": "invalid_scope", "error_description": "No such scope"}', 400), CredentialsRefused),
        (Reply(b'{"error": "invalid_scope", "error_description": "No such scope"}', 503), TokenNotFetched),
    ],
)
def test_the_server_s_error_code_is_shown(start_server: StartServer, reply: Reply, error: type[ApiError]) -> None:
    with pytest.raises(error, match="invalid_scope: No such scope"):
        bearer(credentials_at(start_server(lambda call: reply)))


def test_a_refresh_token_is_replaced_by_the_one_that_the_server_gives(start_server: StartServer) -> None:
    given = iter([b'"refresh_token": "second", ', b"", b'"refresh_token": "third", '])

    def respond(call: Call) -> Reply:
        return Reply(b'{%b"access_token": "t", "token_type": "bearer", "expires_in": 3600}' % next(given))

    server = start_server(respond)
    credentials = credentials_at(
        server, grant="refresh_token", refresh_token=SecretStr("first"), client_secret=SecretStr("")
    )
    for _ in range(3):
        credentials.fetch()
    assert [asked(call)["refresh_token"] for call in server.calls] == ["first", "second", "second"]
    assert asked(server.calls[0])["client_id"] == "campaign flows"
    (kept,) = credentials.store.kept.values()
    assert kept.refresh_token.get_secret_value() == "third"


def test_runs_at_one_moment_use_a_refresh_token_once(start_server: StartServer) -> None:
    good = ["first"]

    def respond(call: Call) -> Reply:
        if asked(call)["refresh_token"] != good[-1]:
            return Reply(b'{"error": "invalid_grant"}', 400)
        good.append(f"next-{len(good)}")
        given = b'{"access_token": "t%d", "refresh_token": "%b", "token_type": "bearer", "expires_in": 3600}'
        return Reply(given % (len(good), good[-1].encode()), wait_seconds=0.2)

    first = credentials_at(
        start_server(respond), grant="refresh_token", refresh_token=SecretStr("first"), client_secret=SecretStr("")
    )
    runs = [replace(first) for _ in range(6)]
    with ThreadPoolExecutor(len(runs)) as pool:
        assert set(pool.map(bearer, runs)) == {"Bearer t2"}
        # All were refused with that token at one moment: one asks for the next.
        assert all(pool.map(OAuthCredentials.renew, runs))
        assert set(pool.map(bearer, runs)) == {"Bearer t3"}
    assert good == ["first", "next-1", "next-2"]


def test_an_assertion_is_signed_with_the_private_key(start_server: StartServer) -> None:
    server = start_server(lambda call: GIVEN)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    options = {"grant": "jwt_bearer", "client_secret": SecretStr(""), "audience": "https://login.example"}
    pem = SecretStr(key.private_bytes(*form).decode())
    credentials = credentials_at(server, private_key=pem, key_id="k1", claims={"sub": "me"}, **options)
    assert bearer(credentials) == "Bearer canary-token"
    sent = asked(server.calls[0])
    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    claims = jwt.decode(sent["assertion"], key.public_key(), ["RS256"], audience="https://login.example")
    assert (claims["iss"], claims["sub"]) == ("campaign flows", "me")
    assert jwt.get_unverified_header(sent["assertion"])["kid"] == "k1"
    with pytest.raises(OAuthSetupInvalid, match="cannot sign with RS256") as refused:
        bearer(credentials_at(server, private_key=SecretStr("canary-key"), **options))
    assert "canary" not in str(refused.value)


def test_a_client_certificate_says_who_calls(tmp_path: Path) -> None:
    """Partner and token server of one kind: both refuse who has no certificate of the authority."""
    authority, ours = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ours.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours.issue_cert("campaigns.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(GIVEN.body)))
            self.end_headers()
            self.wfile.write(GIVEN.body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            known = Server(f"https://localhost:{server.server_port}", tmp_path / "ca.pem")
            credentials = credentials_at(known, client_secret=SecretStr(""), has_certificate=True)
            with pytest.raises(AuthorizationServerUnreachable):
                bearer(credentials)
            credentials.connection = Connection(ca_file=known.ca_file, client_certificate=tmp_path / "me.pem")
            assert bearer(credentials) == "Bearer canary-token"
            partner = Connection(ca_file=known.ca_file, client_certificate=tmp_path / "me.pem")
            request = PartnerRequest("POST", f"{known.address}/rows", b"{}")
            assert send_one(request, partner, ALLOWED).status == 200
            with pytest.raises(SourceUnreadable, match="client certificate"):
                send_one(request, Connection(client_certificate=tmp_path / "ca.pem"), ALLOWED)
        finally:
            server.shutdown()
