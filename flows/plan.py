"""A campaign as data: what the form of the configurable campaign asks for, and what a campaign in YAML says.

Texts of conditions and of parameters may say {business_date}: the day that the run is for, as 2026-11-24.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    TypeAdapter,
    model_validator,
)
from pydantic_core import CoreSchema

from flows.endpoints import asked_on, dated
from flows.settings import CampaignSettings
from tasks.channels.email import EmailOptions, check_placeholder
from tasks.channels.outbox import OutboxOptions
from tasks.characters import forbidden_character
from tasks.content.personalization import TemplateFolder, Templates, read_templates
from tasks.endpoint.authors import described_by_author
from tasks.endpoint.block import KIND
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import CampaignError, OutsideRoot, ParameterInvalid
from tasks.files.roots import check_under
from tasks.forms import AsChoice
from tasks.messages.senders import check_sender
from tasks.settings import merged
from tasks.sources.files import ProfileFile
from tasks.tables.relations import Relation
from tasks.tables.transitions import quoted, require_columns
from tasks.targeting.enrichment import EnrichmentOptions
from tasks.targeting.query import QueryOptions

TEMPLATE_PARTS = ("subject", "html", "text")
CAMPAIGNS_HERE = frozenset({"birthday-coupons", "match-day", "latest-offers", "regional-weather"})
"""Names under which the flows here deliver: no campaign of parameters may have one of them."""
LINES = frozenset({"where", "fields", "html", "text", "sample", "params"})
"""Parameters whose texts may have several lines."""


class Recipients(BaseModel):
    """Who may get a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Audience")

    source: ProfileFile | None = Field(
        default=None,
        title="Source",
        description="Where the profiles are. Left out: where the settings (CAMPAIGN_PROFILES) say.",
    )
    where: str = Field(
        default="may_contact AND TRIM(email) <> ''",
        title="Filter",
        description=(
            "SQL condition over the profiles' columns; DATE '{business_date}' is the day of the run. For example"
            " city = 'Paris' AND may_contact."
        ),
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        title="Simple fields",
        description="Columns to add, {name: SQL expression}, for example {initial: LEFT(first_name, 1)}.",
    )

    def query_on(self, day: date, profiles: ProfileFile) -> QueryOptions:
        """The query of a day; `profiles` is the source where none is given."""
        return QueryOptions(source=self.source or profiles, where=dated(self.where, day), fields=self.fields)

    def makes(self, column: str, profiles: ProfileFile) -> bool:
        """Whether a column of this name holds what is said here, and not what the operator's `profiles` call so."""
        source = self.source or profiles
        return column in self.fields or source.columns.get(column, column) != profiles.columns.get(column, column)


EVERYONE = Recipients()
"""Who is addressed where nothing is said."""


class OwnEndpoint(Endpoint):
    """An endpoint that is described here, not in the settings."""

    model_config = ConfigDict(title="Endpoint described here")

    url: str = Field(
        default="",
        title="URL",
        description="https address on a host that the operator names (CAMPAIGN_NETWORK__AUTHOR_HOSTS).",
    )
    ca_file: Path | None = Field(
        default=None,
        title="Certificate authority file",
        description="PEM file of the authorities to trust; only one that an endpoint of the settings trusts.",
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict,
        max_length=0,
        title="Request headers",
        description="None: whoever sees a run sees its parameters. Secrets belong in an external account.",
    )


class _NamedInSettings:
    """The form offers the endpoints of the settings, and says which columns each gives."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        columns = {name: ", ".join(given) for name, given in columns_there().items()}
        gives = "; ".join(f"{name}: {given}" for name, given in columns.items())
        return {**handler(core), "enum": list(columns), "description": f"What each gives: {gives}."}


def columns_there() -> dict[str, list[str]]:
    """The settings' endpoints by name, each with the columns that it gives; where they are wrong, the defaults'."""
    try:
        settings = CampaignSettings.load()
    except CampaignError:
        settings = CampaignSettings.model_construct()
    someday = date(2026, 1, 1)
    return {name: list(settings.endpoint_on(name, someday).outbound.columns) for name in settings.all_endpoints}


def _is_there(name: str) -> str:
    there = columns_there()
    if name not in there:
        raise ValueError(f"there is no endpoint '{name}' in the settings, only {quoted(there)}")
    return name


class JoinedContent(Relation):
    """Campaign-wide content from an endpoint, joined to the audience."""

    model_config = ConfigDict(title="Content")

    endpoint: (
        Annotated[str, AfterValidator(_is_there), _NamedInSettings(), Field(title="Endpoint of the settings")]
        | Annotated[str, Field(title="Endpoint block", pattern=rf"^{KIND}/.+$")]
        | OwnEndpoint
    ) = Field(
        title="Endpoint",
        description=(
            "Where the content comes from: an endpoint of the settings by its name, a block as endpoint/<name>, or"
            " one that is described here. If it has inbound columns, their distinct values in the audience are"
            " sent."
        ),
    )

    @model_validator(mode="after")
    def _joins_what_is_read(self) -> "JoinedContent":
        if isinstance(self.endpoint, OwnEndpoint):
            _require_read(self, self.endpoint)
        return self

    def endpoint_on(self, day: date, settings: CampaignSettings, audience: Recipients) -> Endpoint:
        """The endpoint as it is asked on a day, for an audience.

        Errors: `ColumnsMissing` (the join needs what it does not give); those of `described_by_author`.
        """
        if not isinstance(self.endpoint, OwnEndpoint):
            found = settings.endpoint_on(self.endpoint, day)
            if self.endpoint.startswith(f"{KIND}/") and not settings.network.endpoint_blocks:
                self._check_as_authors(found, settings, audience)
            require_columns(
                pl.DataFrame(schema=list(found.outbound.columns)),
                self.on.values(),
                activity=f"The join of '{self.name}'",
                where=f"the endpoint '{found.name}'",
            )
            return found
        described = asked_on(self.endpoint, day)
        self._check_as_authors(described, settings, audience)
        return described

    @staticmethod
    def _check_as_authors(endpoint: Endpoint, settings: CampaignSettings, audience: Recipients) -> None:
        made = [column for column in endpoint.inbound.columns if audience.makes(column, settings.profiles)]
        described_by_author(endpoint, settings, ca_files=settings.ca_files, made=made)

    def relation_on(self, day: date) -> EnrichmentOptions:
        """The join of a day."""
        given = self.model_dump(exclude={"endpoint"})
        return EnrichmentOptions(**{**given, "where": dated(self.where, day)})


def _require_read(content: JoinedContent, endpoint: Endpoint) -> None:
    unread = [name for name in content.on.values() if name not in endpoint.outbound.columns]
    if unread:
        raise ValueError(
            f"on: {quoted(unread)} is no outbound column of the endpoint, which has"
            f" {quoted(endpoint.outbound.columns)}"
        )


def _named_once(contents: list[JoinedContent]) -> list[JoinedContent]:
    repeated = [name for name, times in Counter(content.name for content in contents).items() if times > 1]
    if repeated:
        raise ValueError(f"several contents are named {quoted(repeated)}")
    return contents


Contents = Annotated[list[JoinedContent], AfterValidator(_named_once)]


class WrittenTemplates(BaseModel):
    """Templates that are written here."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Templates written here")

    subject: str = Field(
        default="News for {{ profile.first_name | default('you') }}",
        min_length=1,
        title="Subject",
        description="Jinja: {{ profile.first_name }}, {{ content.coupons.code }}, {{ campaign.label }}.",
    )
    html: str = Field(
        default="<p>Hello {{ profile.first_name | default('there') }},</p>\n<p>{{ campaign.label }}</p>\n",
        min_length=1,
        title="HTML",
        description="The HTML part.",
    )
    text: str = Field(
        default="Hello {{ profile.first_name | default('there') }},\n\n{{ campaign.label }}\n",
        min_length=1,
        title="Text",
        description="The plain text part.",
    )


GREETING = WrittenTemplates()
"""What is said where nothing is."""


def parsed_templates(chosen: WrittenTemplates | TemplateFolder) -> Templates:
    """The templates, their syntax checked. Errors: `TemplatesUnreadable`, `TemplatesInvalid`."""
    if isinstance(chosen, TemplateFolder):
        return read_templates(chosen)
    with TemporaryDirectory(prefix="templates-") as folder:
        names = {"subject": "subject.txt", "html": "html.html", "text": "text.txt"}
        for part, name in names.items():
            Path(folder, name).write_text(getattr(chosen, part), encoding="utf-8")
        read = read_templates(TemplateFolder(folder=Path(folder), **names))
    # The folder is gone, and another in the next run: results are found again by what they were made of.
    return merged(read, folder=Path("the form"))


class _FromSomebody(BaseModel):
    """What every channel that sends mail is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sender_name: str = Field(
        default="", title="Sender name", description="Name in From. Empty: the one of the settings."
    )
    sender_address: str = Field(
        default="",
        pattern=r"^([^@\s]+@[^@\s]+)?$",
        title="Sender address",
        description=(
            "Address in From, one that the operator allows (CAMPAIGN_SENDERS). Empty: the one of the settings."
        ),
    )

    @property
    def addresses(self) -> list[str]:
        """Those that are the parameters' own."""
        return [self.sender_address] if self.sender_address else []

    def chosen(self) -> dict[str, Any]:
        """What is said here and is not left to the settings."""
        return {name: value for name, value in self.model_dump(exclude={"kind"}).items() if value != ""}


class OutboxChannel(_FromSomebody):
    """Files that any mail program opens."""

    model_config = ConfigDict(title="Outbox")

    kind: Literal["outbox"] = Field(default="outbox", title="Kind", description="Messages are delivered as files.")

    def options(self, settings: OutboxOptions) -> OutboxOptions:
        """The activity's options; where its folder is, the settings say."""
        return merged(settings, **self.chosen())


class EmailChannel(_FromSomebody):
    """Mail, through the mail server of the settings."""

    model_config = ConfigDict(title="Email")

    kind: Literal["email"] = Field(default="email", title="Kind", description="Messages are sent by mail.")
    reply_to: str = Field(
        default="", title="Reply address", description="Address that answers go to, if not the sender's."
    )
    proof: str = Field(
        default="",
        pattern=r"^[a-z0-9-]*$",
        title="Proof",
        description="Name of a proof, marked in the subject and sent once per name. Empty: the send itself.",
    )
    waves: int = Field(
        default=1,
        ge=1,
        le=1000,
        title="Waves",
        description="In how many waves the messages are sent, each by a run of its own; 1: all at once.",
    )
    wave: int = Field(
        default=1,
        ge=1,
        title="Wave",
        description="Up to which wave this run sends; those before it included, as far as they were not sent.",
    )

    @property
    def addresses(self) -> list[str]:
        """Those that are the parameters' own."""
        return [*super().addresses, *([self.reply_to] if self.reply_to else [])]

    def options(self, settings: EmailOptions) -> EmailOptions:
        """The activity's options; the mail server and whatever is secret, the settings say."""
        return merged(settings, **self.chosen())


class PreviewOnly(BaseModel):
    """Nothing is delivered: the preview and the counts can be looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Preview only")

    kind: Literal["preview"] = Field(default="preview", title="Kind", description="Nothing is delivered.")


AS_FILES = OutboxChannel()
"""How messages are delivered where nothing is said."""


Channel = Annotated[OutboxChannel | EmailChannel | PreviewOnly, Field(discriminator="kind"), AsChoice()]


def check_paths(
    audience: Recipients, templates: WrittenTemplates | TemplateFolder, settings: CampaignSettings
) -> None:
    """Check that the paths of the parameters are under the operator's roots, before anything is read.

    Errors: `OutsideRoot`.
    """
    if audience.source is not None and audience.source != settings.profiles:
        check_under(
            settings.roots.profiles,
            audience.source.path,
            what="profile file",
            setting="CAMPAIGN_ROOTS__PROFILES",
        )
    if isinstance(templates, TemplateFolder):
        for path in (templates.folder, *(templates.folder / getattr(templates, part) for part in TEMPLATE_PARTS)):
            check_under(settings.roots.templates, path, what="template folder", setting="CAMPAIGN_ROOTS__TEMPLATES")
        if templates.url:
            raise OutsideRoot(
                what="template address",
                path=templates.url,
                root=settings.roots.templates,
                setting="CAMPAIGN_ROOTS__TEMPLATES",
            )


def check_channel(channel: OutboxChannel | EmailChannel | PreviewOnly, settings: CampaignSettings) -> None:
    """Check from whom the messages would come, before anything is read.

    Errors: `SenderNotAllowed`; `ParameterInvalid`; `ConfigurationError` (a placeholder's address to a real server).
    """
    match channel:
        case OutboxChannel():
            channel.options(settings.outbox)
        case EmailChannel():
            check_placeholder(channel.options(settings.email))
        case PreviewOnly():
            return
    for address in channel.addresses:
        check_sender(address, settings.allowed_senders)


def check_characters(**parameters: object) -> None:
    """Check every text of a run's parameters for control characters, before anything is done with it.

    Errors: `ParameterInvalid`, naming the place, never the value.
    """
    for place, text, lines in _texts("", TypeAdapter(dict[str, Any]).dump_python(parameters, mode="json")):
        if character := forbidden_character(text, lines=lines):
            reason = f"it has the character {character}, which it may not have"
            raise ParameterInvalid(parameter=place, reason=reason)


def _texts(place: str, value: object) -> Iterator[tuple[str, str, bool]]:
    """Every text, with its place and whether it may have several lines; names never do."""
    match value:
        case str():
            yield place, value, bool(LINES & set(place.split(".")))
        case dict():
            for name, each in value.items():
                yield from _texts(f"{place}.{name}".lstrip("."), each)
                yield place, str(name), False
        case list():
            for number, each in enumerate(value):
                yield from _texts(f"{place}.{number}", each)


def check_columns(who: QueryOptions, contents: Sequence[JoinedContent], endpoints: Sequence[Endpoint]) -> None:
    """Check, before anything is read, that the audience has the columns that the contents need of it.

    Errors: `ColumnsMissing`; those of the source.
    """
    audience = pl.DataFrame(schema=[*who.source.types_of_columns(), *who.fields])
    for content, endpoint in zip(contents, endpoints, strict=True):
        require_columns(
            audience,
            [*content.on, *endpoint.inbound.columns],
            activity=f"The content '{content.name}'",
            where=f"'{who.source.shown}'",
        )
