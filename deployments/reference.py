"""Writes the reference pages from the code: `python -m deployments.reference`."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

from deployments import palette
from deployments.options import cell, options_of
from deployments.palette import Activity
from tasks import errors
from tasks.errors import CampaignError, kinds_below
from tasks.sources import reference as values
from tasks.tables.conditions import reference as conditions
from tasks.tables.conditions.reference import code, table

PAGE = Path(errors.__file__).with_name("README.md")

INTRODUCTION = """\
Every activity with its options, transitions, errors and an example. This page is made from the code
(`make reference`). A test compares it and runs every example.

An activity is called in a flow. It takes an `Audience` (people) or a DataFrame (content) and returns one: the
outbound transition `standard`; `audience.transition("complement")` gives another one. Given plain DataFrames, an
activity returns its transitions as a dataclass, so that a test needs no flow run. Options are pydantic models.

What values mean, from every source: [values](sources/README.md). Filters, segments and expressions:
[conditions](tables/conditions/README.md). Endpoints: [endpoint](endpoint/README.md). Templates:
[templates](../flows/templates/README.md)."""
READY = """\
In the examples these names are ready:

| name | what it is |
|---|---|
| `settings` | `CampaignSettings.load()` of `flows.settings`: what the environment and `.env` say |
| `today` | the business date, a parameter of the flow |
| `send` | `Send(campaign="spring-offers", label="Spring offers", business_date=today)` of `tasks.send` |
| `audience` | `query(QueryOptions(source=settings.profiles))` |
| `messages` | `personalization(audience, ...)`, as in the example of Personalization |
| `templates` | `read_templates(TemplateFolder(folder="flows/templates/spring_offers"))` |
| `run_at` | `flow_run.scheduled_start_time` of `prefect.runtime`: a moment with its zone |
| `database` | `Database(url=...)` of `tasks.sources.sql` |
| `secret` | a `SecretStr` from the environment |"""
OF_ERRORS = """\
An expected failure ends a run with one sentence, a remedy and its code; `campaign explain CODE` prints it. Names in
braces stand for facts."""
TITLES = {
    "targeting": "Targeting",
    "data_management": "Data management",
    "content": "Content",
    "channels": "Channels",
    "execution": "Execution",
}


def page() -> str:
    """The page of activities and errors, as Markdown."""
    found = palette.activities()
    lines = ["# Activities", "", INTRODUCTION, "", READY, "", *_contents(found), ""]
    for group, title in TITLES.items():
        lines += [f"## {title}", ""]
        for activity in found:
            if activity.group == group:
                lines += _section(activity, found)
    lines += ["## Models of options", "", "Models that stand inside the options above.", ""]
    for model in palette.nested_models(found):
        lines += [f"### {model.__name__}", "", palette.first_sentence(model), "", *_options(model), ""]
    return "\n".join([*lines, *error_table(), ""])


def _contents(found: list[Activity]) -> Iterable[str]:
    for group, title in TITLES.items():
        links = [f"[{one.name}](#{anchor(one.name)})" for one in found if one.group == group]
        yield f"- **[{title}](#{anchor(title)})**: {', '.join(links)}"
    yield "- **[Models of options](#models-of-options)**, **[Errors](#errors)**"


def _section(activity: Activity, found: list[Activity]) -> list[str]:
    lines = [f"### {activity.name}", "", f"`{activity.module}.{activity.function}`", ""]
    lines += [activity.summary, ""]
    lines += [f"- **{label}**: {text}" for label, text in activity.labelled.items()]
    kinds = palette.errors_of(activity, found)
    if kinds:
        lines += [f"- **Codes**: {', '.join(f'[{kind.code}](#{kind.__name__.lower()})' for kind in kinds)}"]
    lines += ["", "```python", *activity.imports, "", *activity.example, "```", ""]
    for model in activity.options:
        first = next(one for one in found if model in one.options)
        if first is activity:
            lines += [f"#### {model.__name__}", "", *_options(model), ""]
        else:
            lines += [f"`{model.__name__}`: as for [{first.name}](#{anchor(first.name)}).", ""]
    if activity.transitions:
        rows = ((code(name), text) for name, text in activity.transitions.items())
        lines += [*table(("transition", "rows"), rows), ""]
    return lines


def _options(model: type) -> list[str]:
    rows = ((code(one.name), one.kind, one.default, one.description) for one in options_of(model, anchor))
    return table(("option", "type", "default", "meaning"), rows)


def error_table() -> list[str]:
    """Every expected failure, by code; each row has an anchor of its class's name."""
    kinds = [kind for kind in kinds_below(CampaignError) if kind.sentence != CampaignError.sentence]
    rows = (
        (
            f'<a id="{kind.__name__.lower()}"></a>{kind.code}',
            f"`{kind.__name__}`",
            cell(kind.sentence),
            cell(kind.remedy),
        )
        for kind in sorted(kinds, key=lambda kind: (kind.code, kind.__name__))
    )
    return ["## Errors", "", OF_ERRORS, "", *table(("code", "error", "sentence", "remedy"), rows)]


def anchor(title: str) -> str:
    """The anchor that a repository viewer gives a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def readme() -> str:
    """The README with the files that it shows as they are now."""
    text = README.read_text(encoding="utf-8")
    for begin, file, name, language in SHOWN.findall(text):
        source = README.parent / file
        whole = source.read_text(encoding="utf-8")
        shown = _assignment(whole, name) if name else whole
        before, _, after = text.partition(f"{begin}```{language}\n")
        text = f"{before}{begin}```{language}\n{shown.rstrip()}\n```{after.partition('```')[2]}"
    return text


def _assignment(source: str, name: str) -> str:
    """The statement that gives a name its value."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [name]:
            return str(ast.get_source_segment(source, statement))
    raise LookupError(name)


README = PAGE.parents[1] / "README.md"
SHOWN = re.compile(r"^(`([\w/]+\.\w+)`(?:, `(\w+)`)?\n)```(\w+)$", re.MULTILINE)
"""A file that the README shows, or one name of it."""
PAGES = ((PAGE, page), (values.PAGE, values.page), (conditions.PAGE, conditions.page), (README, readme))


if __name__ == "__main__":
    for file, made in PAGES:
        file.write_text(made(), encoding="utf-8")
