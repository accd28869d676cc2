"""A real browser for tests of pages: headless Chromium, driven by Playwright."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]


@contextmanager
def running_browser() -> Iterator[Any]:
    """Headless Chromium; the test is skipped where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"no browser here: {CHROMIUM} (Debian's package chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install '.[dev]'")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def new_page(browser: Any) -> Iterator[Any]:
    """A page that shares nothing with others of the browser: a login in one is none in another."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(60_000)
    try:
        yield page
    finally:
        page.close()


@contextmanager
def browser_page() -> Iterator[Any]:
    """A page of a browser of its own."""
    with running_browser() as browser, new_page(browser) as page:
        yield page


def log_in(page: Any, login: str) -> None:
    page.locator("input[type=password]").fill(login)
    page.get_by_role("button", name="Login").click()
    page.locator("input[type=password]").wait_for(state="detached")


def field(page: Any, label: str) -> Any:
    """The innermost field of the form with this label."""
    return page.locator(
        f"xpath=//label[.//span[normalize-space()='{label}']]"
        "/ancestor::div[contains(concat(' ', @class, ' '), ' p-label ')][1]"
    ).first


def choose(page: Any, within: Any, option: str) -> None:
    within.locator(".p-select-button__control").press("Space")
    page.locator(".p-select-option", has_text=re.compile(f"^{option}$")).click()


def write_json(page: Any, within: Any, text: str) -> None:
    within.locator("textarea, .cm-content").first.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def submit(page: Any) -> None:
    """Press the button until the page goes on to the run, and leave: the UI asks and draws all the time.

    Before the form is ready, it takes a press for nothing. By keyboard: a message may lie over the button.
    """

    gone = pytest.importorskip("playwright.sync_api").TimeoutError
    for _ in range(40):
        with suppress(gone):  # the page may go on just now, and the button with it
            page.get_by_role("button", name="Submit").press("Enter", timeout=10_000)
        with suppress(gone):
            page.wait_for_url(lambda url: not url.endswith("/run"), timeout=3_000, wait_until="commit")
            page.goto("about:blank")
            return
    raise AssertionError("the form is not sent")
