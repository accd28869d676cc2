"""A container of Azure Blob Storage as a place."""

from typing import Literal

from pydantic import Field, SecretStr

from tasks.extras import extra_module
from tasks.files.remote.place import (
    FilesystemSession,
    Place,
    Session,
    Surroundings,
    check_endpoint,
    transfer_errors,
)


class AzureContainer(Place):
    """A container of Azure Blob Storage. Without a key the worker's own identity is used."""

    kind: Literal["azure"] = Field(default="azure", title="Kind", description="A container of Azure Blob Storage.")
    account: str = Field(min_length=1, title="Account", description="Name of the storage account.")
    container: str = Field(min_length=1, title="Container", description="Name of the container.")
    account_key: SecretStr | None = Field(default=None, title="Account key", description="Never shown.")
    endpoint_url: str = Field(
        default="",
        title="Endpoint URL",
        description="Address of another service than Azure's own; https, or http to a host that is allowed.",
    )

    @property
    def shown(self) -> str:
        """Account, container and folder."""
        return f"az://{self.account}/{self.container}/{self.folder}"

    def _connection_string(self) -> str | None:
        """How the client is told of another address than that of the account's name."""
        if not self.endpoint_url or self.account_key is None:
            return None
        return (
            f"AccountName={self.account};AccountKey={self.account_key.get_secret_value()};"
            f"BlobEndpoint={self.endpoint_url};"
        )

    def session(self, surroundings: Surroundings) -> Session:
        """A client of the container. Errors: `ExtraMissing`, `UrlNotSecure`, `HostNotAllowed`."""
        if self.endpoint_url:
            check_endpoint(self.endpoint_url, surroundings.allowed_hosts)
        adlfs = extra_module("adlfs", extra="azure", purpose="Azure Blob Storage")
        with transfer_errors(self.shown):
            files = adlfs.AzureBlobFileSystem(
                account_name=self.account,
                account_key=self.account_key.get_secret_value() if self.account_key else None,
                connection_string=self._connection_string(),
                anon=False,
                skip_instance_cache=True,
                use_listings_cache=False,
            )
        return FilesystemSession(
            files, f"{self.container}/{self.folder}".rstrip("/"), self.shown, has_folders=False
        )
