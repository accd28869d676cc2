"""Logs that say what people need: expected failures as their sentence.

Prefect logs each exception of a task or flow with its traceback, to the terminal and to the UI alike. A filter
on its loggers replaces that record by the sentence when the exception is one of `tasks.errors`.
"""

import logging

from tasks.errors import CampaignError
from tasks.runs.stopping import Stopped

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]
"""What a run's logger is: Prefect's, or a plain one."""


def run_logger() -> Logger:
    """Prefect's logger of the run, or a plain one outside a run."""
    # `tasks` itself imports this module: who only fetches or reads need not wait for Prefect.
    from prefect import get_run_logger  # noqa: PLC0415
    from prefect.exceptions import MissingContextError  # noqa: PLC0415

    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("campaigns")


RUN_LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")


class ParametersNotRepeated(logging.Filter):
    """Keeps every record; takes the parameters, a secret among them, off Prefect's that says that they are wrong.

    The error that Prefect raises beside it names each parameter and what is wrong with it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record` in place where it repeats parameters."""
        if str(record.msg).startswith("Parameter validation failed"):
            record.msg, record.args = str(record.msg).partition(":")[0], ()
        return True


class SentenceOfExpectedFailure(logging.Filter):
    """Keeps every record; takes the traceback off expected failures, wrong parameters and what a stop ends."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record` in place where its exception is an expected failure."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is None:
            return True
        # Whoever logs to Prefect's loggers has imported it; others need not wait for it.
        from prefect.exceptions import ParameterTypeError  # noqa: PLC0415

        if isinstance(error, CampaignError | Stopped | ParameterTypeError):
            record.msg, record.args = str(error), ()
            record.exc_info = record.exc_text = None
        return True


def install_filter() -> None:
    """Put the filters on Prefect's loggers, once each."""
    for name in RUN_LOGGERS:
        add_once(logging.getLogger(name), SentenceOfExpectedFailure())
    add_once(logging.getLogger("prefect.flows"), ParametersNotRepeated())


def add_once(logger: logging.Logger, wanted: logging.Filter) -> None:
    """Put a filter on a logger that has none of its kind."""
    if not any(type(known) is type(wanted) for known in logger.filters):
        logger.addFilter(wanted)
