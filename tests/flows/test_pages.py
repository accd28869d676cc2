"""Mails and pages in a real browser: they fit a phone, and show what was delivered, ordinary people first."""

import mailbox
from collections.abc import Callable
from datetime import date
from email import policy
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deployments.sandbox.partner import Partner
from flows.birthday_coupons import birthday_coupons
from tests.browser import browser_page
from tests.flows.test_any_size import CAMPAIGNS, SPORTS_WEEKEND, people

__all__ = ["people"]

DAY = date(2026, 11, 24)
PHONE = {"width": 375, "height": 700}
SHIPPED = {name: one for name, one in CAMPAIGNS.items() if name != "the form"}
AS_CODE = "Names that look like code"

pytestmark = pytest.mark.slow


def width_of(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


@pytest.mark.parametrize(("flow", "parameters", "name"), SHIPPED.values(), ids=SHIPPED)
def test_every_mail_and_its_page_fit_a_phone(
    flow: Callable[..., Any],
    parameters: dict[str, Any],
    name: str,
    people: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
) -> None:
    assert SPORTS_WEEKEND
    if flow is not birthday_coupons:
        people.head(120).write_parquet(in_folder / "samples" / "profiles.parquet")
    flow(business_date=DAY, **parameters)
    folder = in_folder / "outbox" / name / DAY.isoformat()
    box = mailbox.Maildir(folder / "maildir", factory=lambda file: BytesParser(policy=policy.default).parse(file))
    mails = [message.get_body(("html",)).get_content() for message in box]
    assert len(mails) > 4
    with browser_page() as page:
        page.set_viewport_size(PHONE)
        widths = []
        for mail in mails[:40]:
            page.set_content(mail)
            widths.append(width_of(page))
        assert max(widths) <= PHONE["width"]
        page.goto((folder / "preview.html").as_uri())
        assert width_of(page) <= PHONE["width"]


def test_the_page_shows_what_was_delivered_and_names_like_code_last(
    people: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    use_partner: Callable[[Partner], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = ["<b>Bold</b>", "Ada", "Jean & Marie", "A&amp;B", "Noor"]
    rows = people.filter(pl.col("birth_date").dt.strftime("%m-%d") == "11-24")
    rows = (
        rows.head(1)
        .select(pl.exclude("first_name", "profile_id"))
        .join(
            pl.DataFrame({"profile_id": [f"Q{place}" for place in range(len(named))], "first_name": named}),
            how="cross",
        )
    )
    rows = rows.with_columns(
        email=pl.format("{}@profiles.example", "profile_id"), zip_code=pl.lit("95124"), may_contact=pl.lit(True)
    )
    rows.select(people.columns).write_parquet(in_folder / "samples" / "profiles.parquet")
    first = birthday_coupons(business_date=DAY)
    later = in_folder / "later"
    (later).mkdir()
    for part, text in {"subject.txt": "Another subject", "body.html": "<p>Another</p>", "body.txt": "x"}.items():
        (later / part).write_text(text)
    monkeypatch.setenv("CAMPAIGN_TEMPLATES__FOLDER", str(later))
    again = birthday_coupons(business_date=DAY)
    assert (first.delivered, again.delivered, again.delivered_before) == (first.delivered, 0, first.delivered)
    with browser_page() as page:
        page.goto((in_folder / "outbox" / "birthday-coupons" / DAY.isoformat() / "preview.html").as_uri())
        shown = page.locator("article h2, h2.apart").all_inner_texts()
    before, apart = shown[: shown.index(AS_CODE)], shown[shown.index(AS_CODE) + 1 :]
    assert ["Another subject" in one for one in shown] == [False] * len(shown)
    assert [any(name in one for one in before) for name in ("Ada", "Jean & Marie", "Noor")] == [True] * 3
    assert [any(name in one for one in apart) for name in ("<b>Bold</b>", "A&amp;B")] == [True] * 2
