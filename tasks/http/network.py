"""Where an activity may connect to: rules of URLs, hosts and addresses, and the connection that keeps them.

The rules are functions without I/O. `GuardedTransport` applies them to real connections: it resolves the name,
checks every address, and connects to an address that it checked, so that a name cannot point elsewhere between
the check and the connection. TLS still verifies the name.
"""

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from itertools import zip_longest
from typing import Any

import anyio
import anyio.to_thread
import httpcore
import httpx

from tasks.errors import HostNotAllowed, UrlNotSecure, UrlUnparsable
from tasks.http.addresses import is_public
from tasks.settings import NetworkSettings, Settings


def check_url(url: str, allowed_hosts: Iterable[str] = ()) -> httpx.URL:
    """Parse the URL of an endpoint and check its scheme and host.

    Errors: `UrlUnparsable`, `UrlNotSecure` (not https), `HostNotAllowed` (localhost or an address literal in
    any spelling, unless named in `allowed_hosts` as host or host:port).
    """
    shown = public_url(url)
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        if is_address_literal(shown.partition("://")[2].split("/")[0]):
            raise HostNotAllowed(reason=f"'{shown}' has an IP address literal") from None
        raise UrlUnparsable(url=shown, reason=f"is not a URL ({error})") from None
    if not parsed.host or not parsed.scheme:
        raise UrlUnparsable(url=shown, reason="has no scheme or no host")
    if parsed.scheme != "https":
        raise UrlNotSecure(url=shown)
    if parsed.userinfo:
        raise UrlUnparsable(url=shown, reason="carries a user name or password; use headers for those")
    host = canonical_host(parsed.host)
    if is_allowed(host, parsed.port or 443, allowed_hosts):
        return parsed
    if host == "localhost" or host.endswith(".localhost"):
        raise HostNotAllowed(reason=f"'{host}' is this machine")
    if is_address_literal(host):
        raise HostNotAllowed(reason=f"'{host}' is an IP address literal")
    return parsed


def public_url(url: str) -> str:
    """The URL as logs and errors may show it: without user name, password, query and fragment."""
    bare = url.split("#", 1)[0].split("?", 1)[0]
    scheme, separator, rest = bare.partition("://")
    if not separator:
        return bare
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def canonical_host(host: str) -> str:
    """The host name in lower case, without the dot that may end it or the brackets of an IPv6 literal."""
    return host.lower().strip("[]").rstrip(".")


def is_allowed(host: str, port: int, allowed_hosts: Iterable[str]) -> bool:
    """Whether the operator named this host, or this host and port, as allowed."""
    names = {name.strip().lower().rstrip(".") for name in allowed_hosts}
    shown = f"[{host}]" if ":" in host else host
    return bool(names & {host, shown, f"{shown}:{port}"})


def is_address_literal(host: str) -> bool:
    """Whether the host is an address in any spelling that a resolver takes: `127.1`, `0x7f000001`, `2130706433`."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    else:
        return True
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def check_host(host: str, port: int, allowed_hosts: Iterable[str] = ()) -> None:
    """Check the host of a connection by name and by every address it has now, before a library is told of it.

    A connection is checked again when it is made. Errors: `HostNotAllowed`; a name that does not resolve is left to
    whoever connects, who says so.
    """
    try:
        checked_addresses(host, port, allowed_hosts)
    except OSError:
        return


def checked_addresses(host: str, port: int, allowed_hosts: Iterable[str]) -> list[str]:
    """The addresses of a host, each of which may be connected to: all of them, or none.

    Errors: `HostNotAllowed`, `socket.gaierror`.
    """
    name = canonical_host(host)
    allowed = is_allowed(name, port, allowed_hosts)
    if is_address_literal(name) and not allowed:
        raise HostNotAllowed(reason=f"'{name}' is an IP address literal")
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not allowed:
        for address in addresses:
            if not is_public(ipaddress.ip_address(address.partition("%")[0])):
                raise HostNotAllowed(reason=f"'{name}' resolves to {address}")
    return addresses


def guarded_socket(
    host: str, port: int, allowed_hosts: Iterable[str] = (), timeout: float | None = None
) -> socket.socket:
    """Connect a socket for a library that takes one: to an address that was checked, whatever the name says later.

    Errors: `HostNotAllowed`; `OSError` where no address of the host answers.
    """
    refused: OSError | None = None
    for address in checked_addresses(host, port, allowed_hosts):
        try:
            return socket.create_connection((address, port), timeout)
        except OSError as error:
            refused = error
    raise refused or OSError(f"'{host}' has no address")


CONNECTION_ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried while the one before has not answered (RFC 8305, 8)."""


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """httpcore network backend that connects only to addresses it has checked."""

    def __init__(self, allowed_hosts: Iterable[str]) -> None:
        self._allowed_hosts = frozenset(allowed_hosts)
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve `host`, check every address, connect to the first that answers.

        Errors: `HostNotAllowed`; `socket.gaierror`; httpcore's connection errors.
        """
        # A thread that can be left behind: the loop's own resolver would be waited for past any deadline.
        addresses = await anyio.to_thread.run_sync(
            checked_addresses, host, port, self._allowed_hosts, abandon_on_cancel=True
        )
        connect = partial(
            self._backend.connect_tcp,
            port=port,
            timeout=timeout,
            local_address=local_address,
            socket_options=socket_options,
        )
        found = await _first_stream(_in_turn(addresses), connect)
        if found is None:
            raise httpcore.ConnectError(f"'{host}' has no address")
        if isinstance(found, Exception):
            raise found
        return found

    async def sleep(self, seconds: float) -> None:
        """Wait, for httpcore's own retries."""
        await self._backend.sleep(seconds)


def _in_turn(addresses: list[str]) -> list[str]:
    """Addresses with the two families in turn, the resolver's first one first (RFC 8305, 4)."""
    first = [address for address in addresses if (":" in address) == (":" in addresses[0])]
    other = [address for address in addresses if address not in first]
    pairs = zip_longest(first, other)
    return [address for pair in pairs for address in pair if address is not None]


async def _first_stream(
    addresses: list[str], connect: Callable[[str], Awaitable[httpcore.AsyncNetworkStream]]
) -> httpcore.AsyncNetworkStream | Exception | None:
    """The first connection to any of the addresses; the next is tried after a short while (RFC 8305, 5).

    The last failure where none answers; None for no address.
    """
    found: list[httpcore.AsyncNetworkStream] = []
    failed: list[Exception] = []

    async def attempt(address: str, is_over: anyio.Event, scope: anyio.CancelScope) -> None:
        try:
            stream = await connect(address)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            failed.append(error)
            is_over.set()
            return
        if found:
            await stream.aclose()
            return
        found.append(stream)
        scope.cancel()

    async with anyio.create_task_group() as group:
        for address in addresses:
            is_over = anyio.Event()
            group.start_soon(attempt, address, is_over, group.cancel_scope)
            with anyio.move_on_after(CONNECTION_ATTEMPT_DELAY):
                await is_over.wait()
    return found[0] if found else failed[-1] if failed else None


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:  # noqa: ANN401
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


INSIDE = frozenset({"local", "internal", "localhost", "lan", "corp", "home", "intranet", "private", "arpa", "test"})
"""Top-level names that no public host has."""


def check_name(host: str, port: int, allowed_hosts: Iterable[str]) -> None:
    """Check a host that a proxy resolves: by its name alone. Errors: `HostNotAllowed`."""
    name = canonical_host(host)
    if is_allowed(name, port, allowed_hosts):
        return
    if is_address_literal(name):
        raise HostNotAllowed(reason=f"'{name}' is an IP address literal")
    if "." not in name or name.rpartition(".")[2] in INSIDE:
        raise HostNotAllowed(reason=f"'{name}' is no name of the public internet")


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx transport over `GuardedBackend`. Errors of a connection reach the caller as httpcore raises them.

    With a proxy in the settings requests go through it: hosts are checked by name then, for it is the proxy that
    resolves them.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        allowed_hosts: Iterable[str],
        connections: int = 10,
        network: NetworkSettings | None = None,
    ) -> None:
        self._ssl_context = ssl_context
        self._allowed_hosts = frozenset(allowed_hosts)
        self._network = network = network or Settings.load().network
        self._no_proxy = network.no_proxy
        self._direct = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            network_backend=GuardedBackend(self._allowed_hosts),
            max_connections=connections,
            max_keepalive_connections=connections,
        )
        self._proxied: httpcore.AsyncHTTPProxy | None = None
        if network.proxy.get_secret_value():
            proxy = httpx.URL(network.proxy.get_secret_value())
            self._proxied = httpcore.AsyncHTTPProxy(
                proxy_url=str(proxy.copy_with(username=None, password=None)),
                proxy_auth=(proxy.username, proxy.password) if proxy.username else None,
                ssl_context=ssl_context,
                max_connections=connections,
                max_keepalive_connections=connections,
            )

    def beside(self) -> "GuardedTransport":
        """A transport of one more connection to the same hosts.

        httpcore looks at every idle connection of a pool before and after each request: many calls side by side
        are quicker over a pool each.
        """
        return GuardedTransport(self._ssl_context, self._allowed_hosts, 1, self._network)

    def _pool(self, url: httpx.URL) -> httpcore.AsyncConnectionPool:
        port = url.port or 443
        if self._proxied is None or is_allowed(canonical_host(url.host), port, self._no_proxy):
            return self._direct
        check_name(url.host, port, self._allowed_hosts)
        return self._proxied

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request over a checked connection."""
        sent = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        refused: httpcore.ConnectError | None = None
        try:
            answer = await self._pool(request.url).handle_async_request(sent)
        except httpcore.ProxyError as error:
            refused = httpcore.ConnectError(f"the proxy refuses the connection ({error})")
        if refused is not None:
            raise refused
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._direct.aclose()
        if self._proxied is not None:
            await self._proxied.aclose()
