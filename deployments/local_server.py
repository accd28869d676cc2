"""`python -m deployments.local_server`: Prefect's server for the runs of a terminal, kept between them.

It is on loopback, under the login of its home, and ends by itself when no run has used it for a while. Whoever
starts it hands over the lock of the home's server.
"""

import argparse
import os
import socket
import threading
import time
from pathlib import Path

from deployments.guard import SERVER, guarded_server
from deployments.home_server import HomeServer, Running
from deployments.ports import HOST

GRACE_SECONDS = 5
"""For answers that are under way when it ends."""
LOOKS = 60
"""So often it looks, in the time for which it waits for a user."""


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m deployments.local_server", description=__doc__)
    parser.add_argument("home", type=Path, help="Prefect's home")
    parser.add_argument("--idle-seconds", type=float, required=True, help="it ends after so long without a user")
    options = parser.parse_args()
    serve(HomeServer(options.home), options.idle_seconds)


def serve(place: HomeServer, idle_seconds: float) -> None:
    """Serve until the server has not been used for that time, or a signal stops it."""
    os.umask(0o077)
    with socket.create_server((HOST, 0)) as listening:
        here = Running(os.getpid(), listening.getsockname()[1], is_kept=True)
        os.environ.update({**SERVER, **guarded_server(place.home, here.address, os.environ)})
        place.tell(here)

        import uvicorn  # noqa: PLC0415  # those who wait are told first who this is

        server = uvicorn.Server(
            uvicorn.Config(
                "prefect.server.api.server:create_app",
                factory=True,
                log_level="error",
                lifespan="on",
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        threading.Thread(target=_end_when_idle, args=(place, server, idle_seconds), daemon=True).start()
        server.run(sockets=[listening])


def _end_when_idle(place: HomeServer, server: object, idle_seconds: float) -> None:
    while True:
        time.sleep(idle_seconds / LOOKS)
        with place.unused() as seconds:
            if seconds is not None and seconds > idle_seconds:
                server.should_exit = True  # type: ignore[attr-defined]
                # New users wait for our end, and start another one.
                threading.Event().wait()


if __name__ == "__main__":
    main()
