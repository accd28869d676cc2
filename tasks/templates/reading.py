"""Templates as files: read once, checked, and then independent of their folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeGuard

from jinja2 import TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import CampaignError, TemplatesInvalid, TemplatesUnreadable
from tasks.files.remote.place import fetch_folder
from tasks.tables.transitions import nearest
from tasks.templates.environment import CampaignEnvironment
from tasks.templates.escaping import GUARDS
from tasks.templates.fields import ELEMENT, Fields, Use
from tasks.templates.fields import Path as FieldPath

PARTS = ("subject", "html", "text")


class TemplateFolder(BaseModel):
    """Where a campaign's templates are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(
        title="Template folder",
        description="Folder of the Jinja templates; they can include and import others of the folder.",
    )
    url: str = Field(
        default="",
        pattern=r"^(|(s3|abfs)://.+)$",
        title="Template address",
        description=(
            "Address of a folder in an object store, read in place of the folder above: s3://bucket/folder or"
            " abfs://container/folder (extras s3 and azure; credentials as their clients find them)."
        ),
    )
    subject: str = Field(default="subject.txt", title="Subject", description="File of the subject.")
    html: str = Field(default="body.html", title="HTML", description="File of the HTML part.")
    text: str = Field(default="body.txt", title="Text", description="File of the plain text part.")


class Templates(BaseModel):
    """Templates as they were read: what is rendered does not depend on the folder any more."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    parts: dict[str, str]
    """Part of the message (subject, html, text) to the name of its file."""
    sources: dict[str, str]
    """Name of a file, relative to the folder, to its text."""

    @property
    def length(self) -> int:
        """Characters of all files, about what a message has."""
        return sum(map(len, self.sources.values()))


def read_templates(options: TemplateFolder) -> Templates:
    """Read the folder's templates and check all that can be checked without an audience.

    Errors: `TemplatesUnreadable` (a part's file is missing, or not UTF-8 text); `TemplatesInvalid`, listing
    with file and line every syntax error, unknown filter and test, missing include, forbidden attribute, and value
    printed where HTML has no safe one.
    """
    if not options.url:
        return _read(options)
    with TemporaryDirectory() as local:
        fetch_folder(options.url, Path(local))
        try:
            templates = _read(options.model_copy(update={"folder": Path(local)}))
        except CampaignError as error:
            # The sentence names the address, not where it was copied to.
            raise type(error)(str(error).replace(local, options.url)) from None
    return templates.model_copy(update={"folder": Path(options.url)})


def _read(options: TemplateFolder) -> Templates:
    parts = {part: getattr(options, part) for part in PARTS}
    sources = {name: _text_of(options.folder / name) for name in parts.values()}
    problems: list[str] = []
    waiting = list(sources)
    while waiting:
        name = waiting.pop()
        environment = CampaignEnvironment(sources)
        try:
            tree = environment.parse(sources[name], name)
        except TemplateSyntaxError as error:
            problems.append(f"{name}, line {error.lineno}: {error.message}")
            continue
        for line, other in _referenced(tree):
            if other in sources:
                continue
            found = _included(options.folder, other)
            if isinstance(found, _Unreadable):
                problems.append(f"{name}, line {line}: {found.reason}")
            else:
                sources[str(other)] = found
                waiting.append(str(other))
    environment = CampaignEnvironment(sources)
    for name, source in sources.items():
        problems.extend(_problems(name, source, environment))
    problems.extend(CampaignEnvironment(sources, parts["html"]).problems)
    if problems:
        unique = sorted(dict.fromkeys(problems))
        raise TemplatesInvalid(folder=options.folder, count=len(unique), errors="; ".join(unique))
    return Templates(folder=options.folder, parts=parts, sources=sources)


@dataclass(frozen=True)
class _Unreadable:
    reason: str


def _included(folder: Path, name: object) -> str | _Unreadable:
    if not isinstance(name, str):
        return _Unreadable("an include, import or extends whose name is not a fixed text")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return _Unreadable(f"'{name}' is outside the template folder")
    if not path.is_file():
        there = [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()]
        return _Unreadable(f"'{name}' does not exist. {nearest([name], there)}".rstrip(". "))
    return _text_of(path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TemplatesUnreadable(path=path, reason="it does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TemplatesUnreadable(path=path, reason=reason) from None


def _referenced(tree: nodes.Template) -> Iterator[tuple[int, object]]:
    for node in tree.find_all((nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)):
        match getattr(node, "template", None):
            case nodes.Const(value=str(name)):
                yield node.lineno, name
            case nodes.Const(value=names) if isinstance(names, list | tuple):
                yield from ((node.lineno, name) for name in names)
            case _:
                yield node.lineno, None


def _problems(name: str, source: str, environment: CampaignEnvironment) -> Iterator[str]:
    try:
        tree = environment.parse(source, name)
    except TemplateSyntaxError:
        return  # listed already
    known = list(_unknown_names(name, tree, environment))
    yield from known
    if not known:
        try:
            environment.compile(source, name)
        except TemplateSyntaxError as error:
            yield f"{name}, line {error.lineno}: {error.message}"
        except SecurityError as error:
            yield f"{name}: the template does what is not allowed: {error}"


def _unknown_names(name: str, tree: nodes.Template, environment: CampaignEnvironment) -> Iterator[str]:
    for node in tree.find_all((nodes.Filter, nodes.Test, nodes.Getattr, nodes.Getitem)):
        where = f"{name}, line {node.lineno}: "
        match node:
            case nodes.Filter(name="attr", args=[nodes.Const(value=str(attribute)), *_]):
                forbidden = attribute
            case nodes.Filter(name=used) if used not in environment.filters or used in GUARDS:
                known = environment.filters.keys() - GUARDS
                yield f"{where}there is no filter '{used}'. {nearest([used], known)}".rstrip(". ")
                continue
            case nodes.Test(name=used) if used not in environment.tests:
                yield f"{where}there is no test '{used}'. {nearest([used], environment.tests)}".rstrip(". ")
                continue
            case nodes.Getattr(attr=forbidden) | nodes.Getitem(arg=nodes.Const(value=str(forbidden))):
                pass
            case _:
                continue
        if forbidden.startswith("_"):
            yield f"{where}'{forbidden}' is not allowed: a template may not use names that begin with _"


def uses_of(templates: Templates, names: Mapping[str, str] | None = None) -> list[Use]:
    """Every field that the templates name, each with its file and line. Needs templates that parse."""
    environment = CampaignEnvironment(templates.sources)
    found: list[Use] = []
    for name, source in (names or templates.sources).items():
        tree = environment.parse(source, name)
        free = find_undeclared_variables(tree) - set(environment.globals)
        assigned = set(_assigned(tree))
        found.extend(
            Use(name, line, path, required, assigned=path[0] in assigned)
            for line, path, required in _paths(tree, dict.fromkeys(free, ()))
        )
    return found


def _assigned(tree: nodes.Template) -> Iterator[str]:
    for node in tree.find_all((nodes.Name, nodes.Macro, nodes.Import, nodes.FromImport)):
        match node:
            case nodes.Name(ctx="store", name=name) | nodes.Macro(name=name) | nodes.Import(target=name):
                yield name
            case nodes.FromImport(names=names):
                yield from (name[1] if isinstance(name, tuple) else name for name in names)


Names = dict[str, FieldPath]
"""Names that stand for fields: free ones for themselves, loop variables for an element of a list."""


def _paths(node: nodes.Node, names: Names, required: bool = True) -> Iterator[tuple[int, FieldPath, bool]]:
    path = path_of(node, names)
    if path is not None:
        yield node.lineno, path, required
        return
    for child, inner, needed in _parts(node, names, required):
        if needed is None:
            yield from _tested(child, inner)
        else:
            yield from _paths(child, inner, needed)


def _parts(node: nodes.Node, names: Names, required: bool) -> Iterator[tuple[nodes.Node, Names, bool | None]]:
    """Children of a node, the names that mean fields in them, and whether they need a value.

    None is a condition: a field alone may be missing there, but not one that is compared.
    """
    match node:
        case nodes.Filter(name="default" | "d", node=nodes.Expr() as value):
            yield value, names, False
            yield from ((argument, names, required) for argument in (*node.args, *node.kwargs))
        case nodes.Test(name="defined" | "undefined" | "none", node=value):
            yield value, names, False
        case nodes.If(test=test) | nodes.CondExpr(test=test):
            yield test, names, None
            yield from ((child, names, False) for child in node.iter_child_nodes() if child is not test)
        case nodes.And(left=test, right=right) | nodes.Or(left=test, right=right):
            yield test, names, None
            yield right, names, False
        case nodes.For(target=nodes.Name(name=target)):
            yield node.iter, names, required
            inner = _with_element(names, target, node.iter)
            yield from ((child, inner, False) for child in (*([node.test] if node.test else []), *node.body))
            yield from ((child, names, False) for child in node.else_)
        case _:
            yield from ((child, names, required) for child in node.iter_child_nodes())


def _with_element(names: Names, target: str, elements: nodes.Node) -> Names:
    inner = {name: path for name, path in names.items() if name != target}
    whole = elements.node if _is_slice(elements) else elements
    element = path_of(whole, names)
    return inner if element is None else {**inner, target: (*element, ELEMENT)}


def _tested(test: nodes.Node, names: Names) -> Iterator[tuple[int, FieldPath, bool]]:
    """Uses in a condition: a field alone, or what `not`, `and` and `or` make of it, may be missing."""
    match test:
        case nodes.Not(node=inner):
            yield from _tested(inner, names)
        case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
            yield from _tested(left, names)
            yield from _tested(right, names)
        case _:
            path = path_of(test, names)
            if path is None:
                yield from _paths(test, names)
            else:
                yield test.lineno, path, False


def _is_slice(node: nodes.Node) -> TypeGuard[nodes.Getitem]:
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)


def path_of(node: nodes.Node, names: Names) -> FieldPath | None:
    """The path that a name with attributes makes, if it begins with one of `names`."""
    match node:
        case nodes.Name(name=name, ctx="load") if name in names:
            return names[name] or (name,)
        case nodes.Getattr(node=inner, attr=attribute):
            parent = path_of(inner, names)
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str(attribute))):
            parent = path_of(inner, names)
        case _:
            return None
    return None if parent is None else (*parent, attribute)


def optional_fields(templates: Templates, fields: Fields) -> list[FieldPath]:
    """Fields without which there is a message all the same: everywhere tested, or with a default."""
    needed = required_uses(templates, fields)
    every = (fields.resolve(use) for use in uses_of(templates))
    return list(dict.fromkeys(path for path in every if isinstance(path, tuple) and path not in needed))


def required_uses(templates: Templates, fields: Fields) -> dict[FieldPath, list[Use]]:
    """Fields without which there is no message, each with the places that print it without a default."""
    needed: dict[FieldPath, list[Use]] = {}
    for use in uses_of(templates):
        found = fields.resolve(use)
        if use.required and isinstance(found, tuple):
            needed.setdefault(found, []).append(use)
    return needed


def resolved_uses(templates: Templates, fields: Fields) -> dict[FieldPath, FieldPath]:
    """Each path that the templates name, and the field that it is.

    Errors: `TemplatesInvalid`, listing with file and line every name that no field has.
    """
    resolved: dict[FieldPath, FieldPath] = {}
    problems: list[str] = []
    for use in uses_of(templates):
        found = fields.resolve(use)
        if isinstance(found, str):
            if not use.assigned:
                problems.append(found)
        else:
            resolved[use.path] = found
    if problems:
        unique = list(dict.fromkeys(problems))
        raise TemplatesInvalid(folder=templates.folder, count=len(unique), errors="; ".join(unique))
    return resolved
