"""`make serve`: a Prefect server, a worker, every campaign and the unsubscribe page here, until Ctrl-C.

What the settings leave open, the sandbox is: its partner runs here, and its profiles are made. The server's
database, log, login and key are in PREFECT_HOME. Whoever calls the server needs the login: it is made at the first
start and printed once.
"""

import argparse
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx

from deployments.register import POOL, ROOT
from deployments.sandbox.partner import PATHS
from deployments.sandbox.substitute import port_is_free, substitute
from flows.settings import CampaignSettings
from tasks.errors import CampaignError
from tasks.files.storage import make_private, written_whole
from tasks.settings import UnsubscribeSettings

HOST = "127.0.0.1"
SERVER = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""Task runs are recorded together, once a second: one by one is half of a server's work for a large audience."""
OF_THE_SERVER = (
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_SERVER_ENCRYPTION_KEY",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS",
    "PREFECT_SERVER_UI_API_URL",
)
"""What the server alone is told: runs have no use for its key."""
LOGIN, KEY = "login", "encryption.key"
"""Files of the Prefect home."""
PAGE_AFTER = 80
"""The unsubscribe page's port is so much higher than the server's."""
START_SECONDS = 180
STOP_SECONDS = 30


class CannotServe(Exception):
    """Something does not start, or has ended by itself: one sentence."""


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM: no error."""


def main() -> None:
    """Read the command line and serve. Status 0: stopped by Ctrl-C or SIGTERM; 1: told in one sentence why not."""
    parser = argparse.ArgumentParser(prog="python -m deployments.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=4200, help="port of the server on loopback (default: 4200)")
    parser.add_argument(
        "--notify", default="", help="notification block, <kind>/<name>, that is told of failed and late campaigns"
    )
    options = parser.parse_args()
    os.chdir(ROOT)
    os.umask(0o077)  # what the server, the worker and the runs write is this user's alone
    for number in (signal.SIGINT, signal.SIGTERM):
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
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise _Stopped


def serve(port: int, notify: str = "") -> NoReturn:
    """Serve until a signal stops it. Errors: `CannotServe`, `CampaignError`."""
    if not port_is_free(port):
        raise CannotServe(f"Port {port} is taken: stop what is on it, or choose another one (make serve PORT=...).")
    page_port = port + PAGE_AFTER
    if not port_is_free(page_port):
        raise CannotServe(
            f"Port {page_port}, the unsubscribe page's, is taken: stop what is on it, or take another PORT."
        )
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    make_private(home)
    log = home / "server.log"
    address = f"http://{HOST}:{port}"
    guarded = guarded_server(home, address, os.environ)
    with substitute(CampaignSettings.load(), PATHS) as variables:
        environment = {
            **SERVER,
            **os.environ,
            **variables,
            **unsubscribe_page(CampaignSettings.load().unsubscribe, home, page_port),
            "PREFECT_API_URL": f"{address}/api",
            "PREFECT_API_AUTH_STRING": guarded["PREFECT_SERVER_API_AUTH_STRING"],
            "PWD": str(ROOT),
        }
        environment = {name: value for name, value in environment.items() if name not in OF_THE_SERVER}
        if variables:
            print("The sandbox answers for what has no address in the settings.", flush=True)
        print(f"Starting the Prefect server (its log: {log}) ...", flush=True)
        with _server(port, {**environment, **guarded}, log) as server:
            _wait_until_healthy(address, server, log)
            _register(notify, environment)
            with (
                child(["-m", "prefect", "worker", "start", "--pool", POOL], environment) as worker,
                child(["-m", "deployments.unsubscribe", "--port", str(page_port)], environment) as page,
            ):
                print(f"Open {address}/deployments and run a campaign. Ctrl-C stops everything.", flush=True)
                _watch({"server": server, "worker": worker, "unsubscribe page": page})


def unsubscribe_page(settings: UnsubscribeSettings, home: Path, port: int) -> dict[str, str]:
    """The settings of the unsubscribe page on this machine, for what is left open in them.

    A secret is made once and kept in `home`: links of earlier runs go on working.
    """
    variables = {} if settings.url else {"CAMPAIGN_UNSUBSCRIBE__URL": f"http://{HOST}:{port}/unsubscribe"}
    if not settings.secret.get_secret_value():
        variables["CAMPAIGN_UNSUBSCRIBE__SECRET"], _ = kept(home / "unsubscribe.secret", secrets.token_urlsafe)
    return variables


def guarded_server(home: Path, address: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What the server is told so that nobody without the login is answered, and no page of another origin.

    The login is that of PREFECT_SERVER_API_AUTH_STRING; else it is made once, kept in `home`, and printed once. The
    key that encrypts accounts is kept beside the server's database, not in it.
    """
    login = environment.get("PREFECT_SERVER_API_AUTH_STRING", "")
    if not login:
        file = home / LOGIN
        login, is_new = kept(file, lambda: f"admin:{secrets.token_urlsafe(24)}")
        print(f"Log in with {login}" if is_new else f"The login is in {file}", flush=True)
        if is_new:
            print(f"It is kept in {file}. Other clients: export PREFECT_API_AUTH_STRING=$(cat {file})", flush=True)
    key = environment.get("PREFECT_SERVER_ENCRYPTION_KEY", "") or _encryption_key(home)
    values = (login, key, "true", address, "/api")
    return dict(zip(OF_THE_SERVER, values, strict=True))


def kept(file: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """The one line of a file of this user alone, and whether it was made now."""
    is_new = not file.exists()
    if is_new:
        with written_whole(file) as draft:
            draft.write_text(make(), encoding="ascii")
    return file.read_text(encoding="ascii").strip(), is_new


def _encryption_key(home: Path) -> str:
    """The key of `home`. One that an earlier server has put into its own database is moved from there."""
    if "PREFECT_SERVER_DATABASE_CONNECTION_URL" in os.environ and not (home / KEY).exists():
        raise CannotServe(
            "A server with its own database needs PREFECT_SERVER_ENCRYPTION_KEY: deployments/README.md says how"
            " to make it."
        )
    with closing(sqlite3.connect(home / "prefect.db")) as database, database:
        is_made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'configuration'").fetchone()
        row = (
            is_made and database.execute("SELECT value FROM configuration WHERE key = 'ENCRYPTION_KEY'").fetchone()
        )
        there = str(json.loads(row[0])["fernet_key"]) if row else ""
        key, _ = kept(home / KEY, lambda: there or urlsafe_b64encode(secrets.token_bytes(32)).decode())
        if key == there:
            database.execute("DELETE FROM configuration WHERE key = 'ENCRYPTION_KEY'")
    return key


@contextmanager
def _server(port: int, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    with log.open("wb") as output, child(arguments, environment, output.fileno()) as server:
        yield server


@contextmanager
def child(
    arguments: list[str], environment: Mapping[str, str], output: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this Python in a group of its own: a Ctrl-C reaches it through us alone, and in order."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, *arguments],
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and whatever of its group it leaves behind."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        process.wait()


def _wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise CannotServe(f"The Prefect server ended with status {server.returncode}; see {log}.")
        try:
            if httpx.get(f"{address}/api/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.25)
    raise CannotServe(f"The Prefect server did not start in {START_SECONDS} seconds; see {log}.")


def _register(notify: str, environment: Mapping[str, str]) -> None:
    with child(["-m", "deployments.register", "--notify", notify], environment) as registering:
        if registering.wait():
            raise CannotServe("The deployments could not be registered; the reason stands above.")


def _watch(children: Mapping[str, subprocess.Popen[bytes]]) -> NoReturn:
    while True:
        for name, child in children.items():
            if child.poll() is not None:
                raise CannotServe(f"The {name} ended by itself with status {child.returncode}.")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
