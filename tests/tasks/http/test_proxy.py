"""Calls through a proxy of the settings: a real CONNECT proxy before a real TLS server."""

import base64
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from deployments.sandbox.server import Call, Reply, Server
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.fetch import Fetched, fetch
from tasks.errors import ConfigurationError, HostNotAllowed, PartnerUnreachable
from tasks.settings import Settings

StartServer = Callable[[Callable[[Call], Reply]], Server]
ALLOWED = frozenset({"localhost"})


class Proxy:
    """A proxy that takes CONNECT from one user, and resolves every name to this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.asked: list[str] = []
        self.sockets = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.sockets.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.sockets.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head.split(b" ")[1].decode())
        if base64.b64encode(b"me:secret") not in head:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        there = socket.create_connection(("127.0.0.1", self.target))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=_pipe, args=(client, there), daemon=True).start()
        _pipe(there, client)


def _pipe(source: socket.socket, target: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            target.sendall(part)
    except OSError:
        pass
    target.close()


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(lambda call: Reply(b'[{"n": 1}]'))


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    running = Proxy(int(server.address.rpartition(":")[2]))
    yield running
    running.sockets.close()


def fetched(server: Server, url: str = "", allowed: frozenset[str] = ALLOWED) -> Fetched:
    endpoint = Endpoint(
        name="n",
        method="GET",
        url=url or f"{server.address}/n",
        ca_file=server.ca_file,
        outbound={"columns": {"n": {"key": "n", "type": "integer"}}},
    )
    return fetch(EndpointCall(None, endpoint), allowed)


def test_a_call_goes_through_the_proxy_and_tls_still_knows_the_partner(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__PROXY", f"http://me:secret@{proxy.address}")
    assert fetched(server).rows == 1
    assert proxy.asked == [server.address.removeprefix("https://")]
    with pytest.raises(Exception, match="certificate does not verify"):
        fetched(server, "https://partner.example/n")
    assert "me:secret" not in repr(Settings.load())


def test_hosts_without_proxy_are_reached_directly(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__PROXY", f"http://me:secret@{proxy.address}")
    monkeypatch.setenv("CAMPAIGN_NETWORK__NO_PROXY", '["localhost"]')
    assert fetched(server).rows == 1
    assert proxy.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://2130706433/",
        "https://[::1]/",
        "https://localhost/",
        "https://a.localhost/",
        "https://intranet/",
        "https://metadata.google.internal/",
        "https://printer.local./",
        "https://169.254.169.254/latest",
    ],
)
def test_names_are_checked_where_addresses_cannot_be(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__PROXY", f"http://me:secret@{proxy.address}")
    with pytest.raises(HostNotAllowed):
        fetched(server, url, frozenset())
    assert proxy.asked == []


def test_a_proxy_that_refuses_or_is_away_is_named(
    server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__PROXY", f"http://me:wrong@{proxy.address}")
    with pytest.raises(PartnerUnreachable, match=r"the proxy refuses .*407") as refused:
        fetched(server)
    assert "wrong" not in str(refused.value)
    proxy.sockets.close()
    with pytest.raises(PartnerUnreachable):
        fetched(server)
    monkeypatch.setenv("CAMPAIGN_NETWORK__PROXY", "proxy.example")
    with pytest.raises(ConfigurationError, match="NETWORK__PROXY"):
        Settings.load()
