"""What Prefect's loggers say of a failure that is expected."""

import logging

import pytest
from prefect import flow
from prefect.exceptions import ParameterTypeError

import tasks


@flow
def counted(number: int) -> int:
    return number


@pytest.mark.parametrize("name", ["prefect.flow_runs", "prefect.engine"])
def test_wrong_parameters_end_with_a_sentence_and_a_bug_with_its_trace(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tasks
    seen: list[logging.LogRecord] = []
    logger = logging.getLogger(name)
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", seen.append)
    logger.addHandler(handler)
    try:
        try:
            counted.validate_parameters({"number": "many"})
        except ParameterTypeError:
            logger.exception("Engine execution exited with unexpected exception")
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            logger.exception("Engine execution exited with unexpected exception")
    finally:
        logger.removeHandler(handler)
    wrong, bug = seen
    assert "number: Input should be a valid integer" in wrong.getMessage()
    assert wrong.exc_info is None
    assert bug.exc_info is not None
