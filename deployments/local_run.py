"""Run a campaign from a terminal: the sandbox where nothing else is set, and numbers or one sentence at the end."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from prefect import Flow

from deployments.sandbox.partner import Behaviour
from deployments.sandbox.substitute import substitute
from flows.settings import CampaignSettings
from tasks.errors import CampaignError
from tasks.execution.report import CampaignReport


def run_from_terminal(
    campaign: Flow[..., CampaignReport], *, calls: str, arguments: list[str] | None = None
) -> NoReturn:
    """Run `campaign`, as the command line says, and leave with its exit status.

    `calls` is the endpoint of the settings that the campaign calls: the sandbox is, where it has no address.
    Status 0: the run completed. 1: an expected failure, told in one sentence on standard error. 2: the command
    line is wrong. 130: interrupted. A bug ends with its stack trace.
    """
    options = _command_line(campaign).parse_args(arguments)
    # A temporary server is for this run alone: it has no use to report, and on a new database its first
    # report collides with the run's own writes.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    try:
        settings = CampaignSettings.load()
        with _sandbox(settings, calls, options.sandbox):
            report = campaign(business_date=options.date)
    except CampaignError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nInterrupted. Run again to do the rest: nothing is delivered twice.", file=sys.stderr)
        sys.exit(130)
    print("\n".join(("", *closing_lines(report, CampaignSettings.load()))))
    sys.exit(0)


def _command_line(campaign: Flow[..., Any]) -> argparse.ArgumentParser:
    module = sys.modules["__main__"].__spec__
    parser = argparse.ArgumentParser(
        prog=f"python -m {module.name}" if module else None,
        description=f"Run the campaign '{campaign.name}'.",
    )
    parser.add_argument(
        "--date", type=date.fromisoformat, help="business date to run for, YYYY-MM-DD (default: today)"
    )
    parser.add_argument(
        "--sandbox",
        type=Behaviour,
        choices=list(Behaviour),
        default=Behaviour.NORMAL,
        help="how the sandbox partner behaves, if it is used (default: normal)",
    )
    return parser


@contextmanager
def _sandbox(settings: CampaignSettings, calls: str, behaviour: Behaviour) -> Iterator[None]:
    if not getattr(settings, calls).url:
        print(
            f"No address is set (CAMPAIGN_{calls.upper()}__URL): the sandbox partner answers, {behaviour}.",
            flush=True,
        )
    with substitute(settings, [calls], behaviour) as variables, _environment(variables):
        yield


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def closing_lines(report: CampaignReport, settings: CampaignSettings) -> list[str]:
    """What a run did, and which files to open."""
    folder: Path = settings.outbox.send_folder(report.send).resolve()
    return [
        f"{report.send.label}, {report.send.business_date}",
        f"  queried       {report.queried:>8,}  profiles",
        f"  enriched      {report.enriched:>8,}  with content",
        f"  personalized  {report.personalized:>8,}  messages",
        f"  rejected      {report.rejected:>8,}  see {folder / 'rejects.csv'}",
        f"  delivered     {report.delivered:>8,}  to {settings.outbox.messages_folder(report.send).resolve()}",
        *(
            [f"                {report.delivered_before:>8,}  were delivered before, and not again"]
            if report.delivered_before
            else []
        ),
        "",
        f"Open {folder / 'preview.html'}",
    ]
