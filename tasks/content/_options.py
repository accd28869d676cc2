"""Options that personalization and its preview share, and the renderer that they make."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.content._rendering import SLICE, Renderer
from tasks.content._variants import DEFAULT, Variant, variant_codes
from tasks.messages.unsubscribe import unsubscribe_links
from tasks.pools.use import PoolUse
from tasks.send import Send
from tasks.settings import Settings
from tasks.tables.keys import key_text
from tasks.tables.transitions import require_columns
from tasks.templates.filters import known_locale
from tasks.templates.inlining import inlined
from tasks.templates.links import Utm, with_parameters
from tasks.templates.reading import Templates

MOST_WORKERS = 8
IN_WORK = 40_000
"""Profiles whose messages are made at the same time: more workers take smaller slices, so memory stays."""
CHARACTERS_IN_WORK = 100_000_000
"""And what those messages come to at most: long templates take smaller slices."""

IDENTITY = ("profile_id", "email")
OWN = frozenset({*IDENTITY, "subject", "html", "text", "variant", "codes", "reason"})
"""Columns of messages."""


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
    variants: tuple[Variant, ...] = Field(
        default=(),
        title="Variants",
        description="Templates that some profiles get instead: by language, by segment code, or by lot.",
    )
    language: str = Field(
        default="language", title="Language", description="Column of the profiles' languages, for the variants."
    )
    segment: str = Field(
        default="segment_code", title="Segment", description="Column of the segment codes, for the variants."
    )
    seed: int = Field(
        default=0,
        title="Seed",
        description="Makes the lots of the variants' shares; another seed draws other lots.",
    )
    inline_css: bool = Field(
        default=False,
        title="Inline CSS",
        description=(
            "Write the rules of <style> into the style attributes of the templates, for mail programs that leave"
            " <style> out. What has to stay there, stays."
        ),
    )
    utm: Utm | None = Field(
        default=None, title="UTM parameters", description="Parameters to add to the links; empty: none."
    )
    carried: tuple[str, ...] = Field(
        default=(),
        title="Carried columns",
        description="Further columns of the audience that messages keep, for a channel that needs them.",
    )
    row_by_row: bool = Field(
        default=False,
        title="Row by row",
        description="Render every message by itself in Jinja's sandbox: much slower, with the same result.",
    )
    codes: tuple[PoolUse, ...] = Field(
        default=(), title="Codes", description="Pools of which each message gets a code of its own."
    )

    @field_validator("locale")
    @classmethod
    def _is_a_locale(cls, name: str) -> str:
        return known_locale(name)

    @field_validator("carried")
    @classmethod
    def _are_free(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for column in columns:
            if column in OWN or columns.count(column) > 1:
                raise ValueError(f"'{column}' is a column of every message, or stands twice")
        return columns

    @field_validator("codes")
    @classmethod
    def _are_named_once(cls, codes: tuple[PoolUse, ...]) -> tuple[PoolUse, ...]:
        if len({use.name for use in codes}) < len(codes):
            raise ValueError("two codes have the same name")
        return codes

    @model_validator(mode="after")
    def _variants_can_be_told_apart(self) -> Self:
        places = [(each.segment, each.locale) for each in self.variants]
        codes = [each.code for each in self.variants]
        if len(set(codes)) < len(codes):
            raise ValueError("two variants have the same code")
        for place in set(places):
            here = [each for each in self.variants if (each.segment, each.locale) == place]
            if sum(each.share is None for each in here) > 1:
                raise ValueError(f"{' and '.join(each.code for each in here)} would go to the same profiles")
            if sum(each.share or 0 for each in here) > 1 + 1e-9:
                raise ValueError(f"the shares of {' and '.join(each.code for each in here)} are more than 1")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Columns that decide on a profile's variant."""
        return {"key": self.key, "language": self.language, "segment": self.segment}


class Renderers:
    """The renderers of all variants. Errors on making them: `ColumnsMissing`, `TemplatesInvalid`."""

    def __init__(
        self,
        schema: pl.Schema,
        options: PersonalizationOptions,
        *,
        marks_branches: bool = False,
    ) -> None:
        needed = [options.key, options.address]
        needed += options.carried
        needed += [options.language] if any(each.locale for each in options.variants) else []
        needed += [options.segment] if any(each.segment for each in options.variants) else []
        require_columns(schema.to_frame(), needed, activity="Personalization", where="the inbound transition")
        self._options = options
        self._marks_branches = marks_branches
        self.by_code = {DEFAULT: self._renderer(schema, options.templates, options.locale)}
        for each in options.variants:
            self.by_code[each.code] = self._renderer(schema, each.templates, each.locale or options.locale)
        person = zip(IDENTITY, (options.key, options.address), strict=True)
        self._kept = [key_text(pl.col(column), schema[column]).alias(name) for name, column in person]
        self._kept += [pl.col(column) for column in options.carried]

    def _renderer(self, schema: pl.Schema, templates: Templates, locale: str) -> Renderer:
        send = self._options.send
        key = key_text(pl.col(self._options.key), schema[self._options.key])
        campaign = {
            "name": send.campaign,
            "label": send.label,
            "business_date": send.business_date,
            "unsubscribe_url": unsubscribe_links(key, send, Settings.load().unsubscribe),
        }
        templates, findings = self._rewritten(templates)
        return Renderer(
            templates,
            schema,
            campaign,
            locale,
            lowered=not self._options.row_by_row,
            marks_branches=self._marks_branches,
            told=findings,
        )

    def _rewritten(self, templates: Templates) -> tuple[Templates, tuple[str, ...]]:
        """The templates as they are rendered, and what of them stayed as it was."""
        options = self._options
        found: tuple[str, ...] = ()
        if options.utm is not None:
            made = with_parameters(templates, options.utm, options.send.campaign)
            templates, found = made.templates, made.findings
        if options.inline_css:
            made = inlined(templates)
            templates, found = made.templates, (*found, *made.findings)
        return templates, found

    def slices(self, tables: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Messages of the tables' rows, in order: profile_id, email, subject, html, text, reason, and with variants
        also variant.

        A few slices are worked on at a time, so that memory does not grow with the audience.
        """
        workers = min(pl.thread_pool_size(), MOST_WORKERS)
        longest = max(1, *(renderer.templates.length for renderer in self.by_code.values()))
        size = max(1, min(SLICE, min(IN_WORK, CHARACTERS_IN_WORK // longest) // workers))
        with ThreadPoolExecutor(workers, thread_name_prefix="personalization") as pool:
            running: deque[Future[pl.DataFrame]] = deque()
            for table in tables:
                for rows in table.iter_slices(size) if table.height else [table]:
                    running.append(pool.submit(self.rendered, rows))
                    if len(running) > workers:
                        yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def rendered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Messages of one slice."""
        options = self._options
        if not options.variants:
            return self.by_code[DEFAULT].rendered(rows, self._kept)
        codes = variant_codes(rows, options.variants, options.send, options.seed, options.columns)
        numbered = rows.with_row_index("\x00row").with_columns(codes.alias("\x00variant"))
        kept = [*self._kept, pl.col("\x00row"), pl.col("\x00variant").alias("variant")]
        made = [
            self.by_code[code].rendered(some, kept)
            for (code,), some in numbered.partition_by("\x00variant", as_dict=True).items()
        ]
        if not made:
            made = [self.by_code[DEFAULT].rendered(numbered, kept)]
        return pl.concat(made).sort("\x00row").drop("\x00row")
