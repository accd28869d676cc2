import asyncio
import ipaddress
import socket
from pathlib import Path

import anyio
import pytest

from tasks.errors import ApiError, HostNotAllowed, UrlNotSecure, UrlUnparsable
from tasks.http.loop import guarded_loop
from tasks.http.network import GuardedBackend, check_url, is_public, public_url


@pytest.mark.parametrize(
    ("url", "error", "code"),
    [
        ("http://partner.example/api", UrlNotSecure, "WKF-560238"),
        ("ftp://partner.example/api", UrlNotSecure, "WKF-560238"),
        ("partner.example/api", UrlUnparsable, "WKF-560245"),
        ("https://", UrlUnparsable, "WKF-560245"),
        ("https://partner.example:port/", UrlUnparsable, "WKF-560245"),
        ("https://user:secret@partner.example/", UrlUnparsable, "WKF-560245"),
        ("https://localhost/", HostNotAllowed, "WKF-560244"),
        ("https://LOCALHOST./", HostNotAllowed, "WKF-560244"),
        ("https://api.localhost/", HostNotAllowed, "WKF-560244"),
        ("https://127.0.0.1/", HostNotAllowed, "WKF-560244"),
        ("https://8.8.8.8/", HostNotAllowed, "WKF-560244"),
        ("https://127.1/", HostNotAllowed, "WKF-560244"),
        ("https://2130706433/", HostNotAllowed, "WKF-560244"),
        ("https://0x7f000001/", HostNotAllowed, "WKF-560244"),
        ("https://0177.0.0.1/", HostNotAllowed, "WKF-560244"),
        ("https://[::1]/", HostNotAllowed, "WKF-560244"),
        ("https://[::ffff:127.0.0.1]/", HostNotAllowed, "WKF-560244"),
    ],
)
def test_a_url_that_may_not_be_called_is_refused_with_its_code(url: str, error: type[ApiError], code: str) -> None:
    with pytest.raises(error, match=code) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://partner.example/api?x=1", ()),
        ("https://localhost:18443/", ("localhost",)),
        ("https://localhost:18443/", ("LocalHost:18443",)),
        ("https://127.0.0.1/", ("127.0.0.1",)),
        ("https://[::1]:8443/", ("[::1]:8443",)),
    ],
)
def test_a_public_or_allowed_url_passes(url: str, allowed: tuple[str, ...]) -> None:
    assert str(check_url(url, allowed)) == url


def test_an_allowed_port_allows_no_other_port() -> None:
    with pytest.raises(HostNotAllowed):
        check_url("https://localhost:18444/", {"localhost:18443"})


def test_shown_urls_hold_no_credentials_and_no_query() -> None:
    assert public_url("https://user:pw@host.example:8443/a/b?key=secret#part") == "https://host.example:8443/a/b"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("::ffff:169.254.169.254", False),
        ("168.63.129.16", False),
        ("100.100.100.200", False),
        ("192.0.0.192", False),
        ("192.0.0.9", False),
        ("fd00:ec2::254", False),
        ("64:ff9b:1::5db8:d822", False),
        ("64:ff9b::a83f:8110", False),
        ("::93.184.216.34", False),
        ("::ffff:0:93.184.216.34", False),
        ("fec0::1", False),
        ("100::1", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("4000::1", False),
        ("2002:a83f:8110::", False),
        ("198.18.0.1", False),
        ("240.0.0.1", False),
        ("192.88.99.1", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "10.0.0.7"], ["::ffff:192.168.0.1"]])
def test_a_name_with_one_private_address_is_not_connected_to(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(HostNotAllowed, match=r"'rebound\.example' resolves to"):
        anyio.run(GuardedBackend(()).connect_tcp, "rebound.example", 443)


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        answers = iter(["127.0.0.1", "192.0.2.1"])

        def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

        async def peer_of() -> str:
            stream = await GuardedBackend({"partner.example"}).connect_tcp("partner.example", port)
            peer = stream.get_extra_info("server_addr")
            await stream.aclose()
            return str(peer[0])

        monkeypatch.setattr("tasks.http.network.socket.getaddrinfo", resolve)
        assert anyio.run(peer_of) == "127.0.0.1"
        assert next(answers) == "192.0.2.1", "the name was resolved once"


def test_activities_reach_the_network_through_the_guard_only() -> None:
    opened = [
        path.name
        for path in (Path(__file__).parents[3] / "tasks").rglob("*.py")
        if any(word in path.read_text() for word in ("httpx.Client(", "httpx.get(", "requests.", "urllib.request"))
    ]
    assert opened == []


def test_a_library_that_opens_sockets_by_its_own_loop_is_checked_where_it_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def connect(host: str, *allowed: str) -> None:
            async def to_host() -> None:
                _, writer = await asyncio.open_connection(host, port)
                writer.close()

            asyncio.run_coroutine_threadsafe(to_host(), guarded_loop(frozenset(allowed))).result(20)

        connect("localhost", "localhost")
        connect("127.0.0.1", f"127.0.0.1:{port}")
        for host, *allowed in (("localhost",), ("127.0.0.1", f"127.0.0.1:{port + 1}"), ("localhost", "127.0.0.2")):
            with pytest.raises(HostNotAllowed, match=r"resolves to (127\.0\.0\.1|::1)"):
                connect(host, *allowed)


def test_no_loop_that_is_guarded_opens_a_socket_of_the_machine(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        listener.listen()

        async def to_agent() -> None:
            await asyncio.open_unix_connection(str(tmp_path / "agent"))

        with pytest.raises(HostNotAllowed, match="no address of the internet"):
            asyncio.run_coroutine_threadsafe(to_agent(), guarded_loop(frozenset())).result(20)
