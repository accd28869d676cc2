"""`python -m deployments.register`: make a Prefect server know everything that is here, however often it is run.

The work pool, the kinds of external account, of endpoint and of notification, every deployment of prefect.yaml and
the automations; the server is that of PREFECT_API_URL.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    MicrosoftTeamsWebhook,
    PagerDutyWebHook,
    SlackWebhook,
)
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from deployments.automations import CAMPAIGN, block_id, put, wanted
from tasks.endpoint.block import EndpointBlock
from tasks.http.accounts import AccessToken, BasicAccount, HeaderAccount, OAuth2Account

ROOT = Path(__file__).parents[1]
POOL = "campaigns"
DECIDED_HERE = ("command", "env", "working_dir")
BLOCKS = (BasicAccount, HeaderAccount, OAuth2Account, AccessToken, EndpointBlock)
NOTIFICATIONS = (SlackWebhook, MicrosoftTeamsWebhook, PagerDutyWebHook, CustomWebhookNotificationBlock)
"""Known to most servers from their start, but not to replicas (compose.yaml)."""


def job_template() -> dict[str, Any]:
    """Prefect's template of a run's process; a run says neither what it executes nor with which settings."""
    template = ProcessWorker.get_default_base_job_template()
    for name in DECIDED_HERE:
        del template["variables"]["properties"][name]
        del template["job_configuration"][name]
    return template


def make_work_pool(client: SyncPrefectClient) -> None:
    """The work pool of prefect.yaml, of processes; one that is there already stays as it is."""
    pool = WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=job_template())
    try:
        client.create_work_pool(pool)
    except ObjectAlreadyExists:
        return


def deploy_all() -> None:
    """`prefect deploy --all`, from the root of this repository. Errors: `CalledProcessError`."""
    subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        env={**os.environ, "PWD": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def declared(tag: str = "") -> list[str]:
    """The names of the deployments of prefect.yaml, or of those with a tag."""
    found = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return [deployment["name"] for deployment in found if not tag or tag in deployment["tags"]]


def register(notify: str = "") -> list[str]:
    """Register everything; `notify` names a notification block, <kind>/<name>. Out: the deployments' names."""
    with get_client(sync_client=True) as client:
        make_work_pool(client)
        for kind in (*BLOCKS, *NOTIFICATIONS):
            kind.register_type_and_schema(_sync=True)  # type: ignore[call-arg]
        deploy_all()
        there = {deployment.name: deployment.id for deployment in client.read_deployments()}
        campaigns = {name: there[name] for name in declared(CAMPAIGN)}
        put(wanted(campaigns, block_id(notify) if notify else None), client)
    return declared()


def main() -> None:
    """Read the command line and register."""
    parser = argparse.ArgumentParser(prog="python -m deployments.register", description=__doc__)
    parser.add_argument(
        "--notify",
        default=os.environ.get("NOTIFY", ""),
        help="notification block, <kind>/<name>, that is told of failed and late campaigns",
    )
    print("Registered: " + ", ".join(register(parser.parse_args().notify)))


if __name__ == "__main__":
    main()
