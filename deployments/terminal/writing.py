"""Write the files of a new campaign."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Literal

from deployments.declared import FILE, declared
from flows.settings import CampaignSettings
from tasks.errors import CampaignNotWritten

NAME = re.compile(r"[a-z][a-z0-9-]*(?<!-)")
LONGEST_NAME = 100
SETTINGS = Path(".env")
TEMPLATES = ("subject.txt", "body.html", "body.txt")


def write_campaign(name: str, kind: Literal["flow", "yaml"]) -> list[Path]:
    """Write a campaign that runs as it is, and declare it in `prefect.yaml`; nothing that is there is changed.

    Out: the files that were written. Errors: `CampaignNotWritten`; `ConfigurationError` of the settings.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        reason = "a name is lower-case letters, digits and hyphens, and begins with a letter"
        raise CampaignNotWritten(name=name, reason=reason, cure="Take a name like spring-offers.")
    words = {"name": name, "module": name.replace("-", "_"), "label": name.replace("-", " ").capitalize()}
    flows = Path("flows")
    # The form is a file of this repository; another folder has the package's.
    form = flows / "campaign.py"
    words["form"] = f"{form}:campaign" if form.is_file() else "flows.campaign.campaign"
    written = dict(_files(words, flows, kind))
    there = [path for path in written if path.exists()]
    if there or name in (declared(file=FILE) if FILE.exists() else {}):
        raise CampaignNotWritten(
            name=name,
            reason=f"{there[0] if there else FILE} has it already",
            cure="Take another name, or remove what is there.",
        )
    needed = _setting_for(flows / "templates") if kind == "yaml" else ""
    try:
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        head = "" if FILE.exists() else _text("prefect.txt")
        declaration = _text("deployment.txt" if kind == "flow" else "parameters.txt").format(**words)
        with FILE.open("a", encoding="utf-8") as file:
            file.write(head + declaration)
        if needed:
            before = SETTINGS.read_text(encoding="utf-8") if SETTINGS.exists() else ""
            with SETTINGS.open("a", encoding="utf-8") as file:
                file.write(("" if before.endswith("\n") or not before else "\n") + needed)
    except OSError as error:
        cure = "Make room for it, or change to a folder that can be written."
        raise CampaignNotWritten(name=name, reason=error.strerror or str(error), cure=cure) from None
    return [*written, FILE, *([SETTINGS] if needed else [])]


def _setting_for(templates: Path) -> str:
    """The line of `.env` that lets parameters name templates of this folder; empty where a setting decides it."""
    roots = CampaignSettings.load().roots
    if "templates" in roots.model_fields_set or templates.resolve().is_relative_to(roots.templates.resolve()):
        return ""
    return f"CAMPAIGN_ROOTS__TEMPLATES={templates}\n"


def _files(words: dict[str, str], flows: Path, kind: str) -> Iterator[tuple[Path, str]]:
    for name in TEMPLATES:
        yield flows / "templates" / words["module"] / name, _text(name)
    if kind == "flow":
        yield flows / f"{words['module']}.py", _text("flow.txt").format(**words)
        yield Path("tests", "flows", f"test_{words['module']}.py"), _text("test.txt").format(**words)


def _text(name: str) -> str:
    return files("deployments.terminal").joinpath("new", name).read_text(encoding="utf-8")
