"""Whose a campaign's name is: of one deployment, so that no other run delivers under it and keeps it from sending.

A name belongs to the deployment that is named so, or that has it as its parameter `name`. A name that no deployment
has is free, for runs from the form too.
"""

from collections.abc import Iterator, Set
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.runtime import deployment

from tasks.errors import CampaignNameTaken

PAGE = 200


def check_name(name: str, reserved: Set[str] = frozenset()) -> None:
    """Check that this run may deliver under a name; `reserved` are those of campaigns in code.

    Errors: `CampaignNameTaken`.
    """
    if name in reserved:
        raise CampaignNameTaken(name=name, owner=f"the campaign '{name}' in code")
    own = deployment.id
    with get_client(sync_client=True) as client:
        owners = sorted((found for found in _deployments(client) if _has(found, name)), key=_since)
    if owners and owners[0].id != (UUID(own) if own else None):
        raise CampaignNameTaken(name=name, owner=f"the deployment '{owners[0].name}'")


def _deployments(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    seen = 0
    while page := client.read_deployments(limit=PAGE, offset=seen):
        yield from page
        seen += len(page)


def _has(found: DeploymentResponse, name: str) -> bool:
    own = (found.parameters or {}).get("name")
    return own == name if own is not None else found.name == name


def _since(found: DeploymentResponse) -> str:
    return found.created.isoformat() if found.created else ""
