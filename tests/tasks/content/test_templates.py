"""Templates of an object store, as whoever writes them there sees them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

from tasks.content.personalization import TemplateFolder, read_templates
from tasks.errors import ExtraMissing, TemplatesInvalid, TemplatesUnreadable, TransferFailed

FILES = {
    "subject.txt": "Hello",
    "body.html": "{% include 'parts/head.html' %}<p>Hi</p>",
    "body.txt": "Hi",
    "parts/head.html": "<b>Head</b>",
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A bucket of moto's S3 server on loopback, which the client finds by its own settings."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="mails")
    yield client
    server.stop()


def put(client: object, **files: str) -> None:
    for name, text in files.items():
        client.put_object(Bucket="mails", Key=f"birthday/{name}", Body=text.encode())


def test_templates_of_a_bucket_are_those_that_were_put_there(bucket: object) -> None:
    put(bucket, **FILES)
    templates = read_templates(TemplateFolder(folder=Path("unused"), url="s3://mails/birthday"))
    assert templates.sources == FILES


def test_what_is_wrong_with_them_is_told_by_their_address(bucket: object) -> None:
    put(bucket, **{**FILES, "body.txt": "{% if %}"})
    with pytest.raises(TemplatesInvalid, match=r"in 's3://mails/birthday'.*body.txt, line 1"):
        read_templates(TemplateFolder(folder=Path("unused"), url="s3://mails/birthday"))
    with pytest.raises(TemplatesUnreadable, match=r"'s3://mails/none/subject.txt' cannot be read"):
        read_templates(TemplateFolder(folder=Path("unused"), url="s3://mails/none"))


def test_a_store_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, bucket: object) -> None:
    with pytest.raises((TransferFailed, TemplatesUnreadable), match="s3://nowhere/birthday"):
        read_templates(TemplateFolder(folder=Path("unused"), url="s3://nowhere/birthday"))


def test_an_address_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ExtraMissing, match=r"campaign-flows\[s3\]"):
        read_templates(TemplateFolder(folder=Path("unused"), url="s3://mails/birthday"))


@pytest.mark.parametrize("url", ["https://mails.example/birthday", "file:///etc", "s3://"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        TemplateFolder(folder=Path("unused"), url=url)
