"""The files of a deployment checked by their tools' schemas, and the server on PostgreSQL and Redis really run."""

import asyncio
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from compose_spec import PyOptions
from kubernetes_validate import ValidationError as ManifestInvalid
from kubernetes_validate import validate
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from prefect.states import Cancelling
from prefect.workers.process import ProcessJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from deployments.register import job_template
from deployments.sandbox.mail_server import MailBehaviour, MailSandbox, running_mail_server
from deployments.sandbox.partner import Partner
from tasks.send import Send
from tasks.sources.sql import Database
from tests.deployments.composed import (
    COMPOSE,
    ROOT,
    UNAVAILABLE,
    PrefectServer,
    composed_server,
    finished,
    workers,
)
from tests.deployments.weekend_mail import (
    DAY,
    deployed_side_by_side,
    mail_settings,
    readers,
    senders,
    sent,
    start_run,
)
from tests.waiting import until

FOLDER = ROOT / "deployments"
KUBERNETES = "1.33"


def manifests() -> list[dict[str, Any]]:
    files = sorted((FOLDER / "kubernetes").glob("*.yaml"))
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]


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


def test_the_shipped_postgresql_encrypts_and_its_address_for_a_journal_is_taken(tmp_path: Path) -> None:
    shell, flags, script = COMPOSE["services"]["postgres"]["entrypoint"]
    assert "$" not in script, "compose would fill it in"
    asked = tmp_path / "asked"
    for name, does in (("docker-entrypoint.sh", f'printf "%s " "$@" > {asked}'), ("chown", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o700)
    here = script.replace("/var/lib/postgresql", str(tmp_path))
    keys = set()
    for _ in range(2):
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run([shell, flags, here], env=environment, check=True, capture_output=True, timeout=600)
        keys.add((tmp_path / "server.key").read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    assert (len(keys), (tmp_path / "server.key").stat().st_mode & 0o777) == (1, 0o600)
    options = ("ssl=on", f"ssl_cert_file={tmp_path}/server.crt", f"ssl_key_file={tmp_path}/server.key")
    assert asked.read_text().split() == ["postgres", *(word for option in options for word in ("-c", option))]
    (address,) = re.findall(r"CAMPAIGN_JOURNAL__URL=(\S+<.*>\S+)", (FOLDER / "compose.yaml").read_text())
    assert Database(url=address.replace("<database password>", "c4n4ry")).address.host == "postgres"


def test_the_dockerfile_has_nothing_that_hadolint_finds() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run(
        [hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True, timeout=600, check=False
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
    attack = {"command": "touch /data/x", "image": "evil.example/x", "env": {"A": "b"}, "namespace": "kube-system"}
    values = {"name": "birthday-coupons", **attack}
    configuration = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(base_job_template=template, values=values)
    )
    configuration.prepare_for_flow_run(FlowRun(name="birthday-coupons", flow_id=uuid.uuid4()))
    job = configuration.job_manifest
    # Prefect asks for these two in the pod's specification, where Kubernetes passes over them.
    for name in ("completions", "parallelism"):
        job["spec"]["template"]["spec"].pop(name)
    validate(job, KUBERNETES, strict=True)
    assert _container(job)["args"] == ["prefect", "flow-run", "execute"]
    assert "touch" not in json.dumps(job)
    assert "evil" not in json.dumps(job)
    assert job["metadata"]["namespace"] == configuration.namespace == "campaigns"
    secrets = {source["secretRef"]["name"] for source in _container(job)["envFrom"]}
    assert secrets == {"prefect", "campaign-settings"}
    claims = {found["metadata"]["name"] for found in manifests() if found["kind"] == "PersistentVolumeClaim"}
    assert job["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] in claims


def test_a_run_cannot_say_what_its_process_executes() -> None:
    attack = {"command": "touch x", "env": {"PYTHONPATH": "/tmp"}, "working_dir": "/tmp"}
    configuration = asyncio.run(
        ProcessJobConfiguration.from_template_and_values(base_job_template=job_template(), values=attack)
    )
    assert (configuration.command, configuration.working_dir) == (None, None)
    assert "PYTHONPATH" not in configuration.env


def test_every_pod_is_of_the_restricted_standard_and_nobody_connects_to_it() -> None:
    namespaces, policies, deployments = (
        [found for found in manifests() if found["kind"] == kind]
        for kind in ("Namespace", "NetworkPolicy", "Deployment")
    )
    assert namespaces[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    job = json.loads((FOLDER / "kubernetes" / "work-pool.json").read_text())["job_configuration"]["job_manifest"]
    assert len(deployments) == 2
    for pod in (found["spec"]["template"]["spec"] for found in (*deployments, job)):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
    # Of all pods, the unsubscribe page's alone, and there its port alone.
    page, everything = (policy["spec"] for policy in policies)
    assert (everything["podSelector"], everything["ingress"]) == ({}, [])
    service = next(found["spec"] for found in manifests() if found["kind"] == "Service")
    assert page["podSelector"]["matchLabels"] == service["selector"]
    assert page["ingress"] == [{"ports": [{"port": service["ports"][0]["targetPort"]}]}]


def test_a_campaign_whose_secrets_are_its_own_has_a_work_pool_of_its_own() -> None:
    """As deployments/README.md says, with the command that it says."""
    (command,) = re.findall(r"^sed .*work-pool\.json > (?:\S+)$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    said = command.rpartition(" > ")[0]
    made = subprocess.run(shlex.split(said), cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    values = {"name": "birthday-coupons", "env_from": "campaign-settings", "secret": "campaign-settings"}
    configuration = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(json.loads(made.stdout), values)
    )
    names = {source["secretRef"]["name"] for source in _container(configuration.job_manifest)["envFrom"]}
    assert names == {"prefect", "birthday-coupons-settings"}


def test_the_composed_servers_ask_for_a_login_and_redis_for_a_password() -> None:
    servers = COMPOSE["services"]["server"]["environment"]
    assert servers["PREFECT_SERVER_API_AUTH_STRING"].startswith("${CAMPAIGN_LOGIN:?")
    assert servers["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert servers["PREFECT_SERVER_ENCRYPTION_KEY"].startswith("${CAMPAIGN_ENCRYPTION_KEY:?")
    assert "*" not in servers["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert "--requirepass" in COMPOSE["services"]["redis"]["command"]
    for client in ("register", "worker", "unsubscribe"):
        given = COMPOSE["services"][client]["environment"]["PREFECT_API_AUTH_STRING"]
        assert given == servers["PREFECT_SERVER_API_AUTH_STRING"], client


def _container(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """What the compose file declares, on this machine's PostgreSQL and Redis."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(composed_server(tmp_path_factory.mktemp("server")))
        except UNAVAILABLE as error:
            pytest.skip(f"no PostgreSQL and Redis here: {error}")
        yield running


def test_two_server_replicas_and_services_are_one_server_on_postgresql_and_redis(server: PrefectServer) -> None:
    # Registered at one replica, known to the other.
    with server.client() as first, SyncPrefectClient(server.apis[1], auth_string=server.login) as second:
        known = {found.name for found in second.read_deployments()}
        assert {"birthday-coupons", "campaign", "sports-weekend"} <= known
        kinds = second.request("POST", "/block_types/filter", json={}).json()
        assert {"oauth2-account", "slack-webhook"} <= {kind["slug"] for kind in kinds}

        # An event that one replica is told reaches the automations of the services; the other sees the run.
        event = {
            "id": str(uuid.uuid4()),
            "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "event": "campaign.requested",
            "resource": {"prefect.resource.id": "campaign.latest-offers"},
            "payload": {"business_date": "2026-11-24"},
        }
        second.request("POST", "/events", json=[event])
        runs = until(first.read_flow_runs, "the run that the event asks for", pause=1)
        assert [run.parameters["business_date"] for run in runs] == ["2026-11-24"]
        # No worker of the next test is to run it.
        first.delete_flow_run(runs[0].id)


def test_nobody_without_the_login_is_answered_by_any_replica(server: PrefectServer) -> None:
    name, _, password = server.login.partition(":")
    for api in server.apis:
        for auth in (None, (name, "guessed"), ("", password)):
            assert httpx.get(f"{api}/admin/settings", auth=auth, timeout=60).status_code == 401
        answer = httpx.get(
            f"{api}/admin/settings", auth=(name, password), headers={"Origin": "https://evil.example"}, timeout=60
        )
        assert "access-control-allow-origin" not in answer.headers
        forged = httpx.post(f"{api}/deployments/filter", json={}, auth=(name, password), timeout=60)
        assert forged.status_code == 403


def test_runs_of_one_campaign_and_day_on_several_workers_send_every_message_once(
    server: PrefectServer, start_partner: Callable[..., Partner], postgresql_url: str, tmp_path: Path
) -> None:
    profiles = 1_500
    # No message is taken before a second run has some of its own to send.
    waiting = MailSandbox(takes=False)
    with running_mail_server(waiting) as mail, server.client() as client:
        told = mail_settings(start_partner(), mail.port, postgresql_url, tmp_path, profiles)
        deployment = deployed_side_by_side(client)
        runs = [start_run(client, deployment, "at-one-time") for _ in range(2)]
        with workers(server, 2, told, tmp_path) as log:
            until(lambda: len(senders(postgresql_url)) > 1, log)
            mail.takes = True
            states = [run.state_name for run in finished(client, runs, log)]
    assert states == ["Completed"] * 2, log.read_text()
    send = Send(campaign="at-one-time", label="", business_date=DAY)
    keys = set(send.message_keys("email", readers(profiles)))
    assert list(mail.message_ids.values()) == [1] * len(keys)
    assert sent(postgresql_url) == keys


def test_a_run_that_is_cancelled_sends_no_more_and_the_next_one_sends_the_rest(
    server: PrefectServer, start_partner: Callable[..., Partner], postgresql_url: str, tmp_path: Path
) -> None:
    profiles = 3_000  # so many that the server takes a quarter of a minute for their messages
    slow = MailSandbox(behaviour=MailBehaviour.SLOW)
    with running_mail_server(slow) as mail, server.client() as client:
        told = mail_settings(start_partner(), mail.port, postgresql_url, tmp_path, profiles)
        deployment = deployed_side_by_side(client)
        cancelled = start_run(client, deployment, "cancelled")
        with workers(server, 1, told, tmp_path) as log:
            until(lambda: mail.taken, log)
            client.set_flow_run_state(cancelled, Cancelling())
            (run,) = finished(client, [cancelled], log)
            some = len(mail.taken)
            assert run.state_name == "Cancelled", log.read_text()
            mail.behaviour = MailBehaviour.NORMAL
            (run,) = finished(client, [start_run(client, deployment, "cancelled")], log)
    assert run.state_name == "Completed", log.read_text()
    keys = set(Send(campaign="cancelled", label="", business_date=DAY).message_keys("email", readers(profiles)))
    assert 0 < some < len(keys)
    assert list(mail.message_ids.values()) == [1] * len(keys)
    assert sent(postgresql_url) == keys
