"""The journal as tests look at it."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import polars as pl
import sqlalchemy as sa
from alembic.config import Config

from tasks.delivery.journal.codes import SHOWN
from tasks.delivery.journal.database import _upgrade as upgraded_by_alembic
from tasks.delivery.journal.database import newest_revision
from tasks.delivery.journal.keys import fingerprint_of
from tasks.delivery.journal.storage import Journal
from tasks.delivery.journal.tables import IDENTITY, VERSION_TABLE
from tasks.send import Send


def entries_of(journal: Journal, send: Send, channel: str = "email") -> pl.DataFrame:
    """Every message of a send, as `Journal.entries` tells it."""
    with journal.entries(send, channel) as entries:
        return entries.collect()


def suppressed(journal: Journal, people: Mapping[str, tuple[str, str]], channel: str) -> dict[str, str]:
    """Who must not be contacted, each with the reason. In: profile_id and address of each, by any key."""
    messages = pl.DataFrame(list(people.values()), schema=["profile_id", "email"], orient="row")
    reasons = journal.suppressions.reasons(messages, channel)
    return {key: reason for key, reason in zip(people, reasons, strict=True) if reason is not None}


def shown(codes: Mapping[str, Iterable[int]]) -> pl.DataFrame:
    """The codes of messages as the journal takes them: message_key, number. In: numbers by message key."""
    rows = [(key, number) for key, numbers in codes.items() for number in numbers]
    return pl.DataFrame(rows, schema=SHOWN, orient="row")


class Schema:
    """The tables of a new journal, as Alembic made them once in this process: hundreds of tests open a new one."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def upgrade(self, config: Config, connection: sa.Connection) -> bool:
        """In the place of `database._upgrade`. What is no file, or has tables already, is for Alembic as ever."""
        is_empty = connection.dialect.name == "sqlite" and not sa.inspect(connection).get_table_names()
        if is_empty and self.made:
            for statement in self.made:
                connection.exec_driver_sql(statement)
            new = config.attributes["key"] or secrets.token_hex(32)
            identity = {"identity": secrets.token_hex(16), "fingerprint": fingerprint_of(new.encode())}
            kept = {"key": "" if config.attributes["key"] else new, "created_at": datetime.now(UTC)}
            connection.execute(sa.insert(IDENTITY), identity | kept)
            connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} VALUES ('{newest_revision()}')")
            return True
        is_new = upgraded_by_alembic(config, connection)
        if is_empty:
            made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
            self.made = list(made.scalars())
        return is_new
