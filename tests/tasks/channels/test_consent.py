"""Refusals hold in Preparation: of whom, by what they are known, over which channel, whatever lists say later."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tasks.channels.preparation import PreparationOptions, preparation
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.send import Send
from tasks.settings import Settings

SEND = Send(campaign="consent", label="Consent", business_date=date(2026, 11, 24))
THEN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def left_out(profile_id: str = "1", email: str = "ada@x.example", channel: str = "email") -> list[str]:
    """Why Preparation leaves somebody out whose list says that they want mail."""
    people = pl.DataFrame({"profile_id": [profile_id], "email": [email], "wants": [True]})
    options = PreparationOptions(channel=channel, consent="wants")
    return preparation(people, options, SEND).rejects["reason"].to_list()


def refuse(**sighting: object) -> None:
    seen = {"kind": Kind.OPT_OUT, "channel": "email", "reason": "", "source": "letter", "at": THEN}
    open_journal(Settings().journal).suppressions.add([Sighting(**{**seen, **sighting})])


@pytest.fixture(autouse=True)
def _journal(result_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{tmp_path}/journal.db")


@pytest.mark.parametrize(
    ("refusal", "person", "holds"),
    [
        ({"profile_id": "1"}, {}, True),
        ({"profile_id": "1"}, {"email": "new@x.example"}, True),
        ({"address": "ada@x.example"}, {}, True),
        ({"address": "Ada@X.Example"}, {"profile_id": "another"}, True),
        ({"address": "ada@x.example", "profile_id": "old"}, {}, True),
        ({"profile_id": "1", "channel": ""}, {}, True),
        ({"profile_id": "1", "kind": Kind.COMPLAINT}, {}, True),
        ({"profile_id": "1", "at": datetime(2020, 1, 1, tzinfo=UTC)}, {}, True),
        ({"profile_id": "1", "channel": "sms"}, {}, False),
        ({"profile_id": "10"}, {}, False),
        ({"address": "bada@x.example"}, {}, False),
    ],
)
def test_an_opt_out_of_somebody_unknown_holds_when_that_person_appears(
    refusal: dict[str, object], person: dict[str, str], holds: bool
) -> None:
    assert left_out(**person) == []
    refuse(**refusal)
    assert bool(left_out(**person)) == holds


def test_a_refusal_that_is_told_late_or_again_keeps_its_moments_and_no_older_one_weakens_it() -> None:
    refuse(profile_id="1", reason="second")
    refuse(profile_id="1", reason="first", at=THEN - DAY)
    refuse(profile_id="1", reason="second")
    (entry,) = open_journal(Settings().journal).suppressions.entries().iter_rows(named=True)
    assert (entry["first_at"], entry["last_at"], entry["reason"]) == (THEN - DAY, THEN, "second")
    assert left_out()


def test_a_release_ends_what_was_said_before_it_and_nothing_later() -> None:
    refuse(profile_id="1")
    suppressions = open_journal(Settings().journal).suppressions
    suppressions.release(by="operator", why="asked in writing", profile_id="1")
    assert left_out() == []
    refuse(profile_id="1", reason="an old list")
    assert left_out() == [], "the same event, told again"
    refuse(profile_id="1", at=datetime.now(UTC) + timedelta(seconds=1))
    assert left_out()
