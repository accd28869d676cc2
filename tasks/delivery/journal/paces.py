"""When the next message may leave over an account, for all senders of a journal."""

from collections.abc import Callable
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
        return self._moved(account, count / per_second)

    def hold(self, account: str, seconds: float) -> None:
        """Give out no moments for this many seconds. Errors: `JournalUnavailable`."""
        self._moved(account, seconds, only_if_earlier=True)

    def _moved(self, account: str, seconds: float, *, only_if_earlier: bool = False) -> float:
        """Have the next moment so much later; gives how many seconds from now it was before."""
        now: sa.ColumnElement[float] = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        if self.database.is_sqlite:
            now = sa.literal(self.database.now().timestamp(), sa.Double)
        later_of: Callable[..., sa.ColumnElement[float]] = (
            sa.func.max if self.database.is_sqlite else sa.func.greatest
        )
        later = later_of(PACES.c.next_at, now)
        statement = (
            self.database.insert(PACES)
            .values(account=account, next_at=now + seconds)
            .on_conflict_do_update(
                index_elements=[PACES.c.account],
                set_={"next_at": later_of(PACES.c.next_at, now + seconds) if only_if_earlier else later + seconds},
            )
            .returning(PACES.c.next_at - sa.literal(seconds, sa.Double) - now)
        )
        wait = self.database.write(lambda database: database.execute(statement).scalar_one())
        return max(float(wait), 0.0)
