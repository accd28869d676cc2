"""Personalization: renders the subject, HTML and text of each message from Jinja templates.

Templates see three namespaces: `profile.first_name` (a column of the audience), `content.coupons.code` (a field
of the additional data named coupons) and `campaign.label`. A name without namespace works while only one of
them has it. A null, a NaN and a blank text are all a missing value: printing one makes the profile a reject,
unless the template gives a `default`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
from jinja2 import (
    BaseLoader,
    DictLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    nodes,
)
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.meta import find_referenced_templates, find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import TemplatesInvalid, TemplatesUnreadable
from tasks.results import ARROW, PER_RUN
from tasks.send import Send
from tasks.tables import Transitions, nearest, require_columns

NAMESPACES = ("profile", "content", "campaign")
PARTS = ("subject", "html", "text")
IDENTITY = ("profile_id", "email")
BATCH = 50_000
"""Profiles whose values are Python objects at one time."""


class TemplateFolder(BaseModel):
    """Where a campaign's templates are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(
        title="Template folder",
        description="Folder of the Jinja templates; they can include and import others of the folder.",
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


class PersonalizationOptions(BaseModel):
    """Options of the Personalization activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: Templates = Field(title="Templates", description="Templates of subject, HTML and text.")
    send: Send = Field(title="Send", description="The campaign and date, for the campaign namespace.")
    key: str = Field(default="profile_id", title="Key", description="Column that tells profiles apart.")
    address: str = Field(default="email", title="Address", description="Column of the address to send to.")


@dataclass(frozen=True)
class Personalized(Transitions):
    """Outbound transitions of Personalization."""

    standard: pl.DataFrame
    """Messages: profile_id, email, subject, html, text; all text."""
    rejects: pl.DataFrame
    """Profiles without a message: profile_id, email, reason; all text."""


class MissingValue(StrictUndefined):
    """A value that the profile does not have: false in a condition, replaced by `default`, an error in print."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override]  # the parent's never returns
        return False


def read_templates(options: TemplateFolder) -> Templates:
    """Read the folder's templates and check their syntax.

    Errors: `TemplatesUnreadable` (missing, or not UTF-8 text), `TemplatesInvalid` (with file and line).
    """
    parts = {part: getattr(options, part) for part in PARTS}
    sources = {name: _text_of(options.folder / name) for name in parts.values()}
    environment = _environment(sources)
    problems: list[str] = []
    waiting = list(sources)
    while waiting:
        name = waiting.pop()
        try:
            tree = environment.parse(sources[name], name)
            environment.compile(sources[name], name)
        except TemplateSyntaxError as error:
            problems.append(f"{name}, line {error.lineno}: {error.message}")
            continue
        for other in find_referenced_templates(tree):
            if other is None:
                problems.append(f"{name}: an include or import whose name is not a fixed text")
            elif other not in sources:
                sources[other] = _text_of(_within(options.folder, other))
                waiting.append(other)
    if problems:
        raise TemplatesInvalid(folder=options.folder, count=len(problems), errors="; ".join(sorted(problems)))
    return Templates(folder=options.folder, parts=parts, sources=sources)


def _within(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise TemplatesUnreadable(path=path, reason="it is outside the template folder")
    return path


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TemplatesUnreadable(path=path, reason="it does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TemplatesUnreadable(path=path, reason=reason) from None


def _environment(sources: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    loader: BaseLoader = DictLoader(sources)
    environment = ImmutableSandboxedEnvironment(
        loader=loader,
        undefined=MissingValue,
        autoescape=lambda name: bool(name) and str(name).endswith((".html", ".htm")),
        keep_trailing_newline=False,
    )
    environment.tests["none"] = lambda value: value is None or isinstance(value, MissingValue)
    return environment


@dataclass(frozen=True)
class Use:
    """A field as a template names it."""

    template: str
    line: int
    path: tuple[str, ...]


class Fields:
    """Names that templates may use, by namespace, and the column each one is."""

    def __init__(self, table: pl.DataFrame, campaign: Mapping[str, object]) -> None:
        self._known: dict[tuple[str, ...], pl.Expr] = {}
        self._types: dict[tuple[str, ...], type] = {}
        for name, kind in table.schema.items():
            if isinstance(kind, pl.Struct):
                for field in kind.fields:
                    value = pl.col(name).struct.field(field.name)
                    self._add(("content", name, field.name), value, pl.Series(dtype=field.dtype).dtype)
            else:
                self._add(("profile", name), pl.col(name), kind)
        for name, constant in campaign.items():
            value = pl.lit(constant)
            self._add(("campaign", name), value, pl.select(value).to_series().dtype)
        self._bare: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        for path in self._known:
            for start in range(1, len(path)):
                self._bare[path[start:]].append(path)

    def _add(self, path: tuple[str, ...], value: pl.Expr, kind: pl.DataType) -> None:
        self._known[path] = _present(value, kind)
        self._types[path] = kind.to_python()

    def resolve(self, use: Use) -> tuple[str, ...] | str:
        """The full path of a used name, or what is wrong with it."""
        where = f"{use.template}, line {use.line}: "
        shown = ".".join(use.path)
        matches = self._matches(use.path)
        if len(matches) == 1:
            attributes = use.path[_known_length(use.path, matches[0]) :]
            if attributes and not _is_attribute(self._types[matches[0]], attributes[0]):
                return f"{where}'{'.'.join(matches[0])}' has no '{attributes[0]}'"
            return matches[0]
        if matches:
            choices = " or ".join(".".join(match) for match in matches)
            return f"{where}'{shown}' is ambiguous, write {choices}"
        if any(len(use.path) < len(path) and path[: len(use.path)] == use.path for path in self._known):
            return f"{where}'{shown}' is no field; name one of its fields, as in {shown}.name"
        names = {".".join(path) for path in (*self._known, *self._bare)}
        hint = nearest([shown], names)
        return f"{where}'{shown}' is unknown. {hint}".rstrip(". ")

    def _matches(self, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        # Longest first, so that `profile.email.x` is looked up whole before a method of its value is thought of.
        for length in range(len(path), 0, -1):
            if path[:length] in self._known:
                return [path[:length]]
            if found := self._bare.get(path[:length]):
                return found
        return []

    def column(self, path: tuple[str, ...]) -> pl.Expr:
        """Expression of a known field's values, missing ones null."""
        return self._known[path]


def _is_attribute(kind: type, name: str) -> bool:
    return hasattr(kind, name) and not name.startswith("_")


def _present(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if kind == pl.String():
        return pl.when(value.str.strip_chars() != "").then(value)
    return value.fill_nan(None) if kind.is_float() else value


def uses_of(templates: Templates) -> list[Use]:
    """Every field that the templates name, each with its file and line. Needs templates that parse."""
    environment = _environment(templates.sources)
    found: list[Use] = []
    for name, source in templates.sources.items():
        tree = environment.parse(source, name)
        free = find_undeclared_variables(tree) - set(environment.globals)
        found.extend(Use(name, line, path) for line, path in _paths(tree, free))
    return found


def _paths(node: nodes.Node, free: set[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    path = _path(node, free)
    if path is not None:
        yield node.lineno, path
        return
    for child in node.iter_child_nodes():
        yield from _paths(child, free)


def _path(node: nodes.Node, free: set[str]) -> tuple[str, ...] | None:
    match node:
        case nodes.Name(name=name, ctx="load") if name in free:
            return (name,)
        case nodes.Getattr(node=inner, attr=attribute):
            parent = _path(inner, free)
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str(attribute))):
            parent = _path(inner, free)
        case _:
            return None
    return None if parent is None else (*parent, attribute)


def _checked_fields(templates: Templates, fields: Fields) -> dict[tuple[str, ...], tuple[str, ...]]:
    resolved: dict[tuple[str, ...], tuple[str, ...]] = {}
    problems: list[str] = []
    for use in uses_of(templates):
        found = fields.resolve(use)
        if isinstance(found, str):
            problems.append(found)
        else:
            resolved[use.path] = found
    if problems:
        unique = list(dict.fromkeys(problems))
        raise TemplatesInvalid(folder=templates.folder, count=len(unique), errors="; ".join(unique))
    return resolved


def personalize(inbound: pl.DataFrame, options: PersonalizationOptions) -> Personalized:
    """Render one message per row, or reject the row with the reason.

    Errors: `ColumnsMissing` (the key or the address), `TemplatesInvalid` (a name that the table does not have;
    all of them are listed, before the first message).
    """
    require_columns(
        inbound, [options.key, options.address], activity="Personalization", where="the inbound transition"
    )
    send = options.send
    campaign = {"name": send.campaign, "label": send.label, "business_date": send.business_date}
    fields = Fields(inbound, campaign)
    used = _checked_fields(options.templates, fields)
    environment = _environment(options.templates.sources)
    parts = {part: environment.get_template(name) for part, name in options.templates.parts.items()}
    person = zip(IDENTITY, (options.key, options.address), strict=True)
    columns = [
        *(pl.col(column).cast(pl.String()).alias(f"\x00{name}") for name, column in person),
        *(fields.column(path).alias(".".join(path)) for path in dict.fromkeys(used.values())),
    ]
    rendered = [_batch(batch.select(columns), parts, used) for batch in inbound.iter_slices(BATCH)]
    if not rendered:
        rendered = [_batch(inbound.select(columns), parts, used)]
    return Personalized(
        standard=pl.concat([batch.standard for batch in rendered]),
        rejects=pl.concat([batch.rejects for batch in rendered]),
    )


def _batch(
    values: pl.DataFrame,
    parts: Mapping[str, Template],
    used: Mapping[tuple[str, ...], tuple[str, ...]],
) -> Personalized:
    messages: list[dict[str, str | None]] = []
    rejects: list[dict[str, str | None]] = []
    for row in values.iter_rows(named=True):
        person = {name: row[f"\x00{name}"] for name in IDENTITY}
        try:
            messages.append({**person, **_rendered(parts, _context(row, used))})
        except _Unrenderable as reason:
            rejects.append({**person, "reason": str(reason)})
    return Personalized(
        standard=pl.DataFrame(messages, schema=dict.fromkeys([*IDENTITY, *PARTS], pl.String())),
        rejects=pl.DataFrame(rejects, schema=dict.fromkeys([*IDENTITY, "reason"], pl.String())),
    )


class _Unrenderable(Exception):  # a reason to reject one profile, not an error of the run
    pass


def _context(row: Mapping[str, Any], used: Mapping[tuple[str, ...], tuple[str, ...]]) -> dict[str, Any]:
    context: dict[str, Any] = {}
    for path, full in used.items():
        name = ".".join(full)
        value = row[name]
        *spaces, last = path[: _known_length(path, full)]
        space = context
        for step in spaces:
            space = vars(space.setdefault(step, SimpleNamespace()))
        space[last] = MissingValue(name=name) if value is None else value
    return context


def _known_length(path: tuple[str, ...], full: tuple[str, ...]) -> int:
    for length in range(len(path), 0, -1):
        if full[-length:] == path[:length]:
            return length
    raise ValueError(f"{path} does not name {full}")


def _rendered(parts: Mapping[str, Template], context: Mapping[str, Any]) -> dict[str, str]:
    try:
        message = {part: template.render(context) for part, template in parts.items()}
    except UndefinedError as error:
        raise _Unrenderable(_reason(error)) from None
    except SecurityError as error:
        raise _Unrenderable(f"the template does what is not allowed: {error}") from None
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise _Unrenderable(f"the template fails on the values: {error}") from None
    message["subject"] = message["subject"].strip()
    if not message["subject"]:
        raise _Unrenderable("the subject is empty")
    if len(message["subject"].splitlines()) > 1:
        raise _Unrenderable("the subject has a line break")
    return message


def _reason(error: UndefinedError) -> str:
    text = str(error)
    name = text.split("'")[1] if text.count("'") == 2 and text.endswith("is undefined") else None
    return f"no value for {name}" if name else text


@task(name="Personalization", task_run_name="Personalization", cache_policy=PER_RUN, result_serializer=ARROW)
def personalization(inbound: pl.DataFrame, options: PersonalizationOptions) -> Personalized:
    """Render the subject, HTML and text of one message per profile.

    In: the audience; struct columns are content (`content.<column>.<field>`), all others `profile.<column>`.
    Out: `standard` (profile_id, email, subject, html, text) and `rejects` (profile_id, email, reason).
    Errors: `ColumnsMissing`, `TemplatesInvalid`. HTML is autoescaped and templates run in Jinja's sandbox.
    """
    outbound = personalize(inbound, options)
    get_run_logger().info(
        "%d messages rendered, %d profiles rejected.", outbound.standard.height, outbound.rejects.height
    )
    return outbound
