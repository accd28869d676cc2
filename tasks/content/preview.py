"""Preview: shows messages as their readers would see them, and says what a sender should look at first."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader
from jinja2.utils import url_quote
from markupsafe import escape
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field

from tasks.content._checks import findings
from tasks.content._options import PersonalizationOptions, Renderers
from tasks.content._variants import DEFAULT
from tasks.errors import PreviewUnwritable
from tasks.files.storage import private_draft
from tasks.pools.use import pools_in_use
from tasks.privacy import masked_email
from tasks.runs.artifacts import show_link
from tasks.runs.audience import Audience
from tasks.runs.results import ARROW
from tasks.runs.table import part_size
from tasks.send import VARIANT
from tasks.templates.fields import ELEMENT
from tasks.templates.uses import optional_fields

LOOKED_THROUGH = 50_000
"""Profiles among which one is looked for that takes each branch of the templates."""

FINDINGS = pl.List(pl.String())


class PreviewOptions(BaseModel):
    """Options of the Preview activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    personalization: PersonalizationOptions = Field(
        title="Personalization", description="Templates, send and variants of the messages."
    )
    profiles: tuple[str, ...] = Field(
        default=(), title="Profiles", description="Keys of the profiles whose messages are shown."
    )
    random: int = Field(default=3, ge=0, title="Random profiles", description="How many more, chosen at random.")
    seed: int = Field(default=0, title="Seed", description="Makes the lots; another seed shows other profiles.")
    branches: bool = Field(
        default=True, title="Branches", description="Show a message for each branch of the templates."
    )
    longest_subject: int = Field(
        default=60, ge=1, title="Longest subject", description="Characters that a subject should not exceed."
    )
    unsubscribe: tuple[str, ...] = Field(
        default=("unsubscribe", "abmelden", "abbestellen", "désabonner", "desinscri", "darse de baja", "afmelden"),
        title="Unsubscribe",
        description="Words of which the text or address of a link to unsubscribe has one.",
    )
    folder: Path = Field(default=Path("previews"), title="Folder", description="Where the page is written.")

    @property
    def page(self) -> Path:
        """The page of this send."""
        send = self.personalization.send
        return self.folder / f"{send.campaign}-{send.business_date.isoformat()}.html"


def previews(inbound: pl.DataFrame, options: PreviewOptions) -> pl.DataFrame:
    """Messages worth a look, addresses masked.

    Chosen and random profiles, the longest and the shortest message, one for each branch of the templates, and one
    without any value that the templates can do without. Out: why, profile_id, email, subject, html, text (the last
    three null where there is no message) and findings, a list of sentences.
    Errors: `ColumnsMissing`, `TemplatesInvalid`.
    """
    inbound = _with_samples(inbound, options.personalization)
    renderers = Renderers(inbound.schema, options.personalization)
    marking = Renderers(inbound.schema, options.personalization, marks_branches=True)
    reasons: dict[int, list[str]] = {}
    for row, reason in _shown(inbound, options, renderers, marking):
        reasons.setdefault(row, []).append(reason)
    chosen = inbound[list(reasons)]
    bare = _without_optional(chosen.head(1), options.personalization, renderers)
    messages = pl.concat([renderers.rendered(chosen), renderers.rendered(bare)])
    why = [*map(", ".join, reasons.values()), *["without any value that can be missing"] * bare.height]
    of_templates = {code: renderer.findings() for code, renderer in renderers.by_code.items()}
    made = [
        _judged(row, shown_as, options, of_templates[row.get(VARIANT) or DEFAULT])
        for row, shown_as in zip(messages.to_dicts(), why, strict=True)
    ]
    text = dict.fromkeys(["why", "profile_id", "email", "subject", "html", "text"], pl.String())
    table = pl.DataFrame(made, schema={**text, "findings": FINDINGS})
    return _masked(table)


def _with_samples(inbound: pl.DataFrame, options: PersonalizationOptions) -> pl.DataFrame:
    """The profiles with a sample of each code: what is looked at takes none."""
    if not options.codes:
        return inbound
    with pools_in_use(options.codes, options.send) as pools:
        return pools.with_samples(inbound)


def _shown(
    inbound: pl.DataFrame, options: PreviewOptions, renderers: Renderers, marking: Renderers
) -> Iterator[tuple[int, str]]:
    """Rows to show, each with why."""
    keys = inbound.get_column(options.personalization.key).cast(pl.String())
    for chosen in options.profiles:
        yield from ((int(row), "chosen") for row in (keys == chosen).arg_true()[:1])
    yield from _extremes(inbound, renderers)
    if options.branches:
        yield from _branches(inbound, marking)
    lots = random.Random(options.seed)  # noqa: S311  # a choice of examples, not a secret
    count = min(options.random, inbound.height)
    yield from ((row, "chosen by lot") for row in sorted(lots.sample(range(inbound.height), count)))


def _extremes(inbound: pl.DataFrame, renderers: Renderers) -> Iterator[tuple[int, str]]:
    sizes = pl.concat(
        made.select(pl.when(pl.col("reason").is_null()).then(pl.col("html").str.len_bytes()).alias("size"))
        for made in renderers.slices([inbound])
    ).to_series()
    longest, shortest = sizes.arg_max(), sizes.arg_min()
    if longest is not None and shortest is not None:
        yield longest, "the longest message"
        yield shortest, "the shortest message"


def _branches(inbound: pl.DataFrame, marking: Renderers) -> Iterator[tuple[int, str]]:
    looked_through = inbound.head(LOOKED_THROUGH)
    made = pl.concat(marking.slices([looked_through])).with_row_index("row").filter(pl.col("reason").is_null())
    mark = pl.concat_str("subject", "html", "text").str.extract_all("\x02[^\x02]+\x02").list.unique()
    firsts = made.select("row", mark=mark).explode("mark").drop_nulls().group_by("mark").agg(pl.col("row").min())
    for branch, row in firsts.sort("row", "mark").iter_rows():
        yield row, f"the branch at {branch.strip(chr(2))}"


def _without_optional(profile: pl.DataFrame, options: PersonalizationOptions, renderers: Renderers) -> pl.DataFrame:
    """The profile with null wherever the templates can do without a value."""
    changed: dict[str, pl.Expr] = {}
    for path in optional_fields(options.templates, renderers.by_code[""].fields):
        space, name, *inner = path
        kept = {options.key, options.address, options.language, options.segment}
        if space == "campaign" or ELEMENT in path or name in kept or name not in profile.columns:
            continue
        kind = profile.schema[name]
        if inner and isinstance(kind, pl.Struct):
            value = changed.get(name, pl.col(name))
            changed[name] = value.struct.with_fields(pl.lit(None).cast(_type_of(kind, inner[0])).alias(inner[0]))
        else:
            changed[name] = pl.lit(None, kind)
    return profile.with_columns(expr.alias(name) for name, expr in changed.items())


def _type_of(kind: pl.Struct, name: str) -> Any:  # noqa: ANN401
    return next(field.dtype for field in kind.fields if field.name == name)


def _judged(row: dict[str, Any], why: str, options: PreviewOptions, of_templates: list[str]) -> dict[str, Any]:
    """A message with what a run would say of it, and of the templates that it is made of."""
    person = {"why": why, "profile_id": row["profile_id"], "email": row["email"]}
    if row["reason"] is not None:
        return {**person, "findings": [f"there is no message: {row['reason']}"]}
    parts = {part: row[part] for part in ("subject", "html", "text")}
    found = findings(**parts, longest_subject=options.longest_subject, unsubscribe=options.unsubscribe)
    return {**person, **parts, "findings": [*found, *of_templates]}


def _masked(table: pl.DataFrame) -> pl.DataFrame:
    shown = table.with_columns(masked_email("email"))
    rows = zip(table.to_dicts(), shown["email"], strict=True)
    made = [
        {part: _hidden(row[part], row["email"], mask) for part in ("subject", "html", "text")} for row, mask in rows
    ]
    return shown.with_columns(
        pl.Series(part, [row[part] for row in made], dtype=pl.String()) for part in ("subject", "html", "text")
    )


def _hidden(text: str | None, email: str | None, mask: str | None) -> str | None:
    if not text or not email or not mask:
        return text
    for written in (str, escape, url_quote):
        text = text.replace(str(written(email)), str(written(mask)))
    return text


def write_page(messages: pl.DataFrame, total: int, options: PreviewOptions) -> Path:
    """The page of the messages: one file, which shows each as on a desktop, on a phone and in dark mode.

    Errors: `PreviewUnwritable`.
    """
    environment = Environment(loader=PackageLoader("tasks.content", "."), autoescape=True)
    page = environment.get_template("preview_page.html").render(
        send=options.personalization.send, total=total, messages=messages.to_dicts()
    )
    try:
        with private_draft(options.page) as draft:
            draft.write_text(page, encoding="utf-8")
            draft.replace(options.page)
    except OSError as error:
        raise PreviewUnwritable(path=options.page, reason=error.strerror or str(error)) from None
    return options.page


def counted_findings(messages: pl.DataFrame) -> list[str]:
    """Each finding of the shown messages once, the most frequent first, with how many of them have it."""
    counts = messages.get_column("findings").explode().drop_nulls().value_counts(sort=True)
    return [f"{finding} ({count} of {messages.height} messages)" for finding, count in counts.iter_rows()]


@task(name="Preview", task_run_name="Preview", cache_policy=NO_CACHE, result_serializer=ARROW)
def preview(inbound: Audience | pl.DataFrame, options: PreviewOptions) -> pl.DataFrame:
    """Show messages as their readers would see them, before any is sent.

    In: the audience, as for Personalization; of many parts, the first profiles are looked at.
    Out: why, profile_id, email (masked), subject,
    html, text, findings. The page is linked as the artifact `<campaign>-messages`; each finding is logged once,
    with how many of the shown messages have it.
    Errors: those of Personalization, `PreviewUnwritable`.

    Example:
        ```python
        messages = PersonalizationOptions(templates=templates, send=send)
        shown = preview(audience, PreviewOptions(personalization=messages, random=5))
        ```
    """
    logger = get_run_logger()
    audience = inbound if isinstance(inbound, Audience) else Audience.of(inbound)
    profiles, total = audience.head(part_size()), audience.table.height
    messages = previews(profiles, options)
    page = write_page(messages, total, options).resolve()
    send = options.personalization.send
    show_link(
        page.as_uri(),
        f"Open the page with {messages.height} messages",
        key=f"{send.campaign}-messages",
        description=f"{send.label}, {send.business_date}: messages as their readers see them, addresses masked",
    )
    for found in counted_findings(messages):
        logger.warning("%s.", found)
    logger.info("%d messages shown in %s.", messages.height, page)
    return messages
