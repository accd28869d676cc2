import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from pydantic import SecretStr

from tasks.errors import AccountNotForHost, OAuthSetupInvalid
from tasks.http.accounts import BasicAccount, HeaderAccount, KeptTokens, OAuth2Account, credentials_of
from tasks.http.credentials import NO_CREDENTIALS, LentCredentials
from tasks.http.oauth import Token

LOGGER = logging.getLogger("test.accounts")
ROOT = Path(__file__).parents[3]


def test_the_kinds_of_account_can_be_made_in_the_prefect_ui(prefect_backend: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "prefect", "block", "register", "-m", "tasks.http.accounts"],
        env={**os.environ, "PREFECT_API_URL": prefect_backend, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    with get_client(sync_client=True) as client:
        kinds = {kind.slug: kind for kind in client.read_block_types()}
        for account in (BasicAccount, HeaderAccount, OAuth2Account):
            kind = kinds[account.get_block_type_slug()]
            schema = client.read_block_schema_by_checksum(account._calculate_schema_checksum())
            assert kind.description
            for name, shown in schema.fields["properties"].items():
                assert shown["title"], name
                assert shown["description"], name
            secrets = schema.fields["secret_fields"]
            assert any("password" in name or "secret" in name for name in secrets), secrets


def test_a_saved_account_keeps_its_secret_from_who_may_not_see_it(prefect_backend: str) -> None:
    OAuth2Account(client_id="us", client_secret=SecretStr("canary"), headers={"X-A": "canary"}).save("kept")
    with get_client(sync_client=True) as client:
        document = client.read_block_document_by_name("kept", "oauth2-account", include_secrets=False)
    assert "canary" not in document.model_dump_json()
    loaded = OAuth2Account.load("kept")
    assert loaded.credentials("kept", frozenset(), LOGGER).setup.headers["X-A"].get_secret_value() == "canary"
    assert loaded.client_secret.get_secret_value() == "canary"
    assert "canary" not in repr(loaded)


def test_a_token_is_kept_for_the_setup_that_it_was_fetched_with(prefect_backend: str) -> None:
    store = KeptTokens("partner-token")
    assert store.read("setup") is None
    ends = datetime(2026, 11, 24, 12, tzinfo=UTC)
    store.write("setup", Token(SecretStr("canary"), ends))
    assert store.read("setup") == Token(SecretStr("canary"), ends)
    assert store.read("another setup") is None
    store.write("setup", Token(SecretStr("newer"), None))
    assert store.read("setup") == Token(SecretStr("newer"), None)
    with get_client(sync_client=True) as client:
        shown = client.read_block_document_by_name("partner-token", "access-token", include_secrets=False)
    assert "newer" not in shown.model_dump_json()


def test_no_account_is_no_credentials(prefect_backend: str) -> None:
    assert credentials_of("", frozenset(), LOGGER) is NO_CREDENTIALS


def test_a_user_name_that_cannot_be_is_told(prefect_backend: str) -> None:
    BasicAccount(user="a:b").save("colon", overwrite=True)
    with pytest.raises(OAuthSetupInvalid, match="WKF-560278"):
        credentials_of("basic-account/colon", frozenset(), LOGGER)
    assert isinstance(Block.load("basic-account/colon"), BasicAccount)


@pytest.mark.parametrize(
    ("place", "url", "lent"),
    [
        ("api.example.com", "https://api.example.com/x", True),
        ("API.example.com.", "https://api.example.com:8443/x", True),
        ("https://api.example.com/", "https://api.example.com/", True),
        ("api.example.com:443", "https://api.example.com/x", True),
        ("api.example.com:443", "https://api.example.com:8443/x", False),
        ("api.example.com", "https://xapi.example.com/", False),
        ("api.example.com", "https://api.example.com.evil.example/", False),
        ("api.example.com/v1", "https://api.example.com/v1", True),
        ("api.example.com/v1/", "https://api.example.com/v1/codes?x=1", True),
        ("api.example.com/v1", "https://api.example.com/v10", False),
        ("api.example.com/v1", "https://api.example.com/v1/../admin", False),
        ("api.example.com/v1", "https://api.example.com/v1/%2e%2e/admin", False),
        ("api.example.com/v1", "https://api.example.com/v1/..%2fadmin", False),
        ("[2001:db8::1]", "https://[2001:db8::1]/", True),
        ("", "https://api.example.com/", False),
    ],
)
def test_an_account_is_for_its_hosts_and_paths(place: str, url: str, lent: bool) -> None:
    credentials = LentCredentials(NO_CREDENTIALS, "header-account/x", (place,))
    if lent:
        credentials.check(url)
    else:
        with pytest.raises(AccountNotForHost):
            credentials.check(url)
