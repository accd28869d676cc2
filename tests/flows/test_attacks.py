"""What an author, a partner or a profile might try, through a flow run with parameters; each with its sentence.

SECURITY.md says who may do what. A row: what is asked for, and the words that refuse it. Nothing is delivered.
"""

import json
import os
import re
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from prefect.exceptions import ParameterTypeError

from deployments.sandbox.partner import Partner
from flows.campaign import campaign
from tasks.errors import CampaignError

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 24)
COUPON_SAMPLE = json.loads((ROOT.parent / "shared" / "samples" / "coupons-sample-response.json").read_text())
CANARY = "c4n4ry"

Changed = dict[str, Any]

OF_SETTINGS = r"ask the operator: an endpoint of the settings may do so \(CAMPAIGN_ENDPOINTS\)"
HOSTS = "ask the operator to name the host in CAMPAIGN_NETWORK__AUTHOR_HOSTS"
COLUMNS = "ask the operator to name it in CAMPAIGN_NETWORK__AUTHOR_COLUMNS"
ROOTS = r"the operator can set another root in CAMPAIGN_ROOTS__(TEMPLATES|PROFILES)"
SENDERS = "may not send from '.*ask the operator to name the address or its domain in CAMPAIGN_SENDERS"

MADE = "would be sent 'zip_code', which the parameters make of other columns.*CAMPAIGN_PROFILES"
PUBLIC = "API URL host must not be 'localhost', or IP address literal.*CAMPAIGN_NETWORK__ALLOWED_HOSTS"
SENT = {"params": {}, "columns": {"zip_code": "zipCode"}}


def where(condition: str) -> Changed:
    return {"audience": {"where": condition}}


def text(template: str) -> Changed:
    return {"templates": {"subject": "News", "html": "x", "text": template}}


def mail(**options: str) -> Changed:
    return {"channel": {"kind": "email", **options}}


CONDITIONS: list[tuple[Changed, str]] = [
    (where("email IN (SELECT zz FROM read_csv('secret/c4n4ry'))"), "SELECT is not possible"),
    (where("email = read_text('secret/c4n4ry')"), "the function READ_TEXT is not known"),
    (where("email = getenv('HOME')"), "the function GETENV is not known"),
    (where("LPAD(email, 1500000000, 'x') = 'x'"), "the function LPAD is not known"),
    (where(" OR ".join(["email = 'x'"] * 6000)), "longer than|is not an SQL condition"),
    (where("(" * 5000 + "TRUE" + ")" * 5000), "is not an SQL condition"),
    (where("NOT " * 5000 + "TRUE"), "is not an SQL condition"),
    (where("may_contact; DROP TABLE profiles"), "; is not possible"),
    (where("email = 'x\x00'"), r"'audience\.where' is not usable: it has the character U\+0000"),
    (where("profile_id = " + "9" * 5000), "is not an SQL condition|longer than"),
    ({"audience": {"fields": {"x\n": "email"}}}, r"U\+000A"),
    ({"audience": {"fields": {"x": "(SELECT 1)"}}}, "SELECT is not possible"),
]

NAMES: list[tuple[Changed, str]] = [
    ({"name": "birthday-coupons"}, "'birthday-coupons' belongs to the campaign 'birthday-coupons' in code"),
    ({"name": "../../etc"}, "name"),
    ({"name": "spring\n"}, "name"),
    ({"name": "spring\x00"}, "name"),
    ({"name": "s" * 101}, "name"),
    ({"name": "Ｓpring"}, "name"),
    ({"name": "sprіng"}, "name"),
    ({"label": "Spring\r\nBcc: c4n4ry@x.example"}, r"'label' is not usable: it has the character U\+000D"),
    ({"label": "Spring\u202egnirps"}, r"'label' is not usable: it has the character U\+202E"),
    ({"label": "s" * 201}, "label"),
]

SENDERS_ASKED: list[tuple[Changed, str]] = [
    (mail(sender_address="ceo@bank.com"), SENDERS),
    (mail(sender_address="x@campaign.example.evil.com"), SENDERS),
    (mail(sender_address="x@sub.campaign.example"), SENDERS),
    (mail(sender_address="x@evilcampaign.example"), SENDERS),
    (mail(sender_address="x@cаmpaign.example"), SENDERS),
    (mail(sender_address="x@campaign.example@evil.com"), "sender_address"),
    (mail(reply_to="x@evil.com"), SENDERS),
    ({"channel": {"kind": "outbox", "sender_address": "ceo@bank.com"}}, SENDERS),
    (mail(sender_address="x@campaign.example\r\nBcc: c4n4ry@x.example"), "sender_address"),
    (mail(sender_address="x\x00@campaign.example"), "sender_address"),
    (mail(sender_name="Us\r\nBcc: c4n4ry@x.example"), r"'channel\.sender_name' is not usable.*U\+000D"),
    (mail(sender_name="Us\x00"), r"'channel\.sender_name' is not usable.*U\+0000"),
    (mail(sender_name="Us \u202eknab"), r"'channel\.sender_name' is not usable.*U\+202E"),
    (mail(reply_to="x@campaign.example\nBcc: c4n4ry@x.example"), r"'channel\.reply_to' is not usable.*U\+000A"),
]

OF_THE_OPERATOR: list[tuple[Changed, str]] = [
    (mail(server="evil.example"), "channel"),
    ({"channel": {"kind": "email", "server": {"host": "evil.example"}}}, "channel"),
    ({"channel": {"kind": "outbox", "folder": "/etc/cron.d"}}, "channel"),
    ({"channel": {"kind": "email", "attachments": ["/etc/passwd"]}}, "channel"),
    ({"channel": {"kind": "email", "dkim_key_file": "/etc/passwd"}}, "channel"),
    ({"audience": {"source": {"url": "postgresql://x:c4n4ry@db/x"}}}, "audience"),
    ({"audience": {"source": {"path": "samples/profiles.parquet", "storage_options": {}}}}, "audience"),
    (
        {"contents": [{"name": "x", "endpoint": "coupons", "on": {"zip_code": "zipCode"}, "lines": 10**400}]},
        "lines",
    ),
    ({"templates": {"folder": "roots/mail", "variants": {"!!python/object/apply:os.system": "x"}}}, "templates"),
]

PATHS: list[tuple[Changed, str]] = [
    *(
        ({"templates": template}, ROOTS)
        for template in (
            {"folder": "/etc", "text": "passwd"},
            {"folder": "roots/../../secret"},
            {"folder": "roots/link"},
            {"folder": "roots/mail"},
            {"folder": "roots/mail", "text": "../../../secret/body.txt"},
            {"folder": "roots/mail", "text": "/etc/passwd"},
            {"folder": "roots/pipe"},
            {"folder": "roots/mail", "url": "s3://foreign/templates"},
            {"folder": "/proc/self", "text": "environ"},
            {"folder": "/dev/fd", "text": "0"},
        )
    ),
    *(
        ({"audience": {"source": {"path": path}}}, ROOTS)
        for path in (
            "/etc/passwd",
            "samples/link/profiles.csv",
            "samples/../../secret/*.csv",
            "samples/link",
            "samples/l*/profiles.csv",
            "samples/pipe.csv",
            "/dev/zero",
            "/proc/self/environ",
            "file:///etc/passwd",
            "s3://foreign/profiles.parquet",
            "https://169.254.169.254/latest/meta-data.csv",
            "hf://datasets/x/y.csv",
            "\\\\server\\share\\profiles.csv",
            "samples%2f..%2f..%2fsecret/profiles.csv",
            "~/profiles.csv",
        )
    ),
    ({"audience": {"source": {"path": "samples/profiles.csv\x00.parquet"}}}, r"audience\.source\.path.*U\+0000"),
    ({"templates": {"folder": "roots/mail\n"}}, r"templates\.folder.*U\+000A"),
]


ENDPOINTS: list[tuple[Changed, Changed, str]] = [
    ({"url": "https://evil.example/collect"}, {}, f"calls 'evil.example', which is not among .*{HOSTS}"),
    ({"url": "https://localhost.evil.example/"}, {}, f"calls 'localhost.evil.example'.*{HOSTS}"),
    ({"url": "https://evil.example/", "account": "header-account/coupon-system"}, {}, HOSTS),
    ({"inbound": {**SENT, "allow_profile_level": True}}, {}, f"allows profile-level data.*{OF_SETTINGS}"),
    (
        {"inbound": {**SENT, "profile_keys": []}},
        {},
        f"leaves 'profile_id', 'email' out of the profile.*{OF_SETTINGS}",
    ),
    ({"inbound": {"columns": {"email": "e"}}}, {}, f"would be sent 'email', which tells profiles.*{OF_SETTINGS}"),
    ({"inbound": {"columns": {"birth_date": "b"}}}, {}, f"would be sent 'birth_date' of the audience.*{COLUMNS}"),
    ({}, {"audience": {"fields": {"zip_code": "email"}}}, MADE),
    ({}, {"audience": {"source": {"path": "samples/profiles.parquet", "columns": {"zip_code": "email"}}}}, MADE),
    ({"inbound": {**SENT, "max_rows": 10**6}}, {}, f"raises the limit inbound.max_rows to 1000000.*{OF_SETTINGS}"),
    ({"max_response_bytes": 10**9}, {}, f"raises the limit max_response_bytes.*{OF_SETTINGS}"),
    ({"timeout_seconds": 3600}, {}, f"raises the limit timeout_seconds.*{OF_SETTINGS}"),
    ({"timeout_seconds": 10**300}, {}, f"raises the limit timeout_seconds.*{OF_SETTINGS}"),
    ({"limit_wait_seconds": 10**6}, {}, f"raises the limit limit_wait_seconds.*{OF_SETTINGS}"),
    ({"calls": {"per": "key", "max_calls": 10**6}}, {}, f"raises the limit calls.max_calls.*{OF_SETTINGS}"),
    ({"ca_file": "/etc/passwd"}, {}, f"the ca_file '/etc/passwd', which no endpoint of the .*{OF_SETTINGS}"),
    ({"ca_file": "samples/own.pem"}, {}, f"the ca_file 'samples/own.pem', which no endpoint .*{OF_SETTINGS}"),
    ({"url": "http://partner.example/"}, {}, "must be a secure URL"),
    ({"url": "file:///etc/passwd"}, {}, "could not be parsed|must be a secure URL"),
    ({"url": "gopher://partner.example/"}, {}, "must be a secure URL"),
    ({"url": "//partner.example/share"}, {}, "could not be parsed"),
    ({"url": "\\\\partner.example\\share"}, {}, "could not be parsed"),
    ({"url": "https://user:c4n4ry@partner.example/"}, {}, "carries a user name or password"),
    ({"url": "https://127.0.0.1/"}, {}, PUBLIC),
    ({"url": "https://2130706433/"}, {}, PUBLIC),
    ({"url": "https://0x7f.1/"}, {}, PUBLIC),
    ({"url": "https://0177.0.0.1/"}, {}, PUBLIC),
    ({"url": "https://[::1]/"}, {}, PUBLIC),
    ({"url": "https://[::ffff:169.254.169.254]/"}, {}, PUBLIC),
    ({"url": "https://[fe80::1%25eth0]/"}, {}, PUBLIC),
    ({"url": "https://[fd00:ec2::254]/"}, {}, PUBLIC),
    ({"url": "https://１２７.0.0.1/"}, {}, "could not be parsed"),
    ({"url": "https://evil.example\\@localhost/"}, {}, "could not be parsed|which is not among"),
    ({"url": "https://partner.example/\r\nX: y"}, {}, r"U\+000D"),
    ({"url": "https://evil.example#@localhost/"}, {}, f"calls 'evil.example'.*{HOSTS}"),
    ({"headers": {"X-Key": CANARY}}, {}, "headers"),
    ({"name": "x\ny"}, {}, r"U\+000A|name"),
    ({"account": "header-account/../other"}, {}, "account"),
    ({"inbound": {**SENT, "query": {"a\r\nb": "c"}}}, {}, r"U\+000D"),
]


def shown(row: tuple[Any, ...]) -> str:
    return ascii(row[:-1])[1:90]


def outside(tmp_path: Path, in_folder: Path) -> None:
    """What an attack would like to read, and links that lead there from under the roots."""
    (tmp_path / "secret").mkdir()
    for name in ("subject.txt", "body.html", "body.txt"):
        (tmp_path / "secret" / name).write_text(CANARY)
    (tmp_path / "secret" / "profiles.csv").write_text(
        f"profile_id,email,birth_date,zip_code,may_contact\n1,{CANARY}@x.example,,,true\n"
    )
    for root in ("roots", "samples"):
        (in_folder / root).mkdir(exist_ok=True)
        (in_folder / root / "link").symlink_to(tmp_path / "secret")
    (in_folder / "roots" / "mail").mkdir()
    for name in ("subject.txt", "body.html"):
        (in_folder / "roots" / "mail" / name).write_text("News")
    (in_folder / "roots" / "mail" / "body.txt").symlink_to(tmp_path / "secret" / "body.txt")
    (in_folder / "roots" / "pipe").mkdir()
    os.mkfifo(in_folder / "roots" / "pipe" / "subject.txt")
    os.mkfifo(in_folder / "samples" / "pipe.csv")


@pytest.fixture
def attack(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    tmp_path: Path,
    result_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., str]:
    """Runs the form with what an author asks for; gives the sentence that refuses it."""
    sample_profiles.head(20).write_parquet("samples/profiles.parquet")
    outside(tmp_path, in_folder)
    monkeypatch.setenv("CAMPAIGN_ROOTS__TEMPLATES", "roots")

    def run(**asked: Any) -> str:
        begun = time.monotonic()
        with pytest.raises((CampaignError, ParameterTypeError)) as refused:
            campaign(**{"name": "attack", "business_date": DAY, **asked})
        assert time.monotonic() - begun < 60, "it was refused, and only after a long time"
        assert not (in_folder / "outbox").exists()
        sentence = str(refused.value)
        assert not isinstance(refused.value, CampaignError) or "\n" not in sentence
        return sentence

    return run


REFUSED = (*CONDITIONS, *NAMES, *SENDERS_ASKED, *OF_THE_OPERATOR, *PATHS)


@pytest.mark.parametrize(("asked", "says"), REFUSED, ids=map(shown, REFUSED))
def test_what_parameters_may_not_ask_for_is_refused_in_a_sentence(
    attack: Callable[..., str], asked: Changed, says: str
) -> None:
    assert re.search(says, attack(**asked), re.DOTALL), says


@pytest.mark.parametrize(("described", "others", "says"), ENDPOINTS, ids=map(shown, ENDPOINTS))
def test_an_endpoint_of_parameters_does_only_what_the_operator_allows(
    attack: Callable[..., str],
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    monkeypatch: pytest.MonkeyPatch,
    described: Changed,
    others: Changed,
    says: str,
) -> None:
    partner = start_partner()
    use_partner(partner)
    monkeypatch.setenv("CAMPAIGN_NETWORK__AUTHOR_HOSTS", json.dumps([httpx.URL(partner.url).host]))
    monkeypatch.setenv("CAMPAIGN_NETWORK__AUTHOR_COLUMNS", '["zip_code"]')
    endpoint = {
        "name": "coupons",
        "url": partner.url,
        "ca_file": str(partner.ca_file),
        "inbound": {"columns": {"zip_code": "zipCode"}},
        "outbound": {"sample": COUPON_SAMPLE},
        **described,
    }
    content = {"name": "coupons", "endpoint": endpoint, "on": {"zip_code": "zipCode"}}
    sentence = attack(contents=[content], **others)
    assert re.search(says, sentence, re.DOTALL), sentence
    assert not partner.requests
