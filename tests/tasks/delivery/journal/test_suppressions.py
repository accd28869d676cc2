"""Who must not be contacted: by address in any spelling or by profile, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from tasks.delivery.journal.storage import Journal, open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.errors import ConfigurationError
from tasks.settings import JournalSettings
from tests.journal import suppressed

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ADA = ("1", "ada@example.com")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


def journal_of(settings: JournalSettings, clock: Clock | None = None) -> Journal:
    return open_journal(settings, clock or Clock(), "one")


def reason(journal: Journal, person: tuple[str, str], channel: str = "email") -> str | None:
    return suppressed(journal, {"k": person}, channel).get("k")


@pytest.mark.parametrize(
    "spelling",
    ["ada@bücher.example", "ADA@BÜCHER.EXAMPLE", "ada@xn--bcher-kva.example", "\ufeff ada@bücher.example\xa0\n"],
)
def test_an_address_is_known_in_any_spelling_and_never_stored(
    journal_settings: JournalSettings, spelling: str
) -> None:
    journal = journal_of(journal_settings)
    journal.suppressions.add([Sighting(Kind.QUARANTINE, "email", "550 5.1.1", "smtp", "Ada@Bücher.example", "1")])
    assert reason(journal, ("another", spelling)) == "quarantine: 550 5.1.1"
    assert reason(journal, ("another", spelling), "sms") is None
    assert reason(journal, ("1", "new@example.com")) is None, "a dead address says nothing of its profile"
    assert "example" not in str(journal.suppressions.entries().rows())


@pytest.mark.parametrize("kind", [Kind.OPT_OUT, Kind.COMPLAINT])
def test_who_wants_no_more_is_known_by_profile_and_by_address(
    journal_settings: JournalSettings, kind: Kind
) -> None:
    journal = journal_of(journal_settings)
    journal.suppressions.add(
        [
            Sighting(kind, "email", "", "one-click", profile_id="1"),
            Sighting(kind, "", "all", "letter", "eve@example.com", "2"),
        ]
    )
    assert reason(journal, ADA) == str(kind)
    assert reason(journal, ("2", "other@example.com"), "sms") == f"{kind}: all"
    assert reason(journal, ("9", "EVE@example.com"), "push") == f"{kind}: all"
    assert reason(journal, ("", "")) is None


def test_a_soft_reason_needs_several_sightings_and_ends(journal_settings: JournalSettings) -> None:
    clock = Clock()
    journal = journal_of(journal_settings, clock)

    def full(day: int) -> None:
        clock.time = NOON + timedelta(days=day)
        until = clock.time + timedelta(days=30)
        soft = Sighting(
            Kind.QUARANTINE, "email", "552 5.2.2", "smtp", ADA[1], at=clock.time, expires_at=until, needed=3
        )
        journal.suppressions.add([soft])
        journal.suppressions.add([soft])  # told twice, it counts once

    for day in (0, 1):
        full(day)
        assert reason(journal, ADA) is None
    full(2)
    assert reason(journal, ADA) == "quarantine: 552 5.2.2"
    clock.time += timedelta(days=31)
    assert reason(journal, ADA) is None
    full(40)
    assert reason(journal, ADA) is None, "what ended begins anew"
    assert journal.suppressions.entries()["count"].to_list() == [1]


def test_a_soft_reason_does_not_weaken_a_hard_one(journal_settings: JournalSettings) -> None:
    clock = Clock()
    journal = journal_of(journal_settings, clock)
    journal.suppressions.add([Sighting(Kind.QUARANTINE, "email", "550 5.1.1", "smtp", ADA[1], at=NOON)])
    soft = Sighting(
        Kind.QUARANTINE, "email", "5.2.2", "smtp", ADA[1], at=NOON + HOUR, expires_at=NOON + 2 * HOUR, needed=3
    )
    journal.suppressions.add([soft])
    clock.time = NOON + 3 * HOUR
    assert reason(journal, ADA) is not None


def test_a_release_says_who_and_why_and_new_evidence_counts_again(journal_settings: JournalSettings) -> None:
    clock = Clock()
    journal = journal_of(journal_settings, clock)
    journal.suppressions.add([Sighting(Kind.QUARANTINE, "email", "550 5.1.1", "smtp", ADA[1])])
    clock.time += HOUR
    assert journal.suppressions.release(by="Grace", why="the mailbox is back", address="ADA@example.com") == 1
    assert journal.suppressions.release(by="Grace", why="again", address=ADA[1]) == 0
    assert reason(journal, ADA) is None
    (row,) = journal.suppressions.entries().iter_rows(named=True)
    assert (row["released_at"], row["released_by"], row["released_why"]) == (
        clock.time,
        "Grace",
        "the mailbox is back",
    )
    assert journal.suppressions.entries(holding=True).is_empty()
    clock.time += HOUR
    journal.suppressions.add([Sighting(Kind.QUARANTINE, "email", "550 5.1.1 again", "smtp", ADA[1])])
    assert reason(journal, ADA) == "quarantine: 550 5.1.1 again"


def test_a_journal_is_opened_only_with_the_key_that_it_was_made_with(journal_settings: JournalSettings) -> None:
    """With another key, nobody who opted out would be known again."""
    first = journal_settings.model_copy(update={"key": SecretStr("a" * 32)})
    journal = journal_of(first)
    assert journal.database.identity.is_new
    journal.suppressions.add([Sighting(Kind.OPT_OUT, "email", "", "form", ADA[1])])
    assert reason(journal_of(first), ADA) == "opt-out"
    for key in ("b" * 32, ""):
        with pytest.raises(ConfigurationError, match=r"CAMPAIGN_JOURNAL__KEY .* made with another key"):
            journal_of(journal_settings.model_copy(update={"key": SecretStr(key)}))
    with pytest.raises(ConfigurationError, match="fewer than 32"):
        journal_of(journal_settings.model_copy(update={"key": SecretStr("short")}))


def test_a_key_that_no_setting_gives_is_the_same_for_everybody_who_opens_the_journal(
    journal_settings: JournalSettings,
) -> None:
    keys = {journal_of(journal_settings).database.identity.key for _ in range(2)}
    assert len(keys) == 1
    assert len(next(iter(keys))) == 64
