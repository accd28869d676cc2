"""Real servers that files are transferred with: SFTP, S3, Azure Blob Storage, HTTPS."""

import asyncio
import contextlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import asyncssh
import boto3
import pytest
import trustme
from azure.storage.blob import ContainerClient
from moto.server import ThreadedMotoServer

from tasks.files.remote.azure import AzureContainer
from tasks.files.remote.https import HttpsServer
from tasks.files.remote.local import LocalFolder
from tasks.files.remote.place import Place
from tasks.files.remote.s3 import S3Bucket
from tasks.files.remote.sftp import SftpServer
from tests.ports import free_port

AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The well-known account and key of every Azurite."""


class _Password(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("campaign", "sftp-canary")


@pytest.fixture(scope="session")
def sftp_server() -> Iterator[tuple[SftpServer, Path]]:
    """An SFTP server on loopback, its folder, and who may log in."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-sftp-"))
    root = folder / "files"
    root.mkdir()
    host_key, user_key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    user_key.write_private_key(str(folder / "user_key"))
    user_key.write_public_key(str(folder / "authorized_keys"))
    started: list[tuple[asyncio.AbstractEventLoop, int]] = []
    ready = threading.Event()

    async def serve() -> None:
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=_Password,
            server_host_keys=[host_key],
            authorized_client_keys=str(folder / "authorized_keys"),
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(root)),
        )
        started.append((asyncio.get_running_loop(), server.sockets[0].getsockname()[1]))
        ready.set()
        await server.wait_closed()

    def run() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is stopped when the tests end
            asyncio.run(serve())

    threading.Thread(target=run, daemon=True).start()
    assert ready.wait(30)
    loop, port = started[0]
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    yield (
        SftpServer(
            host="127.0.0.1", port=port, username="campaign", password="sftp-canary", known_hosts_file=known
        ),
        root,
    )
    loop.call_soon_threadsafe(loop.stop)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """moto's S3 server on loopback; gives its address."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Azurite, where it is installed (npm install azurite, its .bin on the PATH); gives its address."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not on the PATH")
    folder, port = tempfile.mkdtemp(prefix="campaign-azurite-"), free_port()
    command = [program, "--blobPort", str(port), "--location", folder, "--silent", "--skipApiVersionCheck"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def https_server(tmp_path: Path) -> Iterator[tuple[HttpsServer, Path]]:
    """A web server with TLS on loopback, and its folder."""
    root = tmp_path / "www"
    root.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(root)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield HttpsServer(url=f"https://localhost:{server.server_port}/", ca_file=tmp_path / "ca.pem"), root
    server.shutdown()
    server.server_close()


@pytest.fixture
def place_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Place]:
    """Makes an empty place of a kind, on its real server."""
    folder = f"box{time.monotonic_ns()}"

    def of(kind: str) -> Place:
        if kind == "local":
            (tmp_path / "storage" / folder).mkdir(parents=True)
            return LocalFolder(folder=folder)
        if kind == "sftp":
            server, root = request.getfixturevalue("sftp_server")
            (root / folder).mkdir()
            return server.model_copy(update={"folder": f"/{folder}"})
        if kind == "s3":
            url = request.getfixturevalue("s3_server")
            keys = {"aws_access_key_id": "id", "aws_secret_access_key": "s3-canary", "region_name": "us-east-1"}
            boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="campaign")
            return S3Bucket(
                bucket="campaign",
                folder=folder,
                access_key="id",
                secret_key="s3-canary",
                region="us-east-1",
                endpoint_url=url,
            )
        url = request.getfixturevalue("azurite")
        ContainerClient(url, folder, credential=AZURITE_KEY).create_container()
        return AzureContainer(account=AZURITE_ACCOUNT, account_key=AZURITE_KEY, container=folder, endpoint_url=url)

    return of


@pytest.fixture(autouse=True)
def _no_accounts_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_"))]:
        monkeypatch.delenv(name)
