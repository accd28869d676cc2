"""Code pool: filled from a table, its stock told; a campaign of many parts gives each a code; the till is told."""

from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
from prefect import flow

from tasks.channels.outbox import OutboxOptions, outbox
from tasks.content.personalization import PersonalizationOptions, PoolUse, Templates, personalization
from tasks.data_management.code_pool import CodePoolOptions, CodesGivenOptions, code_pool, codes_given, fill
from tasks.errors import PoolDry
from tasks.execution.report import CampaignReport, report
from tasks.pools import telling
from tasks.runs.engine import ENGINE
from tasks.send import Send
from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, query

SEND = Send(campaign="gifts", label="Gifts", business_date=date(2026, 11, 24))
SHOWN = "{{ profile.profile_id }} {% if profile.vip %}{{ content.gift.code }}{% endif %}"
TEMPLATES = Templates(
    folder=Path("made-up"),
    parts={"subject": "subject", "html": "body.html", "text": "text"},
    sources=dict.fromkeys(("subject", "body.html", "text"), SHOWN),
)
GIFT = CodePoolOptions(pool="gift", low=5)


def codes(count: int, first: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"code": [f"GIFT-{number:05}" for number in range(first, first + count)]})


@flow(name="Gifts", task_runner=ENGINE)
def gifts(folder: Path, made: pl.DataFrame, **use: Any) -> tuple[CampaignReport, pl.DataFrame]:
    """Fill the pool, send everybody a gift, and tell the till."""
    code_pool(made, GIFT)
    audience = query(QueryOptions(source=ProfileFile(path=folder / "people.parquet", types={})))
    options = PersonalizationOptions(templates=TEMPLATES, send=SEND, codes=(PoolUse(name="gift", **use),))
    messages = personalization(audience, options)
    sent = outbox(messages, OutboxOptions(folder=folder / "outbox", format="parquet"), SEND)
    told = report(SEND, audience, messages, sent)
    return told, codes_given(CodesGivenOptions(pool="gift", people=True)).collect()


@pytest.fixture
def people(tmp_path: Path) -> pl.DataFrame:
    """A hundred profiles, each second one a VIP."""
    numbers = range(100)
    table = pl.DataFrame(
        {
            "profile_id": [str(one) for one in numbers],
            "email": [f"p{one}@x.example" for one in numbers],
            "vip": [one % 2 == 0 for one in numbers],
        }
    )
    table.write_parquet(tmp_path / "people.parquet")
    return table


def stock() -> dict[str, int]:
    row = fill(None, GIFT).standard.row(0, named=True)
    return {name: row[name] for name in ("free", "reserved", "held", "used") if row[name]}


@pytest.mark.parametrize("size", [1000, 30])
def test_each_recipient_gets_a_code_whatever_the_parts(
    tmp_path: Path, result_folder: Path, people: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))
    with patch.object(telling, "emit_event") as events:
        told, given = gifts(tmp_path, codes(100))
    assert told.delivered == 100
    sent = pl.read_parquet(sorted((tmp_path / "outbox").rglob("messages/*.parquet")))
    texts = dict(sent.select("profile_id", pl.col("text").str.split(" ").list.last()).iter_rows())
    of_vips = {who: code for who, code in texts.items() if code}
    assert len(set(of_vips.values())) == len(of_vips) == 50
    assert dict(given.select("profile_id", "code").iter_rows()) == of_vips
    assert set(given["state"]) == {"used"}
    assert stock() == {"free": 50, "used": 50}, "who was not shown one gave it back"
    assert told.pools == ("pool 'gift': 50 free, 0 reserved, 0 held, 50 used, 0 expired",)
    assert not events.called


@pytest.mark.parametrize("size", [1000, 30])
def test_too_few_codes_stop_the_run_before_its_first_message(
    tmp_path: Path, result_folder: Path, people: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))
    with pytest.raises(PoolDry):
        gifts(tmp_path, codes(99))
    assert not list((tmp_path / "outbox").rglob("messages/*.parquet"))
    assert stock() == {"free": 99}


def test_low_stock_is_an_event_and_a_line_of_the_report(
    tmp_path: Path, result_folder: Path, people: pl.DataFrame
) -> None:
    with patch.object(telling, "emit_event") as events:
        told, _ = gifts(tmp_path, codes(53), when_dry="reject")
    assert told.rejected == 47
    used = stock()["used"]
    assert stock() == {"used": used, "free": 53 - used}
    low = [call.kwargs for call in events.call_args_list if call.kwargs["event"] == "campaign.pool.low"]
    assert bool(low) is (53 - used < 5)
    fill(codes(0), GIFT.model_copy(update={"low": 60}))
    with patch.object(telling, "emit_event") as events:
        stocks = report.fn(
            SEND, query.fn(QueryOptions(source=ProfileFile(path=tmp_path / "people.parquet", types={})))
        )
    assert "low: fewer than 60 are free" in stocks.pools[0]
    assert events.call_args.kwargs["payload"]["free"] == 53 - used


def test_a_code_that_is_no_code_is_a_reject_and_one_that_is_known_is_told() -> None:
    filled = fill(pl.DataFrame({"code": ["A", "A", None]}), GIFT)
    assert filled.standard.select("added", "known", "free").row(0) == (1, 1, 1)
    assert filled.rejects.rows() == [(3, "it has no code")]
    with patch.object(telling, "emit_event") as events:
        telling.tell(filled.stock)
    assert events.call_args.kwargs["event"] == "campaign.pool.low"


def test_codes_that_end_soon_are_told() -> None:
    soon = codes(2).with_columns(expires_at=pl.lit(date.today()))  # noqa: DTZ011
    filled = fill(soon, GIFT.model_copy(update={"low": 0}))
    with patch.object(telling, "emit_event") as events:
        telling.tell(filled.stock)
    assert [call.kwargs["event"] for call in events.call_args_list] == ["campaign.pool.ending"]
