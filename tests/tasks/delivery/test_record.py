"""A journal that is lost, another or older is noticed before a message leaves; each promise of a remedy holds."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.errors import JournalBehind, OutboxUnwritable
from tasks.settings import JournalSettings
from tests.tasks.channels.email_flow import made_up_messages, options_for
from tests.tasks.channels.test_email_faults import counts, sent


@pytest.fixture
def sandbox() -> Iterator[MailSandbox]:
    with ExitStack() as running:
        yield running.enter_context(running_mail_server(MailSandbox()))


def journal_in(folder: Path) -> Journal:
    return open_journal(JournalSettings(url=SecretStr(f"sqlite:///{folder}/journal.db"), patience_seconds=2))


def remove(folder: Path) -> None:
    for file in folder.glob("journal.db*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()


def older(folder: Path) -> None:
    """The copy of before the second run."""
    remove(folder)
    shutil.copy(folder / "backup.db", folder / "journal.db")


LOSSES: list[tuple[Callable[[Path], object], str]] = [
    (remove, "was made anew"),
    (older, "is an older copy"),
]


@pytest.mark.parametrize(("lose", "says"), LOSSES, ids=["deleted", "older copy"])
def test_a_journal_that_is_lost_or_older_ends_the_run_before_a_message_leaves(
    sandbox: MailSandbox, tmp_path: Path, lose: Callable[[Path], object], says: str
) -> None:
    options = options_for(sandbox.port, tmp_path)
    journal = journal_in(tmp_path)
    sent(made_up_messages(20), options, journal)
    journal.close()
    shutil.copy(tmp_path / "journal.db", tmp_path / "backup.db")
    journal = journal_in(tmp_path)
    assert counts(sent(made_up_messages(40), options, journal)[0]) == {"standard": 20, "complement": 20}
    journal.close()
    shutil.copy(tmp_path / "journal.db", tmp_path / "newest.db")
    lose(tmp_path)
    with pytest.raises(JournalBehind, match=says) as refused:
        sent(made_up_messages(60), options, journal_in(tmp_path))
    assert "No message was sent" in str(refused.value)
    assert len(sandbox.taken) == 40
    remove(tmp_path)
    shutil.copy(tmp_path / "newest.db", tmp_path / "journal.db")
    mailed, _ = sent(made_up_messages(60), options, journal_in(tmp_path))
    assert counts(mailed) == {"standard": 20, "complement": 40}, "the remedy keeps its promise"
    assert set(sandbox.message_ids.values()) == {1}


def test_a_journal_in_another_place_is_not_taken_for_the_one_that_the_send_began_with(
    sandbox: MailSandbox, tmp_path: Path
) -> None:
    options = options_for(sandbox.port, tmp_path)
    sent(made_up_messages(5), options, journal_in(tmp_path))
    with pytest.raises(JournalBehind, match="is another one") as refused:
        sent(made_up_messages(5), options, journal_in(tmp_path / "elsewhere"))
    assert f"{tmp_path}/journal.db" in str(refused.value), "the remedy names the place"
    assert len(sandbox.taken) == 5


def test_two_folders_with_one_journal_send_once(sandbox: MailSandbox, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        sent(made_up_messages(30), options_for(sandbox.port, tmp_path / folder), journal_in(tmp_path))
    assert len(sandbox.taken) == 30
    assert set(sandbox.message_ids.values()) == {1}


def test_a_folder_that_cannot_be_written_is_found_before_the_first_message(
    sandbox: MailSandbox, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    options = options_for(sandbox.port, tmp_path / "file")
    with pytest.raises(OutboxUnwritable):
        sent(made_up_messages(5), options, journal_in(tmp_path))
    assert sandbox.taken == []


def test_a_damaged_record_is_no_missing_one(sandbox: MailSandbox, tmp_path: Path) -> None:
    options = options_for(sandbox.port, tmp_path)
    sent(made_up_messages(5), options, journal_in(tmp_path))
    (record,) = tmp_path.glob("birthday/*/.email-journal.json")
    record.write_text("{")
    with pytest.raises(OutboxUnwritable, match="damaged"):
        sent(made_up_messages(6), options, journal_in(tmp_path))
    assert len(sandbox.taken) == 5
