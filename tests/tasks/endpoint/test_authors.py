from pathlib import Path
from typing import Any

import pytest

from tasks.endpoint.authors import described_by_author
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import ApiError, EndpointNotAllowed
from tasks.settings import Settings

URL = "https://partner.example/api"
SETTINGS = Settings(
    _env_file=None, network={"author_hosts": ["partner.example"], "author_columns": ["zip_code", "email"]}
)
AUTHORITIES = [Path("partner/ca.pem")]


def test_nothing_is_allowed_by_default() -> None:
    with pytest.raises(EndpointNotAllowed, match="CAMPAIGN_NETWORK__AUTHOR_HOSTS"):
        described_by_author(Endpoint(name="x", url=URL), Settings(_env_file=None), ca_files=AUTHORITIES, made=[])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inbound": {"columns": {"zip_code": "zip"}, "max_rows": 10}},
        {"timeout_seconds": 5, "max_response_bytes": 100, "retries": 0},
        {"pagination": {"kind": "page", "max_pages": 3}},
        {"account": "header-account/x"},
        {"ca_file": "partner/../partner/ca.pem"},
    ],
)
def test_an_author_s_endpoint_may_call_the_hosts_for_it_and_lower_limits(options: dict[str, Any]) -> None:
    described_by_author(Endpoint(name="x", url=URL, **options), SETTINGS, ca_files=AUTHORITIES, made=["phone"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "https://elsewhere.example/"}, "calls 'elsewhere.example'"),
        ({"url": "https://partner.example.evil.example/"}, "calls 'partner.example.evil.example'"),
        ({"url": "http://partner.example/"}, "secure URL"),
        ({"inbound": {"allow_profile_level": True}}, "allow_profile_level"),
        ({"inbound": {"profile_keys": []}}, "leaves 'profile_id', 'email' out"),
        ({"inbound": {"profile_keys": ["email"]}}, "leaves 'profile_id' out"),
        ({"inbound": {"columns": {"phone": "p"}}}, "would be sent 'phone'.*AUTHOR_COLUMNS"),
        ({"inbound": {"columns": {"email": "e"}}}, "would be sent 'email', which tells profiles apart"),
        ({"ca_file": "/etc/passwd"}, "names the ca_file '/etc/passwd', which no endpoint of the settings has"),
        ({"client_certificate": "/etc/me.pem"}, "names a client certificate"),
        ({"limit_wait_seconds": 10**6}, "raises the limit limit_wait_seconds"),
        ({"inbound": {"max_rows": 1_000_000}}, "raises the limit inbound.max_rows to 1000000"),
        ({"max_response_bytes": 10**9}, "raises the limit max_response_bytes"),
        ({"timeout_seconds": 3600}, "raises the limit timeout_seconds"),
        ({"retries": 50}, "raises the limit retries"),
        ({"outbound": {"limits": {"max_depth": 200}}}, "raises the limit max_depth"),
        ({"pagination": {"kind": "page", "max_pages": 10**6}}, "raises the limit pagination.max_pages"),
        (
            {"inbound": {"columns": {"zip_code": "z"}}, "calls": {"max_calls": 10**6}},
            "raises the limit calls.max_calls",
        ),
    ],
)
def test_what_only_the_operator_may_allow_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ApiError, match=says):
        described_by_author(
            Endpoint(**{"name": "x", "url": URL, **options}), SETTINGS, ca_files=AUTHORITIES, made=[]
        )


def test_a_column_of_an_allowed_name_that_the_author_makes_is_not_sent() -> None:
    endpoint = Endpoint(name="x", url=URL, inbound={"columns": {"zip_code": "zip"}})
    with pytest.raises(EndpointNotAllowed, match="sent 'zip_code', which the parameters make of other columns"):
        described_by_author(endpoint, SETTINGS, ca_files=[], made=["zip_code"])
