"""A provider on loopback over TLS: answers as it is told, and keeps what it was asked."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import trustme

from tasks.delivery.provider import ProviderConnection

ALLOWED = frozenset({"localhost"})


class Asked(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


ProviderAnswer = tuple[int, dict[str, str], object]
"""Status, headers and body (JSON); a status of 0 closes the connection without an answer."""


@dataclass
class ProviderServer:
    answer: Callable[[Asked], ProviderAnswer]
    url: str = ""
    ca_file: Path | None = None
    asked: list[Asked] = field(default_factory=list)

    def connection(self, **options: object) -> ProviderConnection:
        quick = {"backoff_seconds": 0.02, "backoff_limit_seconds": 0.1, "timeout_seconds": 5}
        return ProviderConnection(ca_file=self.ca_file, **{**quick, **options})


@contextmanager
def running_provider(folder: Path, answer: Callable[[Asked], ProviderAnswer]) -> Iterator[ProviderServer]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "provider-ca.pem")
    provider = ProviderServer(answer, ca_file=folder / "provider-ca.pem")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            provider.asked.append(asked)
            status, headers, content = provider.answer(asked)
            if status == 0:
                self.close_connection = True
                return
            said = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(said)),
                "Content-Type": "application/json",
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    provider.url = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
