"""What is wrong before a run: settings, endpoints, accounts, templates and the columns of the profiles."""

from collections.abc import Callable, Iterator

from deployments.declared import CAMPAIGN, declared
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
        *((f"campaign {one.name}", one.flow) for one in declared(CAMPAIGN).values()),
    ]
    return [sentence for what, check in checks for sentence in _found(what, check)]


def _found(what: str, check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except CampaignError as error:
        yield f"{what}: {error}"
