"""A web server as a place: files are looked for and downloaded, over the guarded transport."""

from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal, TypeVar

import anyio
import anyio.from_thread
import httpcore
import httpx
from pydantic import Field, SecretStr

from tasks.errors import TransferFailed, is_retryable_status
from tasks.files.remote.place import (
    WILDCARDS,
    Place,
    PlaceSession,
    RemoteFile,
    Surroundings,
    plain_name,
    transfer_errors,
)
from tasks.http.bounded import BoundedReader
from tasks.http.certificates import AuthorityFile, trusted_certificates
from tasks.http.network import GuardedTransport, check_url, public_url

T = TypeVar("T")


class HttpsServer(Place):
    """A web server. It has no lists: a file is named in full."""

    kind: Literal["https"] = Field(default="https", title="Kind", description="A web server, https only.")
    url: str = Field(title="URL", description="Address that the folder and the file's name are put after.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, title="Request headers", description="Such as an API key. Values are never shown."
    )
    ca_file: AuthorityFile = None

    @property
    def shown(self) -> str:
        """The address without credentials."""
        return public_url(self.url)

    def session(self, surroundings: Surroundings) -> PlaceSession:
        """A client of the server. Errors: `UrlUnparsable`, `UrlNotSecure`, `HostNotAllowed`."""
        check_url(self.url, surroundings.allowed_hosts)
        return HttpsSession(self, surroundings.allowed_hosts)


class HttpsSession(PlaceSession):
    """A session with a web server. Redirects are not followed; proxies of the environment are not used."""

    def __init__(self, server: HttpsServer, allowed_hosts: frozenset[str]) -> None:
        self._server = server
        self._allowed_hosts = allowed_hosts

    def found(self, pattern: str) -> list[RemoteFile]:
        """The file of a full name, if the server has it."""
        if WILDCARDS.intersection(pattern):
            raise TransferFailed(
                where=self._server.shown,
                reason=f"a web server has no list to look for '{pattern}' in; name one file",
            )

        async def look(client: httpx.AsyncClient) -> list[RemoteFile]:
            answer = await client.head(self._url(pattern))
            if answer.status_code in {404, 410}:
                return []
            self._check(answer)
            return [_remote_file(pattern, answer)]

        return self._exchange(look)

    def download(self, name: str, target: Path, max_bytes: int) -> None:
        """Write the answer's decoded body to `target`."""

        async def fetch(client: httpx.AsyncClient) -> None:
            async with client.stream("GET", self._url(name)) as answer:
                self._check(answer)
                reader = BoundedReader(max_bytes, encoding=answer.headers.get("Content-Encoding", ""))
                with target.open("wb") as file:
                    async for part in answer.aiter_raw():
                        file.writelines(reader.decoded(part))
                reader.finish()

        self._exchange(fetch)

    def upload(self, source: Path, name: str) -> None:  # noqa: ARG002  # the session's shape
        """Refused: what a web server does with an upload is its own."""
        raise TransferFailed(where=self._server.shown, reason=f"'{source.name}' cannot be uploaded to a web server")

    def delete(self, name: str) -> None:
        """Refused, as an upload is."""
        raise TransferFailed(where=self._server.shown, reason=f"'{name}' cannot be deleted from a web server")

    def _url(self, name: str) -> str:
        base = httpx.URL(self._server.url)
        parts = [base.path.rstrip("/"), self._server.folder.strip("/"), plain_name(name)]
        return str(base.copy_with(path="/".join(part for part in parts if part or part is parts[0])))

    def _check(self, answer: httpx.Response) -> None:
        if not answer.is_success:
            status = answer.status_code
            raise TransferFailed(
                where=self._server.shown,
                reason=f"HTTP - {status}",
                retryable=is_retryable_status(status),
            )

    def _exchange(self, exchange: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
        context = trusted_certificates(self._server.ca_file)
        headers = {name: value.get_secret_value() for name, value in self._server.headers.items()}

        async def run() -> T:
            with anyio.fail_after(self._server.timeout_seconds):
                async with httpx.AsyncClient(
                    transport=GuardedTransport(context, self._allowed_hosts),
                    headers={"Accept-Encoding": "gzip", **headers},
                    follow_redirects=False,
                    trust_env=False,
                    timeout=None,  # noqa: S113  # httpx's timeouts are per read; `fail_after` is the one clock
                ) as client:
                    return await exchange(client)

        with transfer_errors(self._server.shown):
            try:
                with anyio.from_thread.start_blocking_portal() as portal:
                    return portal.call(run)
            except (TimeoutError, httpcore.TimeoutException):
                reason = f"it was not done within {self._server.timeout_seconds:g} seconds"
                raise TransferFailed(where=self._server.shown, reason=reason, retryable=True) from None
            except (httpcore.NetworkError, httpcore.ProtocolError) as error:
                raise TransferFailed(where=self._server.shown, reason=str(error), retryable=True) from None


def _remote_file(name: str, answer: httpx.Response) -> RemoteFile:
    length = answer.headers.get("Content-Length", "0")
    try:
        moment = parsedate_to_datetime(answer.headers["Last-Modified"])
    except (KeyError, ValueError):
        moment = None
    return RemoteFile(
        name,
        int(length) if length.isdecimal() else 0,
        None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC),
    )
