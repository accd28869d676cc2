"""A server, a worker and campaigns, as `make serve` and `python -m deployments.serve` start them."""

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import until


@dataclass(frozen=True)
class Served:
    """What `make serve` has started."""

    process: subprocess.Popen[str]
    address: str
    folder: Path

    @property
    def output(self) -> str:
        return (self.folder / "serve.log").read_text()

    @property
    def login(self) -> str:
        return (self.folder / "prefect" / "login").read_text()

    @property
    def client(self) -> dict[str, str]:
        """The environment of another client of this server."""
        return {**os.environ, "PREFECT_API_URL": f"{self.address}/api", "PREFECT_API_AUTH_STRING": self.login}

    @cached_property
    def _api(self) -> httpx.Client:
        """With the login, and a token against forgery. There is no TLS: its authorities take longer than a call."""
        who = str(uuid.uuid4())
        api = httpx.Client(
            base_url=f"{self.address}/api/",
            auth=httpx.BasicAuth(*self.login.split(":")),
            timeout=600,
            verify=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        token = _answered(lambda: api.get("csrf-token", params={"client": who})).json()["token"]
        api.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": who})
        return api

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """A call as Prefect's clients make it: again after 503, the answer when its SQLite was kept waiting."""
        return _answered(lambda: self._api.request(method, path, json=body))

    def post(self, path: str, **body: Any) -> Any:
        answer = self.call("POST", path, body)
        assert answer.is_success, answer.text
        return answer.json()

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {found["name"]: found for found in self.post("deployments/filter")}

    def run(self, deployment: str, **parameters: Any) -> str:
        identifier = self.deployments()[deployment]["id"]
        return self.post(f"deployments/{identifier}/create_flow_run", parameters=parameters)["id"]

    def state_of(self, run: str) -> dict[str, Any]:
        return self.call("GET", f"flow_runs/{run}").json()["state"]


@contextmanager
def serving(
    command: Sequence[str], here: Path, folder: Path, environment: Mapping[str, str], port: int
) -> Iterator[Served]:
    """Run a command that serves, in a folder of its own; its log and its home are in another one."""
    with (folder / "serve.log").open("w") as output:
        process = subprocess.Popen(
            command, cwd=here, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    running = Served(process, f"http://127.0.0.1:{port}", folder)
    try:
        until(lambda: "Worker 'ProcessWorker" in running.output or process.poll() is not None, "serving")
        assert process.poll() is None, running.output
        yield running
    finally:
        process.terminate()
        process.wait(90)


def _answered(ask: Callable[[], httpx.Response], tries: int = 10) -> httpx.Response:
    for _ in range(tries):
        if (answer := ask()).status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(1)
    return answer
