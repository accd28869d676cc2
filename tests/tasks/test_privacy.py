"""Where a password may go, by the settings that an operator writes."""

import pytest

from flows.settings import CampaignSettings
from tasks.delivery.journal.storage import open_journal
from tasks.errors import CampaignError, UrlNotSecure
from tasks.files.remote.place import check_endpoint
from tasks.settings import JournalSettings
from tasks.sources.sql import Database

FAR = "a password would go to 'far.partner.net' over a connection that is not encrypted"
POSTGRESQL = [
    ("postgresql://me:c4n4ry@far.partner.net/x", False),
    ("postgresql://me:c4n4ry@far.partner.net/x?sslmode=prefer", False),
    ("postgresql://me:c4n4ry@far.partner.net/x?sslmode=disable", False),
    ("postgresql://me@far.partner.net/x?password=c4n4ry", False),
    ("postgresql://me:c4n4ry@/x?host=far.partner.net", False),
    ("postgresql://me:c4n4ry@localhost/x?host=far.partner.net", False),
    ("postgresql://me:c4n4ry@far.partner.net/x?sslmode=require", True),
    ("postgresql://me:c4n4ry@far.partner.net/x?sslmode=verify-full", True),
    ("postgresql://me:c4n4ry@127.0.0.1/x", True),
    ("postgresql://me:c4n4ry@/x?host=/var/run/postgresql", True),
    ("postgresql://me@far.partner.net/x", True),
]


@pytest.mark.parametrize(("url", "is_allowed"), POSTGRESQL)
def test_a_password_of_postgresql_goes_elsewhere_encrypted_only(url: str, is_allowed: bool) -> None:
    if is_allowed:
        assert Database(url=url).kind == "postgresql"
        return
    for use in (lambda: Database(url=url), lambda: open_journal(JournalSettings(url=url, patience_seconds=0))):
        with pytest.raises(CampaignError, match=FAR) as refused:
            use()
        assert "sslmode=verify-full" in str(refused.value)
        assert "c4n4ry" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "security", "username", "is_allowed"),
    [
        ("far.partner.net", "none", "me", False),
        ("far.partner.net", "none", "", True),
        ("far.partner.net", "starttls", "me", True),
        ("127.0.0.1", "none", "me", True),
        ("[::1]", "none", "me", True),
        ("localhost.evil.net", "none", "me", False),
        ("127.0.0.1.evil.net", "none", "me", False),
    ],
)
def test_a_password_of_a_mail_server_goes_elsewhere_encrypted_only(
    monkeypatch: pytest.MonkeyPatch, host: str, security: str, username: str, is_allowed: bool
) -> None:
    server = {"HOST": host, "SECURITY": security, "USERNAME": username, "PASSWORD": "c4n4ry"}
    for name, value in server.items():
        monkeypatch.setenv(f"CAMPAIGN_EMAIL__SERVER__{name}", value)
    if is_allowed:
        assert CampaignSettings.load().email.server.host == host
        return
    with pytest.raises(
        CampaignError, match=r"CAMPAIGN_EMAIL__SERVER.* would go to .*choose the security"
    ) as refused:
        CampaignSettings.load()
    assert "c4n4ry" not in str(refused.value)


def test_an_object_store_elsewhere_is_reached_by_https_even_where_its_host_is_allowed() -> None:
    check_endpoint("http://127.0.0.1:9000", ["127.0.0.1"])
    with pytest.raises(UrlNotSecure):
        check_endpoint("http://store.partner.net", ["store.partner.net"])
