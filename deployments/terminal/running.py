"""Run a campaign from a terminal: the sandbox where nothing else is set, and numbers or one sentence at the end."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NoReturn

from cyclopts import App, Parameter, Token
from prefect import Flow
from prefect.exceptions import ParameterTypeError

from deployments.sandbox.partner import Behaviour
from deployments.sandbox.substitute import substitute
from deployments.terminal.server import environment, server_for_runs
from flows.settings import CampaignSettings
from tasks.errors import ParameterInvalid
from tasks.execution.report import CampaignReport


def written_day(_: type, tokens: Iterable[Token]) -> date:
    """The day of an argument. Errors: `ValueError`, which says how to write it."""
    text = next(iter(tokens)).value
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a day; write it as year-month-day, like 2027-02-28.") from None


Day = Annotated[date | None, Parameter(converter=written_day, negative=())]
"""A business date as an argument."""


def run_from_terminal(
    campaign: Flow[..., CampaignReport], *, calls: str, arguments: list[str] | None = None
) -> NoReturn:
    """Run `campaign`, as the command line says, and leave with its exit status.

    `calls` is the endpoint of the settings that the campaign calls: the sandbox is, where it has no address.
    Status 0: the run completed. 1: an expected failure, told in one sentence on standard error, or a wrong command
    line. 130: interrupted. A bug ends with its stack trace.
    """
    from deployments.terminal.app import told  # noqa: PLC0415  # the app knows this module

    module = sys.modules["__main__"].__spec__
    app = App(
        name=f"python -m {module.name}" if module else None,
        help=f"Run the campaign '{campaign.name}'.",
        version_flags=[],
    )

    @app.default
    def run(*, date: Day = None, sandbox: Behaviour = Behaviour.NORMAL) -> None:
        """Run the campaign.

        Args:
            date: Business date to run for, as 2027-02-28. Left out: today.
            sandbox: How the sandbox partner behaves, if it is used.
        """
        print("\n".join(outcome(campaign, {"business_date": date}, [calls], sandbox)))

    told(app, arguments)


def outcome(
    campaign: Flow[..., Any], parameters: Mapping[str, Any], calls: Iterable[str], behaviour: Behaviour
) -> list[str]:
    """Run a campaign in this process. Out: lines that say what it did. Errors: those of the campaign."""
    with sandbox(calls, behaviour), server_for_runs():
        report = campaign(**checked(campaign, parameters))
    if not isinstance(report, CampaignReport):
        return [f"'{campaign.name}' has completed."]
    return ["", *closing_lines(report, CampaignSettings.load())]


def checked(campaign: Flow[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, which the flow takes. Errors: `ParameterInvalid`, naming the first that is wrong."""
    wanted = dict(parameters)
    logger = logging.getLogger("prefect.flows")
    shown = logger.level
    # Prefect would tell of it first, and less clearly.
    logger.setLevel(logging.CRITICAL)
    try:
        campaign.validate_parameters(wanted)
    except ParameterTypeError as error:
        first = next(line for line in str(error).splitlines() if line.startswith(" - ")).removeprefix(" - ")
        parameter, _, reason = first.partition(": ")
        raise ParameterInvalid(parameter=parameter, reason=reason) from None
    finally:
        logger.setLevel(shown)
    return wanted


@contextmanager
def sandbox(calls: Iterable[str], behaviour: Behaviour) -> Iterator[None]:
    """The sandbox stands in for what has no address in the settings, until the block ends."""
    settings = CampaignSettings.load()
    unset = [name for name in calls if not getattr(settings, name).url]
    if unset:
        variables = ", ".join(f"CAMPAIGN_{name.upper()}__URL" for name in unset)
        print(f"No address is set ({variables}): the sandbox partner answers, {behaviour}.", flush=True)
    with substitute(settings, unset, behaviour) as variables_of_sandbox, environment(variables_of_sandbox):
        yield


def closing_lines(report: CampaignReport, settings: CampaignSettings) -> list[str]:
    """What a run did, and which files to open."""
    folder: Path = settings.outbox.send_folder(report.send).resolve()
    messages = settings.outbox.messages_folder(report.send).resolve()
    page = folder / "preview.html"
    # An earlier run of the day may have left messages here, and this one have mailed them.
    by_outbox = report.sent_by == "Outbox"
    return [
        f"{report.send.label}, {report.send.business_date}",
        f"  queried       {report.queried:>8,}  profiles",
        f"  enriched      {report.enriched:>8,}  with content",
        f"  personalized  {report.personalized:>8,}  messages",
        f"  rejected      {report.rejected:>8,}" + (f"  see {folder / 'rejects.csv'}" if folder.is_dir() else ""),
        f"  delivered     {report.delivered:>8,}" + (f"  to {messages}" if by_outbox and messages.is_dir() else ""),
        *(
            [f"                {report.delivered_before:>8,}  were delivered before, and not again"]
            if report.delivered_before
            else []
        ),
        *(["", f"Open {page}"] if by_outbox and page.is_file() else []),
    ]
