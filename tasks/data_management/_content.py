"""Content: what External API gives, and what becomes of a call that failed."""

from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import ClassVar

import polars as pl
from prefect import get_run_logger

from tasks.endpoint.answer.reader import Answer, read_answer
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import ApiError, ColumnTaken
from tasks.http.freshness import Freshness
from tasks.http.network import public_url
from tasks.tables.transitions import Transitions

FETCHED_AT = "fetched_at"
FAILURE = pl.Schema(
    {
        "endpoint": pl.String(),
        "url": pl.String(),
        "code": pl.String(),
        "error": pl.String(),
        "reason": pl.String(),
        "attempts": pl.Int64(),
        "failed_at": pl.Datetime("us", "UTC"),
    }
)

FRESHNESS = pl.Schema({"etag": pl.String(), "last_modified": pl.String(), "must_revalidate": pl.Boolean()})


@dataclass(frozen=True)
class Content(Transitions):
    """Outbound transitions of External API."""

    unshown: ClassVar[tuple[str, ...]] = ("freshness",)

    standard: pl.DataFrame
    """The answer's rows, with the columns and types of the outbound mapping; and `fetched_at` (UTC) where the
    endpoint allows stale answers."""
    rejects: pl.DataFrame
    """Rejected lines: row, column, reason, value (as it came)."""
    replaced: pl.DataFrame
    """Bad values that were ignored, cut or replaced; columns as in `rejects`."""
    findings: pl.DataFrame
    """What came and whether it was all, and what differs from the sample: kind, column, action, detail."""
    failure: pl.DataFrame
    """One row where the call failed and the run goes on: endpoint, url, code, error, reason, attempts, failed_at
    (UTC)."""
    freshness: pl.DataFrame = field(default_factory=FRESHNESS.to_frame)
    """One row where the answer is kept by the partner's word: etag, last_modified, must_revalidate."""

    @property
    def kept(self) -> Freshness | None:
        """What is known of its freshness, where it is kept by the partner's word."""
        return Freshness(**self.freshness.row(0, named=True)) if self.freshness.height else None

    def fetched(self, fetched_at: datetime | None, freshness: Freshness) -> "Content":
        """The content as it is after the partner said that nothing has changed."""
        standard = self.standard
        if fetched_at is not None and FETCHED_AT in standard.columns:
            standard = standard.with_columns(pl.lit(fetched_at, pl.Datetime("us", "UTC")).alias(FETCHED_AT))
        return replace(self, standard=standard, freshness=freshness_table(freshness))


def freshness_table(freshness: Freshness) -> pl.DataFrame:
    """The table `freshness` of a content."""
    return pl.DataFrame([{name: getattr(freshness, name) for name in FRESHNESS}], schema=FRESHNESS)


def content_of(answer: Answer, fetched_at: datetime | None = None) -> Content:
    """The transitions of a call that succeeded. Errors: `ColumnTaken` where `fetched_at` is a column already."""
    standard = answer.standard
    if fetched_at is not None:
        if FETCHED_AT in standard.columns:
            raise ColumnTaken(activity="External API", name=FETCHED_AT)
        standard = standard.with_columns(pl.lit(fetched_at, pl.Datetime("us", "UTC")).alias(FETCHED_AT))
    tables = {each.name: getattr(answer, each.name) for each in fields(answer)}
    return Content(**{**tables, "standard": standard, "failure": pl.DataFrame(schema=FAILURE)})


def failure_of(error: ApiError, endpoint: Endpoint, failed_at: datetime) -> pl.DataFrame:
    """The row of the transition `failure`: what failed, and why."""
    row = {
        "endpoint": endpoint.name,
        "url": public_url(endpoint.url),
        "code": error.code,
        "error": type(error).__name__,
        "reason": str(error),
        "attempts": error.facts.get("attempts", 1),
        "failed_at": failed_at,
    }
    return pl.DataFrame([row], schema=FAILURE)


def without_content(endpoint: Endpoint, fetched_at: datetime | None) -> Content:
    """The transitions of a call that brought nothing: the columns and types of the mapping, and no rows."""
    nothing = read_answer([], endpoint.outbound, url=public_url(endpoint.url))
    return content_of(nothing, fetched_at)


def loudly(stale: Content, failure: pl.DataFrame, error: ApiError, now: datetime) -> Content:
    """The last good content in place of a call that failed, with a warning and a finding that say so."""
    fetched_at = stale.standard[FETCHED_AT].min()
    age = str(now - fetched_at).partition(".")[0] if isinstance(fetched_at, datetime) else "unknown"
    detail = f"the last good answer is used, {age} old: {error}"
    get_run_logger().warning("STALE CONTENT: the call of '%s' failed; %s", failure.item(0, "endpoint"), detail)
    finding = pl.DataFrame(
        {"kind": ["stale"], "column": [None], "action": ["warn"], "detail": [detail]}, schema=stale.findings.schema
    )
    return Content(**{**stale.tables(), "findings": pl.concat([stale.findings, finding]), "failure": failure})
