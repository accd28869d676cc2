"""`python -m deployments.register`: make a Prefect server know everything that is here, however often it is run.

The work pools, the kinds of external account, of endpoint and of notification, every deployment of this folder's
prefect.yaml and the automations; the server is that of PREFECT_API_URL. What people have changed in the UI stays.
"""

import argparse
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    MicrosoftTeamsWebhook,
    PagerDutyWebHook,
    SlackWebhook,
)
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker

from deployments.automations import block_id, put, wanted
from deployments.declared import CAMPAIGN, declared
from deployments.deploying import Kept, deploy
from tasks.endpoint.block import EndpointBlock
from tasks.errors import CampaignError
from tasks.http.accounts import AccessToken, BasicAccount, HeaderAccount, OAuth2Account

POOL = "campaigns"
DECIDED_HERE = ("command", "env", "working_dir")
PREFECT_HEARTBEAT_SECONDS = 180
MISSED_HEARTBEATS = 3
"""After this many, a run is dead."""
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


def make_work_pool(name: str, client: SyncPrefectClient) -> None:
    """A work pool of processes; one that is there already stays as it is."""
    pool = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=job_template())
    try:
        client.create_work_pool(pool)
    except ObjectAlreadyExists:
        return


def register(notify: str = "", *, reset: bool = False) -> tuple[list[str], list[Kept]]:
    """Register everything; `notify` names a notification block, <kind>/<name>.

    Out: the deployments' names, and what people have changed of them: it stays, unless `reset`. Errors:
    `ConfigurationError`, `SourceUnreadable`.
    """
    found = declared()
    # Pull steps name the folder by this variable, which not every shell has brought up to date.
    os.environ["PWD"] = str(Path.cwd())
    with get_client(sync_client=True) as client:
        pools = {(one.written.get("work_pool") or {}).get("name") or POOL for one in found.values()} or {POOL}
        for pool in pools:
            make_work_pool(pool, client)
        for kind in (*BLOCKS, *NOTIFICATIONS):
            kind.register_type_and_schema(_sync=True)  # type: ignore[call-arg]
        changed = [kept for one in found.values() for kept in deploy(one, client, reset=reset)]
        there = {deployment.name: deployment.id for deployment in client.read_deployments()}
        campaigns = {name: there[name] for name in declared(CAMPAIGN)}
        frequency = get_current_settings().flows.heartbeat_frequency or PREFECT_HEARTBEAT_SECONDS
        silence = timedelta(seconds=MISSED_HEARTBEATS * frequency)
        put(wanted(campaigns, block_id(notify) if notify else None, silence), client)
    return list(found), changed


def main() -> None:
    """Read the command line and register. Status 0: all is registered; 1: told in one sentence why not."""
    parser = argparse.ArgumentParser(prog="python -m deployments.register", description=__doc__)
    parser.add_argument(
        "--notify",
        default=os.environ.get("NOTIFY", ""),
        help="notification block, <kind>/<name>, that is notified of failed and late campaigns",
    )
    parser.add_argument(
        "--reset", action="store_true", help="take everything as prefect.yaml has it, what people have changed too"
    )
    options = parser.parse_args()
    try:
        names, changed = register(options.notify, reset=options.reset)
    except CampaignError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    print("Registered: " + ", ".join(names))
    for one in changed:
        print(f"  {'reset' if options.reset else 'kept'}: {one}")
    if changed and not options.reset:
        print(
            "Kept as people have changed it. To take what prefect.yaml has: python -m deployments.register --reset"
        )


if __name__ == "__main__":
    main()
