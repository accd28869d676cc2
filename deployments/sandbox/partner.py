"""A coupon system on loopback: HTTPS with its own test certificate, one coupon per zip code.

It answers as a real one does, and when told to (`Behaviour`) it is slow, fails, or answers nonsense.
"""

import hashlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

HOST = "localhost"
PORT = 18443
"""Where `make demo` finds it, always the same: an answer that was cached for this address is found again."""
COUPONS_PATH = "/api/v1/web-coupon"
LARGEST_REQUEST = 16 * 1024 * 1024


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
FAILING_ALWAYS: dict[Behaviour, HTTPStatus] = {
    Behaviour.DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    Behaviour.FORBIDDEN: HTTPStatus.UNAUTHORIZED,
    Behaviour.REDIRECT: HTTPStatus.FOUND,
}


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


@dataclass
class Partner:
    """A running sandbox partner."""

    url: str
    ca_file: Path
    behaviour: Behaviour
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Every request that was received: method, path, headers (lower-case names), body (parsed JSON)."""
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables with which a campaign calls this partner."""
        return {
            "CAMPAIGN_COUPONS__URL": self.url,
            "CAMPAIGN_COUPONS__CA_FILE": str(self.ca_file),
            "CAMPAIGN_NETWORK__ALLOWED_HOSTS": json.dumps([HOST]),
        }


class _CouponHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    @property
    def partner(self) -> Partner:
        return self.server.partner

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent: the run's own log says what was called."""

    def do_POST(self) -> None:
        """Answer a call for coupons."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_REQUEST:
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"{}")
            return
        raw = self.rfile.read(length)
        try:
            request = json.loads(raw)
            answer = coupon_answer(request, copies=2 if self.partner.behaviour is Behaviour.DOUBLE else 1)
        except (ValueError, KeyError, TypeError):
            request, answer = None, None
        self.partner.requests.append(
            {
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": request,
            }
        )
        if self.path.partition("?")[0] != COUPONS_PATH:
            self._send(HTTPStatus.NOT_FOUND, b"{}")
        elif answer is None:
            self._send(HTTPStatus.BAD_REQUEST, b'{"error": "send {\\"data\\": [{\\"zipCode\\": ...}]}"}')
        else:
            self._behave(json.dumps(answer).encode())

    def _behave(self, answer: bytes) -> None:
        behaviour, calls = self.partner.behaviour, len(self.partner.requests)
        first = FAILING_FIRST.get(behaviour, ())
        if calls <= len(first):
            self._send(first[calls - 1], b'{"error": "not now"}', {"Retry-After": "1"})
        elif behaviour in FAILING_ALWAYS:
            self._send(FAILING_ALWAYS[behaviour], b"{}", {"Location": f"https://{HOST}/elsewhere"})
        elif behaviour is Behaviour.HTML:
            self._send(HTTPStatus.OK, b"<!doctype html><h1>Sign in</h1>", {"Content-Type": "text/html"})
        elif behaviour is Behaviour.NONSENSE:
            self._send(HTTPStatus.OK, b'{"codeData": oops')
        elif behaviour is Behaviour.HUGE:
            self._send(HTTPStatus.OK, b'{"padding": "' + b"x" * (6 * 1024 * 1024) + b'"}')
        elif behaviour is Behaviour.SLOW:
            self.partner.stopping.wait(120)
            self.close_connection = True
        elif behaviour is Behaviour.CUT:
            self._send(HTTPStatus.OK, answer[: len(answer) // 2], {"Content-Length": str(len(answer))})
            self.close_connection = True
        elif behaviour is Behaviour.TRICKLE:
            self._trickle(answer)
        else:
            self._send(HTTPStatus.OK, answer)

    def _trickle(self, answer: bytes) -> None:
        self._send(HTTPStatus.OK, b"", {"Content-Length": str(len(answer))})
        for byte in answer:
            if self.partner.stopping.wait(0.5):
                break
            self.wfile.write(bytes([byte]))
        self.close_connection = True

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> None:
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    partner: Partner

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent when a caller hangs up: timeouts and limits end that way."""


@contextmanager
def running_partner(
    folder: Path, behaviour: Behaviour = Behaviour.NORMAL, port: int = 0, name: str = HOST
) -> Iterator[Partner]:
    """Serve a partner on loopback until the block ends.

    `folder` gets the test authority's certificate (`ca.pem`); `port` 0 takes a free one; `name` is the host
    that the certificate is for. Errors: `OSError` when the port is taken.
    """
    authority = trustme.CA(organization_name="Campaign Flows sandbox")
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    server = _Server(("127.0.0.1", port), _CouponHandler)
    # After the port is ours: another partner on it keeps the authority that it was started with.
    authority.cert_pem.write_to_path(str(ca_file))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    partner = Partner(f"https://{HOST}:{server.server_port}{COUPONS_PATH}", ca_file.resolve(), behaviour)
    server.partner = partner
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield partner
    finally:
        partner.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def serve_until_stopped(folder: Path, behaviour: Behaviour, port: int) -> None:
    """Serve a partner and print the settings that point a campaign to it, until the process is interrupted."""
    with running_partner(folder, behaviour, port) as partner:
        for variable, value in partner.settings.items():
            print(f"export {variable}='{value}'", flush=True)
        print(f"# the sandbox partner answers ({behaviour}); Ctrl-C stops it", flush=True)
        while not partner.stopping.is_set():
            time.sleep(0.2)
