"""A host that fails is left alone for a while, by every run."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import flow
from prefect.variables import Variable

from deployments.sandbox.server import Call, Reply, Server
from tasks.data_management.external_api import Content, external_api
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import HostPaused, StatusRefused

StartServer = Callable[[Callable[[Call], Reply]], Server]


@flow
def content(endpoint: Endpoint) -> Content:
    return external_api(None, endpoint)


@pytest.mark.slow
def test_a_failing_host_is_left_alone_by_every_run_until_the_pause_is_over(
    start_server: StartServer, result_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')
    monkeypatch.setenv("CAMPAIGN_NETWORK__BREAKER__FAILURES", "2")
    monkeypatch.setenv("CAMPAIGN_NETWORK__BREAKER__PAUSE_SECONDS", "100")
    status = [503, 404, 503]
    server = start_server(lambda call: Reply(b"[]", status.pop(0) if status else 200))

    def endpoint(name: str, **options: object) -> Endpoint:
        given = {"name": name, "method": "GET", "url": f"{server.address}/{name}", "ca_file": server.ca_file}
        return Endpoint(**{**given, "retries": 0, "outbound": {"columns": {"n": "n"}}, **options})

    for _ in range(3):  # of which two are the host's fault
        with pytest.raises(StatusRefused):
            content(endpoint("first"))
    with pytest.raises(HostPaused, match="failed 2 times lately") as paused:
        content(endpoint("second"))
    assert len(server.calls) == 3
    branch = content(endpoint("second", on_failure="transition")).failure
    assert branch["code"].to_list() == ["CMP-185"]
    monkeypatch.setenv("CAMPAIGN_NETWORK__BREAKER__PAUSE_SECONDS", "3")
    begun = time.monotonic()
    assert content(endpoint("third", retries=1, backoff_seconds=0)).failure.is_empty()  # waits for the rest, if any
    assert time.monotonic() - begun < 60
    assert len(server.calls) == 4
    assert Variable.get(paused.value.facts["variable"], _sync=True) is None
