"""What an error's code means, and what a sample answer implies."""

from pathlib import Path

from tasks.endpoint.answer.definitions import as_table, as_yaml
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.errors import CampaignError, CodeUnknown, SourceUnreadable, kinds_below
from tasks.tables.transitions import nearest


def explained(code: str) -> str:
    """The errors of a code: what happened, the sentence and the remedy. Errors: `CodeUnknown`."""
    kinds = list(kinds_below(CampaignError))
    found = [kind for kind in kinds if kind.code == code.upper()]
    if not found:
        raise CodeUnknown(given=code, cure=nearest([code.upper()], {kind.code for kind in kinds}))
    return "\n\n".join(
        f"{kind.code} {kind.__name__}\n{(kind.__doc__ or '').strip()}\n"
        f"  says: {kind.sentence}\n  cure: {_cure(kind)}"
        for kind in found
    )


def _cure(kind: type[CampaignError]) -> str:
    """The remedy of a kind of error; some have it for each case, and say it with the error."""
    if not kind.remedy:
        return "as the sentence says"
    return "it depends on the case: the end of the sentence says it" if kind.remedy == "{cure}" else kind.remedy


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
