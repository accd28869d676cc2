"""A coupon system on loopback: HTTPS with its own test certificate, one coupon per zip code.

It answers as a real one does, and when told to (`Behaviour`) it is slow, fails, or answers nonsense.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

from deployments.sandbox.server import HOST, Call, Reply, Server, running_server

PORT = 18443
"""Where `make demo` finds it, always the same: an answer that was cached for this address is found again."""
COUPONS_PATH = "/api/v1/web-coupon"


class Behaviour(StrEnum):
    """How the partner answers."""

    NORMAL = "normal"
    """A coupon for each zip code, but for one in sixteen, which has none."""
    FLAKY = "flaky"
    """503 twice, then as normal."""
    BUSY = "busy"
    """429 with `Retry-After: 1` once, then as normal."""
    DOWN = "down"
    """503 always."""
    FORBIDDEN = "forbidden"
    """401 always."""
    SLOW = "slow"
    """Nothing for two minutes."""
    TRICKLE = "trickle"
    """A byte of the answer every half second."""
    HTML = "html"
    """An HTML page."""
    NONSENSE = "nonsense"
    """Text that is not JSON, called application/json."""
    REDIRECT = "redirect"
    """302 to another address."""
    HUGE = "huge"
    """An answer of more than 5 MB."""
    DOUBLE = "double"
    """Two coupons for each zip code."""
    CUT = "cut"
    """An answer that ends in the middle."""


FAILING_FIRST: dict[Behaviour, tuple[HTTPStatus, ...]] = {
    Behaviour.FLAKY: (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.SERVICE_UNAVAILABLE),
    Behaviour.BUSY: (HTTPStatus.TOO_MANY_REQUESTS,),
}
REPLIES: dict[Behaviour, Callable[[bytes], Reply]] = {
    Behaviour.DOWN: lambda _: Reply(b"{}", HTTPStatus.SERVICE_UNAVAILABLE),
    Behaviour.FORBIDDEN: lambda _: Reply(b"{}", HTTPStatus.UNAUTHORIZED),
    Behaviour.REDIRECT: lambda _: Reply(b"{}", HTTPStatus.FOUND, {"Location": f"https://{HOST}/elsewhere"}),
    Behaviour.HTML: lambda _: Reply(b"<!doctype html><h1>Sign in</h1>", headers={"Content-Type": "text/html"}),
    Behaviour.NONSENSE: lambda _: Reply(b'{"codeData": oops'),
    Behaviour.HUGE: lambda _: Reply(b'{"padding": "' + b"x" * (6 * 1024 * 1024) + b'"}'),
    Behaviour.SLOW: lambda answer: Reply(answer, wait_seconds=120),
    Behaviour.TRICKLE: lambda answer: Reply(answer, seconds_per_byte=0.5),
    Behaviour.CUT: lambda answer: Reply(answer, sends_all=False),
}
"""What each behaviour makes of a good answer; those that are not here answer it as it is."""


def coupon_of(zip_code: str) -> dict[str, str]:
    """The coupon of a zip code: the same at every call."""
    digest = hashlib.sha256(f"coupon {zip_code}".encode()).hexdigest()
    code = f"{int(digest[:8], 16) % 10_000_000:07d}"
    return {"code": code, "internalId": f"sandbox-{digest[8:16]}-{code}", "state": "CA", "zipCode": zip_code}


def has_coupon(zip_code: str) -> bool:
    """Whether the partner has a coupon for a zip code; one in sixteen has none."""
    return not hashlib.sha256(f"offer {zip_code}".encode()).hexdigest().startswith("0")


def coupon_answer(request: dict[str, Any], copies: int = 1) -> dict[str, Any]:
    """The answer to `{"params": ..., "data": [{"zipCode": ...}, ...]}`."""
    zip_codes = [row["zipCode"] for row in request["data"]]
    coupons = [coupon_of(zip_code) for zip_code in zip_codes if has_coupon(zip_code)]
    return {
        "codeData": {"codeFormat": "7-digit numeric", "codes": coupons * copies},
        "geography": "Americas",
        "offerDetails": {"offerTitle": "40% Off Code", "offerTagline": "Made-up coupons of the sandbox"},
    }


class Partner:
    """A sandbox partner: answers a call for coupons as its behaviour says, and remembers the calls."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.server: Server

    @property
    def url(self) -> str:
        """Address of the coupon endpoint."""
        return f"{self.server.address}{COUPONS_PATH}"

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority to trust."""
        return self.server.ca_file

    @property
    def requests(self) -> list[Call]:
        """Every call that was received."""
        return self.server.calls

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables with which a campaign calls this partner."""
        return {
            "CAMPAIGN_COUPONS__URL": self.url,
            "CAMPAIGN_COUPONS__CA_FILE": str(self.ca_file),
            "CAMPAIGN_NETWORK__ALLOWED_HOSTS": json.dumps([HOST]),
        }

    def respond(self, call: Call) -> Reply:
        """The reply to a call: coupons, or what the behaviour makes of it."""
        if call.path != COUPONS_PATH:
            return Reply(b"{}", HTTPStatus.NOT_FOUND)
        try:
            answer = coupon_answer(json.loads(call.body), copies=2 if self.behaviour is Behaviour.DOUBLE else 1)
        except (ValueError, KeyError, TypeError):
            return Reply(b'{"error": "send {"data": [{"zipCode": ...}]}"}', HTTPStatus.BAD_REQUEST)
        return self._behave(json.dumps(answer).encode())

    def _behave(self, answer: bytes) -> Reply:
        first = FAILING_FIRST.get(self.behaviour, ())
        if len(self.requests) <= len(first):
            return Reply(b'{"error": "not now"}', first[len(self.requests) - 1], {"Retry-After": "1"})
        return REPLIES[self.behaviour](answer) if self.behaviour in REPLIES else Reply(answer)


@contextmanager
def running_partner(
    folder: Path, behaviour: Behaviour = Behaviour.NORMAL, port: int = 0, name: str = HOST
) -> Iterator[Partner]:
    """Serve a partner on loopback until the block ends; the arguments are those of `running_server`."""
    partner = Partner(behaviour)
    with running_server(folder, partner.respond, port, name) as partner.server:
        yield partner


def serve_until_stopped(folder: Path, behaviour: Behaviour, port: int) -> None:
    """Serve a partner and print the settings that point a campaign to it, until the process is interrupted."""
    with running_partner(folder, behaviour, port) as partner:
        for variable, value in partner.settings.items():
            print(f"export {variable}='{value}'", flush=True)
        print(f"# the sandbox partner answers ({behaviour}); Ctrl-C stops it", flush=True)
        while not partner.server.stopping.is_set():
            time.sleep(0.2)
