"""A campaign's messages as a page, nothing sent; the page is made again when a template changes."""

import inspect
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
from prefect import Flow

from deployments.terminal.running import checked
from tasks.content.personalization import PersonalizationOptions, TemplateFolder, personalization, read_templates
from tasks.content.preview import PreviewOptions, counted_findings, previews, write_page
from tasks.errors import CampaignError, CampaignNotShown
from tasks.files.storage import written_whole
from tasks.runs.audience import Audience
from tasks.runs.sink import SinkActivity
from tasks.runs.table import part_size
from tasks.settings import merged

LOOK_SECONDS = 0.25
"""How often the template files are looked at."""


@dataclass(frozen=True)
class Shown:
    """What a campaign would personalize: the first part of its audience, how many there are, and how."""

    profiles: pl.DataFrame
    total: int
    options: PersonalizationOptions


class _ToPersonalize(Exception):
    """The flow has come to its personalization: no error."""

    def __init__(self, inbound: Any, options: PersonalizationOptions) -> None:  # noqa: ANN401
        super().__init__()
        self.inbound, self.options = inbound, options


def shown_by(flow: Flow[..., Any], parameters: dict[str, Any]) -> Shown:
    """Run the flow up to its personalization: nothing is personalized, and nothing delivered.

    Errors: `CampaignNotShown` (the flow has no personalization that could be stopped at); those of the activities
    before it.
    """
    with _stopped_at_personalization(flow):
        try:
            flow(**checked(flow, parameters))
        except _ToPersonalize as found:
            inbound = found.inbound
            audience = inbound if isinstance(inbound, Audience) else Audience.of(inbound)
            return Shown(audience.head(part_size()), audience.table.height, found.options)
    raise CampaignNotShown(flow=flow.name, reason="it ended before its personalization")


@contextmanager
def _stopped_at_personalization(flow: Flow[..., Any]) -> Iterator[None]:
    """In the flow's module, personalization says what it was given, and everything that delivers refuses."""
    module = inspect.unwrap(flow.fn).__globals__
    own = [name for name, value in module.items() if value is personalization]
    if not own or not set(own) & set(inspect.unwrap(flow.fn).__code__.co_names):
        raise CampaignNotShown(flow=flow.name, reason="it does not call `personalization` itself")
    delivering = {name: value for name, value in module.items() if isinstance(value, SinkActivity)}

    def stop(inbound: Any, options: PersonalizationOptions, **_: Any) -> NoReturn:  # noqa: ANN401
        raise _ToPersonalize(inbound, options)

    def refuse(*_: Any, **__: Any) -> NoReturn:  # noqa: ANN401
        raise CampaignNotShown(flow=flow.name, reason="it delivers before its personalization")

    before = {**{name: module[name] for name in own}, **delivering}
    module.update({**dict.fromkeys(own, stop), **dict.fromkeys(delivering, refuse)})
    disabled = logging.root.manager.disable
    # Prefect would tell of the flow's end here as of a failure.
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
        module.update(before)


def page_of(shown: Shown, keys: Sequence[str]) -> tuple[Path, list[str]]:
    """Read the templates again and write the page. Out: the page, and each finding with how many messages have it.

    Errors: those of the templates, `PreviewUnwritable`.
    """
    written = shown.options.templates
    folder = TemplateFolder(folder=written.folder, **written.parts)
    options = merged(shown.options, templates=read_templates(folder)) if folder.folder.is_dir() else shown.options
    preview = PreviewOptions(personalization=options, profiles=tuple(keys))
    messages = previews(shown.profiles, preview)
    return write_page(messages, shown.total, preview).resolve(), counted_findings(messages)


def changes(folder: Path) -> Iterator[None]:
    """Once at the start, and again whenever a file in the folder has changed; never ends."""
    seen: dict[Path, tuple[int, int]] = {}
    while True:
        now = {path: (found.st_mtime_ns, found.st_size) for path, found in _files(folder)}
        if now != seen:
            seen = now
            yield
        time.sleep(LOOK_SECONDS)


def _files(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.rglob("*")):
        try:
            yield path, path.stat()
        except FileNotFoundError:  # an editor has just replaced it
            continue


def preview(
    flow: Flow[..., Any], parameters: dict[str, Any], keys: Sequence[str] = (), *, watch: bool = False
) -> Iterator[str]:
    """Lines that tell where the page is and what was found; with `watch` until it is interrupted.

    A page that is watched shows each new one by itself. Errors: those of `shown_by`; while it watches, what is
    wrong with the templates is a line, and stands on the page.
    """
    shown = shown_by(flow, parameters)
    if not watch:
        page, findings = page_of(shown, keys)
        yield from (*findings, f"Open {page}")
        return
    last: Path | None = None
    version = ""
    try:
        for _ in changes(shown.options.templates.folder):
            begun = time.monotonic()
            try:
                last, findings = page_of(shown, keys)
            except CampaignError as error:
                yield str(error)
                if last:
                    _tell(last, version, str(error))
                continue
            version = _make_watched(last)
            yield from (*findings, f"Open {last} (made in {time.monotonic() - begun:.1f} s; Ctrl-C stops watching)")
    finally:
        if last:
            last.with_suffix(".js").unlink(missing_ok=True)


def _make_watched(page: Path) -> str:
    """Let the page look for the next one. Out: the version that it has."""
    version = str(time.time_ns())
    script = files("deployments.terminal").joinpath("watched.html").read_text(encoding="utf-8")
    for name, value in (("{version}", version), ("{file}", page.with_suffix(".js").name)):
        script = script.replace(name, json.dumps(value))
    head, end, rest = page.read_text(encoding="utf-8").rpartition("</body>")
    with written_whole(page) as draft:
        draft.write_text(head + script + end + rest, encoding="utf-8")
    _tell(page, version, "")
    return version


def _tell(page: Path, version: str, wrong: str) -> None:
    with written_whole(page.with_suffix(".js")) as draft:
        draft.write_text(f"told({json.dumps(version)}, {json.dumps(wrong)})\n", encoding="utf-8")


def parameters_on(flow: Flow[..., Any], day: date | None, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a run for a day; a flow without a business date is given none."""
    takes = "business_date" in inspect.signature(flow.fn).parameters
    return {**parameters, **({"business_date": day} if day is not None and takes else {})}
