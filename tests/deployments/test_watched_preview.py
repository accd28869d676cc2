"""`campaign preview NAME --watch` in a browser: the page follows what is saved, by itself."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest

from deployments.terminal.writing import write_campaign
from tests.browser import browser_page

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def test_the_page_in_the_browser_follows_what_is_saved(in_folder: Path, prefect_backend: str) -> None:
    people = {"profile_id": ["1"], "first_name": ["Ada"], "email": ["ada@people.test"], "may_contact": [True]}
    pl.DataFrame(people).write_csv("people.csv")
    write_campaign("spring-offers", "flow")
    body = in_folder / "flows" / "templates" / "spring_offers" / "body.html"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PREFECT_API_URL": prefect_backend,
        "CAMPAIGN_PROFILES__PATH": "people.csv",
    }
    command = [sys.executable, "-m", "deployments.terminal.app", "preview", "spring-offers", "--watch"]
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching,
        ExitStack() as stack,
        browser_page() as page,
    ):
        stack.callback(watching.kill)
        while not (line := watching.stdout.readline()).startswith("Open "):
            assert watching.poll() is None
        there = Path(line.removeprefix("Open ").partition(" (")[0])
        page.goto(there.as_uri())
        views = [page.locator(f"iframe.{view}").first.content_frame for view in ("desktop", "phone", "dark")]
        for view in views:
            view.get_by_text("Hello Ada").wait_for()
        page.get_by_label("Plain text").uncheck()
        before = body.read_text()
        body.write_text(before.replace("Hello", "Good day"))
        for view in views:
            view.get_by_text("Good day Ada").wait_for()
        assert not page.get_by_label("Plain text").is_checked()
        body.write_text(before.replace("{{", "{%", 1))
        page.get_by_role("alert").get_by_text("body.html").wait_for()
        body.write_text(before)
        views[0].get_by_text("Hello Ada").wait_for()
        page.get_by_role("alert").get_by_text("body.html").wait_for(state="hidden")
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=600)
    assert not there.with_suffix(".js").exists()
