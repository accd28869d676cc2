"""Reading a message from outside: what it says became of which messages of ours."""

from tasks.feedback import arf, dsn, plain
from tasks.feedback.parts import header, parsed
from tasks.feedback.report import NoReport, NothingFinal, Report

READERS = (dsn.reports_of, arf.reports_of, plain.reports_of)
"""The most certain first."""


def reports_in(content: bytes) -> list[Report]:
    """What a message says. Errors: `NoReport`, for one that says nothing final or cannot be read."""
    message = parsed(content)
    try:
        for read in READERS:
            found = read(message)
            if found is not None:
                return found
    except RecursionError:
        raise NoReport("its parts are nested too deep") from None
    automatic = header(message, "Auto-Submitted").lower().partition(";")[0].strip()
    if automatic == "auto-replied" or header(message, "X-Autoreply"):
        raise NothingFinal("an automatic reply of a person's mailbox, as for holidays")
    raise NoReport("neither a bounce nor a complaint: a person may have written it")
