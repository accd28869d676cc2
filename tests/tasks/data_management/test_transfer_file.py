import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from prefect import flow
from pydantic import SecretStr, ValidationError

from tasks.data_management.transfer_file import TransferFileOptions, transfer, transfer_file
from tasks.errors import (
    CampaignError,
    FilesMissing,
    HostNotAllowed,
    OutsideStorage,
    TransferFailed,
    UrlNotSecure,
)
from tasks.files.remote.azure import AzureContainer
from tasks.files.remote.https import HttpsServer
from tasks.files.remote.local import LocalFolder
from tasks.files.remote.place import Place, Surroundings, plain_name
from tasks.files.remote.s3 import S3Bucket
from tasks.files.remote.sftp import SftpServer

NOW = datetime(2026, 11, 24, 7, 30, tzinfo=UTC)
KINDS = ["local", "sftp", "s3", "azure"]
Run = Callable[..., list[tuple[str, int]]]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = tmp_path / "storage"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def run(storage: Path) -> Run:
    def of(place: Place, action: str, file: str, at: datetime = NOW, **options: object) -> list[tuple[str, int]]:
        chosen = TransferFileOptions(
            **{"place": place, "action": action, "file": file, "folder": "work", **options}
        )
        return transfer(chosen, Surroundings(storage, frozenset({"127.0.0.1", "localhost"})), at).rows()

    return of


def put(storage: Path, name: str, content: bytes = b"data") -> None:
    path = storage / "work" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_files_go_out_and_come_back(kind: str, place_of: Callable[[str], Place], run: Run, storage: Path) -> None:
    place = place_of(kind)
    for name, content in {"a.csv": b"a,b\n", "b.csv": b"longer", "c.txt": b""}.items():
        put(storage, name, content)
    assert run(place, "exists", "a.csv") == []
    assert run(place, "upload", "*.csv") == [("work/a.csv", 4), ("work/b.csv", 6)]
    assert run(place, "upload", "a.csv") == [("work/a.csv", 4)], "in the place of the earlier one"
    assert run(place, "list", "*") == [("a.csv", 4), ("b.csv", 6)], "and no draft is left"
    assert run(place, "exists", "a.csv") == [("a.csv", 4)]
    assert run(place, "exists", "?.csv", sort="size", descending=True) == [("b.csv", 6), ("a.csv", 4)]
    assert run(place, "download", "[ab].csv", folder="in") == [("in/a.csv", 4), ("in/b.csv", 6)]
    assert (storage / "in" / "b.csv").read_bytes() == b"longer"
    assert run(place, "download", "b.csv", folder="in", delete_after=True) == [("in/b.csv", 6)]
    assert run(place, "list", "*") == [("a.csv", 4)]
    with pytest.raises(FilesMissing, match=r"no file 'b\.csv'"):
        run(place, "download", "b.csv", folder="in")
    assert run(place, "download", "b.csv", folder="in", when_none="nothing") == []
    with pytest.raises(TransferFailed, match="3 are allowed"):
        run(place, "download", "a.csv", folder="other", max_bytes=3)
    assert not list((storage / "other").iterdir()), "nothing half is left"


def test_an_upload_can_be_deleted_here(place_of: Callable[[str], Place], run: Run, storage: Path) -> None:
    place = place_of("local")
    put(storage, "a.csv")
    run(place, "upload", "a.csv", delete_after=True)
    assert not (storage / "work" / "a.csv").exists()
    with pytest.raises(FilesMissing, match="'work'"):
        run(place, "upload", "a.csv")


@pytest.mark.parametrize(
    ("sort", "descending", "names"),
    [
        ("name", False, ["a", "b", "c"]),
        ("name", True, ["c", "b", "a"]),
        ("size", False, ["b", "a", "c"]),
        ("modified", False, ["c", "b", "a"]),
        ("modified", True, ["a", "b", "c"]),
    ],
)
def test_files_are_given_in_the_order_asked_for(
    run: Run, storage: Path, sort: str, descending: bool, names: list[str]
) -> None:
    for name, size, age in (("a", 2, 1), ("b", 1, 2), ("c", 3, 3)):
        put(storage, f"{name}", b"x" * size)
        os.utime(storage / "work" / name, (1_000_000 - age, 1_000_000 - age))
    found = run(LocalFolder(folder="work"), "list", "*", sort=sort, descending=descending)
    assert [name for name, _ in found] == names
    first = run(LocalFolder(folder="work"), "list", "*", sort=sort, descending=descending, maximum_files=1)
    assert first == found[:1]


@pytest.mark.parametrize(
    ("limits", "kept"),
    [({}, 4), ({"maximum_files": 3}, 3), ({"maximum_bytes": 9}, 2), ({"maximum_bytes": 3}, 0)],
)
def test_the_history_keeps_to_its_limits_and_loses_the_oldest(
    place_of: Callable[[str], Place], run: Run, storage: Path, limits: dict[str, int], kept: int
) -> None:
    place = place_of("local")
    put(storage, "a.csv")
    run(place, "upload", "a.csv")
    for day in range(4):
        run(place, "download", "a.csv", at=NOW + timedelta(days=day), history={"folder": "history", **limits})
    names = sorted(path.name for path in (storage / "history").iterdir())
    assert names == [f"202611{24 + day}T073000.000000Z_a.csv" for day in range(4 - kept, 4)]


def test_a_web_server_gives_a_file_that_is_named(
    https_server: tuple[HttpsServer, Path], run: Run, storage: Path
) -> None:
    server, root = https_server
    (root / "daily").mkdir()
    (root / "daily" / "a.csv").write_bytes(b"a,b\n")
    place = server.model_copy(update={"folder": "daily", "headers": {"X-Key": SecretStr("https-canary")}})
    assert run(place, "exists", "a.csv") == [("a.csv", 4)]
    assert run(place, "download", "a.csv") == [("work/a.csv", 4)]
    assert (storage / "work" / "a.csv").read_bytes() == b"a,b\n"
    assert run(place, "exists", "b.csv") == []
    for action, file, says in (
        ("download", "*.csv", "no list"),
        ("upload", "a.csv", "cannot be uploaded"),
    ):
        with pytest.raises(TransferFailed, match=says):
            run(place, action, file)
    with pytest.raises(TransferFailed, match="cannot be deleted"):
        run(place, "download", "a.csv", delete_after=True)
    with pytest.raises(TransferFailed, match="more than 3 bytes"):
        run(place, "download", "a.csv", max_bytes=3)
    with pytest.raises(TransferFailed, match=r"HTTP - (30\d|404)"):
        run(server, "download", "daily")


def test_a_web_server_is_reached_through_the_guard_only(
    https_server: tuple[HttpsServer, Path], storage: Path
) -> None:
    server, root = https_server
    (root / "a.csv").write_bytes(b"x")
    for place in (server, server.model_copy(update={"url": server.url.replace("localhost", "127.0.0.1")})):
        with pytest.raises(HostNotAllowed):
            transfer(TransferFileOptions(place=place, file="a.csv"), Surroundings(storage), NOW)
    allowed = Surroundings(storage, frozenset({"localhost"}))
    unknown = server.model_copy(update={"ca_file": None})
    with pytest.raises(TransferFailed, match=r"(?i)certificate"):
        transfer(TransferFileOptions(place=unknown, file="a.csv"), allowed, NOW)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (HttpsServer(url="http://files.example/"), UrlNotSecure),
        (SftpServer(host="127.0.0.1", username="u"), HostNotAllowed),
        (SftpServer(host="localhost", username="u"), HostNotAllowed),
        (S3Bucket(bucket="campaign", endpoint_url="http://127.0.0.1:9000"), UrlNotSecure),
        (S3Bucket(bucket="campaign", endpoint_url="https://127.0.0.1:9000"), HostNotAllowed),
        (AzureContainer(account="a", container="c", endpoint_url="https://localhost/"), HostNotAllowed),
    ],
)
def test_private_hosts_are_refused_unless_they_are_allowed(
    place: Place, error: type[CampaignError], storage: Path
) -> None:
    with pytest.raises(CampaignError) as refused:
        transfer(TransferFileOptions(place=place, file="a.csv"), Surroundings(storage), NOW)
    assert isinstance(refused.value, error | HostNotAllowed)


def test_a_key_logs_in_and_a_stranger_does_not(sftp_server: tuple[SftpServer, Path], run: Run) -> None:
    server, root = sftp_server
    (root / "keyed.txt").write_bytes(b"x")
    key = server.known_hosts_file.parent / "user_key"
    assert run(server.model_copy(update={"password": None, "private_key_file": key}), "exists", "keyed.txt")
    with pytest.raises(TransferFailed) as refused:
        run(server.model_copy(update={"password": SecretStr("wrong-canary")}), "exists", "keyed.txt")
    assert "canary" not in str(refused.value)
    assert not refused.value.retryable


def test_sftp_connects_to_the_address_that_was_checked_whatever_the_name_says_later(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, connected = iter(["93.184.216.34"]), list[object]()

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers, "127.0.0.1"), port))]

    def connect(address: object, *_: object, **__: object) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    place = SftpServer(host="rebound.example", username="u", password="p")
    with pytest.raises(TransferFailed, match="refused"):
        transfer(TransferFileOptions(place=place, action="exists", file="a.csv"), Surroundings(storage), NOW)
    assert connected == [("93.184.216.34", 22)]


REBINDING = [
    S3Bucket(bucket="campaign", access_key="k", secret_key="s", endpoint_url="https://rebound.example"),
    AzureContainer(
        account="a", container="c", account_key="aw==", endpoint_url="https://rebound.example/a", timeout_seconds=30
    ),
    HttpsServer(url="https://rebound.example/"),
]


@pytest.mark.parametrize("place", REBINDING, ids=[*KINDS[2:], "https"])
def test_a_name_that_points_elsewhere_after_the_check_is_not_connected_to(
    place: Place, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        first = "93.184.216.34" if len(asked) == 1 and not isinstance(place, HttpsServer) else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (first, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    options = TransferFileOptions(place=place, action="exists", file="a.csv")
    with pytest.raises(HostNotAllowed, match=r"resolves to 127\.0\.0\.1"):
        transfer(options, Surroundings(storage), NOW)


@pytest.mark.parametrize("account", ["localhost:18997/", "a.b", "127.0.0.1", "A", "a-b", "a/b", ""])
def test_an_azure_account_is_a_name_and_never_a_host(account: str) -> None:
    with pytest.raises(ValidationError, match="account"):
        AzureContainer(account=account, container="c")


@pytest.mark.parametrize(
    "place",
    [
        S3Bucket(bucket="campaign", endpoint_url="https://storage.example"),
        AzureContainer(account="a", container="c", endpoint_url="https://storage.example"),
    ],
    ids=["s3", "azure"],
)
def test_the_workers_own_role_is_lent_to_no_other_service(
    place: Place, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: address)
    with pytest.raises(TransferFailed, match=r"for (Amazon|Azure)'s service only"):
        transfer(TransferFileOptions(place=place, file="a.csv"), Surroundings(storage), NOW)


def test_a_server_whose_host_key_is_not_known_is_refused(
    sftp_server: tuple[SftpServer, Path], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "nobody").write_text("")
    with pytest.raises(TransferFailed, match=r"(?i)host key"):
        run(sftp_server[0].model_copy(update={"known_hosts_file": tmp_path / "nobody"}), "exists", "x")


def test_a_server_that_is_away_is_worth_a_retry(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for place in (
        SftpServer(host="127.0.0.1", port=port, username="u", password="p"),
        HttpsServer(url=f"https://localhost:{port}/"),
    ):
        with pytest.raises(TransferFailed) as failed:
            run(place, "exists", "x")
        assert failed.value.retryable


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "", "a//b", "..\\a", "./a", "a\x00b", ".."])
def test_no_name_leads_out_of_a_place(name: str) -> None:
    with pytest.raises(OutsideStorage):
        plain_name(name)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"file": "../secret.txt"}, OutsideStorage),
        ({"file": "a.csv", "folder": "../out"}, OutsideStorage),
        ({"file": "a.csv", "history": {"folder": "../out"}}, OutsideStorage),
        ({"file": "a.csv", "place": LocalFolder(folder="../out")}, OutsideStorage),
        ({"file": "secret.txt", "place": LocalFolder(folder="link")}, OutsideStorage),
    ],
)
def test_nothing_outside_the_storage_folder_is_read_or_written(
    run: Run, storage: Path, tmp_path: Path, options: dict[str, object], error: type[CampaignError]
) -> None:
    put(storage, "a.csv")
    (storage / "box").mkdir()
    (storage / "box" / "a.csv").write_bytes(b"x")
    outside = tmp_path / "out"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"secret")
    (storage / "link").symlink_to(outside)
    with pytest.raises(error):
        run(**{"place": LocalFolder(folder="box"), "action": "download", **options})
    assert [path.name for path in outside.iterdir()] == ["secret.txt"]


def test_a_folder_is_not_transferred_to_itself() -> None:
    with pytest.raises(ValidationError, match="must differ"):
        TransferFileOptions(place=LocalFolder(folder="in/"), file="a.csv", folder="in")


def test_secrets_are_shown_nowhere() -> None:
    options = TransferFileOptions(
        place=S3Bucket(bucket="campaign", access_key="key-canary", secret_key="secret-canary"), file="a.csv"
    )
    assert "canary" not in f"{options!r}{options.model_dump_json()}{options.place.shown}"
    with pytest.raises(ValidationError) as refused:
        TransferFileOptions(place={"kind": "sftp", "host": "h", "username": "u", "passwrod": "canary"}, file="a")
    assert "canary" not in str(refused.value)


def test_the_task_runs_alone_and_logs_its_count(
    in_folder: Path, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(in_folder / "storage", "a.csv")
    options = TransferFileOptions(place=LocalFolder(folder="work"), file="*.csv", folder="in")
    assert transfer_file(options).rows() == [("in/a.csv", 4)]
    assert "Download with the local folder 'work': 1 files" in caplog.text


def test_a_run_moves_a_file_once_and_looks_each_time(in_folder: Path, result_folder: Path) -> None:
    put(in_folder / "storage", "a.csv")
    look = TransferFileOptions(action="exists", place=LocalFolder(folder="work"), file="a.csv")
    fetch = TransferFileOptions(place=LocalFolder(folder="work"), file="a.csv", folder="in", delete_after=True)

    @flow
    def workflow() -> list[int]:
        return [transfer_file(options).height for options in (look, fetch, look, fetch)]

    assert workflow() == [1, 1, 0, 1]


def test_what_may_pass_is_tried_again(
    in_folder: Path, result_folder: Path, https_server: tuple[HttpsServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')
    server, root = https_server
    (root / "a.csv").write_bytes(b"x")
    tries: list[str] = []
    answer = SimpleHTTPRequestHandler.do_HEAD

    def busy_first(handler: SimpleHTTPRequestHandler) -> None:
        tries.append(handler.path)
        if len(tries) == 1:
            handler.send_error(503)
        else:
            answer(handler)

    monkeypatch.setattr(SimpleHTTPRequestHandler, "do_HEAD", busy_first)
    at_once = transfer_file.with_options(retry_delay_seconds=0)
    assert at_once(TransferFileOptions(place=server, file="a.csv", folder="in")).rows() == [("in/a.csv", 1)]
    assert tries == ["/a.csv", "/a.csv"]
