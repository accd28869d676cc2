"""Ports for servers that are started later, or never."""

import random
import socket
from contextlib import suppress

BELOW_EPHEMERAL = range(12_000, 32_000)
"""Linux gives connections ports from 32768 on: none of them takes one of these before its server does."""


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens."""
    while True:
        port = random.choice(BELOW_EPHEMERAL)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
