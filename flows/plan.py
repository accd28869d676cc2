"""A campaign as data: what the form of the configurable campaign asks for, and what a campaign in YAML says.

Texts of conditions and of parameters may say {business_date}: the day that the run is for, as 2026-11-24.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import polars as pl
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    Tag,
    TypeAdapter,
    model_validator,
)
from pydantic_core import CoreSchema

from flows.channels import Channel
from flows.endpoints import asked_on, dated
from flows.settings import CampaignSettings
from tasks.channels.preparation import PreparationOptions, PreparationRules
from tasks.characters import forbidden_character
from tasks.content.personalization import PersonalizationOptions, TemplateFolder, Templates, read_templates
from tasks.content.preview import PreviewOptions
from tasks.endpoint.authors import described_by_author
from tasks.endpoint.block import KIND
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import CampaignError, OutsideRoot, ParameterInvalid
from tasks.files.roots import check_under
from tasks.forms import AsChoice
from tasks.settings import merged
from tasks.sources.files import ProfileFile
from tasks.tables.relations import Relation
from tasks.tables.transitions import nearest, quoted, require_columns
from tasks.targeting.enrichment import EnrichmentOptions
from tasks.targeting.query import QueryOptions

TEMPLATE_PARTS = ("subject", "html", "text")
CAMPAIGNS_HERE = frozenset({"birthday-coupons", "match-day", "latest-offers", "regional-weather"})
"""Names under which the flows here deliver: no campaign of parameters may have one of them."""
LINES = frozenset({"where", "fields", "html", "text", "sample", "params"})
"""Parameters whose texts may have several lines."""


def _names_columns(schema: dict[str, Any]) -> None:
    """The form's help names the columns of the settings' source, where it can be read at once."""
    if columns := ", ".join(columns_of_profiles()):
        for name in ("where", "fields"):
            schema["properties"][name]["description"] += f" Columns of the settings' source: {columns}."


def columns_of_profiles() -> list[str]:
    """The columns of the settings' source; none where it is not one file, or cannot be read."""
    try:
        source = CampaignSettings.load().profiles
        return list(source.types_of_columns()) if source.path.is_file() else []
    except CampaignError:
        return []


class Recipients(BaseModel):
    """Who may get a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Audience", json_schema_extra=_names_columns)

    source: ProfileFile | Annotated[None, Field(title="The one of the settings")] = Field(
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
        reason = f"there is no endpoint '{name}' in the settings, only {quoted(there)}. {nearest([name], there)}"
        raise ValueError(reason.rstrip(". "))
    return name


def _kind_of_endpoint(given: object) -> str:
    if not isinstance(given, str):
        return "described"
    return "block" if given.startswith(f"{KIND}/") else "named"


Named = Annotated[str, AfterValidator(_is_there), _NamedInSettings(), Field(title="Endpoint of the settings")]
OfBlock = Annotated[str, Field(title="Endpoint block", pattern=rf"^{KIND}/.+$")]
AnyEndpoint = Annotated[
    Annotated[Named, Tag("named")] | Annotated[OfBlock, Tag("block")] | Annotated[OwnEndpoint, Tag("described")],
    Discriminator(_kind_of_endpoint),
    AsChoice(),
]


def _endpoint_first(schema: dict[str, Any]) -> None:
    """The form asks where the content comes from before it asks what of it is joined, and how."""
    fields = schema["properties"]
    ordered = {"endpoint": fields.pop("endpoint"), **fields}
    schema["properties"] = {
        name: {**field, "position": place} for place, (name, field) in enumerate(ordered.items())
    }


class JoinedContent(Relation):
    """Campaign-wide content from an endpoint, joined to the audience."""

    model_config = ConfigDict(title="Content", json_schema_extra=_endpoint_first)

    endpoint: AnyEndpoint = Field(
        title="Endpoint",
        description=(
            "Where the content comes from: an endpoint of the settings by its name, a block as endpoint/NAME, or"
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


LARGE_BOX: dict[str, Any] = {"format": "json-string"}
"""The Prefect UI draws a text in one line, and one of this format in an editor that grows: it is not JSON."""


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
        json_schema_extra=LARGE_BOX,
    )
    text: str = Field(
        default="Hello {{ profile.first_name | default('there') }},\n\n{{ campaign.label }}\n",
        min_length=1,
        title="Text",
        description="The plain text part.",
        json_schema_extra=LARGE_BOX,
    )


GREETING = WrittenTemplates()
"""What is said where nothing is."""


def _kind_of_templates(given: object) -> str:
    in_folder = "folder" in given if isinstance(given, dict) else isinstance(given, TemplateFolder)
    return "folder" if in_folder else "written"


AnyTemplates = Annotated[
    Annotated[WrittenTemplates, Tag("written")] | Annotated[TemplateFolder, Tag("folder")],
    Discriminator(_kind_of_templates),
    AsChoice(),
]


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


class PreviewRules(BaseModel):
    """Whether, and whose, messages are shown before any is delivered."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Preview")

    shown: bool = Field(
        default=False,
        title="Show messages first",
        description=(
            "Write a page with messages as their readers will see them, and say what a sender should look at."
            " With the channel 'Nothing (preview only)' it is always written."
        ),
    )
    profiles: tuple[str, ...] = Field(
        default=(), title="Profiles", description="Keys of the profiles whose messages are shown."
    )
    random: int = Field(default=3, ge=0, title="Random profiles", description="How many more, chosen at random.")

    def options(self, personalization: PersonalizationOptions) -> PreviewOptions:
        """The activity's options."""
        return PreviewOptions(personalization=personalization, profiles=self.profiles, random=self.random)


def prepared_for(channel: Channel, rules: PreparationRules, who: QueryOptions) -> PreparationOptions:
    """The options of Preparation for a channel and the query that gives the audience."""
    return PreparationOptions(
        **rules.model_dump(),
        channel=channel.medium,
        key=who.source.key,
        address=channel.address_column,
        addresses_are_mail=channel.is_mail,
        selection=who,
    )


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


def check_columns(
    who: QueryOptions,
    contents: Sequence[JoinedContent],
    endpoints: Sequence[Endpoint],
    channel: Channel,
    rules: PreparationRules,
) -> None:
    """Check, before anything is read, that the audience has the columns that are asked of it.

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
    asked = {
        f"The channel '{channel.medium}'": channel.needed_columns,
        "Preparation": [rules.consent, rules.test_profiles],
    }
    for activity, columns in asked.items():
        wanted = [column for column in columns if column]
        require_columns(audience, wanted, activity=activity, where=f"'{who.source.shown}'")
