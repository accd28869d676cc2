import base64
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr

from deployments.sandbox.server import Call, Reply, Server
from tasks.errors import (
    ApiError,
    AuthorizationServerUnreachable,
    CredentialsRefused,
    HostNotAllowed,
    OAuthSetupInvalid,
    TokenNotFetched,
    UrlNotSecure,
)
from tasks.http.credentials import basic
from tasks.http.exchange import Connection
from tasks.http.oauth import OAuthCredentials, OAuthSetup, Token, token_of, token_request

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
