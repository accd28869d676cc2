"""One fixture per server, real ones: Prefect's backend and the sandbox partner over TLS."""

import gc
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

# What is imported and collected stays until the end: looking through it again and again is a tenth of the time.
gc.disable()

# Before Prefect is imported: tests touch neither the user's Prefect nor the user's settings.
for variable in [name for name in os.environ if name.startswith(("PREFECT_", "CAMPAIGN_"))]:
    del os.environ[variable]
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="campaign-tests-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
# Servers of the tests have no TLS: reading all authorities anew for each client would be a third of a flow's time.
os.environ["PREFECT_API_TLS_INSECURE_SKIP_VERIFY"] = "true"
# Bytecode is kept: without it every process of the tests, and every program that one starts, compiles all modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.context import SettingsContext, get_settings_context
from prefect.settings import (
    PREFECT_API_DATABASE_MIGRATE_ON_START,
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

from deployments.sandbox.partner import Behaviour, Partner, running_partner
from deployments.sandbox.server import Respond, Server, running_server
from tasks.endpoint.answer.column import OutboundColumn
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.inbound import InboundMapping
from tasks.settings import JournalSettings
from tasks.sources.sql import Database, transaction
from tests.heartbeats import NO_HEARTBEATS
from tests.journal import Schema
from tests.partners import settings_at_once
from tests.postgresql import new_database
from tests.prefect_database import database_of_prefect
from tests.scheduling import Scheduling
from tests.shown import send_events_from_here

# A run of the tests can be repeated; HYPOTHESIS_PROFILE=search looks for new examples.
# How long an example takes says how busy the machine is, and nothing of the code.
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **UNHURRIED)
settings.register_profile("search", max_examples=1000, **UNHURRIED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

SLOW_PLACES = (
    "deployments",
    "flows/operations",
    "flows/test_attacks.py",
    "flows/test_feedback.py",
    "flows/test_killed.py",
    "flows/test_leaks.py",
    "flows/test_private_files.py",
    "flows/use_cases/test_birthday_delivery.py",
    "tasks/channels/test_email_faults.py",
    "tasks/delivery/test_progress.py",
    "tasks/delivery/test_seats.py",
    "tasks/pools/test_model.py",
    "tasks/runs/test_engine.py",
    "tasks/targeting/test_incremental_effect.py",
)
SLOW_FIXTURES = {"worker", "deploy", "browser"}
"""What makes a test slow: a marker of its own says so where neither does."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what the inner loop leaves out."""
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here).as_posix()
        if place.startswith(SLOW_PLACES) or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Look for garbage again, from now on, in what the tests themselves make."""
    gc.freeze()
    gc.enable()


def pytest_make_parametrize_id(val: object) -> str | None:
    """A name for what is compressed, whose bytes have the time in them: every process names a test alike."""
    return "gzip" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """How tests are shared out among processes."""
    return Scheduling(config, log)


StartPartner = Callable[..., Partner]
StartServer = Callable[[Respond], Server]


@pytest.fixture(scope="session")
def prefect_backend() -> Iterator[str]:
    """A real Prefect server on a database of its own; gives the address of its API.

    Each process that runs tests has one. It keeps no events, which nobody reads here, and records task runs
    together, as our own servers do: one by one they are a third of its work. Flow runs in the process of the tests
    send no heartbeats.
    """
    with (
        database_of_prefect(),
        temporary_settings(
            {
                PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED: False,
                PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE: 100,
                PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL: 1,  # of less, Prefect makes 0
                PREFECT_API_DATABASE_MIGRATE_ON_START: False,
                **NO_HEARTBEATS,
            }
        ),
        prefect_test_harness(server_startup_timeout=240),
        get_client(sync_client=True) as client,
    ):
        send_events_from_here()
        yield str(client.api_url)


@pytest.fixture
def result_folder(tmp_path: Path, prefect_backend: str) -> Iterator[Path]:
    """Result storage of this test alone: no test is served from another's cache.

    Copied settings: `temporary_settings` reads and checks all of Prefect's again, for each of hundreds of tests.
    """
    folder = tmp_path / "results"
    context = get_settings_context()
    results = context.settings.results.model_copy(update={"local_storage_path": folder})
    copied = context.settings.model_copy(update={"results": results})
    with SettingsContext(profile=context.profile, settings=copied):
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _schema_of_journals() -> Iterator[None]:
    """Journals of this process get the tables that Alembic made for the first of them."""
    with mock.patch("tasks.delivery.journal.database._upgrade", Schema().upgrade):
        yield


@pytest.fixture(autouse=True)
def _own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal of this test alone: the one below Prefect's home would be shared by all."""
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{tmp_path}/own-journal.db")


@pytest.fixture(autouse=True)
def _own_kept_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Audiences and histories of this test alone."""
    monkeypatch.setenv("CAMPAIGN_KEPT__FOLDER", str(tmp_path / "kept"))


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
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts HTTPS servers that answer as a function of the call says."""
    with ExitStack() as running:

        def start(respond: Respond) -> Server:
            return running.enter_context(running_server(Path(tempfile.mkdtemp(dir=tmp_path)), respond))

        yield start


@pytest.fixture
def use_partner(monkeypatch: pytest.MonkeyPatch) -> Callable[[Partner], None]:
    """Points the settings to a partner, with retries that do not keep a test waiting."""

    def use(partner: Partner) -> None:
        for variable, value in settings_at_once(partner).items():
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


@pytest.fixture(scope="session")
def _tables_url() -> Iterator[str | None]:
    """A PostgreSQL database of this process, as others drop types that are being read; None without a server."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(new_database("tables"))
        except sa.exc.OperationalError:
            url = None
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind: a file, and a schema of the PostgreSQL server on this machine."""
    if request.param == "sqlite":
        yield Database(url=f"sqlite:///{tmp_path / 'campaigns.db'}")
        return
    if (url := request.getfixturevalue("_tables_url")) is None:
        pytest.skip("no PostgreSQL server here")
    schema = f"campaign_test_{uuid.uuid4().hex[:12]}"
    database = Database(url=url, schema_name=schema)
    with transaction(database) as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
    yield database
    with transaction(database) as connection:
        connection.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))


@pytest.fixture
def make_table(database: Database) -> Callable[..., None]:
    """Makes a table of the database: its name, its columns in SQL, its rows."""

    def make(name: str, columns: str, rows: Sequence[tuple[object, ...]] = ()) -> None:
        qualified = name if database.schema_name is None else f"{database.schema_name}.{name}"
        with transaction(database) as connection:
            connection.execute(sa.text(f"CREATE TABLE {qualified} ({columns})"))
            for row in rows:
                values = {f"v{place}": value for place, value in enumerate(row)}
                marks = ", ".join(f":{mark}" for mark in values)
                connection.execute(sa.text(f"INSERT INTO {qualified} VALUES ({marks})"), values)

    return make


WORK_POOL = "tests"


@pytest.fixture(scope="session")
def worker(prefect_backend: str) -> Iterator[str]:
    """A real worker, in a process of its own, that runs what is deployed to its work pool."""
    prefect = str(Path(sys.executable).with_name("prefect"))
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_backend,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_PREFETCH_SECONDS": "1",
    }
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
    log = Path(os.environ["PREFECT_HOME"]) / "worker.log"
    with log.open("wb") as output:
        command = [prefect, "--no-prompt", "worker", "start", "--pool", WORK_POOL, "--type", "process"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield WORK_POOL
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def undeployed(prefect_backend: str) -> Iterator[SyncPrefectClient]:
    """A client. What a test deploys goes with it: a deployment owns its campaign's name."""
    with get_client(sync_client=True) as client:
        before = {deployment.id for deployment in client.read_deployments()}
        yield client
        for deployment in client.read_deployments():
            if deployment.id not in before:
                client.delete_deployment(deployment.id)


@pytest.fixture
def deploy(worker: str) -> Callable[..., str]:
    """Deploys a flow of `tests/flows/deployed.py` to the worker's pool, and gives the deployment's name."""
    root = Path(__file__).parents[1]

    def deployed(name: str, **options: object) -> str:
        workflow = Flow.from_source(source=str(root), entrypoint=f"tests/flows/deployed.py:{name}")
        workflow.deploy(name=name, work_pool_name=worker, print_next_steps=False, **options)
        return f"{workflow.name}/{name}"

    return deployed


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """An empty database of a real PostgreSQL server, for this test alone."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(new_database("journal"))
        except sa.exc.OperationalError as error:
            pytest.skip(f"No PostgreSQL answers at 127.0.0.1:5432: {str(error.orig).splitlines()[0]}")
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def journal_settings(request: pytest.FixtureRequest, tmp_path: Path) -> JournalSettings:
    """An empty journal, in each database that can hold one."""
    url = f"sqlite:///{tmp_path}/journal.db" if request.param == "sqlite" else None
    return JournalSettings(
        url=url or request.getfixturevalue("postgresql_url"), lease_seconds=30, patience_seconds=20
    )
