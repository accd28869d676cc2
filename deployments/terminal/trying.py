"""One real call of an endpoint of the settings, or of a block, to look at."""

import logging
from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from flows.settings import CampaignSettings
from tasks.endpoint.trial import Trial, try_endpoint
from tasks.errors import ParameterInvalid


def tried(name: str, rows: Sequence[str], day: date | None) -> Trial:
    """Try the endpoint of a name, with rows written as `column=value,column=value`.

    Errors: `ConfigurationError` (no endpoint has the name), `ParameterInvalid` (a row is written in another way).
    """
    settings = CampaignSettings.load()
    inbound = pl.DataFrame([_row(text) for text in rows]) if rows else None
    asked = day or datetime.now(settings.zone).date()
    logger = logging.getLogger(__name__)
    return try_endpoint(settings.endpoint_on(name, asked), inbound, settings.network.allowed_hosts, logger)


def _row(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise ParameterInvalid(
            parameter="--row", reason="write column=value, or several of them with commas between"
        )
    return {column: value for column, _, value in pairs}
