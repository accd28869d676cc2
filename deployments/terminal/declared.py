"""The campaigns of a folder: the deployments of its `prefect.yaml`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

from tasks.errors import CampaignUnknown, ConfigurationError, SourceUnreadable
from tasks.tables.transitions import nearest, quoted

DECLARATIONS = Path("prefect.yaml")
TAG = "campaign"


@dataclass(frozen=True)
class Declared:
    """A campaign of `prefect.yaml`: where its flow is, and the parameters that it is run with."""

    name: str
    entrypoint: str
    parameters: dict[str, Any] = field(default_factory=dict)
    description: str = ""

    def flow(self) -> Flow[..., Any]:
        """Its flow. Errors: `ConfigurationError` (the entrypoint leads to no flow); what its module raises."""
        path, colon, _ = self.entrypoint.rpartition(":")
        if colon and not Path(path).is_file():
            raise ConfigurationError(setting=f"{DECLARATIONS}, {self.name}", reason=f"there is no file '{path}'")
        try:
            return load_flow_from_entrypoint(self.entrypoint)
        except (AttributeError, ImportError) as error:
            raise ConfigurationError(setting=f"{DECLARATIONS}, {self.name}", reason=str(error)) from None


def declared_campaigns() -> dict[str, Declared]:
    """The campaigns of this folder by name; none where it has no `prefect.yaml`. Errors: `SourceUnreadable`."""
    if not DECLARATIONS.exists():
        return {}
    try:
        found = (yaml.safe_load(DECLARATIONS.read_text(encoding="utf-8")) or {}).get("deployments") or []
        all_of_them = [
            Declared(each["name"], each["entrypoint"], each.get("parameters") or {}, each.get("description") or "")
            for each in found
            if TAG in (each.get("tags") or ())
        ]
    except (yaml.YAMLError, OSError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise SourceUnreadable(
            what="list of deployments",
            path=DECLARATIONS,
            reason=" ".join(str(error).split()),
            cure="Write it as Prefect's documentation says.",
        ) from None
    return {one.name: one for one in all_of_them}


def declared_campaign(name: str) -> Declared:
    """A campaign of this folder. Errors: `CampaignUnknown`, with the nearest name; `SourceUnreadable`."""
    known = declared_campaigns()
    if name not in known:
        cure = nearest([name], known) or f"Run `campaign new {name}` to write it."
        raise CampaignUnknown(name=name, file=DECLARATIONS.resolve(), present=quoted(known), cure=cure)
    return known[name]
