"""An event loop that connects only to addresses that may be connected to, whichever library opens the socket.

Clients of object stores resolve names and open sockets by themselves, and make up further hosts (a region's, a
secondary one). All of it goes through their event loop, so that is where it is checked.
"""

import asyncio
import ipaddress
import socket
import threading
from functools import cache
from typing import Any

from tasks.errors import HostNotAllowed
from tasks.http.addresses import is_public
from tasks.http.network import canonical_host, is_allowed


class GuardedLoop(asyncio.SelectorEventLoop):
    """An event loop whose sockets are checked where they connect."""

    def __init__(self, allowed_hosts: frozenset[str]) -> None:
        super().__init__()
        self._allowed_hosts = allowed_hosts
        self._allowed_addresses: set[tuple[str, int]] = set()

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:  # noqa: ANN401
        """Resolve a name; the addresses of a host that the operator allows may be connected to."""
        found = await super().getaddrinfo(host, port, **options)
        if is_allowed(canonical_host(str(host)), int(port), self._allowed_hosts):
            self._allowed_addresses.update((str(entry[4][0]), int(port)) for entry in found)
        return found

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:  # noqa: ANN401
        """Connect to an address that may be connected to. Errors: `HostNotAllowed`, `OSError`."""
        host, port = str(address[0]), address[1]
        if sock.family not in {socket.AF_INET, socket.AF_INET6}:
            raise HostNotAllowed(reason="it is no address of the internet")
        if not self._may_connect(host, int(port)):
            raise HostNotAllowed(reason=f"a host of the service resolves to {host}")
        await super().sock_connect(sock, address)

    def _may_connect(self, host: str, port: int) -> bool:
        if (host, port) in self._allowed_addresses or is_allowed(host, port, self._allowed_hosts):
            return True
        return is_public(ipaddress.ip_address(host.partition("%")[0]))


@cache
def guarded_loop(allowed_hosts: frozenset[str]) -> GuardedLoop:
    """A running loop for clients that may reach these hosts and the public internet; it ends with the process."""
    loop = GuardedLoop(allowed_hosts)
    threading.Thread(target=loop.run_forever, daemon=True, name="guarded-loop").start()
    return loop
