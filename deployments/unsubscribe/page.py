"""What the unsubscribe page shows, and with which headers."""

from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader
from starlette.responses import HTMLResponse


class Shown(NamedTuple):
    """One state of the page."""

    status: int
    title: str
    text: str
    asks: bool = False
    """Whether it has the button."""
    retry_after: int = 0
    """Seconds after which a program should ask again; 0 says nothing."""


ASK = Shown(200, "Unsubscribe", "Do you want to get no more messages from us?", asks=True)
DONE = Shown(200, "You are unsubscribed", "You will get no more messages from us.")
NO_LINK = Shown(
    400,
    "This link does not work",
    "It is not complete, or it was changed. Copy the whole link from the message, or answer the message.",
)
NO_CLICK = Shown(400, "Nothing was changed", "Open the link and press the button.", asks=True)
TOO_LARGE = Shown(413, "Nothing was changed", "The request is too large.")
TOO_SLOW = Shown(408, "Nothing was changed", "The request took too long.")
TOO_OFTEN = Shown(429, "Too many requests", "Wait a minute, and try again.", retry_after=60)
AWAY = Shown(
    503, "This did not work", "Your wish could not be written down. Wait a minute, and try again.", retry_after=60
)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
PAGE = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("page.html")


def response(shown: Shown) -> HTMLResponse:
    """The page in a state."""
    again = {"Retry-After": str(shown.retry_after)} if shown.retry_after else {}
    return HTMLResponse(PAGE.render(shown._asdict()), shown.status, headers={**HEADERS, **again})
