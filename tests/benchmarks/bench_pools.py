"""How fast codes are reserved from a large pool on PostgreSQL, and whether it grows with what was reserved before.

The codes are made by the database: random texts in the place of sealed codes, which nobody opens here. Reserving is
what a campaign does before it renders.
"""

import argparse
import time
from datetime import UTC, date, datetime
from unittest.mock import patch

import sqlalchemy as sa
from pydantic import SecretStr

from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.tables import CODES
from tasks.pools.codes import Seal
from tasks.pools.reservation import Reservations
from tasks.pools.stock import Pools
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.postgresql import new_database

SEND = Send(campaign="bench", label="Bench", business_date=date(2026, 11, 24))
MAKE = """
INSERT INTO codes (pool, digest, sealed, expires_at, state, profile_id, reserved_by, changed_at)
SELECT :pool, md5(n::text), repeat(md5(n::text), 3), '9999-12-31', 'free', '', '', now()
FROM generate_series(1, :count) n
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, default=10_000_000, help="in the pool")
    parser.add_argument("--messages", type=int, default=1_000_000, help="that get one")
    parser.add_argument("--steps", type=int, default=10, help="in which that is timed")
    given = parser.parse_args()
    with new_database("bench") as url, patch.object(Seal, "opened", lambda *_: {"code": ""}):
        journal = open_journal(JournalSettings(url=SecretStr(url)))
        pools = Pools(journal.database)
        pool = pools.begun("gift", {}, 0)

        def make(connection: sa.Connection) -> None:
            # With its indexes, which are made again, the table would take ten times as long.
            connection.execute(sa.text("SET LOCAL maintenance_work_mem = '1GB'"))
            connection.execute(sa.text("ALTER TABLE codes DROP CONSTRAINT one_code"))
            for index in CODES.indexes:
                index.drop(connection)
            connection.execute(sa.text(MAKE), {"pool": pool.number, "count": given.codes})
            for index in CODES.indexes:
                index.create(connection)
            connection.execute(sa.text("ALTER TABLE codes ADD CONSTRAINT one_code UNIQUE (pool, digest)"))

        journal.database.write(make, at_leisure=True)
        with journal.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("SET statement_timeout = 0"))
            connection.execute(sa.text("VACUUM ANALYZE codes"))
        reservations = Reservations(pools, pool, SEND, "email", "bench")
        step, whole = given.messages // given.steps, 0.0
        for number in range(given.steps):
            wanted = {f"{one:032x}": f"p{one}" for one in range(number * step, (number + 1) * step)}
            begun = time.perf_counter()
            found = reservations.reserve(wanted, datetime.now(UTC))
            seconds = time.perf_counter() - begun
            whole += seconds
            assert len(found) == step
            print(f"{(number + 1) * step:>12,} reserved: the last {step:,} in {seconds:,.1f} s", flush=True)
        print(f"{given.messages:,} of {given.codes:,} in {whole:,.1f} s, {given.messages / whole:,.0f} a second")
        journal.close()


if __name__ == "__main__":
    main()
