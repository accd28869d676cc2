"""What every release left on disks goes on here: its own files are in `tests/releases/<version>`, by `keep.py`."""

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from flows.settings import CampaignSettings
from tasks.delivery.journal.database import newest_revision
from tasks.delivery.journal.storage import open_journal
from tasks.runs.results import ArrowSerializer
from tasks.targeting.read_audience import ReadAudienceOptions, stored_audience
from tests.releases.keep import CAMPAIGNS, HERE, PART, PEOPLE, RUN_AT, newcomers, of_folder, run

RELEASES = sorted(path.name for path in HERE.iterdir() if (path / "journal.sql").is_file())
MATEO = {"profile_id": "4", "first_name": "Mateo", "email": "mateo@people.test"}
NEW = PEOPLE.head(1).with_columns(**{name: pl.lit(value) for name, value in MATEO.items()})


def test_there_is_one() -> None:
    assert RELEASES


@pytest.fixture(params=RELEASES)
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The disk as the release left it, as the working folder."""
    folder = tmp_path / "disk"
    shutil.copytree(HERE / request.param, folder)
    with closing(sqlite3.connect(folder / "journal.db")) as journal:
        journal.executescript((folder / "journal.sql").read_text())
    monkeypatch.chdir(folder)
    for name, value in of_folder(folder, 0).items():
        monkeypatch.setenv(name, value)
    return folder


def test_nobody_gets_a_message_a_second_time_and_who_is_new_gets_one(
    disk: Path, result_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings and the parameters of the release are taken, its journal is upgraded, its outbox is known."""
    with running_mail_server(MailSandbox()) as server:
        monkeypatch.setenv("CAMPAIGN_EMAIL__SERVER__PORT", str(server.port))
        again = [run(name) for name in CAMPAIGNS]
        assert [(one.delivered, one.delivered_before) for one in again] == [(0, 2)] * 2
        pl.concat([PEOPLE, NEW]).write_csv("people.csv")
        more = [run(name) for name in CAMPAIGNS]
        assert [(one.delivered, one.delivered_before) for one in more] == [(1, 2)] * 2
        assert len(server.message_ids) == 1
        with open_journal(CampaignSettings.load().journal).engine.connect() as database:
            revision = database.execute(sa.text("SELECT version_num FROM journal_version")).scalar()
        assert revision == newest_revision()


def test_histories_audiences_and_parts_are_read(disk: Path) -> None:
    pl.concat([PEOPLE, NEW]).write_csv("people.csv")
    assert newcomers(RUN_AT + timedelta(days=7)) == ["4"]
    stored = stored_audience(ReadAudienceOptions(folder=Path("audiences"), name="everybody")).collect()
    assert stored["profile_id"].to_list() == PEOPLE["profile_id"].to_list()
    assert_frame_equal(ArrowSerializer().loads((disk / "part.arrow").read_bytes()), PART)
