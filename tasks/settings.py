"""Settings that hold for every campaign, from the environment (prefix `CAMPAIGN_`, nested by `__`) and `.env`.

`flows.settings.CampaignSettings` adds the campaigns' own to these; together they are the whole surface, listed
with defaults in `.env.example`.
"""

import re
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tasks.errors import ConfigurationError, ParameterInvalid

Model = TypeVar("Model", bound=BaseModel)
PREFIX = "CAMPAIGN_"
DELIMITER = "__"
SHORTEST_SECRET = 16
UNSUBSCRIBE_PAGE = re.compile(r"(?:https://|http://(?:127\.0\.0\.1|localhost)[:/])[!-;=?-~]+")
"""Without TLS on this machine only."""


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
    author_hosts: frozenset[str] = Field(
        default=frozenset(),
        title="Hosts of endpoints in parameters",
        description=(
            "Hosts (with or without :port) that endpoints described in a form, YAML or an API call may call. A JSON"
            " list; empty allows none: authors then use the endpoints of the settings."
        ),
    )
    author_columns: frozenset[str] = Field(
        default=frozenset(),
        title="Columns for endpoints in parameters",
        description=(
            "Columns of the audience whose values such an endpoint may be sent, such as zip_code. A JSON list;"
            " empty allows none."
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
        default=SecretStr(""),
        title="Journal",
        description=(
            "Database of the journal: sqlite:////whole/path/file, for senders on one machine, or"
            " postgresql://user:password@host/database, for senders on many (extra: postgresql)."
            " Empty: campaigns/journal.db below Prefect's home."
        ),
    )
    key: SecretStr = Field(
        default=SecretStr(""),
        title="Key",
        description=(
            "Secret of 32 characters or more, by which the journal hashes addresses and names messages; it cannot"
            " be changed later. Empty: made with the journal, and kept in it."
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


class UnsubscribeSettings(BaseModel):
    """The page that unsubscribes, and the secret that signs the links to it."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        default="",
        title="Unsubscribe page",
        description=(
            "https address of deployments/unsubscribe, as people reach it; each message has a signed link to it, in"
            " its header and as campaign.unsubscribe_url. Empty: no link."
        ),
    )
    secret: SecretStr = Field(
        default=SecretStr(""), title="Unsubscribe secret", description="Signs the links; 16 characters or more."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.url:
            if not UNSUBSCRIBE_PAGE.fullmatch(self.url):
                raise ValueError("url is not an https address")
            if len(self.secret.get_secret_value()) < SHORTEST_SECRET:
                raise ValueError(f"secret has fewer than {SHORTEST_SECRET} characters")
        return self


class EngineSettings(BaseModel):
    """What works on the partitions of an audience."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["threads", "dask", "ray"] = Field(
        default="threads",
        title="Engine",
        description=(
            "Where partitions are worked on: threads (of the run's own process), dask or ray (processes of one"
            " machine or of a cluster; extras dask and ray)."
        ),
    )
    address: str = Field(
        default="",
        title="Address",
        description="Address of a Dask or Ray cluster that is there; empty makes one on this machine for the run.",
    )
    workers: int = Field(
        default=2,
        ge=1,
        title="Workers",
        description="Partitions that are worked on at the same time, where no cluster is there that decides it.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.address and self.kind == "threads":
            raise ValueError("an address goes with the engine dask or ray")
        return self


class PartitionOptions(BaseModel):
    """How an audience is divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(
        default=50_000,
        ge=1,
        title="Partition size",
        description="Profiles of one partition. A worker holds the profiles and messages of one at a time.",
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
    unsubscribe: UnsubscribeSettings = UnsubscribeSettings()
    engine: EngineSettings = EngineSettings()
    partitions: PartitionOptions = PartitionOptions()

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


def merged(model: Model, **changes: Any) -> Model:  # noqa: ANN401
    """The model with other values in some fields, validated as a whole: `model_copy` would take any value.

    Errors: `ParameterInvalid`, naming the field, never its value.
    """
    kept = {name: getattr(model, name) for name in model.model_fields_set}
    try:
        return type(model).model_validate({**kept, **changes})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or type(model).__name__
        raise ParameterInvalid(parameter=field, reason=first["msg"]) from None
