"""Places that send more than they say, or less than it becomes: a download ends at its limit."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tasks.data_management.transfer_file import TransferFileOptions, transfer
from tasks.errors import TransferFailed
from tasks.files.remote.azure import AzureContainer
from tasks.files.remote.https import HttpsServer
from tasks.files.remote.place import Place, Surroundings
from tasks.files.remote.s3 import S3Bucket
from tests.tasks.data_management.conftest import AZURITE_ACCOUNT, AZURITE_KEY
from tests.tasks.data_management.test_transfer_file import NOW

MEGABYTE = 1024 * 1024
ALLOWED = frozenset({"127.0.0.1", "localhost"})
LISTED = b"""<?xml version="1.0"?><ListBucketResult><Name>campaign</Name><KeyCount>1</KeyCount><IsTruncated>false
</IsTruncated><Contents><Key>big.csv</Key><Size>10</Size><LastModified>2026-11-24T00:00:00Z</LastModified></Contents>
</ListBucketResult>"""


class _Liar(BaseHTTPRequestHandler):
    """An object store that lists 10 bytes and sends megabytes, in chunks, without end."""

    protocol_version = "HTTP/1.1"
    sent = 0

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        if "list-type" in self.path:
            self.send_header("Content-Length", str(len(LISTED)))
            self.end_headers()
            self.wfile.write(LISTED)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunk = b"%x\r\n" % MEGABYTE + bytes(MEGABYTE) + b"\r\n"
        try:
            for _ in range(300):
                self.wfile.write(chunk)
                type(self).sent += 1
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass


BLOBS = b"""<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="box"><Blobs><Blob>
<Name>big.csv</Name><Properties><Content-Length>10</Content-Length><Last-Modified>Tue, 24 Nov 2026 00:00:00 GMT
</Last-Modified><BlobType>BlockBlob</BlobType></Properties></Blob></Blobs><NextMarker/></EnumerationResults>"""


class _Blobs(BaseHTTPRequestHandler):
    """Azure's Blob Storage, with one small blob; it sends what `body` says."""

    protocol_version = "HTTP/1.1"
    body = b"a,b\n1,2\n3\n"
    more: ClassVar[dict[str, str]] = {}
    has_length = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        lists = "comp=list" in self.path
        content = BLOBS if lists else self.body
        self.send_response(200 if lists or self.command == "HEAD" else 206)
        headers = {"Last-Modified": "Tue, 24 Nov 2026 00:00:00 GMT", "ETag": '"1"', "x-ms-blob-type": "BlockBlob"}
        headers["Content-Type"] = "application/xml" if lists else "text/csv"
        if not lists:
            headers |= {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}", **self.more}
        if lists or self.has_length or self.command == "HEAD":
            headers["Content-Length"] = "10" if self.command == "HEAD" else str(len(content))
        else:
            headers["Transfer-Encoding"] = "chunked"
            content = b"%x\r\n" % MEGABYTE + bytes(MEGABYTE) + b"\r\n0\r\n\r\n"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            with suppress(OSError):
                self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def fetch(place: Place, file: str, storage: Path, max_bytes: int) -> None:
    options = TransferFileOptions(place=place, file=file, folder="in", max_bytes=max_bytes)
    transfer(options, Surroundings(storage, ALLOWED), NOW)


def test_an_object_store_that_sends_more_than_it_says_is_cut_off(tmp_path: Path) -> None:
    with serving(_Liar) as url:
        place = S3Bucket(bucket="campaign", access_key="k", secret_key="s", region="us-east-1", endpoint_url=url)
        with pytest.raises(TransferFailed, match="the file has more than 1048576 bytes"):
            fetch(place, "big.csv", tmp_path, MEGABYTE)
    assert _Liar.sent < 100, "the connection is closed soon after the limit"
    assert not list((tmp_path / "in").iterdir())


def test_an_object_store_that_falls_silent_is_not_waited_for(tmp_path: Path) -> None:
    silent = threading.Event()

    class Silent(_Liar):
        def do_GET(self) -> None:
            if "list-type" in self.path:
                super().do_GET()
            else:
                silent.wait(60)

    with serving(Silent) as url:
        place = S3Bucket(
            bucket="campaign",
            access_key="k",
            secret_key="s",
            region="us-east-1",
            endpoint_url=url,
            timeout_seconds=0.5,
        )
        try:
            with pytest.raises(TransferFailed, match=r"the file was not done within 0\.5 seconds") as failed:
                fetch(place, "big.csv", tmp_path, MEGABYTE)
        finally:
            silent.set()
    assert failed.value.retryable


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("gzip", "the file has more than 1048576 bytes"),
        ("gzip, gzip", "the encoding 'gzip, gzip' is not taken, only gzip"),
        ("br", "the encoding 'br' is not taken"),
    ],
)
def test_a_web_server_cannot_send_gigabytes_in_kilobytes(
    https_server: tuple[HttpsServer, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    says: str,
) -> None:
    server, root = https_server
    body = gzip.compress(bytes(100 * MEGABYTE))
    (root / "bomb").write_bytes(gzip.compress(body) if "," in encoding else body)
    with_length = SimpleHTTPRequestHandler.end_headers

    def encoded(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_header("Content-Encoding", encoding)
        with_length(handler)

    monkeypatch.setattr(SimpleHTTPRequestHandler, "end_headers", encoded)
    with pytest.raises(TransferFailed, match=says):
        fetch(server, "bomb", tmp_path / "storage", MEGABYTE)
    assert not list((tmp_path / "storage" / "in").iterdir())


def container_at(url: str) -> AzureContainer:
    address = f"{url}/{AZURITE_ACCOUNT}"
    return AzureContainer(account=AZURITE_ACCOUNT, account_key=AZURITE_KEY, container="box", endpoint_url=address)


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({"body": bytes(2 * MEGABYTE)}, "the file has more than 1048576 bytes"),
        (
            {"body": gzip.compress(bytes(100 * MEGABYTE)), "more": {"Content-Encoding": "gzip"}},
            "has more than 1048576",
        ),
        ({"body": bytes(33 * MEGABYTE)}, "comes in a range that is longer"),
        ({"has_length": False}, "comes in a range that is longer"),
    ],
    ids=["more", "bomb", "long range", "no length"],
)
def test_blob_storage_that_sends_more_than_it_says_is_cut_off(
    tmp_path: Path, server: dict[str, object], says: str
) -> None:
    with serving(type("Server", (_Blobs,), server)) as url:
        place = container_at(url)
        with pytest.raises(TransferFailed, match=says):
            fetch(place, "big.csv", tmp_path, MEGABYTE)
    assert not list((tmp_path / "in").iterdir())


def test_a_blob_within_its_limits_comes_whole(tmp_path: Path) -> None:
    with serving(_Blobs) as url:
        place = container_at(url)
        fetch(place, "big.csv", tmp_path, MEGABYTE)
    assert (tmp_path / "in" / "big.csv").read_bytes() == _Blobs.body
