"""Translations of templates: a gettext catalogue for each locale, in `locale/<locale>.po` beside the templates.

`{% trans %}` shows the translation of the part's locale, else of its language (`de` for `de_AT`). Where there is no
catalogue, or none that has the text, it shows the text as it stands in the template.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO, StringIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po
from jinja2 import nodes

FOLDER = "locale"
TRANSLATING = frozenset({"gettext", "ngettext", "pgettext", "npgettext", "_"})
"""Functions that show a translation; `{% trans %}` calls them."""
PLACEHOLDER = re.compile(r"%\((\w+)\)([sd])|%%")
"""A value in a text, `d` for a whole number; or a percent sign."""
LONE_PERCENT = "has a '%' that is no placeholder; write a value as %(name)s, and the sign itself as %%"


def translation_problems(name: str, tree: nodes.Template) -> Iterator[str]:
    """What is wrong with the texts that a template translates: each placeholder needs a value."""
    for call in tree.find_all(nodes.Call):
        function = getattr(call.node, "name", "")
        if function not in TRANSLATING:
            continue
        kind = function.removesuffix("gettext")
        given = {str(each.key) for each in call.kwargs}
        given |= {own for letter, own in (("n", "num"), ("p", "context")) if letter in kind}
        for text in (each.value for each in call.args if isinstance(each, nodes.Const)):
            where = f"{name}, line {call.lineno}: the text '{text}'"
            if "%" in PLACEHOLDER.sub("", str(text)):
                yield f"{where} {LONE_PERCENT}"
            elif call.dyn_kwargs is None:
                missing = sorted({found for found, _ in PLACEHOLDER.findall(str(text))} - given - {""})
                yield from (f"{where} has no value for '{each}'; write {each}=... in the call" for each in missing)


def misplaced_catalogues(folder: Path) -> Iterator[str]:
    """Catalogues that would be passed over: compiled ones without a source, and those in folders of their own."""
    for path in sorted((folder / FOLDER).rglob("*.[pm]o")):
        name = str(path.relative_to(folder))
        locale = path.relative_to(folder / FOLDER).parts[0]
        if path.parent != folder / FOLDER:
            yield f"{name}: a catalogue has its place in {FOLDER}/{locale}.po"
        elif path.suffix == ".mo" and not path.with_suffix(".po").exists():
            yield f"{name}: only .po files are read; put the one beside it that it was made from (or msgunfmt's)"


def catalogue_problems(name: str, text: str) -> Iterator[str]:
    """What is wrong with a catalogue: it is none, or a translation has markup or other placeholders."""
    try:
        catalogue = _read(name, text)
    except (PoFileError, ValueError, LookupError) as error:
        yield f"{name}: it is no catalogue of gettext: {error}"
        return
    for message in catalogue:
        ids = message.id if isinstance(message.id, list | tuple) else (message.id,)
        texts = message.string if isinstance(message.string, list | tuple) else (message.string,)
        if not message.id:
            continue
        known = {found for each in ids for found in PLACEHOLDER.findall(each)} | {("", "")}
        for each in filter(None, texts):
            where = f"{name}, line {message.lineno}: the translation of '{ids[0]}'"
            if "<" in each:
                yield f"{where} has markup; only texts are translated"
            if "%" in PLACEHOLDER.sub("", each):
                yield f"{where} {LONE_PERCENT}"
            elif set(PLACEHOLDER.findall(each)) - known:
                yield f"{where} has a placeholder that the text has not"


def translations_of(sources: Mapping[str, str], locale: str) -> NullTranslations:
    """The catalogue of a locale or of its language; one without translations where there is none."""
    parts = locale.split("_")
    for length in range(len(parts), 0, -1):
        name = f"{FOLDER}/{'_'.join(parts[:length])}.po"
        if name in sources:
            return _translations(name, sources[name])
    return NullTranslations()


class _Texts(GNUTranslations):
    """A catalogue, whose head is no translation of an empty text."""

    def gettext(self, message: str) -> str:
        return super().gettext(message) if message else ""


@lru_cache(64)
def _translations(name: str, text: str) -> GNUTranslations:
    compiled = BytesIO()
    write_mo(compiled, _read(name, text))
    compiled.seek(0)
    return _Texts(compiled)


def _read(name: str, text: str) -> Catalog:
    locale = name.removeprefix(f"{FOLDER}/").removesuffix(".po")
    return read_po(StringIO(text), locale=locale, abort_invalid=True)
