"""What is written into templates before they are rendered: the result, with what its author should look at."""

from dataclasses import dataclass

from tasks.templates.reading import Templates

KEPT = 32
"""Rewritten templates that are remembered: each part of an audience asks for the same."""


@dataclass(frozen=True)
class Rewritten:
    """Templates after a change, and what stayed as it was, and why."""

    templates: Templates
    findings: tuple[str, ...] = ()
