"""The unsubscribe page as mail programs, people and others use it: on a real socket, over a real journal."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import httpx
import pytest

from deployments.unsubscribe.limits import PageLimits
from tasks.delivery.journal.storage import open_journal
from tasks.messages.unsubscribe import unsubscribe_link
from tasks.send import Send
from tasks.settings import JournalSettings, UnsubscribeSettings
from tests.browser import browser_page
from tests.deployments.unsubscribe_server import running_page
from tests.journal import suppressed

SECRET = "a secret of the tests"
SEND = Send(campaign="newsletter", label="Newsletter", business_date=date(2026, 11, 24))
CLICK = {"List-Unsubscribe": "One-Click"}
HTTP = httpx.Client(verify=False, timeout=600)
"""There is no TLS: reading all authorities for every call would take longer than the call."""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def page(journal_settings: JournalSettings) -> Iterator[str]:
    with running_page(SECRET, journal_settings) as address:
        yield f"{address}/unsubscribe"


@pytest.fixture
def opted_out(journal_settings: JournalSettings) -> Callable[[], list[str]]:
    """Profiles that the next claim leaves out."""

    def read() -> list[str]:
        with closing(open_journal(journal_settings)) as journal:
            held = journal.suppressions.entries(holding=True)
            assert set(held["kind"]) <= {"opt-out"}
            return sorted(held["profile_id"])

    return read


def link(page: str, profile: str = "p1", secret: str = SECRET) -> str:
    local = page if page.startswith("http") else f"http://localhost:1{page}"
    made = unsubscribe_link(UnsubscribeSettings(url=local, secret=secret), SEND, profile)
    return page + made.removeprefix(local)


def test_only_the_post_changes_anything(page: str, opted_out: Callable[[], list[str]]) -> None:
    address = link(page)
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        HTTP.request(method, address)
    assert HTTP.get(address).status_code == 200
    for body in ({}, {"List-Unsubscribe": "Two-Clicks"}, {"one": "click"}):
        assert HTTP.post(address, data=body).status_code == 400
    assert opted_out() == []
    assert HTTP.post(address, data=CLICK).status_code == 200
    assert opted_out() == ["p1"]


BODIES = {
    "urlencoded": {"data": CLICK},
    "multipart": {"files": {"List-Unsubscribe": (None, "One-Click")}},
    "with other fields": {"data": {**CLICK, "x": "y"}},
    "by hand": {"content": b"List-Unsubscribe=One-Click", "headers": FORM},
}


@pytest.mark.parametrize("body", BODIES)
def test_mail_programs_post_in_either_form(page: str, opted_out: Callable[[], list[str]], body: str) -> None:
    assert HTTP.post(link(page), **BODIES[body]).status_code == 200
    assert opted_out() == ["p1"]


def test_a_person_presses_the_button(page: str, opted_out: Callable[[], list[str]]) -> None:
    with browser_page() as browser:
        browser.goto(link(page, "ümlaut/7 & co"))
        browser.get_by_role("heading", name="Unsubscribe").wait_for()
        assert opted_out() == []
        browser.get_by_role("button", name="Unsubscribe").click()
        browser.get_by_role("heading", name="You are unsubscribed").wait_for()
    assert opted_out() == ["ümlaut/7 & co"]


def test_the_answer_is_alike_for_known_and_unknown_and_the_second_time(
    page: str, journal_settings: JournalSettings
) -> None:
    with closing(open_journal(journal_settings)) as journal:
        key = SEND.message_key("email", "known")
        journal.claim(SEND, "email", {key: "known"})
    answers = [HTTP.post(link(page, profile), data=CLICK) for profile in ("known", "unknown", "known")]
    seen = [(one.status_code, one.content, {**one.headers, "date": ""}) for one in answers]
    assert seen[0] == seen[1] == seen[2]
    with closing(open_journal(journal_settings)) as journal:
        (event,) = journal.outcomes.entries(SEND).iter_rows(named=True)
    assert (event["profile_id"], event["kind"], event["source"]) == ("known", "unsubscribed", "one-click")


def changed(address: str) -> list[str]:
    return [
        address.replace("p=p1", "p=p2"),
        address.replace("c=newsletter", "c=other"),
        address[:-1],
        f"{address}&p=p2",
        address.partition("&s=")[0],
        address.partition("?")[0],
        f"{address}&" + "&".join(f"x{n}=1" for n in range(50)),
        address + "x" * 5_000,
        address.replace("p=p1", "p=%00%ff"),
    ]


def test_a_link_that_we_did_not_sign_changes_nothing(page: str, opted_out: Callable[[], list[str]]) -> None:
    for address in [*changed(link(page)), link(page, secret="another secret...")]:
        assert HTTP.get(address).status_code == 400
        answer = HTTP.post(address, data=CLICK)
        assert answer.status_code == 400, address
        assert "does not work" in answer.text
    assert opted_out() == []


def test_the_page_lets_nobody_look_on(page: str) -> None:
    headers = HTTP.get(link(page)).headers
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "server" not in {name for name in headers if headers[name].startswith("starlette")}
    assert "p1" not in HTTP.get(link(page)).text


def test_a_large_body_is_not_read(page: str, opted_out: Callable[[], list[str]]) -> None:
    body = b"List-Unsubscribe=One-Click&x=" + b"x" * 20_000
    assert HTTP.post(link(page), content=body, headers=FORM).status_code == 413
    assert opted_out() == []


def test_limits_of_rate_hold_and_do_not_hold_up_other_peoples_clicks(
    journal_settings: JournalSettings, opted_out: Callable[[], list[str]]
) -> None:
    limits = PageLimits(visits_a_minute=3, clicks_a_minute=2, body_seconds=0.2)
    with running_page(SECRET, journal_settings, limits) as address:
        page = f"{address}/unsubscribe"
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20) as slow:
            path = link("/unsubscribe", "slow")
            slow.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nList".encode())
            assert b" 408 " in slow.recv(200)
        assert [HTTP.get(page).status_code for _ in range(3)] == [400, 400, 429]
        people = [f"p{number}" for number in range(6)]
        assert {HTTP.post(link(page, one), data=CLICK).status_code for one in people} == {200}
        again = [HTTP.post(link(page, "p0"), data=CLICK) for _ in range(2)]
        assert [one.status_code for one in again] == [200, 429]
        assert again[1].headers["Retry-After"] == "60"
    assert opted_out() == people


def test_a_journal_that_is_away_is_never_a_yes(tmp_path: Path) -> None:
    nowhere = JournalSettings(url=f"sqlite:///{tmp_path}/file/journal.db", patience_seconds=0)
    (tmp_path / "file").write_text("no folder")
    with running_page(SECRET, nowhere) as address:
        assert HTTP.get(f"{address}/health").status_code == 503
        answer = HTTP.post(link(f"{address}/unsubscribe"), data=CLICK)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
        (tmp_path / "file").unlink()
        assert HTTP.post(link(f"{address}/unsubscribe"), data=CLICK).status_code == 200
        assert HTTP.get(f"{address}/health").status_code == 200


def test_who_opted_out_is_out_of_the_next_claim(page: str, journal_settings: JournalSettings) -> None:
    HTTP.post(link(page), data=CLICK)
    with closing(open_journal(journal_settings)) as journal:
        people = {"p1": ("p1", "ada@x.example"), "p2": ("p2", "bob@x.example")}
        assert set(suppressed(journal, people, "email")) == {"p1"}
        assert set(suppressed(journal, people, "sms")) == {"p1"}
