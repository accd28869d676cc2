"""A container of Azure Blob Storage as a place."""

import asyncio
from pathlib import Path
from typing import Any, Literal

from fsspec.asyn import sync  # type: ignore[import-untyped]
from pydantic import Field, SecretStr

from tasks.errors import TransferFailed
from tasks.extras import extra_module
from tasks.files.remote.place import (
    FilesystemSession,
    Place,
    PlaceSession,
    Surroundings,
    check_endpoint,
    transfer_errors,
)
from tasks.http.bounded import BoundedReader, Clock, Damaged
from tasks.http.loop import guarded_loop

LONGEST_RANGE = 32 * 1024 * 1024
"""Azure's client asks for no larger range at once, and holds what it gets."""


class AzureContainer(Place):
    """A container of Azure Blob Storage. Without a key the worker's own identity is used."""

    kind: Literal["azure"] = Field(default="azure", title="Kind", description="A container of Azure Blob Storage.")
    account: str = Field(
        pattern=r"^[a-z0-9]{1,24}$", title="Account", description="Name of the storage account, never a host."
    )
    container: str = Field(
        pattern=r"^[a-z0-9$][a-z0-9-]{0,62}$", title="Container", description="Name of the container."
    )
    account_key: SecretStr | None = Field(default=None, title="Account key", description="Never shown.")
    endpoint_url: str = Field(
        default="",
        pattern=r"^[^;\s]*$",
        title="Endpoint URL",
        description="Address of another service than Azure's own; https, or http to a host that is allowed.",
    )

    @property
    def shown(self) -> str:
        """Account, container and folder."""
        return f"az://{self.account}/{self.container}/{self.folder}"

    def _workers_identity(self) -> "WorkersIdentity":
        identity = extra_module("azure.identity", extra="azure", purpose="Azure Blob Storage")
        return WorkersIdentity(identity.DefaultAzureCredential())

    def _connection_string(self) -> str | None:
        """How the client is told of another address than that of the account's name."""
        if not self.endpoint_url or self.account_key is None:
            return None
        return (
            f"AccountName={self.account};AccountKey={self.account_key.get_secret_value()};"
            f"BlobEndpoint={self.endpoint_url};"
        )

    def session(self, surroundings: Surroundings) -> PlaceSession:
        """A client of the container. Errors: `ExtraMissing`, `UrlNotSecure`, `HostNotAllowed`."""
        if self.endpoint_url:
            check_endpoint(self.endpoint_url, surroundings.allowed_hosts)
            if self.account_key is None:
                raise TransferFailed(
                    where=self.shown, reason="it has no key, and the worker's identity is for Azure's service only"
                )
        adlfs = extra_module("adlfs", extra="azure", purpose="Azure Blob Storage")
        with transfer_errors(self.shown):
            files = adlfs.AzureBlobFileSystem(
                account_name=self.account,
                account_key=self.account_key.get_secret_value() if self.account_key else None,
                connection_string=self._connection_string(),
                credential=None if self.account_key else self._workers_identity(),
                loop=guarded_loop(surroundings.allowed_hosts),
                anon=False,
                skip_instance_cache=True,
                use_listings_cache=False,
            )
        return AzureSession(
            files,
            f"{self.container}/{self.folder}".rstrip("/"),
            self.shown,
            has_folders=False,
            seconds=self.timeout_seconds,
        )


class WorkersIdentity:
    """The worker's own identity, asked for outside the guard: its cloud tells it by an address of its own."""

    def __init__(self, credential: Any) -> None:  # noqa: ANN401
        self._credential = credential

    async def get_token(self, *scopes: str, **options: Any) -> Any:  # noqa: ANN401
        """A token, as Azure's client asks for it."""
        return await asyncio.to_thread(self._credential.get_token, *scopes, **options)

    async def close(self) -> None:
        """End it."""
        await asyncio.to_thread(self._credential.close)


class AzureSession(FilesystemSession):
    """A session with a container. Its client reads ranges whole, so each range is checked before it is read."""

    def _fetch(self, path: str, target: Path, max_bytes: int, clock: Clock) -> None:
        sync(self._files.loop, self._fetched, path, target, max_bytes, clock, timeout=self._seconds)

    async def _fetched(self, path: str, target: Path, max_bytes: int, clock: Clock) -> None:
        container, _, name = path.partition("/")
        blob = self._files.service_client.get_blob_client(container, name)
        stream = await blob.download_blob(raw_response_hook=check_range, max_concurrency=1, decompress=False)
        encoding = stream.properties.content_settings.content_encoding or ""
        reader = BoundedReader(max_bytes, encoding=encoding, clock=clock)
        with target.open("wb") as file:
            async for chunk in stream.chunks():
                file.writelines(reader.decoded(chunk))
        reader.finish()


def check_range(response: Any) -> None:  # noqa: ANN401
    """Check, before it is read, that a range is no longer than any that is asked for. Errors: `Damaged`."""
    length = response.http_response.headers.get("Content-Length", "")
    if not length.isdecimal() or int(length) > LONGEST_RANGE:
        raise Damaged("comes in a range that is longer than the one that was asked for")
