"""What an error's code means, and what a sample answer implies."""

from collections.abc import Iterator
from pathlib import Path

from tasks import errors
from tasks.endpoint.answer.definitions import as_table, as_yaml
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.errors import CampaignError, CodeUnknown, SourceUnreadable
from tasks.tables.transitions import nearest


def explained(code: str) -> str:
    """The errors of a code: what happened, the sentence and the remedy. Errors: `CodeUnknown`."""
    found = [kind for kind in _kinds(CampaignError) if kind.code == code.upper()]
    if not found:
        raise CodeUnknown(given=code, cure=nearest([code.upper()], {kind.code for kind in _kinds(CampaignError)}))
    return "\n\n".join(
        f"{kind.code} {kind.__name__}\n{(kind.__doc__ or '').strip()}\n"
        f"  says: {kind.sentence}\n  cure: {kind.remedy or 'as the sentence says'}"
        for kind in found
    )


def _kinds(kind: type[CampaignError]) -> Iterator[type[CampaignError]]:
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield one
            yield from _kinds(one)


def implied(
    file: Path, *, path: str | None = None, flatten: bool = False, yaml: bool = False, max_depth: int | None = None
) -> str:
    """The outbound mapping that a sample answer implies. Errors: `SourceUnreadable`, `SampleInvalid`."""
    options = {"path": path, "flatten": flatten or None, "limits": {"max_depth": max_depth} if max_depth else None}
    mapping = OutboundMapping(
        sample=_text_of(file),
        **{name: value for name, value in options.items() if value is not None},
    )
    return as_yaml(mapping) if yaml else as_table(mapping)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SourceUnreadable(
            what="sample", path=path, reason=reason, cure="Give a file that holds the answer's JSON."
        ) from None
