"""A small HTTPS server on loopback with its own certificate authority, answering as a function of the call says.

The sandbox partner and the tests stand on it: real sockets, real TLS, and replies that may be slow, cut or odd.
"""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trustme

HOST = "localhost"
LARGEST_REQUEST = 16 * 1024 * 1024


@dataclass(frozen=True)
class Call:
    """A request as it was received; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query, the last of each name."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True)
class Reply:
    """What is answered. `headers` add to, or replace, Content-Type (JSON) and Content-Length."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_seconds: float = 0
    """Before the status line."""
    seconds_per_byte: float = 0
    """Between the bytes of the body."""
    sends_all: bool = True
    """False ends the connection after half of the body."""


Respond = Callable[[Call], Reply]


@dataclass
class Server:
    """A running server: its address without path, its authority's certificate, and every call it received."""

    address: str
    ca_file: Path
    calls: list[Call] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Sockets"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent: the caller's own log says what was called."""

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_POST(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_REQUEST:
            self.send_error(413)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, self.path, headers, self.rfile.read(length))
        self.server.known.calls.append(call)
        self._send(self.server.respond(call))

    def _send(self, reply: Reply) -> None:
        stopping = self.server.known.stopping
        if reply.wait_seconds and stopping.wait(reply.wait_seconds):
            self.close_connection = True
            return
        fields = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), **reply.headers}
        self.send_response(reply.status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        body = reply.body if reply.sends_all else reply.body[: len(reply.body) // 2]
        if not reply.seconds_per_byte:
            self.wfile.write(body)
        else:
            for byte in body:
                if stopping.wait(reply.seconds_per_byte):
                    break
                self.wfile.write(bytes([byte]))
        self.close_connection = self.close_connection or not reply.sends_all or bool(reply.seconds_per_byte)


class _Sockets(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    known: Server
    respond: Respond

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent when a caller hangs up: timeouts and limits end that way."""


@contextmanager
def running_server(folder: Path, respond: Respond, port: int = 0, name: str = HOST) -> Iterator[Server]:
    """Serve on loopback until the block ends.

    `folder` gets the authority's certificate (`ca.pem`); `port` 0 takes a free one; `name` is the host that the
    server's certificate is for. Errors: `OSError` when the port is taken.
    """
    authority = trustme.CA(organization_name="Campaign Flows sandbox")
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    sockets = _Sockets(("127.0.0.1", port), _Handler)
    # After the port is ours: another server on it keeps the authority that it was started with.
    authority.cert_pem.write_to_path(str(ca_file))
    sockets.socket = context.wrap_socket(sockets.socket, server_side=True, do_handshake_on_connect=False)
    sockets.known = Server(f"https://{HOST}:{sockets.server_port}", ca_file.resolve())
    sockets.respond = respond
    thread = threading.Thread(target=sockets.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield sockets.known
    finally:
        sockets.known.stopping.set()
        sockets.shutdown()
        sockets.server_close()
        thread.join()
