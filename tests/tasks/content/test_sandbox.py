"""Templates cannot leave the sandbox: what is known to leave Jinja's is refused, with a sentence that says why."""

from pathlib import Path

import polars as pl
import pytest

from tasks.content.personalization import PersonalizationOptions, TemplateFolder, personalize, read_templates
from tasks.errors import TemplatesInvalid
from tasks.send import Send

PROFILE = pl.DataFrame(
    {"profile_id": ["1"], "email": ["a@x.example"], "name": ["Ada"], "tags": [["a"]], "since": ["__class__"]}
)


def outcome(folder: Path, template: str) -> str:
    """What is said of a template: the error of reading it, or the reason of the reject."""
    (folder / "subject.txt").write_text("s")
    (folder / "body.html").write_text("h")
    (folder / "body.txt").write_text(template)
    send = Send(campaign="c", label="C", business_date="2026-01-01")
    try:
        templates = read_templates(TemplateFolder(folder=folder))
        made = personalize(PROFILE, PersonalizationOptions(templates=templates, send=send))
    except TemplatesInvalid as error:
        return str(error)
    assert made.standard.is_empty(), made.standard["text"].item()
    return str(made.rejects["reason"].item())


NAMES = "not allowed: a template may not use names that begin with _"
UNSAFE = "the template does what is not allowed"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", NAMES),
        ("{{ ''['__class__'] }}", NAMES),
        ("{{ ''|attr('__class__') }}", NAMES),
        ("{{ profile.tags.__class__ }}", NAMES),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", NAMES),
        ("{{ lipsum.__globals__['os'].popen('id').read() }}", NAMES),
        ("{{ joiner.__init__.__globals__ }}", NAMES),
        ("{{ namespace.__init__.__globals__ }}", NAMES),
        ("{{ self.__init__.__globals__ }}", NAMES),
        ("{{ self._TemplateReference__context }}", NAMES),
        ("{% macro m() %}{% endmacro %}{{ m.__globals__ }}", NAMES),
        ("{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}", NAMES),
        ("{{ request.application }}", "'request.application' is unknown"),
        ("{{ config.items() }}", "'config.items' is unknown"),
        ("{{ lipsum() }}", "'lipsum' is unknown"),
        ("{{ ''['__cl' ~ 'ass__'] }}", UNSAFE),
        ("{{ ''|attr('__cl' ~ 'ass__') }}", UNSAFE),
        ("{{ profile.name[profile.since] }}", UNSAFE),
        ("{{ profile.name|attr(profile.since) }}", UNSAFE),
        ("{{ ['a']|map(attribute='__class__')|list }}", UNSAFE),
        ("{{ '{0.__class__}'.format(profile.name) }}", UNSAFE),
        ("{{ '{x.__class__}'.format_map({'x': 1}) }}", UNSAFE),
        ("{% set f = '{0.__class__.__mro__}'.format %}{{ f(1) }}", UNSAFE),
        ("{{ ['{0.__class__}']|map('format', 1)|list }}", "fails on the values"),
        ("{% set f = profile.tags.append %}{{ f('b') }}", UNSAFE),
        ("{{ profile.tags.pop() }}", UNSAFE),
        ("{% set d = {} %}{{ d.update({'a': 1}) }}", UNSAFE),
        ("{{ (0).__class__ }}", NAMES),
        ("{{ range(10000000)|length }}", "Range too big"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"),
        ("{% include 'body.txt' %}", "maximum recursion depth exceeded"),
        ("{% include '/etc/passwd' %}", "is outside the template folder"),
        ("{% include '../../secret' %}", "is outside the template folder"),
        ("{% import name as m %}", "whose name is not a fixed text"),
    ],
)
def test_a_known_way_out_is_refused_with_a_sentence(tmp_path: Path, template: str, says: str) -> None:
    assert says in outcome(tmp_path, template)


def test_a_value_is_never_rendered_as_a_template_and_never_sent_as_one(tmp_path: Path) -> None:
    (tmp_path / "subject.txt").write_text("{{ profile.name }}")
    (tmp_path / "body.html").write_text("h")
    (tmp_path / "body.txt").write_text("t")
    options = PersonalizationOptions(
        templates=read_templates(TemplateFolder(folder=tmp_path)),
        send=Send(campaign="c", label="C", business_date="2026-01-01"),
    )
    named = PROFILE.with_columns(name=pl.lit("{{ 7*7 }}"))
    assert personalize(named, options).rejects["reason"].to_list() == [
        "the value of profile.name has {{ or {%: a template that was not filled in"
    ]
