"""Places that send more than they say, or less than it becomes: a download ends at its limit."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks.data_management.transfer_file import TransferFileOptions, transfer
from tasks.errors import TransferFailed
from tasks.files.remote.https import HttpsServer
from tasks.files.remote.place import Place, Surroundings
from tasks.files.remote.s3 import S3Bucket
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
