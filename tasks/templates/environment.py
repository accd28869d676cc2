"""The Jinja environment of templates: sandboxed, with our filters, and escaping by context."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from jinja2 import DictLoader, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.templates.escaping import dumped
from tasks.templates.fields import MissingValue, printed
from tasks.templates.filters import OWN_FILTERS
from tasks.templates.guard import Guard

LONGEST_REPETITION = 100_000
HIGHEST_POWER = 1_000
LARGEST_BITS = 10_000
PADDING = frozenset({"center", "expandtabs", "ljust", "rjust", "zfill"})
GUARDS_KEPT = 32


class CampaignEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox as templates of campaigns need it; `locale` is that of the format filters."""

    intercepted_binops = frozenset({"*", "**"})

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
        )
        self.locale = locale
        self.marks_branches = marks_branches
        self.sources = sources
        self.filters.update(OWN_FILTERS)
        self.policies["json.dumps_function"] = dumped
        self.tests["none"] = lambda value: value is None or isinstance(value, MissingValue)
        del self.globals["lipsum"]
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

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Refuse what would make a text or a number without end."""
        if operator == "**":
            if not (_is_number(left) and _is_number(right) and abs(right) <= HIGHEST_POWER):
                raise SecurityError(f"a power above {HIGHEST_POWER}")
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > LARGEST_BITS:
                raise SecurityError(f"a number of more than {LARGEST_BITS} bits")
        if operator == "*":
            numbers = isinstance(left, int) and isinstance(right, int)
            if numbers and left.bit_length() + right.bit_length() > LARGEST_BITS:
                raise SecurityError(f"a number of more than {LARGEST_BITS} bits")
            for sequence, times in ((left, right), (right, left)):
                if (
                    hasattr(sequence, "__len__")
                    and isinstance(times, int)
                    and len(sequence) * times > LONGEST_REPETITION
                ):
                    raise SecurityError(f"a repetition longer than {LONGEST_REPETITION}")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Refuse a text that is padded without end."""
        pads = isinstance(getattr(obj, "__self__", None), str) and getattr(obj, "__name__", "") in PADDING
        if pads and any(isinstance(each, int) and each > LONGEST_REPETITION for each in (*args, *kwargs.values())):
            raise SecurityError(f"a text padded to more than {LONGEST_REPETITION} characters")
        return super().call(context, obj, *args, **kwargs)


@lru_cache(GUARDS_KEPT)
def _guarded(main: str, sources: tuple[tuple[str, str], ...]) -> Guard:
    """The guard of a part, which reads its HTML once however many renderers there are."""
    texts = dict(sources)
    plain = ImmutableSandboxedEnvironment()
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal)
