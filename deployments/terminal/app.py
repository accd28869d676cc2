"""`campaign`: what people do with campaigns at a terminal. What each command does is in the packages."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from deployments.sandbox.partner import PATHS, Behaviour
from deployments.terminal.running import Day, outcome
from deployments.terminal.running import sandbox as partner_or_sandbox
from deployments.terminal.server import server_for_runs
from tasks.errors import CampaignError

app = App(
    name="campaign",
    help="Campaigns of this folder: write, look at, run.",
    version=lambda: f"campaign-flows {version('campaign-flows')}",
    version_flags=["--version"],
)
endpoint = App(name="endpoint", help="Partners' endpoints.")
server = App(name="server", help="Prefect's server that is kept in the background for runs here.")
app.command(endpoint)
app.command(server)


def told(app: App, arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its status: 0 done, 1 one sentence said why not, 130 interrupted."""
    try:
        made = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (CampaignError, CycloptsError) as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nInterrupted. Run again to do the rest: nothing is delivered twice.", file=sys.stderr)
        sys.exit(130)
    sys.exit(made if isinstance(made, int) else 0)


def main() -> NoReturn:
    """The console script."""
    told(app)


@app.command(name="list")
def list_campaigns() -> None:
    """List the campaigns of this folder: those that its prefect.yaml declares."""
    from deployments.declared import CAMPAIGN, declared  # noqa: PLC0415  # Prefect takes a second

    found = declared(CAMPAIGN)
    for one in found.values():
        print(f"{one.name:<24}{one.description}")
    if not found:
        print("None. `campaign new NAME` writes one.")


@app.command
def new(name: str, *, kind: Literal["flow", "yaml"] = "flow") -> None:
    """Write a campaign that runs as it is: its flow or its YAML, its templates, and for a flow its test.

    Args:
        name: Lower-case letters, digits and hyphens, such as spring-offers.
        kind: A flow in Python, or parameters in prefect.yaml and no Python.
    """
    from deployments.terminal.writing import write_campaign  # noqa: PLC0415

    for path in write_campaign(name, kind):
        print(f"Written: {path}")
    print(f"Look at it: campaign preview {name} --watch\nRun it:     campaign run {name}")


@app.command
def run(name: str, *, date: Day = None, sandbox: Behaviour = Behaviour.NORMAL) -> None:
    """Run a campaign of this folder here and now.

    Args:
        name: Its name in prefect.yaml.
        date: Business date to run for, as 2027-02-28. Left out: today.
        sandbox: How the sandbox partner behaves, if it is used.
    """
    from deployments.declared import declared_campaign  # noqa: PLC0415
    from deployments.terminal.previewing import parameters_on  # noqa: PLC0415

    found = declared_campaign(name)
    flow = found.flow()
    print("\n".join(outcome(flow, parameters_on(flow, date, found.parameters), PATHS, sandbox)))


@app.command
def preview(
    name: str,
    *,
    date: Day = None,
    profile: Annotated[list[str] | None, Parameter(negative=())] = None,
    watch: bool = False,
) -> None:
    """Show a campaign's messages as a page. Nothing is sent.

    Args:
        name: Its name in prefect.yaml.
        date: Business date to show it for, as 2027-02-28. Left out: today.
        profile: Key of a profile whose message to show; may be given several times.
        watch: Make the page again whenever a template is saved, until Ctrl-C.
    """
    from deployments.declared import declared_campaign  # noqa: PLC0415
    from deployments.terminal.previewing import parameters_on  # noqa: PLC0415
    from deployments.terminal.previewing import preview as lines  # noqa: PLC0415

    found = declared_campaign(name)
    flow = found.flow()
    with partner_or_sandbox(PATHS, Behaviour.NORMAL), server_for_runs():
        for line in lines(flow, parameters_on(flow, date, found.parameters), profile or (), watch=watch):
            print(line, flush=True)


@app.command
def check() -> int:
    """Say everything that is wrong in the settings, profiles, templates, accounts and campaigns, in one list."""
    from deployments.terminal.checking import problems  # noqa: PLC0415

    found = problems()
    print("\n".join(found) or "Nothing is wrong.")
    return 1 if found else 0


@app.command
def settings() -> None:
    """Print every setting with its description and default, as lines for .env."""
    from flows.settings import documented_environment  # noqa: PLC0415

    print(documented_environment(), end="")


@app.command
def explain(code: str) -> None:
    """Say what an error's code means and what to do.

    Args:
        code: As it stands at the end of the sentence, such as CMP-112.
    """
    from deployments.terminal.explaining import explained  # noqa: PLC0415

    print(explained(code))


@endpoint.command
def sample(
    file: Path, *, path: str | None = None, flatten: bool = False, yaml: bool = False, max_depth: int | None = None
) -> None:
    """Show the columns that a partner's sample answer implies, as a table or as YAML to paste back.

    Args:
        file: File of the sample, JSON.
        path: JMESPath of the rows, where the sample has several arrays of objects.
        flatten: Make the whole answer one row.
        yaml: Print YAML instead of a table.
        max_depth: Raise the limit of 10 levels of nesting.
    """
    from deployments.terminal.explaining import implied  # noqa: PLC0415

    print(implied(file, path=path, flatten=flatten, yaml=yaml, max_depth=max_depth), end="")


@endpoint.command(name="try")
def try_endpoint(
    name: str, *, row: Annotated[list[str] | None, Parameter(negative=())] = None, date: Day = None
) -> int:
    """Make one real call and show request, timing, pages, columns, first rows and findings, secrets masked.

    Args:
        name: An endpoint of the settings, or endpoint/<name> of a Prefect block.
        row: A row to send, as column=value,column=value; may be given several times.
        date: The day that it is asked on, as 2027-02-28. Left out: today.
    """
    from deployments.terminal.trying import tried  # noqa: PLC0415

    trial = tried(name, row or (), date)
    print(trial.text, end="")
    return 1 if trial.error else 0


@server.command(name="stop")
def stop_server() -> None:
    """Stop it; the next run starts another one."""
    from deployments.terminal.server import stop  # noqa: PLC0415

    print(stop())


@server.command(name="status")
def server_status() -> None:
    """Say whether there is one, on which port, and whether a run uses it."""
    from deployments.terminal.server import status  # noqa: PLC0415

    print(status())


if __name__ == "__main__":
    main()
