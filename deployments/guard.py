"""A Prefect server that answers nobody without its login: the login and the key are files of its home."""

import json
import os
import secrets
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from tasks.errors import ConfigurationError
from tasks.files.storage import written_whole

SERVER = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
}
"""Task runs are recorded together, once a second: one by one is half of a server's work for a large audience.

A run that waits for the run before it asks again so often, in seconds. Prefect's own value is 30.
"""
HEARTBEAT = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
"""So often a run says that it lives, in seconds; Prefect takes no shorter time."""
WORKER = {"PREFECT_WORKER_QUERY_SECONDS": "2"}
"""So often a worker asks for runs, in seconds: whoever starts one waits that long. Prefect's own value is 10."""
OF_THE_SERVER = (
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_SERVER_ENCRYPTION_KEY",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS",
    "PREFECT_SERVER_UI_API_URL",
)
"""Variables of the server alone: runs do not need its key."""
LOGIN, KEY = "login", "encryption.key"
"""Files of the Prefect home."""


def login_of(home: Path, environment: Mapping[str, str]) -> tuple[str, bool]:
    """The login, and whether it was made now: that of PREFECT_SERVER_API_AUTH_STRING; else one kept in `home`."""
    given = environment.get("PREFECT_SERVER_API_AUTH_STRING", "")
    return (given, False) if given else kept(home / LOGIN, lambda: f"admin:{secrets.token_urlsafe(24)}")


def guarded_server(home: Path, address: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables by which the server answers only with the login, and no page of another origin.

    The key that encrypts accounts is kept beside the server's database, not in it.
    """
    login, _ = login_of(home, environment)
    key = environment.get("PREFECT_SERVER_ENCRYPTION_KEY", "") or _encryption_key(home)
    values = (login, key, "true", address, "/api")
    return dict(zip(OF_THE_SERVER, values, strict=True))


def kept(file: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """The one line of a file of this user alone, and whether it was made now."""
    is_new = not file.exists()
    if is_new:
        with written_whole(file) as draft:
            draft.write_text(make(), encoding="ascii")
    return file.read_text(encoding="ascii").strip(), is_new


def _encryption_key(home: Path) -> str:
    """The key of `home`. One that an earlier server has put into its own database is moved from there."""
    if "PREFECT_SERVER_DATABASE_CONNECTION_URL" in os.environ and not (home / KEY).exists():
        raise ConfigurationError(
            setting="PREFECT_SERVER_ENCRYPTION_KEY",
            reason="a server with its own database needs it; deployments/README.md says how to make it",
        )
    with closing(sqlite3.connect(home / "prefect.db")) as database, database:
        is_made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'configuration'").fetchone()
        row = (
            is_made and database.execute("SELECT value FROM configuration WHERE key = 'ENCRYPTION_KEY'").fetchone()
        )
        there = str(json.loads(row[0])["fernet_key"]) if row else ""
        key, _ = kept(home / KEY, lambda: there or urlsafe_b64encode(secrets.token_bytes(32)).decode())
        if key == there:
            database.execute("DELETE FROM configuration WHERE key = 'ENCRYPTION_KEY'")
    return key
