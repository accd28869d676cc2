"""What the code says of every activity: its docstring, options, transitions, errors and example."""

import ast
import builtins
import importlib
import inspect
import itertools
import pkgutil
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import get_args, get_type_hints

from pydantic import BaseModel

import tasks
from deployments.options import cell
from tasks import errors
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import CampaignError, kinds_below
from tasks.send import Send
from tasks.tables.transitions import Transitions

GROUPS = ("targeting", "data_management", "content", "channels", "execution")
FUNCTIONS = {"execution_options": "executed"}
"""Activities whose function does not have its file's name."""
LABEL = re.compile(
    r"(?:(?<=[.:] )|(?<=\n)|^)(In|Out[a-z ]*(?:, [a-z ]+)?|Errors(?: on [a-z ]+)?|Source|Artifacts)(?<! ):\s"
)


@dataclass(frozen=True)
class Activity:
    """One activity, as its module says."""

    group: str
    name: str
    module: str
    function: str
    summary: str
    labelled: Mapping[str, str]
    """In, Out, Errors and Source of the docstring."""
    example: tuple[str, ...]
    options: tuple[type[BaseModel], ...]
    transitions: Mapping[str, str]

    @property
    def free_names(self) -> list[str]:
        """Names that the example uses and does not make."""
        names = [node for node in ast.walk(ast.parse("\n".join(self.example))) if isinstance(node, ast.Name)]
        made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        return sorted({node.id for node in names} - made - set(vars(builtins)))

    @property
    def imported(self) -> dict[str, str]:
        """The module of each free name that is imported: "" where the name is itself a module's."""
        found = {}
        for name in self.free_names:
            modules = (importlib.import_module(self.module), *_modules())
            places = [module for module in modules if name in vars(module)]
            homes = [_home(vars(module)[name], module) for module in places]
            if places:
                # What a module defines comes before what another one imports under the same name.
                own = [home for home, module in zip(homes, places, strict=True) if home == module.__name__]
                found[name] = homes[0] if places[0].__name__ == self.module else (own or homes)[0]
        return found

    @property
    def imports(self) -> list[str]:
        """The lines that import what the example uses."""
        by_module: dict[str, list[str]] = {}
        for name, module in self.imported.items():
            by_module.setdefault(module, []).append(name)
        plain = [f"import polars as {name}" for name in by_module.pop("", [])]
        return [
            *plain,
            *(f"from {module} import {', '.join(names)}" for module, names in sorted(by_module.items())),
        ]


def _modules() -> Iterator[ModuleType]:
    """The modules of activities, by group and name."""
    for group in GROUPS:
        package = importlib.import_module(f"{tasks.__name__}.{group}")
        for entry in pkgutil.iter_modules(package.__path__):
            if not entry.name.startswith("_"):
                yield importlib.import_module(f"{package.__name__}.{entry.name}")


def _home(value: object, found_in: ModuleType) -> str:
    """The module that a name is imported from; "" for polars itself."""
    if isinstance(value, ModuleType):
        return ""
    home = str(getattr(getattr(value, "fn", value), "__module__", found_in.__name__))
    return found_in.__name__ if "._" in home else home


def activities() -> list[Activity]:
    """Every activity of the palette, by group and name."""
    return [_activity(module.__name__.split(".")[1], module) for module in _modules()]


def _activity(group: str, module: ModuleType) -> Activity:
    file = module.__name__.rpartition(".")[2]
    function = FUNCTIONS.get(file, file)
    activity = getattr(module, function)
    called = getattr(activity, "function", None) or getattr(activity, "fn", activity)
    text, _, example = (inspect.getdoc(called) or "").partition("Example:\n")
    summary, labelled = _parts(text)
    hints = get_type_hints(called)
    given = hints.pop("return", None)
    return Activity(
        group=group,
        name=(module.__doc__ or "").partition(":")[0],
        module=module.__name__,
        function=function,
        summary=summary,
        labelled=labelled,
        example=_code_of(example),
        options=tuple(dict.fromkeys(model for hint in hints.values() for model in _models_in(hint))),
        transitions=_transitions(getattr(activity, "gives", None) or given),
    )


def _parts(text: str) -> tuple[str, dict[str, str]]:
    pieces = LABEL.split(text.strip())
    found = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    return cell(pieces[0]), {label: cell(said) for label, said in found.items()}


def _code_of(example: str) -> tuple[str, ...]:
    lines = [line for line in textwrap.dedent(example).strip().splitlines() if not line.startswith("```")]
    return tuple(line.rstrip() for line in lines)


def _models_in(hint: object) -> Iterator[type[BaseModel]]:
    """The models in an annotation; a send is no option, and a call of an endpoint is the endpoint."""
    if isinstance(hint, type) and issubclass(hint, EndpointCall):
        yield Endpoint
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        if hint is not Send:
            yield hint
    else:
        for inner in get_args(hint):
            yield from _models_in(inner)


def _transitions(given: object) -> dict[str, str]:
    if not (isinstance(given, type) and issubclass(given, Transitions)):
        return {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(given)))
    body = [statement for found in ast.walk(tree) if isinstance(found, ast.ClassDef) for statement in found.body]
    texts = {}
    for field, said in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(said, ast.Expr)
            and isinstance(said.value, ast.Constant)
        ):
            texts[field.target.id] = cell(str(said.value.value))
    return texts


def nested_models(found: list[Activity]) -> list[type[BaseModel]]:
    """Models in the fields of the activities' options, each once, by name."""
    tops = {model for activity in found for model in activity.options}
    waiting, seen = list(tops), set(tops)
    while waiting:
        for field in waiting.pop().model_fields.values():
            for model in _models_in(field.annotation):
                if model not in seen:
                    seen.add(model)
                    waiting.append(model)
    return sorted(seen - tops | {Send}, key=lambda model: model.__name__)


def errors_of(activity: Activity, found: list[Activity]) -> list[type[CampaignError]]:
    """The kinds of failure that the docstring names, also by naming another activity."""
    named: dict[type[CampaignError], None] = {}
    for label, text in activity.labelled.items():
        if not label.startswith("Errors"):
            continue
        for other in found:
            if re.search(rf"\b(?:as|those of) {re.escape(other.name)}\b", text) and other is not activity:
                named.update(dict.fromkeys(errors_of(other, found)))
        for name in re.findall(r"`(\w+)`", text):
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, CampaignError):
                below = [one for one in kinds_below(kind) if one.sentence != CampaignError.sentence]
                named.update(dict.fromkeys([kind] if kind.sentence != CampaignError.sentence else below))
    return sorted(named, key=lambda kind: (kind.code, kind.__name__))


def first_sentence(model: type[BaseModel]) -> str:
    """What a model is."""
    return cell((inspect.getdoc(model) or "").partition("\n\n")[0])
