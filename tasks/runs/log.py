"""Logs that say what people need: expected failures as their sentence, and no secret.

Prefect logs each exception of a task or flow with its traceback, to the terminal and to the UI alike. A filter
on its loggers replaces that record by the sentence when the exception is one of `tasks.errors`. httpx logs the
whole address of each request, whose query may hold a key; a filter on its logger takes the query off.
"""

import logging

import httpx
from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from tasks.errors import CampaignError
from tasks.http.network import public_url

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]
"""What a run's logger is: Prefect's, or a plain one."""


def run_logger() -> Logger:
    """Prefect's logger of the run, or a plain one outside a run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("campaigns")


RUN_LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")


class SentenceOfExpectedFailure(logging.Filter):
    """Keeps every record; takes the traceback off those that carry a `CampaignError`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record` in place where its exception is an expected failure."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, CampaignError):
            record.msg, record.args = str(error), ()
            record.exc_info = record.exc_text = None
        return True


class AddressWithoutQuery(logging.Filter):
    """Keeps every record; takes user name, password and query off the addresses in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record` in place where an argument is an address."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                public_url(str(argument)) if isinstance(argument, httpx.URL) else argument
                for argument in record.args
            )
        return True


def install_filters() -> None:
    """Put the filters on the loggers of Prefect's runs and of httpx, once each."""
    for name in RUN_LOGGERS:
        _add_once(logging.getLogger(name), SentenceOfExpectedFailure())
    _add_once(logging.getLogger("httpx"), AddressWithoutQuery())


def _add_once(logger: logging.Logger, wanted: logging.Filter) -> None:
    if not any(type(known) is type(wanted) for known in logger.filters):
        logger.addFilter(wanted)
