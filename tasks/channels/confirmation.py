"""Confirmation: before a send leaves, the flow pauses in the Prefect UI until a person has looked at it.

Unlike the other activities this is called by the flow itself and is no task: it is the flow that pauses.
"""

from collections.abc import Mapping

import polars as pl
from prefect import get_run_logger
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import SendNotConfirmed
from tasks.runs.audience import Audience
from tasks.runs.published import message_preview
from tasks.send import Send


class ConfirmationOptions(BaseModel):
    """Options of the Confirmation activity."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Confirmation")

    required: bool = Field(
        default=False, title="Ask before sending", description="Whether a person must confirm the send."
    )
    hours: float = Field(
        default=24, gt=0, title="Waiting time", description="Hours after which an unanswered send is not sent."
    )
    poll_seconds: int = Field(
        default=10, ge=1, title="Look every", description="Seconds between two looks whether somebody has answered."
    )


class SendConfirmation(RunInput):
    """What the person who resumes the flow is asked."""

    send: bool = Field(default=False, title="Send", description="Check to send the messages now.")
    by: str = Field(default="", title="Your name", description="Kept in the run's log.")


def question(send: Send, counts: Mapping[str, int], preview: str) -> str:
    """Markdown of what has to be confirmed: the send, its counts and the preview."""
    rows = [f"| {name} | {count:,} |" for name, count in counts.items()]
    table = "\n".join(["| | profiles |", "| --- | ---: |", *rows])
    return f"## Send {send.label}, {send.business_date}?\n\n{table}\n\n{preview}"


def asked_about(leaving: Audience) -> tuple[dict[str, int], str]:
    """What a person is shown of the audience before delivery: how many, and the first messages, masked."""
    left_out = leaving.rejects_so_far().select(pl.len()).collect(engine="streaming").item()
    return {"get a message": leaving.height, "are left out": left_out}, message_preview(leaving.shown)


def confirmation(send: Send, counts: Mapping[str, int], preview: str, options: ConfirmationOptions) -> None:
    """Pause the flow until a person confirms the send; nothing happens where the options do not ask for it.

    In: what the person is shown, the counts by name and a preview in Markdown with masked addresses. The run's
    process waits meanwhile. Errors: `SendNotConfirmed`, when the answer is no or none comes in time.

    Example:
        ```python
        is_large = audience.height > 1000
        confirmation(send, {"to send": audience.height}, "", ConfirmationOptions(required=is_large, hours=4))
        ```
    """
    if not options.required:
        return
    get_run_logger().info(
        "Waiting until a person says whether '%s' is sent: press Resume on the page of this run in the Prefect UI."
        " Without an answer within %g hours nothing is sent; Cancel ends the run at once.",
        send.label,
        options.hours,
    )
    asked = SendConfirmation.with_initial_data(description=question(send, counts, preview))
    try:
        answer = pause_flow_run(asked, timeout=round(options.hours * 3600), poll_interval=options.poll_seconds)
    except FlowPauseTimeout:
        raise SendNotConfirmed(label=send.label, reason=f"nobody answered within {options.hours:g} hours") from None
    if not answer.send:
        raise SendNotConfirmed(label=send.label, reason=f"{answer.by or 'somebody'} said no")
    get_run_logger().info("The send was confirmed by %s.", answer.by or "somebody without a name")
