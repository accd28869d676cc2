"""What is wrong before a run: settings, endpoints, accounts, templates and the columns of the profiles."""

import inspect
from collections.abc import Callable, Iterator

from pydantic import TypeAdapter, ValidationError

from deployments.declared import CAMPAIGN, Declared, declared
from flows.plan import AnyTemplates, WrittenTemplates, parsed_templates
from flows.settings import CampaignSettings
from tasks.content.personalization import TemplateFolder, read_templates
from tasks.errors import CampaignError, ParameterInvalid
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
        *((f"campaign {one.name}", lambda one=one: _read_templates_of(one)) for one in declared(CAMPAIGN).values()),
    ]
    return [sentence for what, check in checks for sentence in _found(what, check)]


def _read_templates_of(one: Declared) -> None:
    """Load a campaign and read its templates: of its parameters, and those that its module names."""
    flow = one.flow()
    for value in list(inspect.unwrap(flow.fn).__globals__.values()):
        if isinstance(value, TemplateFolder):
            read_templates(value)
    if "templates" in one.parameters:
        try:
            given = TypeAdapter[WrittenTemplates | TemplateFolder](AnyTemplates).validate_python(
                one.parameters["templates"]
            )
        except ValidationError as error:
            raise ParameterInvalid(parameter="templates", reason=error.errors()[0]["msg"]) from None
        parsed_templates(given)


def _found(what: str, check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except CampaignError as error:
        yield f"{what}: {error}"
