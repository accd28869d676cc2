"""The README: its campaign gives the output that it shows, and its columns are those that profiles have."""

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl

from deployments.sandbox.partner import Partner
from deployments.terminal.running import outcome
from flows.birthday_coupons import birthday_coupons

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_output_that_the_readme_shows_is_that_of_its_campaign(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
) -> None:
    use_partner(start_partner())
    ((day, shown),) = re.findall(r"`make demo DATE=([\d-]+)`\n```text\n(.*?)\n```", README, re.DOTALL)
    lines = outcome(birthday_coupons, {"business_date": date.fromisoformat(day)}, [], "normal")
    assert "\n".join(lines).strip().replace(str(in_folder), "...") == shown


def test_the_columns_that_the_readme_names_are_those_of_profiles(sample_profiles: pl.DataFrame) -> None:
    table = README.partition("| column | type | who needs it |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", table)
    types = [one for row in table.splitlines()[2:] for one in row.split("|")[2].strip().split(", ")]
    known = {"text": pl.String(), "boolean": pl.Boolean(), "date": pl.Date()}
    assert {name: known[kind] for name, kind in zip(named, types, strict=True)}.items() <= dict(
        sample_profiles.schema
    ).items()
