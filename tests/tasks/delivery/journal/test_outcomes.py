"""What comes back finds its message by name, is kept once, and what finds none is kept to be tried again."""

from datetime import UTC, date, datetime

from tasks.delivery.journal.outcomes import Feedback, OutcomeKind, Unmatched
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.send import Send
from tasks.settings import JournalSettings

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def journal_with_a_message(settings: JournalSettings) -> tuple[Journal, str]:
    journal = open_journal(settings, lambda: NOON, "one")
    journal.renew()
    key = SEND.message_key("email", "17", "de")
    journal.claim(SEND, "email", {key: "17"})
    return journal, key


def test_a_message_is_found_by_the_name_that_the_world_has_for_it(journal_settings: JournalSettings) -> None:
    journal, key = journal_with_a_message(journal_settings)
    digits = key.partition(".")[0]
    name = journal.names.names_of(digits)
    assert name != digits
    found = journal.outcomes.message(name)
    assert found is not None
    assert (found.key, found.campaign, found.channel, found.profile_id) == (digits, "birthday", "email", "17")
    for nonsense in ("", "xyz", "0" * 32, name[:-2]):
        assert journal.outcomes.message(nonsense) is None


def test_an_event_is_kept_once_however_often_it_is_told(journal_settings: JournalSettings) -> None:
    journal, key = journal_with_a_message(journal_settings)
    digits = key.partition(".")[0]
    bounce = Feedback(digits, OutcomeKind.BOUNCED, NOON, "mailbox", "<dsn-1@mx>", "550 5.1.1 gone")
    for _ in range(2):
        journal.outcomes.add([bounce])
    entries = journal.outcomes.entries(SEND, "email")
    assert entries.rows() == [(digits, "17", "bounced", NOON, "mailbox", "550 5.1.1 gone")]
    assert journal.outcomes.entries(SEND, "sms").is_empty()


def test_what_finds_no_message_is_kept_until_it_does(journal_settings: JournalSettings) -> None:
    journal, _ = journal_with_a_message(journal_settings)
    lost = Unmatched("mailbox", "<dsn-2@mx>", OutcomeKind.BOUNCED, NOON, "no such message", '{"id": "x"}')
    for _ in range(2):
        journal.outcomes.keep_unmatched([lost])
    (row,) = journal.outcomes.unmatched().iter_rows(named=True)
    assert (row["source"], row["reason"], row["payload"]) == ("mailbox", "no such message", '{"id": "x"}')
    journal.outcomes.matched([row["number"]])
    assert journal.outcomes.unmatched().is_empty()


def test_a_source_is_read_from_where_it_was_left(journal_settings: JournalSettings) -> None:
    journal, _ = journal_with_a_message(journal_settings)
    assert journal.outcomes.position("postmark") is None
    for position in ("1", "2"):
        journal.outcomes.move_to("postmark", position)
    assert journal.outcomes.position("postmark") == "2"


def test_sends_are_listed_with_their_messages(journal_settings: JournalSettings) -> None:
    journal, _ = journal_with_a_message(journal_settings)
    journal.sends.begin(SEND, "sms", owner="nightly")
    rows = journal.sends.entries().select("campaign", "channel", "owner", "claimed", "sent").rows()
    assert rows == [("birthday", "email", "", 1, 0), ("birthday", "sms", "nightly", 0, 0)]
    assert journal.sends.counts(SEND, "email") == {"claimed": 1}
    assert journal.sends.owner(SEND) == ""
