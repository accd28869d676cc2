"""The unsubscribe page as an ASGI application.

A GET shows the page and changes nothing; a POST of the field `List-Unsubscribe=One-Click`, by a mail program
(RFC 8058) or by the page's button, unsubscribes. The answer is the same for every link.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deployments.unsubscribe.limits import PageLimits, Rates, TooLarge, TooSlow, bounded_body
from deployments.unsubscribe.opt_outs import OptOuts
from deployments.unsubscribe.page import (
    ASK,
    AWAY,
    DONE,
    NO_CLICK,
    NO_LINK,
    TOO_LARGE,
    TOO_OFTEN,
    TOO_SLOW,
    Shown,
    response,
)
from tasks.errors import CampaignError
from tasks.messages.unsubscribe import Unsubscriber, who_unsubscribes

ONE_CLICK = ("List-Unsubscribe", "One-Click")


def unsubscribe_app(secret: bytes, opt_outs: OptOuts, limits: PageLimits | None = None) -> Starlette:
    """The application: `/unsubscribe`, and `/health` for monitoring."""
    limits = limits or PageLimits()
    rates = Rates(limits)

    def visit(request: Request, shown: Shown) -> Response:
        client = request.client.host if request.client else ""
        return response(shown if rates.allows_visit(client) else TOO_OFTEN)

    async def page(request: Request) -> Response:
        return visit(request, ASK if _who(request, secret) else NO_LINK)

    async def click(request: Request) -> Response:
        who = _who(request, secret)
        if who is None:
            return visit(request, NO_LINK)
        try:
            body = await bounded_body(request.stream(), limits)
        except TooLarge:
            return visit(request, TOO_LARGE)
        except TooSlow:
            return visit(request, TOO_SLOW)
        if not is_one_click(body, request.headers.get("Content-Type", "")):
            return visit(request, NO_CLICK)
        if not rates.allows_click(request.query_params["s"]):
            return response(TOO_OFTEN)
        return response(DONE if await _worked(opt_outs.add, who) else AWAY)

    async def health(_: Request) -> Response:
        works = await _worked(opt_outs.check)
        return PlainTextResponse("works" if works else "the journal does not answer", 200 if works else 503)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        opt_outs.close()

    routes = [
        Route("/unsubscribe", page, methods=["GET"]),
        Route("/unsubscribe", click, methods=["POST"]),
        Route("/health", health),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _who(request: Request, secret: bytes) -> Unsubscriber | None:
    return who_unsubscribes(str(request.url), secret)


async def _worked(work: Callable[..., None], *arguments: object) -> bool:
    try:
        await run_in_threadpool(work, *arguments)
    except CampaignError as error:
        print(error, flush=True)
        return False
    return True


def is_one_click(body: bytes, content_type: str) -> bool:
    """Whether a body is the form of RFC 8058, in either of the two forms that it may have."""
    if content_type.lower().startswith("multipart/form-data"):
        form = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
        parts = form.get_payload() if form.is_multipart() else []
        return any(
            (part.get_param("name", header="Content-Disposition"), str(part.get_payload()).strip()) == ONE_CLICK
            for part in parts
            if not isinstance(part, str)
        )
    try:
        fields = parse_qs(body.decode("ascii", "replace"), max_num_fields=20)
    except ValueError:
        return False
    return ONE_CLICK[1] in fields.get(ONE_CLICK[0], [])
