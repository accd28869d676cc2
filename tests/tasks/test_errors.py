import logging
import pickle
import re
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.serializers import JSONSerializer

from tasks import errors
from tasks.errors import CampaignError, PartnerUnreachable, SourceMissing, StatusRefused
from tasks.runs.log import RUN_LOGGERS, install_filter

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CampaignError)]


def test_every_error_is_drawn_in_the_hierarchy_with_its_code() -> None:
    drawing = errors.__doc__ or ""
    for kind in KINDS:
        assert kind.__name__ in drawing
        if kind.code not in ("CMP-000", "WKF-560246"):
            (line,) = [line for line in drawing.splitlines() if f" {kind.__name__} " in f"{line} "]
            assert kind.code in line


def test_no_two_kinds_of_failure_share_a_code() -> None:
    shared_by_the_documentation = {"WKF-560246", "WKF-560239"}
    codes = [kind.code for kind in KINDS if "code" in vars(kind) and kind.code not in shared_by_the_documentation]
    assert len(codes) == len(set(codes)), sorted(codes)


def test_the_hierarchy_is_drawn_in_the_order_of_its_codes() -> None:
    drawn = (errors.__doc__ or "").splitlines()
    codes = [re.findall(r"[A-Z]{3}-\d+", line) for line in drawn if line.startswith("├── ")]
    assert codes == sorted(codes)
    below = [re.findall(r"[A-Z]{3}-\d+", line) for line in drawn if line.startswith("    ├── ")]
    assert below == sorted(below)


def test_a_sentence_names_the_thing_and_the_remedy() -> None:
    error = SourceMissing(what="profile file", path="p.csv", setting="CAMPAIGN_PROFILES__PATH", hint="")
    assert str(error) == (
        "The profile file 'p.csv' does not exist. Set CAMPAIGN_PROFILES__PATH to an existing file. (CMP-110)"
    )


WORDS = [
    "it is empty",
    "No such file or directory: 'people.csv'",
    "SMTP STARTTLS extension not supported by server.",
    "'a', 'b'. Did you mean 'c'?",
    "line 3 (column 2) is cut.",
    "550 5.7.1 Go away!",
    "the connection broke: [Errno 104] reset by peer",
    "still waiting...",
]
"""What files, servers, libraries and our own code say; some of them in whole sentences."""
UNSAID = ["", None, "  "]
FACTS: dict[str, list[Any]] = {
    "reason": [*WORDS, *UNSAID],
    "cure": ["Take another name.", "Did you mean 'c'?", *UNSAID],
    "present": ["'a', 'b'", "nothing"],
    "hint": ["", ", or run `make samples`"],
    "said": ["", ": no such user!"],
    "until": ["", " until Monday"],
    "seconds": [0.5, 30],
    "retry_after": [0.5, 30],
    "status": [400, 503],
}
NAMED = ["people.csv", "https://partner.example/v1", 17]
"""What the other facts are."""


@given(st.data())
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.sentence != CampaignError.sentence])
def test_no_sentence_has_two_marks_a_gap_or_nothing_between_its_quotes(
    kind: type[CampaignError], data: st.DataObject
) -> None:
    names = {name for _, name, _, _ in Formatter().parse(f"{kind.sentence} {kind.remedy}") if name}
    facts = {name: data.draw(st.sampled_from(FACTS.get(name, NAMED)), label=name) for name in sorted(names)}
    said = str(kind(**facts)).replace("waiting...", "waiting.")
    assert re.search(r"[.?!]{2}(?=\s|$)|\.\)\.|None|''|\"\"|\(\)|\s\s|\s[.,;:?!](?=\s)|: ?[.)]", said) is None, said
    assert re.search(r"[.?!)] \([A-Z]{3}-\d+\)$", said), said


def test_an_error_survives_storage_and_other_processes() -> None:
    error = PartnerUnreachable(url="https://a.example/", reason="refused", retryable=True)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.retryable) == (PartnerUnreachable, str(error), True)
    stored = JSONSerializer().loads(JSONSerializer().dumps(error))
    assert (type(stored), str(stored)) == (PartnerUnreachable, str(error))


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(400, False), (401, False), (404, False), (408, True), (422, False), (425, True), (429, True), (500, True)],
)
def test_only_statuses_that_pass_are_retried(status: int, retryable: bool) -> None:
    assert StatusRefused(url="u", status=status, cure="").retryable is retryable


def logged(logger_name: str, error: Exception) -> logging.LogRecord:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger(logger_name)
    logger.addHandler(handler)
    try:
        raise error
    except Exception:
        logger.exception("Encountered exception during execution: %r", error)
    finally:
        logger.removeHandler(handler)
    return records[0]


@pytest.mark.parametrize("logger_name", RUN_LOGGERS)
def test_an_expected_failure_is_logged_as_its_sentence_and_a_bug_with_its_trace(logger_name: str) -> None:
    install_filter()
    expected = logged(logger_name, StatusRefused(url="https://a.example/", status=503, cure="Wait."))
    assert expected.getMessage() == "The API 'https://a.example/' failed (reason: 'HTTP - 503'). Wait. (WKF-560246)"
    assert expected.exc_info is None
    bug = logged(logger_name, ZeroDivisionError("division by zero"))
    assert bug.exc_info is not None
