"""Prefect's server for a run at a terminal: the one that is set, else one that is kept in the background."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, temporary_settings

from deployments.guard import LOGIN, login_of
from deployments.home_server import HomeServer, Running
from tasks.errors import ServerInUse, ServerNotStarted, ServerUnreachable

IDLE = timedelta(minutes=30)
"""A server that is kept ends after so long without a run."""


def say(word: str) -> None:
    """Print at once."""
    print(word, flush=True)


@contextmanager
def server_for_runs() -> Iterator[None]:
    """Until the block ends, runs have a server: that of PREFECT_API_URL, else that of the Prefect home.

    Where the home has none, one is started, and stays for later runs. Errors: `ServerUnreachable`,
    `ServerNotStarted`.
    """
    if address := PREFECT_API_URL.value():
        _check(address)
        yield
        return
    place = HomeServer(PREFECT_HOME.value())
    with place.used(say):
        with place.gate(say):
            server = place.find(say) or start(place)
        login, _ = login_of(place.home, os.environ)
        variables = {"PREFECT_API_URL": f"{server.address}/api", "PREFECT_API_AUTH_STRING": login}
        # Processes that a run starts have the server too.
        with (
            temporary_settings(
                {
                    PREFECT_API_URL: variables["PREFECT_API_URL"],
                    PREFECT_API_AUTH_STRING: variables["PREFECT_API_AUTH_STRING"],
                }
            ),
            environment(variables),
        ):
            yield


def start(place: HomeServer, idle: timedelta = IDLE) -> Running:
    """Start the server of a Prefect home in the background, and wait until it answers. Inside the gate.

    Errors: `ServerNotStarted`.
    """
    say("Prefect's server starts in the background, once for many runs ...")
    lock = place.take()
    if lock is None:  # it has not ended, and does not answer
        raise ServerNotStarted(log=place.log)
    arguments = ["-m", "deployments.local_server", str(place.home), "--idle-seconds", str(idle.total_seconds())]
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        subprocess.Popen(  # noqa: S603
            [sys.executable, *arguments],
            # Nothing to report: on a new database its first report collides with the run's own writes.
            env={"PREFECT_SERVER_ANALYTICS_ENABLED": "false", **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock],
        )
    finally:
        os.close(log)
        os.close(lock)
    server = place.find(say)
    if server is None:
        raise ServerNotStarted(log=place.log)
    say(
        f"It is process {server.pid}; its pages are at {server.address} (login: {place.home / LOGIN}), its log is"
        f" {place.log}."
        f" It ends after {idle.total_seconds() / 60:.0f} minutes without a run, or with `campaign server stop`."
    )
    return server


def stop() -> str:
    """Stop the server that is kept in the background. Out: what was done. Errors: `ServerInUse`."""
    place = HomeServer(PREFECT_HOME.value())
    with place.gate(say):
        server = place.who()
        if server is None:
            return "No server is kept in the background."
        end(place, server)
    return f"Stopped: process {server.pid}."


def end(place: HomeServer, server: Running) -> None:
    """End a server that is kept and unused. Inside the gate. Errors: `ServerInUse`."""
    if not server.is_kept:
        raise ServerInUse(pid=server.pid, cure="It is that of `make serve`: stop it there, with Ctrl-C.")
    with place.unused() as seconds:
        if seconds is None:
            raise ServerInUse(pid=server.pid, cure="A run uses it: wait for its end, or stop the run.")
        os.kill(server.pid, signal.SIGTERM)
        place.wait_until_gone(say)


def status() -> str:
    """A line that says which server the runs here have."""
    if address := PREFECT_API_URL.value():
        return f"Runs use the server of PREFECT_API_URL, {address}."
    place = HomeServer(PREFECT_HOME.value())
    with place.gate(say):
        server = place.who()
        if server is None:
            return f"None runs. The next run starts one, in {place.home}."
        with place.unused() as seconds:
            use = "a run uses it" if seconds is None else f"last used {seconds / 60:.0f} minutes ago"
    kind = "kept in the background" if server.is_kept else "of `make serve`"
    return f"Process {server.pid} on port {server.port}, {kind}; {use}. Its log: {place.log}"


def _check(address: str) -> None:
    import httpx  # noqa: PLC0415  # a second of a run that has a server of its own would go there

    login = PREFECT_API_AUTH_STRING.value()
    auth = tuple(login.get_secret_value().split(":", 1)) if login else None
    try:
        answer = httpx.get(f"{address.rstrip('/')}/admin/version", auth=auth, timeout=30)
    except httpx.HTTPError as error:
        raise ServerUnreachable(url=address, reason=f"it does not answer ({type(error).__name__})") from None
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise ServerUnreachable(url=address, reason="it does not take the login of PREFECT_API_AUTH_STRING")
    if not answer.is_success:
        raise ServerUnreachable(url=address, reason=f"it answers {answer.status_code}")


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The variables in this process's environment, until the block ends."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
