"""What is wrong before a run: settings, endpoints, accounts, templates and the columns of the profiles."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial

from deployments.declared import CAMPAIGN, Declared, declared
from deployments.terminal.running import checked
from flows.plan import EVERYONE, WrittenTemplates, check_paths, parsed_templates
from flows.settings import CampaignSettings
from tasks.content.personalization import TemplateFolder, read_templates
from tasks.errors import CampaignError
from tasks.http.accounts import account_fingerprint


def problems() -> list[str]:
    """Every problem that can be found without a call to a partner, one sentence each; none: an empty list."""
    faults = CampaignSettings.faults()
    if faults:
        return [str(fault) for fault in faults]
    settings = CampaignSettings.load()
    checks: list[tuple[str, Callable[[], object]]] = [
        ("profiles", settings.profiles.types_of_columns),
        *(
            (f"templates in {value.folder}", lambda value=value: read_templates(value))
            for value in (getattr(settings, name) for name in type(settings).model_fields)
            if isinstance(value, TemplateFolder)
        ),
        *(
            (f"account of endpoint {name}", lambda account=endpoint.account: account_fingerprint(account))
            for name, endpoint in settings.all_endpoints.items()
            if endpoint.account
        ),
    ]
    try:
        campaigns = declared(CAMPAIGN).values()
    except CampaignError as error:
        return [*(sentence for what, check in checks for sentence in _found(what, check)), str(error)]
    checks += [(f"campaign {one.name}", partial(_check_campaign, one, settings)) for one in campaigns]
    return [sentence for what, check in checks for sentence in _found(what, check)]


def _check_campaign(one: Declared, settings: CampaignSettings) -> None:
    """Its flow, the parameters that it is declared with, the templates of the flow's module or of the parameters.

    Errors: those of each.
    """
    flow = one.flow()
    values = flow.validate_parameters(checked(flow, one.parameters))
    for value in inspect.unwrap(flow.fn).__globals__.copy().values():
        if isinstance(value, TemplateFolder):
            read_templates(value)
    templates = values.get("templates")
    if isinstance(templates, TemplateFolder | WrittenTemplates):
        check_paths(values.get("audience", EVERYONE), templates, settings)
        parsed_templates(templates)


def _found(what: str, check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except CampaignError as error:
        yield f"{what}: {error}"
