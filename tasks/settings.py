"""Settings that hold for every campaign, from the environment (prefix `CAMPAIGN_`, nested by `__`) and `.env`.

`flows.settings.CampaignSettings` adds the campaigns' own to these; together they are the whole surface, listed
with defaults in `.env.example`.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from tasks.errors import CampaignError, ConfigurationError, ParameterInvalid

Model = TypeVar("Model", bound=BaseModel)
PREFIX = "CAMPAIGN_"
DELIMITER = "__"
SHORTEST_SECRET = 16
OF_COMPOSE = frozenset({"DATABASE_PASSWORD", "ENCRYPTION_KEY", "LOGIN", "REDIS_PASSWORD"})
"""What only `deployments/compose.yaml` reads; it may stand in the same .env."""
UNSUBSCRIBE_PAGE = re.compile(r"(?:https://|http://(?:127\.0\.0\.1|localhost)[:/])[!-;=?-~]+")
"""Without TLS on this machine only."""


PROXY = re.compile(r"https?://[!-.0-~]+(?::[0-9]+)?/?")
"""Address of a proxy; its user name and password are percent-encoded."""


class BreakerSettings(BaseModel):
    """When a partner's host is left alone for a while."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: int = Field(
        default=10,
        ge=0,
        le=100,
        title="Failures",
        description=(
            "After so many failures of a host (no connection, no answer in time, 5xx) within the minutes it is not"
            " called for the pause, by any run; 0: it always is."
        ),
    )
    minutes: float = Field(default=5, gt=0, title="Minutes", description="In which the failures are counted.")
    pause_seconds: float = Field(
        default=60, gt=0, title="Pause", description="How long the host is left alone after the last failure."
    )


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
    breaker: BreakerSettings = Field(default=BreakerSettings(), title="Breaker")
    proxy: SecretStr = Field(
        default=SecretStr(""),
        title="Proxy",
        description=(
            "Proxy for HTTPS (partners, providers, places of files), http://user:password@proxy.example:3128. It"
            " resolves names, so that hosts are checked by name and their addresses are not. Mailboxes, SFTP and"
            " object stores do not use it. Empty: none; proxies of the environment are never used."
        ),
    )
    no_proxy: frozenset[str] = Field(
        default=frozenset(),
        title="Without proxy",
        description="Hosts (with or without :port) that are reached directly all the same. A JSON list.",
    )
    endpoint_blocks: bool = Field(
        default=False,
        title="Blocks of endpoints are the operator's",
        description=(
            "Whether only the operator can make Prefect blocks, so that an Endpoint block is like an endpoint of"
            " the settings. If not, it may do only what one that is described in parameters may."
        ),
    )

    @field_validator("proxy")
    @classmethod
    def _is_an_address(cls, proxy: SecretStr) -> SecretStr:
        if proxy.get_secret_value() and not PROXY.fullmatch(proxy.get_secret_value()):
            raise ValueError("the proxy is not an address like http://proxy.example:3128")
        return proxy


class StorageSettings(BaseModel):
    """The folder in which activities read and write files: the only one."""

    model_config = ConfigDict(extra="forbid")

    folder: Path = Field(
        default=Path("storage"),
        title="Storage folder",
        description="Folder of the files that Transfer file, Load file and Extract file work with, and no other.",
    )


class KeptSettings(BaseModel):
    """Where the files are that campaigns keep between runs."""

    model_config = ConfigDict(extra="forbid")

    folder: Path | None = Field(
        default=None,
        title="Folder of kept files",
        description=(
            "Whole path of the folder with saved audiences (audiences) and with the members of incremental queries"
            " (histories). Empty: campaigns below Prefect's home."
        ),
    )

    @field_validator("folder")
    @classmethod
    def _is_whole(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_absolute():
            raise ValueError("it is not a whole path, so it would depend on the working folder")
        return folder


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
    code_lease_hours: float = Field(
        default=24,
        gt=0,
        title="Lease of codes",
        description="How long a pool's code stays reserved for a message that no run begins to send.",
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
    kept: KeptSettings = KeptSettings()
    journal: JournalSettings = JournalSettings()
    unsubscribe: UnsubscribeSettings = UnsubscribeSettings()
    engine: EngineSettings = EngineSettings()
    partitions: PartitionOptions = PartitionOptions()

    are_all: ClassVar[bool] = False
    """Whether no other setting exists: a variable with the prefix that is none of these is then an error."""

    @classmethod
    def load(cls) -> Self:
        """Read the settings. Errors: `ConfigurationError`, naming the variable, never its value."""
        for fault in cls._unknown():
            raise fault
        try:
            return cls()
        except (ValidationError, SettingsError) as error:
            raise cls._faults_of(error)[0] from None

    @classmethod
    def faults(cls) -> list[CampaignError]:
        """All that is wrong in the settings; empty where they can be used."""
        try:
            cls()
        except (ValidationError, SettingsError) as error:
            return [*cls._unknown(), *cls._faults_of(error)]
        except CampaignError as error:  # of what a setting leads to, such as a sample
            return [*cls._unknown(), error]
        return list(cls._unknown())

    @classmethod
    def _faults_of(cls, error: ValidationError | SettingsError) -> list[ConfigurationError]:
        """What an error of reading says, by variable. Values are left out: they may be secrets."""
        if isinstance(error, SettingsError):
            return list(cls._not_json()) or [ConfigurationError(setting=f"{PREFIX}*", reason=str(error))]
        return [
            ConfigurationError(
                setting=PREFIX + DELIMITER.join(fault_place(cls, fault)).upper(),
                reason=fault_words(fault),
            )
            for fault in error.errors(include_input=False, include_url=False)
        ]

    @classmethod
    def _not_json(cls) -> Iterator[ConfigurationError]:
        """Variables of lists and mappings that cannot be read: pydantic names the group of settings only."""
        file, environment = DotEnvSettingsSource(cls).env_vars, EnvSettingsSource(cls).env_vars
        for name, value in {**file, **environment}.items():
            alone = EnvSettingsSource(cls)
            alone.env_vars = {name: value}
            try:
                alone()
            except SettingsError:
                reason = 'it is not JSON; write a list as ["a", "b"], a mapping as {"a": "b"}'
                yield ConfigurationError(setting=name.upper(), reason=reason)

    @classmethod
    def _unknown(cls) -> Iterator[ConfigurationError]:
        """Variables with our prefix that no setting has: a wrong name would change nothing, silently."""
        if not cls.are_all:
            return
        sources = (EnvSettingsSource(cls), DotEnvSettingsSource(cls))
        given = sorted({name.upper() for source in sources for name in source.env_vars})
        known = [f"{PREFIX}{name}" for name in (*_variables(cls), *OF_COMPOSE)]
        tops = {name.upper() for name in cls.model_fields} | OF_COMPOSE
        for variable in given:
            rest = variable.removeprefix(PREFIX)
            if rest != variable and rest.partition(DELIMITER)[0] not in tops:
                near = get_close_matches(variable, known, n=1)
                meant = f"; did you mean {near[0]}" if near else ""
                yield ConfigurationError(setting=variable, reason=f"there is no such setting{meant}")


def _variables(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Names of the variables of a model's fields, without our prefix."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _variables(inner, f"{prefix}{name.upper()}{DELIMITER}")
        else:
            yield f"{prefix}{name.upper()}"


def fault_place(model: type[BaseModel], fault: ErrorDetails) -> list[str]:
    """The names that lead to what is wrong; pydantic puts those of a union's choices between them."""
    names: list[str] = []
    kinds: list[Any] = [model]
    for place, part in enumerate(fault["loc"], 1):
        is_last = place == len(fault["loc"])
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        fields = [kind.model_fields[part] for kind in models if part in kind.model_fields]
        values = [get_args(kind)[-1] for kind in kinds if get_origin(kind) in (dict, list, tuple)]
        if fields or values or (is_last and fault["type"] == "extra_forbidden"):
            names.append(str(part))
            kinds = [kind for each in (*(field.annotation for field in fields), *values) for kind in _kinds(each)]
    return names


def _kinds(annotation: Any) -> list[Any]:  # noqa: ANN401
    """The choices of a type."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in _kinds(each)]
    return [annotation]


def fault_words(fault: ErrorDetails) -> str:
    """What pydantic says; where a validator of ours says it, its words alone."""
    return str(fault.get("ctx", {}).get("error") or fault["msg"])


def merged(model: Model, **changes: Any) -> Model:  # noqa: ANN401
    """The model with other values in some fields, validated as a whole: `model_copy` would take any value.

    Errors: `ParameterInvalid`, naming the field, never its value.
    """
    kept = {name: getattr(model, name) for name in model.model_fields_set}
    try:
        return type(model).model_validate({**kept, **changes})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(fault_place(type(model), first)) or type(model).__name__
        raise ParameterInvalid(parameter=field, reason=fault_words(first)) from None
