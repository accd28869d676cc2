"""A bucket of S3, or of a service that speaks its language, as a place."""

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

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
from tasks.http.loop import guarded_loop


class S3Bucket(Place):
    """A bucket of S3. Without keys the worker's own role is used."""

    kind: Literal["s3"] = Field(default="s3", title="Kind", description="A bucket of S3.")
    bucket: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", title="Bucket", description="Name of the bucket."
    )
    access_key: SecretStr | None = Field(default=None, title="Access key", description="Never shown.")
    secret_key: SecretStr | None = Field(default=None, title="Secret key", description="Never shown.")
    region: str = Field(
        default="",
        pattern=r"^[a-z0-9-]*$",
        title="Region",
        description="Region of the bucket; empty leaves it to the client.",
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

    def session(self, surroundings: Surroundings) -> PlaceSession:
        """A client of the bucket. Errors: `ExtraMissing`, `UrlNotSecure`, `HostNotAllowed`."""
        if self.endpoint_url:
            check_endpoint(self.endpoint_url, surroundings.allowed_hosts)
            if self.access_key is None:
                raise TransferFailed(
                    where=self.shown, reason="it has no keys, and the worker's role is for Amazon's service only"
                )
        s3fs = extra_module("s3fs", extra="s3", purpose="S3")
        with transfer_errors(self.shown):
            files = s3fs.S3FileSystem(
                **self._keys(),
                endpoint_url=self.endpoint_url or None,
                loop=guarded_loop(surroundings.allowed_hosts),
                client_kwargs={"region_name": self.region} if self.region else {},
                max_concurrency=1,  # a part of several is held whole, however large it comes
                skip_instance_cache=True,
                use_listings_cache=False,
            )
        return FilesystemSession(
            files,
            f"{self.bucket}/{self.folder}".rstrip("/"),
            self.shown,
            has_folders=False,
            seconds=self.timeout_seconds,
        )

    @model_validator(mode="after")
    def _has_both_keys_or_none(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("an access key and a secret key go together")
        return self

    def _keys(self) -> dict[str, str | None]:
        if self.access_key is not None and self.secret_key is not None:
            return {"key": self.access_key.get_secret_value(), "secret": self.secret_key.get_secret_value()}
        # Asked for here: the worker's role is told by an address of its cloud, which the guard lets no place reach.
        found = extra_module("botocore.session", extra="s3", purpose="S3").Session().get_credentials()
        if found is None:
            raise TransferFailed(where=self.shown, reason="it has no keys, and the worker has no role")
        keys = found.get_frozen_credentials()
        return {"key": keys.access_key, "secret": keys.secret_key, "token": keys.token}
