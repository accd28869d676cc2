"""A code for each recipient in campaigns of parameters: asked for, given, never twice."""

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from deployments.sandbox.partner import Partner, codes_answer
from flows.campaign import campaign
from tasks.data_management.code_pool import CodePoolOptions, fill
from tasks.errors import ParameterInvalid, PoolDry
from tests.made_up import WRITTEN

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 24)


def declared() -> dict[str, Any]:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (found,) = (each["parameters"] for each in deployments if each["name"] == "birthday-codes")
    found["templates"] = {"folder": str(ROOT / found["templates"]["folder"])}
    return found


def stock() -> dict[str, int]:
    row = fill(None, CodePoolOptions(pool="birthday")).standard.row(0, named=True)
    return {name: row[name] for name in ("free", "reserved", "held", "used") if row[name]}


def code_in(message: Any) -> str:
    text = message.get_body(("plain",)).get_content()
    (code,) = (word for word in text.split() if word.startswith("GIFT-"))
    return code


def test_the_readme_shows_what_is_deployed() -> None:
    (shown,) = re.findall(r"```yaml\n( +codes:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert yaml.safe_load(shown)["codes"] == declared()["codes"]


def test_each_birthday_gets_a_code_of_its_own_from_the_voucher_system(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    mailed: Callable[..., dict],
) -> None:
    partner = start_partner()
    use_partner(partner)
    told = campaign(**declared(), business_date=DAY)
    born = (pl.col("birth_date").dt.month() == DAY.month) & (pl.col("birth_date").dt.day() == DAY.day)
    wanted = sample_profiles.filter(born, pl.col("may_contact"), pl.col("email").is_not_null(), WRITTEN)
    codes = {address: code_in(message) for address, message in mailed("birthday-codes", DAY).items()}
    assert told.delivered == len(codes) == len(set(codes.values()))
    assert 0 < len(codes) <= wanted.height
    assert stock()["used"] == len(codes)
    asked = [json.loads(call.body)["params"] for call in partner.requests]
    assert asked == [{"count": 100, "batch": "birthday-0"}]

    again = campaign(**declared(), business_date=DAY)
    assert (again.delivered, again.delivered_before) == (0, len(codes))
    assert len(partner.requests) == 1, "who has a code needs no other"
    assert codes == {address: code_in(message) for address, message in mailed("birthday-codes", DAY).items()}


def test_a_day_without_people_is_no_failure_though_the_pool_is_new(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
) -> None:
    use_partner(start_partner())
    who = {"where": "FALSE AND may_contact"}
    assert campaign(**{**declared(), "audience": who}, business_date=DAY).delivered == 0
    assert stock() == {"free": 100}


def test_a_preview_asks_for_no_code_and_takes_none(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
) -> None:
    partner = start_partner()
    use_partner(partner)
    fill(pl.DataFrame({"code": ["GIFT-1"], "value": [5.0]}), CodePoolOptions(pool="birthday"))
    told = campaign(**{**declared(), "channel": {"kind": "preview"}}, business_date=DAY)
    assert told.personalized > 0
    assert not partner.requests
    assert stock() == {"free": 1}


def test_a_batch_that_was_asked_for_and_not_counted_is_asked_for_again(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
) -> None:
    """A run that was killed after the voucher system had answered: its codes are found again, none is lost."""
    partner = start_partner()
    use_partner(partner)
    first = codes_answer({"params": {"count": 4, "batch": "birthday-0"}})["codes"]
    kept = pl.DataFrame({"code": [each["code"] for each in first], "value": [5.0] * 4})
    fill(kept, CodePoolOptions(pool="birthday"))
    codes = [{**declared()["codes"][0], "batch": 4}]
    told = campaign(**{**declared(), "codes": codes}, business_date=DAY)
    batches = [json.loads(call.body)["params"]["batch"] for call in partner.requests]
    assert batches == [f"birthday-{number}" for number in range(len(batches))]
    assert len(batches) > 1
    assert stock()["used"] == told.delivered > 4


def test_a_pool_without_an_endpoint_that_is_short_stops_the_run(
    sample_profiles: pl.DataFrame, result_folder: Path, in_folder: Path
) -> None:
    fill(pl.DataFrame({"code": ["GIFT-1"], "value": [5.0]}), CodePoolOptions(pool="birthday"))
    codes = [{"name": "gift", "pool": "birthday"}]
    with pytest.raises(PoolDry):
        campaign(**{**declared(), "codes": codes}, business_date=DAY)
    assert not list(in_folder.glob("outbox/**/new/*"))
    assert stock() == {"free": 1}


def test_letters_have_no_place_for_a_code(sample_profiles: pl.DataFrame, result_folder: Path) -> None:
    with pytest.raises(ParameterInvalid, match="letters"):
        campaign(**{**declared(), "channel": {"kind": "direct-mail"}}, business_date=DAY)
