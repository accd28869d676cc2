"""Parameters of campaigns in links: `utm_source` and its like, written into the links of templates, once.

The parameters come first in the query, so that no value of a message can come between. A link whose query cannot be
found in its template is a finding; it stays as it is.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape
from urllib.parse import quote

from jinja2 import nodes
from pydantic import BaseModel, ConfigDict, Field

from tasks.settings import merged
from tasks.templates.assembly import Assembly
from tasks.templates.located import ENVIRONMENT, STATEMENT, VALUE, Edit, File, edited, has_piece
from tasks.templates.reading import Templates
from tasks.templates.rewriting import KEPT, Rewritten

ENCODED = frozenset({"urlencode", "int", "length", "count"})
"""Filters that let no character of an address through which begins its query or ends it."""
HTTP = re.compile(r"\s*https?://(?P<host>[^/?#\\\s]*)", re.IGNORECASE)
ADDRESS = re.compile(rf"https?://[^\s<>\"'{STATEMENT}{VALUE}][^\s<>\"']*", re.IGNORECASE)
ENTITY = re.compile(r"&(?!amp;)#?\w+;")
CLOSING = f".,;:!?)]}}'*_{STATEMENT}"
"""What a sentence writes after an address."""
UNSUBSCRIBE = "unsubscribe_url"
LONGEST_SHOWN = 80


class Utm(BaseModel):
    """Parameters that tell a site's statistics where a visitor came from."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="UTM parameters")

    source: str = Field(min_length=1, title="Source", description="utm_source: who sends, for example newsletter.")
    medium: str = Field(default="email", min_length=1, title="Medium", description="utm_medium.")
    campaign: str = Field(
        default="", title="Campaign", description="utm_campaign; empty: the identifier of the campaign."
    )
    content: str = Field(default="", title="Content", description="utm_content; empty: none.")
    term: str = Field(default="", title="Term", description="utm_term; empty: none.")
    hosts: tuple[str, ...] = Field(
        default=(),
        title="Hosts",
        description=(
            "Hosts whose links get the parameters, each with its subdomains, for example shop.example. Empty: every"
            " link that begins with http or https, but the one to unsubscribe."
        ),
    )

    def parameters(self, campaign: str) -> dict[str, str]:
        """The parameters of a send, by name."""
        named = {**self.model_dump(exclude={"hosts"}), "campaign": self.campaign or campaign}
        return {f"utm_{name}": value for name, value in named.items() if value}


def with_parameters(templates: Templates, utm: Utm, campaign: str) -> Rewritten:
    """The templates, whose links in the HTML and the text have the parameters of a campaign."""
    parts = tuple(sorted(templates.parts.items()))
    parameters = tuple(utm.parameters(campaign).items())
    sources, findings = _tagged(parts, tuple(sorted(templates.sources.items())), parameters, utm.hosts)
    return Rewritten(merged(templates, sources=dict(sources)), findings)


@lru_cache(KEPT)
def _tagged(
    parts: tuple[tuple[str, str], ...],
    sources: tuple[tuple[str, str], ...],
    parameters: tuple[tuple[str, str], ...],
    hosts: tuple[str, ...],
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    texts = dict(sources)
    findings: list[str] = []
    for part, name in parts:
        if part == "subject":
            continue
        work = _Links(Assembly(name, texts).files, dict(parameters), hosts, html=part == "html")
        texts |= edited(work.files, work.edits)
        findings += work.findings
    return tuple(texts.items()), tuple(dict.fromkeys(findings))


@dataclass
class _Links:
    """The links of a part's files: what is edited, and which stay as they are."""

    files: Mapping[str, File]
    parameters: Mapping[str, str]
    hosts: tuple[str, ...]
    html: bool
    edits: list[Edit] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for file in self.files.values():
            for start, end in _in_html(file) if self.html else _in_text(file):
                self._link(file, start, end)

    def _link(self, file: File, start: int, end: int) -> None:
        shown = file.masked[start:end]
        link = HTTP.match(shown)
        if link is None:
            if has_piece(shown.lstrip()[:1]) and UNSUBSCRIBE not in file.source[start:end]:
                self._tell(file, start, end, "its address is a value; add them where the value is made")
            return
        if has_piece(link["host"]):
            self._tell(file, start, end, "its host is a value")
            return
        if not _is_of(link["host"], self.hosts):
            return
        place = self._unsure(file, start, end) or _place(file, start + link.end(), end)
        if isinstance(place, str):
            self._tell(file, start, end, place)
            return
        offset, begun = place
        known = set(re.findall(r"[?&;]([A-Za-z_]+)=", unescape(shown)))
        given = [f"{name}={quote(value, safe='')}" for name, value in self.parameters.items() if name not in known]
        joint = "&amp;" if self.html else "&"
        more = joint if begun and offset < end and file.masked[offset] != "#" else ""
        if given:
            self.edits.append(Edit(file.name, offset, offset, ("" if begun else "?") + joint.join(given) + more))

    def _unsure(self, file: File, start: int, end: int) -> str:
        if file.body(start) < 0:
            return "it stands in a text to be translated; write it outside"
        if self.html and ENTITY.search(file.masked, start, end):
            return "an entity in it may be a '?' or '#'; write the character"
        return ""

    def _tell(self, file: File, start: int, end: int, why: str) -> None:
        shown = " ".join(file.source[start:end].split())
        shown = shown if len(shown) <= LONGEST_SHOWN else shown[: LONGEST_SHOWN - 3] + "..."
        self.findings.append(f"{file.name}, line {file.line(start)}: the link {shown} has no UTM parameters: {why}")


def _place(file: File, start: int, end: int) -> tuple[int, bool] | str:
    """Where the parameters go, and whether a query has begun there; or why that is not known."""
    own = file.body(start) if start < end else -1
    at = start
    while at < end:
        character = file.masked[at]
        chosen = not has_piece(character) and own >= 0 and file.body(at) not in {own, -1}
        if character == VALUE:
            piece_end = next((other for other in range(at, end) if file.masked[other] != VALUE), end)
            if not all(_is_encoded(piece) for piece in _pieces(file, at, piece_end)):
                return "a value in it may have a '?' or '#'; write it with '|urlencode'"
            at = piece_end
            continue
        if character in "?#":
            if chosen:
                return "a condition in it decides where its query begins"
            return (at + 1, True) if character == "?" else (at, False)
        at += 1
    return end, False


def _pieces(file: File, start: int, end: int) -> Iterator[str]:
    """The single pieces of what Jinja reads without a text between."""
    begun = start
    for at, kind, text in ENVIRONMENT.pieces(file.source):
        if start <= at < end and kind in {"variable_begin", "block_begin"}:
            begun = at
        if start < at < end and kind in {"variable_end", "block_end"}:
            yield file.source[begun : at + len(text.rstrip())]


def _is_encoded(piece: str) -> bool:
    if not piece.startswith("{{"):
        return False
    printed = ENVIRONMENT.parse(piece).find(nodes.Output)
    shown = printed.nodes[0] if printed is not None and printed.nodes else None
    return isinstance(shown, nodes.Filter) and shown.name in ENCODED


def _in_html(file: File) -> Iterator[tuple[int, int]]:
    """The addresses of links, of Outlook's shapes too."""
    for tag in (*file.tags, *file.outlook_tags):
        if tag.closing or not (tag.name in {"a", "area"} or tag.name.startswith("v:")):
            continue
        for attribute in tag.attributes:
            if attribute.name == "href" and attribute.value:
                yield attribute.value_start, attribute.value_start + len(attribute.value)


def _in_text(file: File) -> Iterator[tuple[int, int]]:
    """The addresses in a text, without what ends a sentence."""
    for found in ADDRESS.finditer(file.masked):
        text = found[0].rstrip(CLOSING)
        yield found.start(), found.start() + len(text)


def _is_of(host: str, hosts: Iterable[str]) -> bool:
    name = host.lower().rpartition("@")[2].partition(":")[0].rstrip(".")
    wanted = [each.lower().strip(".") for each in hosts]
    return not wanted or any(name == each or name.endswith(f".{each}") for each in wanted)
