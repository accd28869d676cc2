"""Personalization: renders the subject, HTML and text of each message from Jinja templates.

Templates see three namespaces: `profile.first_name` (a column of the audience), `content.coupons.code` (a field
of the additional data named coupons) and `campaign.label`. A name without namespace works while only one of
them has it. A null, a NaN and a blank text are all a missing value: printing one makes the profile a reject,
unless the template gives a `default`.

Templates are rendered over whole columns; what has no form over columns is rendered row by row in Jinja's
sandbox, with the same result, and the log says so. That is done in a child process, in which each message has a
budget: 2 seconds of a processor, 256 MiB of memory, 5 MB for a part. A profile whose message goes beyond it is a
reject; more than 20 of them, or an hour of row by row rendering, end the run (`TemplatesEndless`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl

from tasks.content._checks import CLIPPED_BYTES
from tasks.content._codes import coded_slices, reserved_for_all
from tasks.content._options import IDENTITY, PersonalizationOptions, Renderers
from tasks.content._rendering import RowByRow
from tasks.content._variants import DEFAULT, Variant
from tasks.pools.use import PoolUse, pools_in_use
from tasks.runs.log import Logger, run_logger
from tasks.runs.shapes import row_activity
from tasks.tables.transitions import Transitions
from tasks.templates.links import Utm
from tasks.templates.reading import PARTS, TemplateFolder, Templates, read_templates

__all__ = [
    "IDENTITY",
    "PARTS",
    "PersonalizationOptions",
    "Personalized",
    "PoolUse",
    "TemplateFolder",
    "Templates",
    "Utm",
    "Variant",
    "personalization",
    "personalize",
    "read_templates",
]


@dataclass(frozen=True)
class Personalized(Transitions):
    """Outbound transitions of Personalization."""

    standard: pl.DataFrame
    """Messages: profile_id, email, subject, html, text; with variants also variant; all text. With codes of pools
    also codes, those that the message shows: a list of number, code."""
    rejects: pl.DataFrame
    """Profiles without a message: profile_id, email, reason; all text."""


REJECTS = dict.fromkeys((*IDENTITY, "reason"), pl.String())


def personalize(
    inbound: pl.DataFrame,
    options: PersonalizationOptions,
    *,
    logger: Logger | None = None,
) -> Personalized:
    """Render one message per row, or reject the row with the reason.

    A `logger` is told which fields lack values and have no default, and what is rendered row by row at what cost.

    Errors: `ColumnsMissing` (the key or the address), `TemplatesInvalid` (a name that the table does not have; all
    of them are listed, before the first message); with codes `PoolUnknown`, `PoolDry`, `JournalUnavailable`.
    """
    if not options.codes:
        return _rendered(inbound, options, logger, lambda renderers: renderers.slices([inbound]))
    with pools_in_use(options.codes, options.send) as pools:
        coded = pools.coded(inbound, options.key)
        return _rendered(coded.rows, options, logger, lambda renderers: coded_slices(coded, renderers, pools))


def _rendered(
    inbound: pl.DataFrame,
    options: PersonalizationOptions,
    logger: Logger | None,
    slices: Callable[[Renderers], Iterable[pl.DataFrame]],
) -> Personalized:
    renderers = Renderers(inbound.schema, options)
    if logger is not None:
        for field, where, profiles in renderers.by_code[DEFAULT].lacking([inbound]).iter_rows():
            logger.warning("%s has no value for %d profiles, and no default (%s).", field, profiles, where)
        for finding in dict.fromkeys(told for each in renderers.by_code.values() for told in each.findings()):
            logger.warning("%s.", finding)
    outbound = _whole(_transitions(messages) for messages in slices(renderers))
    if logger is not None:
        _tell_costs(renderers, logger)
        clipped = int((outbound.standard.get_column("html").str.len_bytes() > CLIPPED_BYTES).sum())
        if clipped:
            logger.warning("%d messages have more than 102 KB of HTML; Gmail clips them there.", clipped)
    return outbound


def _transitions(messages: pl.DataFrame) -> Personalized:
    reasons = messages.get_column("reason")
    standard = pl.DataFrame([column for column in messages.get_columns() if column.name != "reason"])
    if reasons.null_count() == messages.height:
        return Personalized(standard, pl.DataFrame(schema=REJECTS))
    return Personalized(
        standard.filter(reasons.is_null()),
        messages.filter(reasons.is_not_null()).select(*REJECTS),
    )


def _whole(slices: Iterable[Personalized]) -> Personalized:
    made = list(slices)
    return Personalized(
        standard=pl.concat([each.standard for each in made]), rejects=pl.concat([each.rejects for each in made])
    )


def _tell_costs(renderers: Renderers, logger: Logger) -> None:
    for renderer in renderers.by_code.values():
        for slow in renderer.slow.values():
            logger.info("%s", _costs(slow))


def _costs(slow: RowByRow) -> str:
    each = 1e6 * slow.seconds / max(slow.messages, 1)
    return (
        f"{slow.part} is rendered row by row because of {slow.construct} ({slow.where}):"
        f" {slow.messages} messages in {slow.seconds:.1f} s, {each:.0f} µs each."
    )


@row_activity("Personalization", across=reserved_for_all)
def personalization(inbound: pl.DataFrame, options: PersonalizationOptions) -> Personalized:
    """Render the subject, HTML and text of one message per profile.

    HTML is escaped by context, and templates run in a sandbox.
    In: the audience; struct columns are content (`content.<column>.<field>`), lists of structs too
    (`for offer in content.offers`), all others `profile.<column>`.
    With `options.codes` each message gets a code of its own (`content.<name>.code`), the same in every run of the
    send; what does not show it gives it back.
    Out: `standard` (profile_id, email, subject, html, text, with variants also variant, with codes also codes) and
    `rejects` (profile_id, email, reason).
    Errors: `ColumnsMissing`, `TemplatesInvalid`, `TemplatesEndless`, `PoolUnknown`, `PoolDry`.

    Example:
        ```python
        templates = read_templates(TemplateFolder(folder="flows/templates/spring_offers"))
        messages = personalization(audience, PersonalizationOptions(templates=templates, send=send))
        left_out = messages.transition("rejects")
        ```
    """
    return personalize(inbound, options, logger=run_logger())
