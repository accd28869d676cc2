"""What follows from a report: an outcome, a suppression, or a place among the unmatched, with the reason."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from tasks.data_management.outcomes import outcomes_of
from tasks.delivery.journal.outcomes import MessageOfJournal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.feedback.booking import MAIL, NO_MESSAGE, NO_NAME, SEVERAL, book, masked
from tasks.feedback.table import REPORTS

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NAME, OTHER, UNKNOWN = "a" * 32, "b" * 32, "c" * 32
KNOWN = {
    name: MessageOfJournal(f"key-{name[0]}", "newsletter", date(2026, 11, 24), "email-proof-first", profile, "sent")
    for name, profile in ((NAME, "p1"), (OTHER, "p2"))
}


def row(**fields: Any) -> dict[str, Any]:
    given = {
        "source": "mailbox",
        "reference": "1",
        "kind": "bounced",
        "recipient": "ada@x.example",
        "clues": [f"bounce+{NAME}@campaign.example", f"<{NAME}@campaign.example>"],
        "trusted": False,
    }
    return {**dict.fromkeys(REPORTS), **given, **fields}


def seen(kind: Kind, channel: str, reason: str = "", profile: str = "p1", **more: Any) -> Sighting:
    return Sighting(kind, channel, reason, "mailbox", "ada@x.example", profile, NOW, **more)


FOLLOWS = {
    "no such user": ({"status": "5.1.1"}, seen(Kind.QUARANTINE, MAIL, "5.1.1")),
    "disabled": ({"status": "5.2.1"}, seen(Kind.QUARANTINE, MAIL, "5.2.1")),
    "full": (
        {"status": "5.2.2"},
        seen(Kind.QUARANTINE, MAIL, "5.2.2", expires_at=NOW + timedelta(days=30), needed=3),
    ),
    "policy": ({"status": "5.7.1"}, None),
    "a blocked sender": ({"status": "5.2.1", "detail": "550 5.2.1 Your IP address is blacklisted"}, None),
    "temporary": ({"status": "4.1.1"}, None),
    "no status": ({}, None),
    "complaint": ({"kind": "complained"}, seen(Kind.COMPLAINT, MAIL)._replace(address="")),
    "complaint, by a provider": ({"kind": "complained", "trusted": True}, seen(Kind.COMPLAINT, MAIL)),
    "opt-out": ({"kind": "unsubscribed"}, seen(Kind.OPT_OUT, "")._replace(address="")),
    "delivered": ({"kind": "delivered"}, None),
}


@pytest.mark.parametrize("case", FOLLOWS)
def test_what_a_report_of_a_known_message_means_for_the_person(case: str) -> None:
    fields, sighting = FOLLOWS[case]
    booked = book([row(**fields)], KNOWN.get, NOW)
    assert [one.key for one in booked.outcomes] == ["key-a"]
    assert booked.sightings == ([sighting] if sighting else [])
    assert booked.unmatched == []


KEPT = {
    "no name in it": ({"clues": ["<x@y>"]}, NO_NAME),
    "no clue at all": ({"clues": None}, NO_NAME),
    "a message that nobody knows": ({"clues": [f"<{UNKNOWN}@x>"]}, NO_MESSAGE),
    "two messages of ours": ({"clues": [f"<{NAME}@x>", f"<{OTHER}@x>"]}, SEVERAL),
    "cannot be read": ({"kind": None, "reason": "broken", "payload": "{}"}, "broken"),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_belongs_to_no_message_is_kept_and_blames_nobody(case: str) -> None:
    fields, reason = KEPT[case]
    booked = book([row(status="5.1.1", **fields)], KNOWN.get, NOW)
    assert [one.reason for one in booked.unmatched] == [reason]
    assert (booked.outcomes, booked.sightings) == ([], [])


def test_a_provider_that_we_asked_needs_no_message_to_speak_against_an_address() -> None:
    told = {"clues": [], "trusted": True, "source": "mailbox"}
    booked = book([row(status="5.1.1", **told), row(status="5.7.1", **told)], KNOWN.get, NOW)
    assert booked.sightings == [seen(Kind.QUARANTINE, MAIL, "5.1.1", profile="")]
    assert [one.reason for one in booked.unmatched] == [NO_NAME]


def test_who_got_a_message_cannot_bounce_a_list_of_other_people_s_addresses_with_it() -> None:
    forged = [row(status="5.1.1", reference=str(n), recipient=f"victim{n}@x.example") for n in range(5)]
    booked = book(forged, KNOWN.get, NOW)
    assert [one.address for one in booked.sightings] == ["victim0@x.example"]
    assert book(forged, KNOWN.get, NOW, has_bounced={"key-a"}.__contains__).sightings == []
    one_click = [row(kind=kind, recipient="victim@x.example") for kind in ("complained", "unsubscribed")]
    assert [(one.address, one.profile_id) for one in book(one_click, KNOWN.get, NOW).sightings] == [("", "p1")] * 2


def test_a_provider_that_names_neither_message_nor_address_speaks_against_nobody() -> None:
    booked = book([row(kind="complained", recipient="", clues=[], trusted=True)], KNOWN.get, NOW)
    assert (booked.sightings, len(booked.unmatched)) == ([], 1)


def test_what_was_kept_leaves_when_its_message_is_found_or_nothing_is_to_be_done() -> None:
    rows = [row(kept_as=7), row(kept_as=8, clues=[]), row(kept_as=9, kind=None, reason="a delay")]
    assert book(rows, KNOWN.get, NOW).found == [7, 9]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("<ada@x.example>: no such user", "<…@x.example>: no such user"),
        ("to=ada+b@x.example,bob@y.example", "…@x.example,…@y.example"),
        ("550 5.1.1 nobody here", "550 5.1.1 nobody here"),
    ],
)
def test_words_are_kept_without_addresses(words: str, shown: str) -> None:
    assert masked(words) == shown


def test_a_message_has_the_strongest_of_its_outcomes() -> None:
    at = pl.Datetime("us", "UTC")
    states = {
        "a": "sent",
        "b": "sent",
        "c": "refused",
        "d": "unknown",
        "e": "deferred",
        "f": "claimed",
        "g": "sent",
    }
    entries = pl.DataFrame(
        [(f"{key * 32}.x", key, state, NOW, "250 ok") for key, state in states.items()],
        schema={
            **dict.fromkeys(("message_key", "profile_id", "state"), pl.String()),
            "changed_at": at,
            "answer": pl.String(),
        },
        orient="row",
    )
    events = pl.DataFrame(
        [
            ("b" * 32, "delivered", NOW, "2.1.5"),
            ("b" * 32, "complained", NOW, "abuse"),
            ("d" * 32, "delivered", NOW, ""),
            ("g" * 32, "delayed", NOW, ""),
        ],
        schema={**dict.fromkeys(("message_key", "kind"), pl.String()), "at": at, "detail": pl.String()},
        orient="row",
    )
    table = outcomes_of(entries, events)
    assert dict(table.select("profile_id", "outcome").iter_rows()) == {
        "a": "delivered",
        "b": "complained",
        "c": "bounced",
        "d": "delivered",
        "f": "unknown",
        "g": "delivered",
    }
    assert set(table["variant"]) == {"x"}
