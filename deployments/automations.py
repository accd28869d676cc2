"""Automations as code: say when a campaign fails or is late, and start a campaign from an event.

A campaign is started by the event `campaign.requested` about the resource `campaign.<deployment>`; its payload may
name the day that the campaign is run for:

    emit_event("campaign.requested", {"prefect.resource.id": "campaign.latest-offers"},
               payload={"business_date": "2026-11-24"})
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from prefect.automations import (
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
    RunDeployment,
    SendNotification,
)
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType

from deployments.declared import CAMPAIGN, OPERATIONS

REQUESTED = "campaign.requested"

FAILED = frozenset({"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"})
LATE = frozenset({"prefect.flow-run.Late"})

BODY = (
    "{{ flow.name }}, run {{ flow_run.name }}: {{ flow_run.state.message or 'no message' }}\n{{ flow_run|ui_url }}"
)
BUSINESS_DATE = {"__prefect_kind": "jinja", "template": "{{ event.payload.get('business_date') | tojson }}"}
"""The day that the event names, as JSON; null where it names none."""


def notification(
    name: str, events: Iterable[str], subject: str, block: UUID, tag: str = CAMPAIGN
) -> AutomationCore:
    """An automation that sends a notification through a block when one of the events happens to a run of a tag."""
    return AutomationCore(
        name=name,
        description="Made by deployments/automations.py.",
        trigger=EventTrigger(
            expect=set(events),
            match_related={
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{tag}",
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[SendNotification(block_document_id=block, subject=subject, body=BODY)],
    )


def mark_dead_runs(tag: str, silence: timedelta) -> AutomationCore:
    """An automation that marks a run of a tag as crashed when its process has died unexpectedly.

    A run says that it lives as often as its work pool has it; `silence` is several times that. What a run does
    otherwise (ends, waits, is suspended) is an event too, after which nothing more is expected of it.
    """
    return AutomationCore(
        name=f"A run that has died is crashed ({tag})",
        description="Made by deployments/automations.py.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=silence,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"The run's process has died: no word for {silence.total_seconds():.0f} seconds.",
            )
        ],
    )


def start_by_event(deployment: str, deployment_id: UUID) -> AutomationCore:
    """An automation that runs a deployment when it is requested, for the day that the event names."""
    return AutomationCore(
        name=f"Start {deployment} when it is requested",
        description=f"Made by deployments/automations.py. Event: {REQUESTED}, resource: campaign.{deployment}.",
        trigger=EventTrigger(
            expect={REQUESTED},
            match={"prefect.resource.id": f"campaign.{deployment}"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment_id,
                parameters={"business_date": {"__prefect_kind": "json", "value": BUSINESS_DATE}},
            )
        ],
    )


def wanted(campaigns: Mapping[str, UUID], notify: UUID | None, silence: timedelta) -> list[AutomationCore]:
    """The automations of these campaigns, {name: id}; those that notify only where there is a block to do it."""
    always = [
        *(mark_dead_runs(tag, silence) for tag in (CAMPAIGN, OPERATIONS)),
        *(start_by_event(name, identifier) for name, identifier in campaigns.items()),
    ]
    if notify is None:
        return always
    return [
        notification("A campaign failed", FAILED, "Campaign failed: {{ flow.name }}", notify),
        notification("A campaign is late", LATE, "Campaign late: {{ flow.name }}", notify),
        notification("An operation failed", FAILED, "Operation failed: {{ flow.name }}", notify, OPERATIONS),
        notification("An operation is late", LATE, "Operation late: {{ flow.name }}", notify, OPERATIONS),
        *always,
    ]


def put(automations: Iterable[AutomationCore], client: SyncPrefectClient) -> None:
    """Make each automation, or bring those of its name up to date; one that people have switched off stays off."""
    for automation in automations:
        known = client.read_automations_by_name(automation.name)
        for doubled in known[1:]:
            client.delete_automation(doubled.id)
        if not known:
            client.create_automation(automation)
        elif _without_switch(known[0]) != _without_switch(automation):
            client.update_automation(known[0].id, automation.model_copy(update={"enabled": known[0].enabled}))


def _without_switch(automation: AutomationCore) -> dict[str, Any]:
    return automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"})


def block_id(name: str) -> UUID:
    """The id of a notification block, <kind>/<name>. Errors: `ValueError` where there is none."""
    block = cast("Block", Block.load(name, _sync=True))  # type: ignore[call-arg]
    if block._block_document_id is None:
        raise ValueError(f"the block '{name}' is not saved")
    return block._block_document_id
