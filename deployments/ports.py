"""Ports of this machine: whether one is free, and who has it."""

import re
import socket
from pathlib import Path

HOST = "127.0.0.1"
LISTENS = "0A"
"""State of a socket that listens, as Linux writes it."""


def port_is_free(port: int) -> bool:
    """Whether a server can be started on this port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def holder_of(port: int) -> str:
    """Who listens on a port, as `by process 4711 (python -m prefect)`; empty where the system does not tell."""
    wanted = {f"socket:[{inode}]" for inode in _listening(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if wanted else ():
        try:
            if str(descriptor.readlink()) in wanted:
                process = descriptor.parents[1]
                return f"by process {process.name} ({program_of(int(process.name))})"
        except OSError:  # it has ended, or is another user's
            continue
    return ""


def program_of(process: int) -> str:
    """A process's program, and the module that it runs; no more of its command line, which may hold secrets."""
    try:
        first, *others = Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8").split("\0")
    except (OSError, UnicodeDecodeError):
        return "unknown"
    module = others[: 2 if others[:1] == ["-m"] else 0]
    return " ".join([Path(first).name, *module])


def _listening(port: int) -> list[str]:
    """The inodes of sockets that listen on a port."""
    found: list[str] = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        lines = table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []
        rows = map(str.split, lines)
        found += [row[9] for row in rows if re.fullmatch(rf"\w+:{port:04X}", row[1]) and row[3] == LISTENS]
    return found
