"""The files of a deployment checked by their tools' schemas, and the server on PostgreSQL and Redis really run."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import sqlalchemy as sa
import yaml
from compose_spec import PyOptions
from kubernetes_validate import ValidationError as ManifestInvalid
from kubernetes_validate import validate
from prefect.client.schemas import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
POSTGRESQL = "127.0.0.1:5432"
KUBERNETES = "1.33"


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "kubernetes" / "worker.yaml").read_text()))


def test_the_compose_file_is_of_the_compose_specification() -> None:
    reader = PyOptions(apply_merge=True)
    read = reader.from_yaml((FOLDER / "compose.yaml").read_text())
    read.validate()
    assert set(read.service_names()) == set(COMPOSE["services"])
    with pytest.raises(ValueError, match="imag"):
        reader.from_yaml("services: {server: {imag: campaign-flows}}")


def test_every_service_can_be_started_from_what_is_there() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"], name
        if "build" in service:
            assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).resolve().is_file()
    assert services["server"]["deploy"]["replicas"] == 2
    assert "--no-services" in services["server"]["command"]


def test_the_dockerfile_has_nothing_that_hadolint_finds() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run(
        [hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in sent, name
    packages = re.search(r"packages = (\[.+\])", (ROOT / "pyproject.toml").read_text())
    assert set(json.loads(packages[1])) <= set(" ".join(copied).split())


@pytest.mark.parametrize("manifest", manifests(), ids=lambda found: found["kind"])
def test_kubernetes_takes_the_worker_s_manifests(manifest: dict[str, Any]) -> None:
    validate(manifest, KUBERNETES, strict=True)
    with pytest.raises(ManifestInvalid):
        validate({**manifest, "speck": {}}, KUBERNETES, strict=True)


def test_kubernetes_takes_the_job_that_the_work_pool_makes(prefect_backend: str) -> None:
    template = json.loads((FOLDER / "kubernetes" / "work-pool.json").read_text())
    values = {"name": "birthday-coupons", "command": "prefect flow-run execute"}
    configuration = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(base_job_template=template, values=values)
    )
    configuration.prepare_for_flow_run(FlowRun(name="birthday-coupons", flow_id=uuid.uuid4()))
    job = configuration.job_manifest
    # Prefect asks for these two in the pod's specification, where Kubernetes passes over them.
    for name in ("completions", "parallelism"):
        job["spec"]["template"]["spec"].pop(name)
    validate(job, KUBERNETES, strict=True)
    secrets = {source["secretRef"]["name"] for source in _container(job)["envFrom"]}
    assert secrets == {"prefect", "campaign-settings"}
    claims = {found["metadata"]["name"] for found in manifests() if found["kind"] == "PersistentVolumeClaim"}
    assert job["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] in claims


def _container(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]["containers"][0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment that the compose file gives its servers, on this machine's PostgreSQL and Redis."""
    name = f"prefect_test_{uuid.uuid4().hex[:12]}"
    administration = sa.create_engine(
        f"postgresql+psycopg://postgres@{POSTGRESQL}/postgres", isolation_level="AUTOCOMMIT"
    )
    messages = [redis.Redis(host="127.0.0.1", db=number) for number in (14, 15)]
    try:
        for database in messages:
            database.flushdb()
        with administration.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
    except (sa.exc.OperationalError, redis.ConnectionError) as error:
        pytest.skip(f"no PostgreSQL and Redis here: {error}")
    declared: dict[str, str] = COMPOSE["services"]["server"]["environment"]
    here = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://postgres@{POSTGRESQL}/{name}",
        "PREFECT_SERVER_DOCKET_URL": "redis://127.0.0.1:6379/15",
        "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
        "PREFECT_REDIS_MESSAGING_DB": "14",
    }
    assert set(here) <= set(declared)
    yield {**os.environ, **declared, **here, "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(ROOT)}
    with administration.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    administration.dispose()
    for database in messages:
        database.flushdb()


def running(
    arguments: list[str], environment: dict[str, str], log: Path, stack: ExitStack
) -> subprocess.Popen[bytes]:
    """A part of the compose file, started by its command, until the stack ends."""
    output = stack.enter_context(log.open("wb"))
    program = [sys.executable, "-m", *arguments]
    process = subprocess.Popen(program, env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)


def wait_for(url: str, log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def test_two_server_replicas_and_services_are_one_server_on_postgresql_and_redis(
    server_environment: dict[str, str], tmp_path: Path
) -> None:
    services = COMPOSE["services"]
    subprocess.run(
        [sys.executable, "-m", *services["migrate"]["command"]], env=server_environment, check=True, timeout=240
    )
    ports = [free_port(), free_port()]
    first, second = (f"http://127.0.0.1:{port}/api" for port in ports)
    with ExitStack() as stack:
        for number, port in enumerate(ports):
            command = [*services["server"]["command"], "--port", str(port)]
            running(command, server_environment, tmp_path / f"server{number}.log", stack)
            # Two that start on an empty database may both write its first rows, and one gives up: `restart` in
            # the compose file starts it again, here the second starts when the first is up.
            wait_for(f"http://127.0.0.1:{port}/api", tmp_path / f"server{number}.log")
        running(services["services"]["command"], server_environment, tmp_path / "services.log", stack)

        # Registered at one replica, known to the other.
        command = services["register"]["command"]
        environment = {**server_environment, "PREFECT_API_URL": first}
        subprocess.run([sys.executable, *command[1:]], env=environment, cwd=ROOT, check=True, timeout=240)
        known = {found["name"] for found in httpx.post(f"{second}/deployments/filter", json={}, timeout=60).json()}
        assert {"birthday-coupons", "campaign", "sports-weekend"} <= known
        kinds = httpx.post(f"{second}/block_types/filter", json={}, timeout=60).json()
        assert {"oauth2-account", "slack-webhook"} <= {kind["slug"] for kind in kinds}

        # An event that one replica is told reaches the automations of the services; the other sees the run.
        event = {
            "id": str(uuid.uuid4()),
            "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "event": "campaign.requested",
            "resource": {"prefect.resource.id": "campaign.latest-offers"},
            "payload": {"business_date": "2026-11-24"},
        }
        end = time.monotonic() + 120
        assert httpx.post(f"{second}/events", json=[event], timeout=60).is_success
        runs: list[dict[str, Any]] = []
        while not runs and time.monotonic() < end:
            time.sleep(1)
            runs = httpx.post(f"{first}/flow_runs/filter", json={}, timeout=60).json()
        assert [run["parameters"]["business_date"] for run in runs] == ["2026-11-24"]
