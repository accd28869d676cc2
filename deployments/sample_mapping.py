"""Shows the outbound mapping that a sample answer implies: `python -m deployments.sample_mapping answer.json`.

What it prints is a table of the columns, and can be pasted back (`tasks.endpoint.answer.definitions.pasted`).
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

from tasks.endpoint.answer.definitions import as_table, as_yaml
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.errors import CampaignError, SourceUnreadable


def main(arguments: list[str] | None = None) -> int:
    """Print the mapping, or the sentence that says why there is none; the process's exit status."""
    parser = ArgumentParser(description="Show the outbound mapping that a sample answer implies.")
    parser.add_argument("sample", type=Path, help="file of the sample, JSON")
    parser.add_argument("--path", help="JMESPath of the rows, where the sample has several arrays of objects")
    parser.add_argument("--flatten", action="store_true", help="make the whole answer one row")
    parser.add_argument("--yaml", action="store_true", help="print YAML instead of a table")
    parser.add_argument("--max-depth", type=int, help="raise the limit of 10 levels of nesting")
    given = parser.parse_args(arguments)
    options = {"path": given.path, "flatten": given.flatten or None}
    limits = {"limits": {"max_depth": given.max_depth}} if given.max_depth else {}
    try:
        mapping = OutboundMapping(
            sample=_text_of(given.sample),
            **{name: value for name, value in options.items() if value is not None},
            **limits,
        )
    except CampaignError as error:
        print(error, file=sys.stderr)
        return 1
    print(as_yaml(mapping) if given.yaml else as_table(mapping), end="")
    return 0


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SourceUnreadable(
            what="sample", path=path, reason=reason, cure="Give a file that holds the answer's JSON."
        ) from None


if __name__ == "__main__":
    sys.exit(main())
