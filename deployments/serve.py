"""`make serve`: a Prefect server, a worker, every campaign and the unsubscribe page here, until Ctrl-C.

What the settings leave open, the sandbox is: its partner runs here, and its profiles are made. The campaigns are
those of this folder's prefect.yaml. The server's database, log, login and key are in PREFECT_HOME. Every client
needs the login: it is made at the first start and printed once.
"""

import argparse
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from deployments.guard import (
    HEARTBEAT,
    LOGIN,
    OF_THE_SERVER,
    SERVER,
    WORKER,
    guarded_server,
    kept,
    login_of,
)
from deployments.home_server import WORD_SECONDS, HomeServer, Running
from deployments.ports import HOST, holder_of, port_is_free
from deployments.processes import child
from deployments.register import POOL
from deployments.sandbox.partner import PATHS
from deployments.sandbox.substitute import substitute
from deployments.terminal.server import end as end_kept_server
from deployments.terminal.server import say
from flows.settings import CampaignSettings
from tasks.errors import CampaignError
from tasks.settings import UnsubscribeSettings

PAGE_AFTER = 80
"""The unsubscribe page's port is so much higher than the server's."""
LOOK_SECONDS = 0.5
QUICK_SECONDS = 30
"""A worker that ends so soon after its start is not started again."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotServe(Exception):
    """Something does not start, or has ended by itself: one sentence."""


class _Stopped(BaseException):
    """Ctrl-C, SIGTERM or the terminal's end: no error."""


def main() -> None:
    """Read the command line and serve. Status 0: stopped by a signal; 1: told in one sentence why not."""
    parser = argparse.ArgumentParser(prog="python -m deployments.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=4200, help="port of the server on loopback (default: 4200)")
    parser.add_argument(
        "--notify",
        default="",
        help="notification block, <kind>/<name>, for failed and late campaigns",
    )
    options = parser.parse_args()
    os.umask(0o077)  # what the server, the worker and the runs write is this user's alone
    for number in STOPPING:
        signal.signal(number, _stop)
    try:
        serve(options.port, options.notify)
    except _Stopped:
        print("Stopped.", flush=True)
    except (CampaignError, CannotServe) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    # Once: a second Ctrl-C must not interrupt the stopping.
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)
    raise _Stopped


def serve(port: int, notify: str = "") -> NoReturn:
    """Serve until a signal stops it. Errors: `CannotServe`, `CampaignError`."""
    page_port = port + PAGE_AFTER
    for number, whose in ((port, ""), (page_port, ", the unsubscribe page's,")):
        if not port_is_free(number):
            holder = holder_of(number)
            raise CannotServe(
                f"Port {number}{whose} is taken{' ' if holder else ''}{holder}: stop that, or choose another one"
                " (make serve PORT=...)."
            )
    place = HomeServer(Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect")))
    address = f"http://{HOST}:{port}"
    with _only_server(place, port), substitute(CampaignSettings.load(), PATHS) as variables:
        guarded = guarded_server(place.home, address, _with_login_shown(place.home))
        environment = {
            **SERVER,
            **HEARTBEAT,
            **WORKER,
            **os.environ,
            **variables,
            **unsubscribe_page(CampaignSettings.load().unsubscribe, place.home, page_port),
            "PREFECT_API_URL": f"{address}/api",
            "PREFECT_API_AUTH_STRING": guarded["PREFECT_SERVER_API_AUTH_STRING"],
        }
        environment = {name: value for name, value in environment.items() if name not in OF_THE_SERVER}
        if variables:
            print("The sandbox answers for what has no address in the settings.", flush=True)
        print(f"Starting the Prefect server (its log: {place.log}) ...", flush=True)
        with _server(port, {**environment, **guarded}, place.log) as server:
            _wait_until_healthy(Running(server.pid, port, is_kept=False), server, place.log)
            _register(notify, environment)
            with (
                ExitStack() as workers,
                child(["-m", "deployments.unsubscribe", "--port", str(page_port)], environment) as page,
            ):
                print(f"Open {address}/deployments and run a campaign. Ctrl-C stops everything.", flush=True)
                _watch({"server": server, "unsubscribe page": page}, workers, environment)


@contextmanager
def _only_server(place: HomeServer, port: int) -> Iterator[None]:
    """This is the server of its home: runs at a terminal use it too. One that is kept for them ends before.

    Errors: `ServerInUse`, `CannotServe` (another one serves this home).
    """
    with place.gate(say):
        if there := place.who():
            if not there.is_kept:
                raise CannotServe(f"Process {there.pid} serves {place.home} already, on port {there.port}.")
            end_kept_server(place, there)
        lock = place.take()
        if lock is None:
            raise CannotServe(f"Another server has {place.home}.")
        place.tell(Running(os.getpid(), port, is_kept=False))
    try:
        yield
    finally:
        os.close(lock)


def _with_login_shown(home: Path) -> dict[str, str]:
    """The environment with the login in it, which is shown once: when it is made."""
    if os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        return dict(os.environ)
    login, is_new = login_of(home, os.environ)
    file = home / LOGIN
    print(f"Log in with {login}" if is_new else f"The login is in {file}", flush=True)
    if is_new:
        print(f"It is kept in {file}. Other clients: export PREFECT_API_AUTH_STRING=$(cat {file})", flush=True)
    return {**os.environ, "PREFECT_SERVER_API_AUTH_STRING": login}


def unsubscribe_page(settings: UnsubscribeSettings, home: Path, port: int) -> dict[str, str]:
    """The settings of the unsubscribe page on this machine, for what is left open in them.

    A secret is made once and kept in `home`: links of earlier runs go on working.
    """
    variables = {} if settings.url else {"CAMPAIGN_UNSUBSCRIBE__URL": f"http://{HOST}:{port}/unsubscribe"}
    if not settings.secret.get_secret_value():
        variables["CAMPAIGN_UNSUBSCRIBE__SECRET"], _ = kept(home / "unsubscribe.secret", secrets.token_urlsafe)
    return variables


@contextmanager
def _server(port: int, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    with log.open("wb") as output, child(arguments, environment, output.fileno()) as server:
        yield server


def _wait_until_healthy(there: Running, server: subprocess.Popen[bytes], log: Path) -> None:
    begun = said = time.monotonic()
    while not there.is_healthy():
        if server.poll() is not None:
            raise CannotServe(f"The Prefect server ended with status {server.returncode}; see {log}.")
        time.sleep(0.1)
        if time.monotonic() - said > WORD_SECONDS:
            said = time.monotonic()
            print(f"The Prefect server is still starting ({said - begun:.0f} s) ...", flush=True)


def _register(notify: str, environment: Mapping[str, str]) -> None:
    with child(["-m", "deployments.register", "--notify", notify], environment) as registering:
        if registering.wait():
            raise CannotServe("The deployments could not be registered; the reason stands above.")


def _watch(
    children: Mapping[str, subprocess.Popen[bytes]], workers: ExitStack, environment: Mapping[str, str]
) -> NoReturn:
    """Wait for ever. A worker that ends is started again: its runs go on, and those that died are told."""
    arguments = ["-m", "prefect", "worker", "start", "--pool", POOL]
    while True:
        begun = time.monotonic()
        worker = workers.enter_context(child(arguments, environment))
        while worker.poll() is None:
            for name, process in children.items():
                if process.poll() is not None:
                    raise CannotServe(f"The {name} ended by itself with status {process.returncode}.")
            time.sleep(LOOK_SECONDS)
        if time.monotonic() - begun < QUICK_SECONDS:
            raise CannotServe(f"The worker ended by itself with status {worker.returncode}.")
        print(f"The worker ended by itself with status {worker.returncode}: it is started again.", flush=True)


if __name__ == "__main__":
    main()
