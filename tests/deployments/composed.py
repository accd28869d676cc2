"""Prefect's server as compose.yaml declares it, run on this machine's PostgreSQL and Redis; and its workers."""

import os
import re
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import redis
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from sqlalchemy.exc import OperationalError

from deployments.processes import child
from deployments.register import POOL
from tests.ports import free_port
from tests.postgresql import new_database
from tests.waiting import until

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())
HOST = "127.0.0.1"
CHOSEN = {
    "CAMPAIGN_DATABASE_PASSWORD": "unused-postgresql-here-trusts-us",
    "CAMPAIGN_REDIS_PASSWORD": "redis-password",
    "CAMPAIGN_LOGIN": "operator:composed-password",
    "CAMPAIGN_ENCRYPTION_KEY": urlsafe_b64encode(bytes(32)).decode(),
}
"""What the compose file leaves to whoever starts it."""
UNAVAILABLE = (OperationalError, FileNotFoundError)
"""There is no PostgreSQL or no Redis."""


@dataclass(frozen=True)
class PrefectServer:
    """A running server with everything registered."""

    apis: list[str]
    """Address of each replica's API."""
    processes: list[int]
    """Numbers of the processes of the replicas and the services."""
    login: str = ""

    def client(self) -> SyncPrefectClient:
        """A client of the first replica."""
        return SyncPrefectClient(self.apis[0], auth_string=self.login or None)


@contextmanager
def composed_server(folder: Path) -> Iterator[PrefectServer]:
    """The compose file's own commands: migrations, every server replica, services, registration; logs in `folder`.

    Errors: those of `UNAVAILABLE`.
    """
    services = COMPOSE["services"]
    with ExitStack() as stack:
        environment = stack.enter_context(_environment_of_servers(folder))
        run(services["migrate"]["command"], environment, folder / "migrate.log")
        # Two that start on an empty database may both write its first rows, and one gives up: `restart` in
        # the compose file starts it again, here the second starts when the first is up.
        replicas = [
            stack.enter_context(
                server_replica(services["server"]["command"], environment, folder / f"{number}.log")
            )
            for number in range(services["server"]["deploy"]["replicas"])
        ]
        background = stack.enter_context(
            running(services["services"]["command"], environment, folder / "services.log")
        )
        apis, processes = zip(*replicas, strict=True)
        server = PrefectServer([*apis], [*processes, background.pid], CHOSEN["CAMPAIGN_LOGIN"])
        register(server, folder)
        yield server


def declared(service: str) -> dict[str, str]:
    """The environment of a service, with what was chosen in its places."""
    found: dict[str, str] = COMPOSE["services"][service]["environment"]
    return {name: _filled(value) for name, value in found.items()}


def _filled(text: str) -> str:
    return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda place: CHOSEN[place[1]], text)


@contextmanager
def _environment_of_servers(folder: Path) -> Iterator[dict[str, str]]:
    with new_database("prefect_test") as database, _redis(folder) as port:
        here = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.replace("postgresql:", "postgresql+asyncpg:"),
            "PREFECT_SERVER_DOCKET_URL": f"redis://:{CHOSEN['CAMPAIGN_REDIS_PASSWORD']}@{HOST}:{port}/1",
            "PREFECT_REDIS_MESSAGING_HOST": HOST,
            "PREFECT_REDIS_MESSAGING_PORT": str(port),
        }
        servers = declared("server")
        assert set(here) <= set(servers)
        yield {**clean_environment(folder), **servers, **here}


@contextmanager
def _redis(folder: Path) -> Iterator[int]:
    """The compose file's Redis, with its password; gives its port."""
    port = free_port()
    command = [*map(_filled, COMPOSE["services"]["redis"]["command"]), "--port", str(port), "--bind", HOST]
    log = folder / "redis.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        try:
            until(lambda: b"Ready to accept connections" in log.read_bytes(), log)
            with redis.Redis(host=HOST, port=port) as nobody, pytest.raises(redis.AuthenticationError):
                nobody.ping()
            yield port
        finally:
            process.terminate()
            process.wait(30)


def clean_environment(folder: Path) -> dict[str, str]:
    """The environment without its own settings of Prefect and of campaigns, and with a Prefect home in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CAMPAIGN_"))}
    own = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    return {**kept, **own, "PYTHONPATH": str(ROOT)}


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command of the image with this Python, from the root of this repository, until the block ends."""
    arguments = command[1:] if command[0] == "python" else ["-m", *command]
    with log.open("wb") as output, child([*arguments], environment, output.fileno()) as process:
        yield process


def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """The same, to its end."""
    with running(command, environment, log) as process:
        assert process.wait(240) == 0, log.read_text()


@contextmanager
def server_replica(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[tuple[str, int]]:
    """A server on a free port; gives the address of its API, when it answers, and its process's number."""
    port = free_port()
    api = f"http://{HOST}:{port}/api"

    def answers() -> bool:
        try:
            return httpx.get(f"{api}/health", timeout=5).is_success
        except httpx.TransportError:
            return False

    with running([*command, "--port", str(port)], environment, log) as process:
        until(answers, log)
        yield api, process.pid


def of_client(server: PrefectServer, folder: Path, replica: int = 0) -> dict[str, str]:
    """The environment of a worker, and of everything else that is no server."""
    here = {"PREFECT_API_URL": server.apis[replica], "PREFECT_API_AUTH_STRING": server.login}
    assert set(here) <= set(declared("worker")) == set(declared("register"))
    return {**clean_environment(folder), **declared("worker"), **here}


def register(server: PrefectServer, folder: Path) -> None:
    """Make the server know everything that is here."""
    environment = of_client(server, folder)
    run(COMPOSE["services"]["register"]["command"], environment, folder / "register.log")


@contextmanager
def workers(server: PrefectServer, count: int, settings: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """Workers with these settings, each of which has one run at a time; gives the last one's log.

    They talk to the replicas in turns, as through the gateway.
    """
    command = ["prefect", "worker", "start", "--pool", POOL, "--limit", "1"]
    logs = [folder / f"worker{number}.log" for number in range(count)]
    with ExitStack() as stack:
        for number, log in enumerate(logs):
            environment = {**of_client(server, folder, number % len(server.apis)), **settings}
            stack.enter_context(running(command, environment, log))
        for log in logs:
            until(lambda log=log: "started!" in log.read_text(), log)
        yield logs[-1]


def finished(client: SyncPrefectClient, runs: Sequence[UUID], log: Path) -> list[FlowRun]:
    """Runs, when all have ended; the log of a worker is for the error."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[*runs]))

    def ended() -> list[FlowRun]:
        found = client.read_flow_runs(flow_run_filter=wanted)
        return found if all(run.state is not None and run.state.is_final() for run in found) else []

    return until(ended, log, pause=1)  # asking is work for the server too
