"""What the tests of every campaign start from and look at: profiles, a partner's real answer, the Maildir."""

import json
import mailbox
import shutil
from collections.abc import Callable
from datetime import date
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import polars as pl
import pytest

from deployments.sandbox.profiles import write_sample_profiles
from deployments.sandbox.server import Call, Reply, Server

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"

Messages = dict[str, EmailMessage]


@pytest.fixture(scope="session")
def written_profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up profiles, generated once."""
    path = tmp_path_factory.mktemp("profiles") / "profiles.parquet"
    write_sample_profiles(path)
    return path


@pytest.fixture
def sample_profiles(written_profiles: Path, in_folder: Path) -> pl.DataFrame:
    """The made-up profiles, where the settings expect them by default."""
    path = in_folder / "samples" / "profiles.parquet"
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(written_profiles, path)
    return pl.read_parquet(path)


@pytest.fixture
def mailed(in_folder: Path) -> Callable[[str, date], Messages]:
    """Reads what a campaign delivered on a day: address to message."""

    def read(campaign: str, day: date) -> Messages:
        return messages_of(in_folder / "outbox" / campaign / day.isoformat())

    return read


def messages_of(send: Path) -> Messages:
    """Messages in the folder of a send: address to message."""
    box = mailbox.Maildir(
        send / "maildir", factory=lambda file: BytesParser(policy=policy.default).parse(file), create=False
    )
    return {str(message["To"]): message for message in box}


@pytest.fixture
def profiles_of_the_world(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pl.DataFrame]:
    """Puts DummyJSON's users in the place of the profiles, with constants for what they do not have."""

    def put(rows: int = 20, **constants: object) -> pl.DataFrame:
        users = pl.read_csv(SAMPLES / "profiles-dummyjson-users.csv", infer_schema=False).head(rows)
        users.write_csv(in_folder / "users.csv")
        monkeypatch.setenv("CAMPAIGN_PROFILES__PATH", "users.csv")
        monkeypatch.setenv("CAMPAIGN_PROFILES__COLUMNS", json.dumps({"profile_id": "id"}))
        monkeypatch.setenv("CAMPAIGN_PROFILES__CONSTANTS", json.dumps({"may_contact": True, **constants}))
        return users

    return put


@pytest.fixture
def public_service(
    start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Server]:
    """Serves a public service's real answer over TLS, and points one setting, the address, to it.

    A second page of a service with pages is empty, as the sample is the first.
    """

    def serve(setting: str, sample: str) -> Server:
        answer = json.loads((SAMPLES / sample).read_text())

        def respond(call: Call) -> Reply:
            if call.query.get("skip", "0") != "0":
                return Reply(json.dumps({**answer, "products": []}).encode())
            return Reply(json.dumps(answer).encode())

        server = start_server(respond)
        monkeypatch.setenv(f"CAMPAIGN_{setting}__URL", f"{server.address}/as/the/service/has/it")
        # Of this test server, not of the service: its certificate's authority, and that it is on loopback.
        monkeypatch.setenv(f"CAMPAIGN_{setting}__CA_FILE", str(server.ca_file))
        monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')
        return server

    return serve
