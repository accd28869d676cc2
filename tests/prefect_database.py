"""An empty database for Prefect's server, copied: its hundred migrations take ten seconds of a processor."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

import prefect
from filelock import FileLock
from prefect.testing import utilities

NAME = "prefect-test.db"
"""What the harness calls its database, in a folder that it makes."""
MIGRATE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def migrated() -> Path:
    """The file to copy: made by Prefect's own migrations once per environment and version of Prefect."""
    kept = Path(sys.prefix) / f"empty-prefect-{prefect.__version__}.db"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=sys.prefix) as folder:
                new = Path(folder) / NAME
                subprocess.run(
                    [sys.executable, "-c", MIGRATE],
                    env={
                        "PREFECT_HOME": folder,
                        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{new}",
                    },
                    check=True,
                )
                # What the process left in a journal beside the file is in the copy too.
                with closing(sqlite3.connect(new)) as connection:
                    connection.execute("VACUUM INTO ?", [str(Path(folder) / "whole.db")])
                (Path(folder) / "whole.db").rename(kept)
    return kept


@contextmanager
def database_of_prefect() -> Iterator[None]:
    """Prefect's test harness starts, within the block, from a database that is already migrated."""

    def folder() -> str:
        made = tempfile.mkdtemp()
        shutil.copyfile(migrated(), Path(made) / NAME)
        return made

    with mock.patch.object(utilities, "mkdtemp", folder):
        yield
