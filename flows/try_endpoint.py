"""`python -m flows.try_endpoint NAME`: one real call of an endpoint of the settings, or of a block, to look at.

`--row zip_code=95124` gives a value to send, once for each row; `--date` is the day that it is asked on. Shown are
request, timing, pages, columns, first rows and findings, secrets masked. The exit code is 1 where the call failed.
"""

import argparse
import logging
import sys
from datetime import date

import polars as pl

from flows.settings import CampaignSettings
from tasks.endpoint.trial import Trial, try_endpoint
from tasks.errors import CampaignError


def tried(name: str, rows: list[dict[str, str]], day: date) -> Trial:
    """Try the endpoint of a name. Errors: `ConfigurationError`."""
    settings = CampaignSettings.load()
    inbound = pl.DataFrame(rows) if rows else None
    logger = logging.getLogger(__name__)
    return try_endpoint(settings.endpoint_on(name, day), inbound, settings.network.allowed_hosts, logger)


def _row(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise argparse.ArgumentTypeError("write column=value, or several of them with commas between")
    return {column: value for column, _, value in pairs}


def main() -> int:
    """Read the command line and try."""
    parser = argparse.ArgumentParser(prog="python -m flows.try_endpoint", description=__doc__)
    parser.add_argument("name", help="endpoint of the settings, or endpoint/<name> of a block")
    parser.add_argument("--row", type=_row, action="append", default=[], help="column=value,...: a row to send")
    parser.add_argument("--date", type=date.fromisoformat, default=None, help="the day, as 2026-11-24")
    asked = parser.parse_args()
    try:
        trial = tried(asked.name, asked.row, asked.date or date.today())  # noqa: DTZ011  # the operator's own day
    except CampaignError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(trial.text)
    return 1 if trial.error else 0


if __name__ == "__main__":
    sys.exit(main())
