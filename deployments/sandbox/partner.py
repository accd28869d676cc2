"""The sandbox partner on loopback, HTTPS with its own certificate: coupons, codes, matches, products and weather.

It answers as real services do, and when told to (`Behaviour`) it is slow, fails, or answers nonsense.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

from deployments.sandbox.forecast import forecast_answer
from deployments.sandbox.products import products_answer
from deployments.sandbox.schedule import schedule_answer
from deployments.sandbox.server import HOST, Call, Reply, Server, running_server

PORT = 18443
"""Where `make demo` finds it, always the same: an answer that was cached for this address is found again."""
PATHS = {
    "coupons": "/api/v1/web-coupon",
    "codes": "/api/v1/codes",
    "schedule": "/apis/site/v2/sports/soccer/sandbox/scoreboard",
    "offers": "/products",
    "weather": "/v1/forecast",
}
"""The path of each of its services, by the name of the setting that holds its address."""


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


def codes_answer(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to `{"params": {"count": ..., "batch": ...}}`: the same codes whenever a batch is asked for."""
    count, batch = int(request["params"]["count"]), str(request["params"]["batch"])
    digests = (hashlib.sha256(f"code {number} of {batch}".encode()).hexdigest().upper() for number in range(count))
    ends = datetime.now(UTC).date() + timedelta(days=365)
    codes = [
        {"code": f"GIFT-{digest[:4]}-{digest[4:8]}-{digest[8:12]}", "value": 5.0, "validUntil": ends.isoformat()}
        for digest in digests
    ]
    return {"batch": batch, "codes": codes}


class Partner:
    """A sandbox partner: answers a call as its behaviour says, and remembers the calls."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.server: Server

    @property
    def url(self) -> str:
        """Address of the coupon endpoint."""
        return self.url_of("coupons")

    def url_of(self, service: str) -> str:
        """Address of the endpoint of a service of `PATHS`."""
        return f"{self.server.address}{PATHS[service]}"

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
        """Environment variables with which the campaigns call this partner."""
        return self.settings_of(*PATHS)

    def settings_of(self, *services: str) -> dict[str, str]:
        """Environment variables with which these services are this partner's."""
        found: dict[str, str] = {}
        for service in services:
            found[f"CAMPAIGN_{service.upper()}__URL"] = self.url_of(service)
            found[f"CAMPAIGN_{service.upper()}__CA_FILE"] = str(self.ca_file)
            if self.behaviour is not Behaviour.NORMAL:
                # What it does shall be seen, not an answer of before.
                found[f"CAMPAIGN_{service.upper()}__CACHE_EXPIRY"] = "PT0S"
        return {**found, "CAMPAIGN_NETWORK__ALLOWED_HOSTS": json.dumps([HOST])}

    def respond(self, call: Call) -> Reply:
        """The reply to a call: its answer, or what the behaviour makes of it."""
        try:
            answer = self._answer(call)
        except (ValueError, KeyError, TypeError):
            return Reply(b'{"error": "this is not how the service is asked"}', HTTPStatus.BAD_REQUEST)
        if answer is None:
            return Reply(b"{}", HTTPStatus.NOT_FOUND)
        return self._behave(json.dumps(answer).encode())

    def _answer(self, call: Call) -> Any:  # noqa: ANN401
        service = next((name for name, path in PATHS.items() if path == call.path), None)
        match service:
            case "coupons":
                return coupon_answer(json.loads(call.body), copies=2 if self.behaviour is Behaviour.DOUBLE else 1)
            case "codes":
                return codes_answer(json.loads(call.body))
            case "schedule":
                return schedule_answer(call.query)
            case "offers":
                return products_answer(call.query)
            case "weather":
                return forecast_answer(call.query)
            case _:
                return None

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
