"""An SFTP server as a place."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr

from tasks.extras import extra_module
from tasks.files.remote.place import FilesystemSession, Place, PlaceSession, Surroundings, transfer_errors
from tasks.http.network import guarded_socket


class SftpServer(Place):
    """An SFTP server, its host key verified, with a password or a private key."""

    kind: Literal["sftp"] = Field(default="sftp", title="Kind", description="An SFTP server.")
    host: str = Field(min_length=1, title="Host", description="Name of the server.")
    port: int = Field(default=22, ge=1, le=65535, title="Port", description="Port of the server.")
    username: str = Field(min_length=1, title="User name", description="Who logs in.")
    password: SecretStr | None = Field(default=None, title="Password", description="Never shown.")
    private_key_file: Path | None = Field(
        default=None, title="Private key file", description="OpenSSH private key, instead of a password."
    )
    passphrase: SecretStr | None = Field(
        default=None, title="Passphrase", description="Of the private key. Never shown."
    )
    known_hosts_file: Path | None = Field(
        default=None,
        title="Known hosts file",
        description="Host keys to trust, as OpenSSH keeps them; empty takes ~/.ssh/known_hosts.",
    )

    @property
    def shown(self) -> str:
        """Host and folder."""
        return f"sftp://{self.host}:{self.port}/{self.folder}"

    def session(self, surroundings: Surroundings) -> PlaceSession:
        """Log in. Errors: `TransferFailed`, `HostNotAllowed`, `ExtraMissing`."""
        sshfs = extra_module("sshfs", extra="sftp", purpose="SFTP")
        with transfer_errors(self.shown):
            connected = guarded_socket(self.host, self.port, surroundings.allowed_hosts, self.timeout_seconds)
        options: dict[str, Any] = {
            "sock": connected,
            "port": self.port,
            "username": self.username,
            # No agent and none of the user's own keys or configuration: what is written here is what is used.
            "agent_path": None,
            "config": None,
            "client_keys": [str(self.private_key_file)] if self.private_key_file else None,
            "known_hosts": str(self.known_hosts_file) if self.known_hosts_file else (),
            "timeout": self.timeout_seconds,
            "skip_instance_cache": True,
        }
        if self.password is not None:
            options["password"] = self.password.get_secret_value()
        if self.passphrase is not None:
            options["passphrase"] = self.passphrase.get_secret_value()
        with transfer_errors(self.shown):
            return FilesystemSession(
                sshfs.SSHFileSystem(self.host, **options),
                self.folder.rstrip("/"),
                self.shown,
                has_folders=True,
                seconds=self.timeout_seconds,
            )
