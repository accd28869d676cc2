"""Settings that hold for every campaign, from the environment (prefix `CAMPAIGN_`, nested by `__`) and `.env`.

`flows.settings.CampaignSettings` adds the campaigns' own to these; together they are the whole surface, listed
with defaults in `.env.example`.
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tasks.errors import ConfigurationError

PREFIX = "CAMPAIGN_"
DELIMITER = "__"


class NetworkSettings(BaseModel):
    """What activities may reach. The operator's word: no campaign or form can widen it."""

    model_config = ConfigDict(extra="forbid")

    allowed_hosts: frozenset[str] = Field(
        default=frozenset(),
        title="Allowed hosts",
        description=(
            "Hosts (name or address, with or without :port) that may be reached although they are loopback,"
            " private or an address literal. A JSON list; empty allows none."
        ),
    )


class StorageSettings(BaseModel):
    """The folder in which activities read and write files: the only one."""

    model_config = ConfigDict(extra="forbid")

    folder: Path = Field(
        default=Path("storage"),
        title="Storage folder",
        description="Folder of the files that Transfer file, Load file and Extract file work with, and no other.",
    )


class JournalSettings(BaseModel):
    """Where the journal of deliveries is kept, and how long a silent sender is believed to be alive."""

    model_config = ConfigDict(extra="forbid")

    url: SecretStr = Field(
        default=SecretStr("sqlite:///journal.db"),
        title="Journal",
        description=(
            "Database of the journal: sqlite:///file, for senders on one machine, or"
            " postgresql://user:password@host/database, for senders on many (extra: postgresql)."
        ),
    )
    lease_seconds: float = Field(
        default=30,
        gt=0,
        title="Lease",
        description="How long a sender that is not heard of keeps its claims; then their fate is unknown.",
    )
    patience_seconds: float = Field(
        default=60,
        ge=0,
        title="Patience",
        description="How long a sender waits for a journal that is locked, full or away before it gives up.",
    )


class Settings(BaseSettings):
    """What every activity may need to know about where it runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )

    network: NetworkSettings = NetworkSettings()
    storage: StorageSettings = StorageSettings()
    journal: JournalSettings = JournalSettings()

    @classmethod
    def load(cls) -> Self:
        """Read the settings. Errors: `ConfigurationError`, naming the variable, never its value."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            variable = PREFIX + DELIMITER.join(str(part) for part in first["loc"]).upper()
            raise ConfigurationError(setting=variable, reason=first["msg"]) from None
        except SettingsError as error:
            # The text names the field; its cause could quote the value, so it is left out.
            raise ConfigurationError(setting=f"{PREFIX}*", reason=str(error)) from None
