"""The Jinja environment of templates: sandboxed, with our filters, and escaping by context."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import DictLoader, TemplateRuntimeError, Undefined, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from tasks.templates.catalogues import PLACEHOLDER, translations_of
from tasks.templates.escaping import dumped
from tasks.templates.fields import MissingValue, printed
from tasks.templates.filters import OWN_FILTERS
from tasks.templates.guard import Guard

GUARDS_KEPT = 32


class Unfolded(CodeGenerator):
    """Compiles without evaluating: a constant expression costs where a message is rendered, within its budget."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:  # noqa: ANN401
        if not isinstance(node, nodes.TemplateData | nodes.Const):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802  # Jinja's name
        """A file that is included in a loop knows `loop`, as it knows the loop's other variables."""
        whole = node.body
        if any(each.with_context for each in node.find_all(nodes.Include)):
            uses = nodes.If(nodes.Name("loop", "load"), [], [], [], lineno=node.lineno)
            node.body = [uses, *whole]
        super().visit_For(node, frame)
        node.body = whole


class CampaignEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox as templates of campaigns need it; `locale` is that of the format filters."""

    code_generator_class = Unfolded

    def __init__(
        self, sources: Mapping[str, str], main: str = "", locale: str = "en", *, marks_branches: bool = False
    ) -> None:
        """The environment of a part: `main` is its file where the part is HTML, else empty."""
        super().__init__(
            loader=DictLoader(sources),
            undefined=MissingValue,
            autoescape=bool(main),
            keep_trailing_newline=False,
            finalize=printed,
            optimized=False,
        )
        self.locale = locale
        self.marks_branches = marks_branches
        self.sources = sources
        self.filters.update(OWN_FILTERS)
        self.policies["json.dumps_function"] = dumped
        self.tests["none"] = lambda value: value is None or isinstance(value, MissingValue)
        del self.globals["lipsum"]
        self.globals["reject"] = rejected
        self.translations = translations_of(sources, locale)
        self.add_extension("jinja2.ext.i18n")
        self.newstyle_gettext = True  # of the extension
        self.globals.update({"gettext": _gettext, "_": _gettext, "ngettext": _ngettext})
        self.globals.update({"pgettext": _pgettext, "npgettext": _npgettext})
        self.guard = _guarded(main, tuple(sorted(sources.items()))) if main else None

    @property
    def html(self) -> bool:
        """Whether what is printed is escaped."""
        return self.guard is not None

    @property
    def problems(self) -> list[str]:
        """Values where HTML has no safe place for one, with file and line."""
        return self.guard.problems if self.guard else []

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        guarded = self.guard.trees.get(str(name)) if self.guard else None
        tree = super()._parse(source, name, filename) if guarded is None else _copied(guarded)
        tree.set_environment(self)
        if self.marks_branches:
            _mark_branches(tree, str(name))
        return tree


class Rejected(TemplateRuntimeError):
    """The template rejects the profile."""


def rejected(reason: object) -> str:
    """`{{ reject('no store nearby') }}`: the profile gets no message, for this reason."""
    raise Rejected(str(printed(reason)))


@pass_context
def _gettext(context: Context, text: str, /, **values: object) -> str:
    return _filled(context, context.environment.translations.gettext(text), values)  # type: ignore[attr-defined]


@pass_context
def _ngettext(context: Context, one: str, many: str, number: int, /, **values: object) -> str:
    found = context.environment.translations.ngettext(one, many, number)  # type: ignore[attr-defined]
    return _filled(context, found, {"num": number, **values})


@pass_context
def _pgettext(context: Context, meant: str, text: str, /, **values: object) -> str:
    found = context.environment.translations.pgettext(meant, text)  # type: ignore[attr-defined]
    return _filled(context, found, {"context": meant, **values})


@pass_context
def _npgettext(context: Context, meant: str, one: str, many: str, number: int, /, **values: object) -> str:
    found = context.environment.translations.npgettext(meant, one, many, number)  # type: ignore[attr-defined]
    return _filled(context, found, {"context": meant, "num": number, **values})


def _filled(context: Context, text: str, values: Mapping[str, object]) -> str:
    for name, kind in PLACEHOLDER.findall(text):
        if kind == "d" and not isinstance(values.get(name), Undefined) and type(values.get(name)) is not int:
            raise TypeError(f"'{name}' is no whole number; write %({name})s in the translated text")
    shown = Markup(text) if context.eval_ctx.autoescape else text  # noqa: S704  # the author's, without markup
    return shown % {name: printed(value) for name, value in values.items()}


@lru_cache(GUARDS_KEPT)
def _guarded(main: str, sources: tuple[tuple[str, str], ...]) -> Guard:
    """The guard of a part, which reads its HTML once however many renderers there are."""
    texts = dict(sources)
    plain = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.i18n"])
    plain.newstyle_gettext = True  # type: ignore[attr-defined]  # of the extension
    return Guard(main, texts, lambda name: plain.parse(texts[name], name))


def _copied(node: Any) -> Any:  # noqa: ANN401
    """A syntax tree that may be changed."""
    if isinstance(node, list):
        return [_copied(each) for each in node]
    if not isinstance(node, nodes.Node):
        return node
    made = object.__new__(type(node))
    vars(made).update({name: _copied(value) for name, value in vars(node).items()})
    return made


def _mark_branches(tree: nodes.Template, name: str) -> None:
    """Make each branch print where it stands, between two characters that no template has."""
    for node in list(tree.find_all((nodes.If, nodes.For))):
        for what, body in _branches_of(node):
            mark = nodes.TemplateData(f"\x02{name}, line {body[0].lineno} ({what})\x02", lineno=body[0].lineno)
            body.insert(0, nodes.Output([mark], lineno=body[0].lineno))


def _branches_of(node: nodes.Node) -> Iterator[tuple[str, list[nodes.Node]]]:
    """Bodies of an if or a for that are not empty, and what each is."""
    match node:
        case nodes.If(body=body, else_=otherwise):  # an elif is an If of its own, which is met by itself
            named = [("if", body), ("else", otherwise)]
        case nodes.For(body=body, else_=otherwise):
            named = [("for", body), ("else", otherwise)]
        case _:
            named = []
    yield from ((what, found) for what, found in named if found)
