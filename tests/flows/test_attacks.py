"""What an author, a partner or a profile might try, through a flow run with parameters; each with its sentence.

SECURITY.md says who may do what. A row: what is asked for, and the words that refuse it. Nothing is delivered.
"""

import os
import re
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.exceptions import ParameterTypeError

from flows.campaign import campaign
from tasks.errors import CampaignError

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 24)
CANARY = "c4n4ry"

Changed = dict[str, Any]

ROOTS = r"the operator can give another root in CAMPAIGN_ROOTS__(TEMPLATES|PROFILES)"
SENDERS = "may not send from '.*ask the operator to name the address or its domain in CAMPAIGN_SENDERS"


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
