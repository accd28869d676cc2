"""When the next message may leave over an account, for all senders of a journal."""

from dataclasses import dataclass

import sqlalchemy as sa

from tasks.delivery.journal.database import Database
from tasks.delivery.journal.tables import PACES


@dataclass(frozen=True)
class Paces:
    """The paces of a journal."""

    database: Database

    def reserve(self, account: str, count: int, per_second: float) -> float:
        """Take so many moments, spaced by a rate; gives how many seconds from now the first one is.

        By the database's clock. Errors: `JournalUnavailable`.
        """
        seconds = count / per_second
        if self.database.is_sqlite:
            now: sa.ColumnElement[float] = sa.literal(self.database.now().timestamp(), sa.Double)
            later: sa.ColumnElement[float] = sa.func.max(PACES.c.next_at, now)
        else:
            now = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
            later = sa.func.greatest(PACES.c.next_at, now)
        statement = (
            self.database.insert(PACES)
            .values(account=account, next_at=now + seconds)
            .on_conflict_do_update(index_elements=[PACES.c.account], set_={"next_at": later + seconds})
            .returning(PACES.c.next_at - sa.literal(seconds, sa.Double) - now)
        )
        wait = self.database.write(lambda database: database.execute(statement).scalar_one())
        return max(float(wait), 0.0)
