"""The deployments of a folder: those of its `prefect.yaml`; where it has none, those of this package."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tasks.errors import CampaignUnknown, ConfigurationError, SourceUnreadable
from tasks.tables.transitions import nearest, quoted

if TYPE_CHECKING:
    from prefect import Flow

FILE = Path("prefect.yaml")
CAMPAIGN = "campaign"
"""Tag of every campaign's deployment: runs have the tags of their deployment."""
OPERATIONS = "operations"
"""Tag of the deployments that keep the campaigns going."""


@dataclass(frozen=True)
class Declared:
    """A deployment of `prefect.yaml`: where its flow is, and everything else that is written there."""

    name: str
    entrypoint: str
    file: Path
    written: dict[str, Any] = field(default_factory=dict)
    pull: list[dict[str, Any]] = field(default_factory=list)
    """What a run does before: at least, change to the folder."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that it is run with."""
        return self.written.get("parameters") or {}

    @property
    def description(self) -> str:
        """What it is for."""
        return self.written.get("description") or ""

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return self.written.get("tags") or []

    def flow(self) -> "Flow[..., Any]":
        """Its flow. Errors: `ConfigurationError` (the entrypoint leads to no flow); what its module raises."""
        from prefect.flows import load_flow_from_entrypoint  # noqa: PLC0415  # a second, for those who run it

        path, colon, _ = self.entrypoint.rpartition(":")
        if colon and not Path(path).is_file():
            raise ConfigurationError(setting=f"{self.file}, {self.name}", reason=f"there is no file '{path}'")
        try:
            return load_flow_from_entrypoint(self.entrypoint)
        except (AttributeError, ImportError) as error:
            raise ConfigurationError(setting=f"{self.file}, {self.name}", reason=str(error)) from None


def file_here() -> Path:
    """The file that declares the deployments of this folder."""
    if FILE.exists():
        return FILE
    here = Path(__file__).parent
    # Beside this module in an installed package; in the folder above in a checkout.
    return next(path for path in (here / FILE, here.parent / FILE) if path.exists())


def declared(tag: str = "", file: Path | None = None) -> dict[str, Declared]:
    """The deployments of this folder by name, or those with a tag. Errors: `SourceUnreadable`."""
    source = file or file_here()
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
        found = [
            Declared(
                name=each["name"],
                entrypoint=each["entrypoint"],
                file=source,
                written=each if source == FILE else _of_package(each),
                pull=each.get("pull", content.get("pull")) or [],
            )
            for each in content.get("deployments") or []
        ]
        return {one.name: one for one in found if not tag or tag in one.tags}
    except (yaml.YAMLError, OSError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise SourceUnreadable(
            what="list of deployments",
            path=source,
            reason=" ".join(str(error).split()),
            cure="Write it as Prefect's documentation says.",
        ) from None


def _of_package(written: dict[str, Any]) -> dict[str, Any]:
    """A deployment of this package, read in another folder: its templates are the package's."""
    parameters = written.get("parameters") or {}
    templates = parameters.get("templates") or {}
    if "folder" not in templates:
        return written
    there = {**templates, "folder": str(Path(__file__).parents[1] / templates["folder"])}
    return {**written, "parameters": {**parameters, "templates": there}}


def declared_campaign(name: str) -> Declared:
    """A campaign of this folder. Errors: `CampaignUnknown`, with the nearest name; `SourceUnreadable`."""
    known = declared(CAMPAIGN)
    if name not in known:
        cure = nearest([name], known) or f"Run `campaign new {name}` to write it."
        raise CampaignUnknown(name=name, file=file_here().resolve(), present=quoted(known), cure=cure)
    return known[name]
