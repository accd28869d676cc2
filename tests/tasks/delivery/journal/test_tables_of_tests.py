"""Tests open journals whose tables were copied: they are those that the migrations make."""

from pathlib import Path
from unittest import mock

import sqlalchemy as sa

from tasks.delivery.journal.database import Database, open_database
from tasks.settings import JournalSettings
from tests.journal import Schema, upgraded_by_alembic


def dumped(journal: Database) -> list[tuple[object, ...]]:
    """Every table and index, and how many rows it has."""
    with journal.engine.connect() as connection:
        made = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master ORDER BY rowid").all()
        names = sa.inspect(connection).get_table_names()
        rows = [(name, connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar()) for name in names]
    return [*map(tuple, made), *rows]


def test_a_copied_journal_is_a_migrated_one_with_an_identity_of_its_own(tmp_path: Path) -> None:
    def opened(name: str) -> Database:
        return open_database(JournalSettings(url=f"sqlite:///{tmp_path}/{name}.db"))

    with mock.patch("tasks.delivery.journal.database._upgrade", upgraded_by_alembic):
        migrated = opened("migrated")
    with mock.patch("tasks.delivery.journal.database._upgrade", Schema().upgrade):
        journals = [migrated, opened("first"), opened("copied")]
    assert dumped(migrated) == dumped(journals[1]) == dumped(journals[2])
    assert [journal.identity.is_new for journal in journals] == [True] * 3
    assert len({journal.identity.name for journal in journals}) == 3
    assert len({journal.identity.key for journal in journals}) == 3
    assert opened("copied").identity == journals[2].identity._replace(is_new=False)
