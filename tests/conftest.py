"""One fixture per server, real ones: Prefect's backend and the sandbox partner over TLS."""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

# Before Prefect is imported: tests touch neither the user's Prefect nor the user's settings.
for variable in [name for name in os.environ if name.startswith(("PREFECT_", "CAMPAIGN_"))]:
    del os.environ[variable]
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="campaign-tests-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"

import polars as pl
import pytest
import sqlalchemy as sa
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from deployments.sandbox.partner import Behaviour, Partner, running_partner
from tasks.data_management.external_api import Endpoint, InboundMapping, OutboundColumn, OutboundMapping
from tasks.settings import JournalSettings

POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1:5432"

StartPartner = Callable[..., Partner]


@pytest.fixture(scope="session")
def prefect_backend() -> Iterator[str]:
    """A real Prefect server on a database of its own; gives the address of its API."""
    with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as client:
        yield str(client.api_url)


@pytest.fixture
def result_folder(tmp_path: Path, prefect_backend: str) -> Iterator[Path]:
    """Result storage of this test alone: no test is served from another's cache."""
    folder = tmp_path / "results"
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: folder}):
        yield folder


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def start_partner(tmp_path: Path) -> Iterator[StartPartner]:
    """Starts sandbox partners; each has its own certificate authority and port."""
    with ExitStack() as running:

        def start(behaviour: Behaviour = Behaviour.NORMAL, **options: str) -> Partner:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            return running.enter_context(running_partner(folder, behaviour, **options))

        yield start


@pytest.fixture
def use_partner(monkeypatch: pytest.MonkeyPatch) -> Callable[[Partner], None]:
    """Points the settings to a partner, with retries that do not keep a test waiting."""

    def use(partner: Partner) -> None:
        for variable, value in {**partner.settings, "CAMPAIGN_COUPONS__BACKOFF_SECONDS": "0.05"}.items():
            monkeypatch.setenv(variable, value)

    return use


@pytest.fixture
def endpoint_of() -> Callable[..., Endpoint]:
    """Makes the coupon endpoint of a partner."""

    def endpoint(partner: Partner, **options: object) -> Endpoint:
        return Endpoint(
            **{
                "name": "coupons",
                "url": partner.url,
                "ca_file": partner.ca_file,
                "backoff_seconds": 0.05,
                "inbound": InboundMapping(columns={"zip_code": "zipCode"}, add_count=True),
                "outbound": OutboundMapping(
                    path="codeData.codes",
                    columns={"code": OutboundColumn(key="code"), "zip_code": OutboundColumn(key="zipCode")},
                ),
                **options,
            }
        )

    return endpoint


@pytest.fixture
def zip_codes() -> pl.DataFrame:
    """Zip codes for which the partner has a coupon."""
    return pl.DataFrame({"zip_code": ["95124", "02134"], "city": ["San Jose", "Boston"]})


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """An empty database of a real PostgreSQL server, for this test alone."""
    server = sa.create_engine(f"{POSTGRESQL}/postgres", isolation_level="AUTOCOMMIT")
    name = f"journal_{secrets.token_hex(6)}"
    try:
        with server.connect() as database:
            database.execute(sa.text(f"CREATE DATABASE {name}"))
    except sa.exc.OperationalError as error:
        pytest.skip(f"No PostgreSQL answers at 127.0.0.1:5432: {str(error.orig).splitlines()[0]}")
    try:
        yield f"{POSTGRESQL.replace('+psycopg', '')}/{name}"
    finally:
        with server.connect() as database:
            database.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def journal_settings(request: pytest.FixtureRequest, tmp_path: Path) -> JournalSettings:
    """An empty journal, in each database that can hold one."""
    url = f"sqlite:///{tmp_path}/journal.db" if request.param == "sqlite" else None
    return JournalSettings(
        url=url or request.getfixturevalue("postgresql_url"), lease_seconds=30, patience_seconds=20
    )
