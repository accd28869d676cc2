"""Operations as people run them: a form with its defaults changes nothing; decisions are kept with who and why."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from flows.operations.erasure import erasure
from flows.operations.journal import journal as look_at_journal
from flows.operations.release import release
from flows.operations.retention import retention
from flows.operations.unknown_messages import unknown_messages
from tasks.channels.email import email
from tasks.delivery.journal.outcomes import Feedback, OutcomeKind
from tasks.delivery.journal.states import Event
from tasks.delivery.journal.storage import Journal, Settlement, open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.delivery.journal.tables import MESSAGES
from tasks.delivery.journal.upkeep import Upkeep
from tasks.errors import DecisionIncomplete, SendForgotten
from tasks.files.kept import kept
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.journal import entries_of, suppressed
from tests.shown import newest_artifact
from tests.tasks.channels.email_flow import made_up_messages, options_for

SEND = Send(campaign="newsletter", label="Newsletter", business_date=date(2026, 11, 24))
OLD = Send(campaign="newsletter", label="Newsletter", business_date=date(2020, 1, 1))
EVENTS = {"p1": Event.LOST, "p2": Event.LOST, "p3": Event.TAKEN}


@pytest.fixture
def journal(
    journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch, in_folder: Path, result_folder: Path
) -> Iterator[Journal]:
    """A journal in which two messages of a send are unknown, and one was sent."""
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", journal_settings.url.get_secret_value())
    monkeypatch.setenv("CAMPAIGN_KEPT__FOLDER", str(in_folder / "kept"))
    with closing(open_journal(journal_settings)) as opened:
        keys = {profile: SEND.message_key("email", profile) for profile in EVENTS}
        opened.claim(SEND, "email", {key: profile for profile, key in keys.items()})
        opened.record(SEND, "email", [Settlement(keys[profile], event, "x") for profile, event in EVENTS.items()])
        yield opened


def states(journal: Journal, send: Send = SEND) -> dict[str, str]:
    return dict(entries_of(journal, send).select("profile_id", "state").iter_rows())


def artifact(key: str) -> list[dict[str, object]]:
    return json.loads(newest_artifact(key).data)


def test_unknown_messages_are_listed_and_decided_about_with_who_and_why(journal: Journal) -> None:
    before = states(journal)
    assert unknown_messages() == 0
    assert sorted(row["profile_id"] for row in artifact("unknown-messages")) == ["p1", "p2"]
    assert states(journal) == before
    about = {"campaign": "newsletter", "business_date": SEND.business_date}
    with pytest.raises(DecisionIncomplete, match="who decided, why"):
        unknown_messages(decision="send again", **about)
    assert states(journal) == before
    done = {"decided_by": "Kim", "why": "the log of the server has it"}
    assert unknown_messages(decision="mark as sent", profile_ids=["p1"], **about, **done) == 1
    assert unknown_messages(decision="send again", **about, **done) == 1
    assert states(journal) == {"p1": "sent", "p2": "deferred", "p3": "sent"}
    answer = entries_of(journal, SEND).filter(profile_id="p1")["answer"].item()
    assert answer == "mark as sent, decided by Kim: the log of the server has it"
    again = SEND.message_key("email", "p2")
    assert journal.claim(SEND, "email", {again: "p2"}) == {again}


def test_who_is_released_may_be_written_to_again(journal: Journal) -> None:
    ada = {"p1": ("p1", "ada@x.example")}
    journal.suppressions.add([Sighting(Kind.QUARANTINE, "email", "5.1.1", "smtp", address="ada@x.example")])
    assert release() == 0
    with pytest.raises(DecisionIncomplete, match="who released it, why"):
        release(address="ADA@x.example")
    assert set(suppressed(journal, ada, "email")) == {"p1"}
    assert release(address="ADA@x.example", released_by="Kim", why="typo corrected") == 1
    assert suppressed(journal, ada, "email") == {}
    (row,) = journal.suppressions.entries().iter_rows(named=True)
    assert (row["released_by"], row["released_why"]) == ("Kim", "typo corrected")


def test_a_parameter_that_names_a_person_is_not_in_the_run_s_record(journal: Journal) -> None:
    state = release(address="ada@x.example", released_by="Kim", why="asked", return_state=True)
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(state.state_details.flow_run_id)
    assert "ada" not in json.dumps(run.parameters)
    assert run.parameters["released_by"] == "Kim"


def test_a_journal_is_checked_and_repaired(journal: Journal) -> None:
    assert look_at_journal() == 0
    assert {row["table"] for row in artifact("journal-rows")} >= {"messages", "sends"}
    lost = SEND.message_key("email", "p9")
    with closing(open_journal(journal.settings, sender="gone")) as gone:
        gone.claim(SEND, "email", {lost: "p9"})
    at = datetime(2026, 11, 24, tzinfo=UTC)
    journal.outcomes.add([Feedback("f" * 32, OutcomeKind.BOUNCED, at, "mailbox", "1")])
    assert look_at_journal() == 2
    assert look_at_journal(repair=True) == 0
    assert states(journal)["p9"] in {"unknown", "deferred"}
    assert journal.outcomes.entries().is_empty()


def old_file(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    long_ago = time.time() - timedelta(days=400).total_seconds()
    os.utime(path, (long_ago, long_ago))
    return path


def test_retention_removes_what_is_old_and_first_only_says_so(journal: Journal, in_folder: Path) -> None:
    results = Path(PREFECT_LOCAL_STORAGE_PATH.value())
    old = [
        old_file(results / "abc"),
        old_file(results / "partitions" / "run" / "000001.arrow"),
        old_file(in_folder / "outbox" / "newsletter" / "2020-01-01" / "preview.html"),
        old_file(in_folder / "outbox" / "other" / "2020-01-01" / "preview.html"),
    ]
    kept = [
        old_file(in_folder / "outbox" / "newsletter" / "2026-11-24" / "preview.html"),
        old_file(in_folder / "outbox" / "newsletter" / "notes" / "preview.html"),
    ]
    key = OLD.message_key("email", "p1")
    journal.claim(OLD, "email", {key: "p1"})
    journal.record(OLD, "email", [Settlement(key, Event.TAKEN, "x")])
    journal.suppressions.add(
        [Sighting(Kind.OPT_OUT, "", "", "one-click", profile_id="p1", at=datetime(2020, 1, 1, tzinfo=UTC))]
    )
    would = retention()
    assert would >= len(old) + 1
    assert all(path.exists() for path in old + kept)
    assert states(journal, OLD)
    assert retention(campaign="other", what=["outbox"], dry_run=False) == 1
    assert [path.exists() for path in old] == [True, True, True, False]
    assert retention(dry_run=False) == would - 1
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in kept)
    assert states(journal, OLD) == {}
    assert set(states(journal)) == set(EVENTS)
    assert journal.suppressions.entries(holding=True).height == 1
    with (
        closing(open_journal(journal.settings)) as later,
        pytest.raises(SendForgotten, match="cannot be sent any more"),
    ):
        later.claim(OLD, "email", {key: "p1"})


def test_a_person_is_erased_from_every_store_and_stays_suppressed(journal: Journal, in_folder: Path) -> None:
    ada = {"profile_id": "p3", "address": "Ada@x.example"}
    people = pl.DataFrame({"profile_id": ["p3", "p30"], "email": ["ada@x.example", "bob@x.example"]})
    tables = [kept(Path("audiences")) / "all.parquet", in_folder / "outbox" / "c" / "2026-11-24" / "rejects.csv"]
    for path in tables:
        path.parent.mkdir(parents=True)
    people.write_parquet(tables[0])
    tables[1].write_text(
        'profile_id,email,reason\np3,ada@x.example,"a ""reason"",\nof two lines"\np30,bob@x.example,x\n'
    )
    mails = in_folder / "outbox" / "c" / "2026-11-24" / "maildir" / "new"
    mails.mkdir(parents=True)
    (mails / "1").write_bytes(b"To: ada@x.example\r\n\r\nHello")
    (mails / "2").write_bytes(b"To: bob@x.example\r\n\r\nHello")
    journal.suppressions.add([Sighting(Kind.OPT_OUT, "", "", "one-click", profile_id="p3")])
    found = erasure(**ada)
    assert found == 5
    assert (mails / "1").exists()
    assert "p3" in states(journal)
    with pytest.raises(DecisionIncomplete):
        erasure(profile_id="p3", dry_run=False)
    assert erasure(**ada, dry_run=False) == found
    shown = json.dumps(artifact("erasure"))
    assert "ada" not in shown.lower()
    assert pl.read_parquet(tables[0])["profile_id"].to_list() == ["p30"]
    assert tables[1].read_text() == "profile_id,email,reason\np30,bob@x.example,x\n"
    assert sorted(path.name for path in mails.iterdir()) == ["2"]
    assert "p3" not in states(journal)
    assert journal.sends.counts(SEND, "email")
    key = SEND.message_key("email", "p3")
    with journal.engine.connect() as database:
        assert database.execute(sa.select(MESSAGES).where(MESSAGES.c.key == key)).first() is None
    assert set(suppressed(journal, {"x": ("p3", "ada@x.example")}, "email")) == {"x"}
    assert "p3" not in set(journal.suppressions.entries()["profile_id"])
    assert erasure(**ada) == 0


def test_a_send_whose_unknown_messages_go_again_doubles_nobody(journal: Journal, in_folder: Path) -> None:
    messages = made_up_messages(5)

    @flow
    def send(port: int) -> None:
        email(messages, options_for(port, in_folder), OLD)

    with running_mail_server(MailSandbox()) as server:
        send(server.port)
        with journal.engine.begin() as database:
            database.execute(sa.update(MESSAGES).where(MESSAGES.c.profile_id == "2").values(state="unknown"))
        done = {"decided_by": "Kim", "why": "the server lost it"}
        about = {"campaign": OLD.campaign, "business_date": OLD.business_date}
        assert unknown_messages(decision="send again", **about, **done) == 1
        send(server.port)
        assert sorted(server.message_ids.values()) == [1, 1, 1, 1, 2]
    assert Upkeep(journal).unknown().height == 2
