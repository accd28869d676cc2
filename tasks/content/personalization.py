"""Personalization: renders the subject, HTML and text of each message from Jinja templates.

Templates see three namespaces: `profile.first_name` (a column of the audience), `content.coupons.code` (a field
of the additional data named coupons) and `campaign.label`. A name without namespace works while only one of
them has it. A null, a NaN and a blank text are all a missing value: printing one makes the profile a reject,
unless the template gives a `default`.

Templates are rendered over whole columns; what has no form over columns is rendered row by row in Jinja's
sandbox, with the same result, and the log says so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl
from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.content._filters import known_locale
from tasks.content._rendering import Renderer
from tasks.content._templates import PARTS, TemplateFolder, Templates, read_templates
from tasks.results import ARROW, PER_RUN
from tasks.send import Send
from tasks.tables import Transitions, require_columns

__all__ = [
    "IDENTITY",
    "PARTS",
    "PersonalizationOptions",
    "Personalized",
    "TemplateFolder",
    "Templates",
    "personalization",
    "personalize",
    "personalized_slices",
    "read_templates",
]

IDENTITY = ("profile_id", "email")


class PersonalizationOptions(BaseModel):
    """Options of the Personalization activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: Templates = Field(title="Templates", description="Templates of subject, HTML and text.")
    send: Send = Field(title="Send", description="The campaign and date, for the campaign namespace.")
    key: str = Field(default="profile_id", title="Key", description="Column that tells profiles apart.")
    address: str = Field(default="email", title="Address", description="Column of the address to send to.")
    locale: str = Field(
        default="en",
        title="Locale",
        description="Language of the filters for dates, times and numbers, for example de or pt_BR.",
    )
    row_by_row: bool = Field(
        default=False,
        title="Row by row",
        description="Render every message by itself in Jinja's sandbox: much slower, with the same result.",
    )

    @field_validator("locale")
    @classmethod
    def _is_a_locale(cls, name: str) -> str:
        return known_locale(name)


@dataclass(frozen=True)
class Personalized(Transitions):
    """Outbound transitions of Personalization."""

    standard: pl.DataFrame
    """Messages: profile_id, email, subject, html, text; all text."""
    rejects: pl.DataFrame
    """Profiles without a message: profile_id, email, reason; all text."""


def personalize(inbound: pl.DataFrame, options: PersonalizationOptions) -> Personalized:
    """Render one message per row, or reject the row with the reason.

    Errors: `ColumnsMissing` (the key or the address), `TemplatesInvalid` (a name that the table does not have;
    all of them are listed, before the first message).
    """
    return _whole(personalized_slices([inbound], options, inbound.schema))


def personalized_slices(
    tables: Iterable[pl.DataFrame], options: PersonalizationOptions, schema: pl.Schema
) -> Iterator[Personalized]:
    """`personalize` for an audience that comes as tables of one schema, a slice of messages at a time.

    Memory does not grow with the audience. Errors: as `personalize`, before the first slice.
    """
    renderer = renderer_of(schema, options)
    return (_transitions(messages) for messages in renderer.slices(tables, _identity(options)))


def renderer_of(schema: pl.Schema, options: PersonalizationOptions) -> Renderer:
    """What renders the messages of an audience of this schema. Errors: `ColumnsMissing`, `TemplatesInvalid`."""
    require_columns(
        schema.to_frame(),
        [options.key, options.address],
        activity="Personalization",
        where="the inbound transition",
    )
    send = options.send
    campaign = {"name": send.campaign, "label": send.label, "business_date": send.business_date}
    return Renderer(options.templates, schema, campaign, options.locale, lowered=not options.row_by_row)


def _identity(options: PersonalizationOptions) -> list[pl.Expr]:
    person = zip(IDENTITY, (options.key, options.address), strict=True)
    return [pl.col(column).cast(pl.String()).alias(name) for name, column in person]


def _transitions(messages: pl.DataFrame) -> Personalized:
    reasons = messages.get_column("reason")
    standard = messages.drop("reason")
    if reasons.null_count() == messages.height:
        return Personalized(standard, messages.clear().select(*IDENTITY, "reason"))
    return Personalized(
        standard.filter(reasons.is_null()),
        messages.filter(reasons.is_not_null()).select(*IDENTITY, "reason"),
    )


def _whole(slices: Iterable[Personalized]) -> Personalized:
    made = list(slices)
    return Personalized(
        standard=pl.concat([each.standard for each in made]), rejects=pl.concat([each.rejects for each in made])
    )


@task(name="Personalization", task_run_name="Personalization", cache_policy=PER_RUN, result_serializer=ARROW)
def personalization(inbound: pl.DataFrame, options: PersonalizationOptions) -> Personalized:
    """Render the subject, HTML and text of one message per profile.

    In: the audience; struct columns are content (`content.<column>.<field>`), all others `profile.<column>`.
    Out: `standard` (profile_id, email, subject, html, text) and `rejects` (profile_id, email, reason).
    Errors: `ColumnsMissing`, `TemplatesInvalid`. HTML is escaped by context and templates run in a sandbox.
    """
    logger = get_run_logger()
    renderer = renderer_of(inbound.schema, options)
    outbound = _whole(_transitions(messages) for messages in renderer.slices([inbound], _identity(options)))
    for slow in renderer.slow.values():
        logger.info(
            "%s is rendered row by row because of %s (%s): %d messages in %.1f s, %.0f µs each.",
            slow.part,
            slow.construct,
            slow.where,
            slow.messages,
            slow.seconds,
            1e6 * slow.seconds / max(slow.messages, 1),
        )
    logger.info("%d messages rendered, %d profiles rejected.", outbound.standard.height, outbound.rejects.height)
    return outbound
