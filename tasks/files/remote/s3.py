"""A bucket of S3, or of a service that speaks its language, as a place."""

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


class S3Bucket(Place):
    """A bucket of S3. Without keys the worker's own role is used."""

    kind: Literal["s3"] = Field(default="s3", title="Kind", description="A bucket of S3.")
    bucket: str = Field(min_length=3, title="Bucket", description="Name of the bucket.")
    access_key: SecretStr | None = Field(default=None, title="Access key", description="Never shown.")
    secret_key: SecretStr | None = Field(default=None, title="Secret key", description="Never shown.")
    region: str = Field(
        default="", title="Region", description="Region of the bucket; empty leaves it to the client."
    )
    endpoint_url: str = Field(
        default="",
        title="Endpoint URL",
        description="Address of another service than Amazon's; https, or http to a host that is allowed.",
    )

    @property
    def shown(self) -> str:
        """Bucket and folder."""
        return f"s3://{self.bucket}/{self.folder}"

    def session(self, surroundings: Surroundings) -> Session:
        """A client of the bucket. Errors: `ExtraMissing`, `UrlNotSecure`, `HostNotAllowed`."""
        if self.endpoint_url:
            check_endpoint(self.endpoint_url, surroundings.allowed_hosts)
        s3fs = extra_module("s3fs", extra="s3", purpose="S3")
        with transfer_errors(self.shown):
            files = s3fs.S3FileSystem(
                key=self.access_key.get_secret_value() if self.access_key else None,
                secret=self.secret_key.get_secret_value() if self.secret_key else None,
                endpoint_url=self.endpoint_url or None,
                client_kwargs={"region_name": self.region} if self.region else {},
                max_concurrency=1,  # a part of several is held whole, however large it comes
                skip_instance_cache=True,
                use_listings_cache=False,
            )
        return FilesystemSession(files, f"{self.bucket}/{self.folder}".rstrip("/"), self.shown, has_folders=False)
