"""Characters that a text from outside may not have: one rule for names, addresses, headers, keys and paths."""

import re

CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""In one line: control characters, line breaks of every kind, and marks that show a text in another order."""
CONTROL_IN_LINES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""In a text of several lines, such as a template."""


def forbidden_character(text: str, *, lines: bool = False) -> str:
    """The first character that a text may not have, as `U+000A`; empty where it has none."""
    found = (CONTROL_IN_LINES if lines else CONTROL).search(text)
    return f"U+{ord(found[0]):04X}" if found else ""
