"""Templates as files: read once, checked, and then independent of their folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import CampaignError, TemplatesInvalid, TemplatesUnreadable
from tasks.files.remote.place import fetch_folder
from tasks.settings import merged
from tasks.tables.transitions import nearest
from tasks.templates.arguments import argument_problems
from tasks.templates.catalogues import FOLDER, catalogue_problems, misplaced_catalogues, translation_problems
from tasks.templates.environment import CampaignEnvironment
from tasks.templates.escaping import GUARDS
from tasks.templates.guard import fixed_names

PARTS = ("subject", "html", "text")
MOST_FILES = 2_000
"""Files that a part may unfold to, a file counted as often as it is included."""


class TemplateFolder(BaseModel):
    """Where a campaign's templates are."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Files of a folder")

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
    text: str = Field(
        default="body.txt",
        title="Text",
        description="File of the plain text part; empty: it is made from each HTML part.",
    )


class Templates(BaseModel):
    """Templates as they were read: what is rendered does not depend on the folder any more."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    parts: dict[str, str]
    """Part of the message (subject, html, text) to the name of its file; without text, it is made from the HTML."""
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
            templates = _read(merged(options, folder=Path(local)))
        except CampaignError as error:
            # The sentence names the address, not where it was copied to.
            raise type(error)(str(error).replace(local, options.url)) from None
    return merged(templates, folder=Path(options.url))


def _read(options: TemplateFolder) -> Templates:
    parts = {part: name for part in PARTS if (name := getattr(options, part)) or part != "text"}
    sources = {name: _text_of(options.folder / name) for name in parts.values()}
    problems: list[str] = []
    leads_to: dict[str, list[str]] = {}
    waiting = list(sources)
    while waiting:
        name = waiting.pop()
        environment = CampaignEnvironment(sources)
        try:
            tree = environment.parse(sources[name], name)
        except TemplateSyntaxError as error:
            problems.append(_syntax_error(name, error))
            continue
        except RecursionError:
            problems.append(f"{name}: it nests too deep")
            continue
        leads_to[name] = [str(other) for _, other, _ in _referenced(tree)]
        for line, other, optional in _referenced(tree):
            if other in sources:
                continue
            found = _included(options.folder, other)
            if isinstance(found, _Unreadable):
                if optional and found.missing:
                    continue
                problems.append(f"{name}, line {line}: {found.reason}")
            else:
                sources[str(other)] = found
                waiting.append(str(other))
    many = [name for name in dict.fromkeys(parts.values()) if _unfolded(name, leads_to, {}) > MOST_FILES]
    if many:
        errors = "; ".join(
            f"{name}: its includes and imports unfold to more than {MOST_FILES} files" for name in many
        )
        raise TemplatesInvalid(folder=options.folder, count=len(many), errors=errors)
    environment = CampaignEnvironment(sources)
    for name, source in sources.items():
        problems.extend(_problems(name, source, environment))
    problems.extend(told for name in parts.values() for told in _layout_problems(name, sources, environment))
    problems.extend(CampaignEnvironment(sources, parts["html"]).problems)
    problems.extend(misplaced_catalogues(options.folder))
    for path in sorted((options.folder / FOLDER).glob("*.po")):
        name = f"{FOLDER}/{path.name}"
        sources[name] = _text_of(path)
        problems.extend(catalogue_problems(name, sources[name]))
    if problems:
        unique = sorted(dict.fromkeys(problems))
        raise TemplatesInvalid(folder=options.folder, count=len(unique), errors="; ".join(unique))
    return Templates(folder=options.folder, parts=parts, sources=sources)


def _unfolded(name: str, leads_to: dict[str, list[str]], known: dict[str, int]) -> int:
    """Files that are read for one file; a file within itself, which ends its messages, counts once."""
    if name not in known:
        known[name] = 1
        known[name] += sum(_unfolded(other, leads_to, known) for other in leads_to.get(name, ()))
    return known[name]


@dataclass(frozen=True)
class _Unreadable:
    reason: str
    missing: bool = False


def _included(folder: Path, name: object) -> str | _Unreadable:
    if not isinstance(name, str):
        return _Unreadable("an include, import or extends whose name is not a fixed text")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return _Unreadable(f"'{name}' is outside the template folder")
    if not path.is_file():
        there = [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()]
        return _Unreadable(f"'{name}' does not exist. {nearest([name], there)}".rstrip(". "), missing=True)
    return _text_of(path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TemplatesUnreadable(path=path, reason="it does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TemplatesUnreadable(path=path, reason=reason) from None


def _referenced(tree: nodes.Template) -> Iterator[tuple[int, object, bool]]:
    """Files that are named: line, name (None where it is no fixed text), and whether it may be missing."""
    for node in tree.find_all((nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)):
        names: list[str | None] = [*fixed_names(node)]
        optional = len(names) > 1 or getattr(node, "ignore_missing", False)
        yield from ((node.lineno, name, optional) for name in names or [None])


def _problems(name: str, source: str, environment: CampaignEnvironment) -> Iterator[str]:
    try:
        tree = environment.parse(source, name)
    except (TemplateSyntaxError, RecursionError):
        return  # listed already
    known = list(_unknown_names(name, tree, environment))
    yield from known
    yield from argument_problems(name, tree)
    yield from translation_problems(name, tree)
    yield from _empty_defaults(name, tree)
    if not known:
        try:
            environment.compile(source, name)
        except TemplateSyntaxError as error:
            yield _syntax_error(name, error)
        except SecurityError as error:
            yield f"{name}: the template does what is not allowed: {error}"


def _syntax_error(name: str, error: TemplateSyntaxError) -> str:
    message = (error.message or "").rstrip(".")
    if message == "Missing end of comment tag":
        message += ": '{#' begins a comment of the template; in CSS write '{ #'"
    return f"{name}, line {error.lineno}: {message}"


def _empty_defaults(name: str, tree: nodes.Template) -> Iterator[str]:
    """Defaults of arguments that name an argument which has no value yet, as in `macro row(city=city)`."""
    for macro in tree.find_all((nodes.Macro, nodes.CallBlock)):
        assert isinstance(macro, nodes.Macro | nodes.CallBlock)  # noqa: S101  # for mypy
        names = [each.name for each in macro.args]
        for place, default in zip(range(len(names) - len(macro.defaults), len(names)), macro.defaults, strict=True):
            found = [default] if isinstance(default, nodes.Name) else list(default.find_all(nodes.Name))
            for used in (each.name for each in found if each.name in names[place:]):
                yield (
                    f"{name}, line {macro.lineno}: the default of '{names[place]}' is the argument '{used}', which"
                    f" has no value there; write its namespace, as in profile.{used}"
                )


def _layout_problems(name: str, sources: Mapping[str, str], environment: CampaignEnvironment) -> Iterator[str]:
    """What is wrong with the files that a part extends: a required block that none has, or no one order of them."""
    given: set[str] = set()
    seen: set[str] = set()
    while name in sources and name not in seen:
        seen.add(name)
        try:
            tree = environment.parse(sources[name], name)
        except (TemplateSyntaxError, RecursionError):
            return  # listed already
        for block in tree.find_all(nodes.Block):
            if block.required and block.name not in given:
                required = f"the block '{block.name}' is required; no file that extends it has it"
                yield f"{name}, line {block.lineno}: {required}"
        given.update(block.name for block in tree.find_all(nodes.Block))
        parents = [node for node in tree.body if isinstance(node, nodes.Extends)]
        yield from (
            f"{name}, line {node.lineno}: a second 'extends'; a file extends one other" for node in parents[1:]
        )
        name = next(iter(fixed_names(parents[0])), "") if parents else ""
    if name in seen:
        yield f"{name}: it extends itself"


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
