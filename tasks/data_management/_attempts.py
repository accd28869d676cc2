"""Attempts at one call: which are made again, and what one leaves to the next."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect import State, Task, get_run_logger
from prefect.client.schemas import TaskRun
from prefect.context import TaskRunContext

from tasks.data_management._keeping import AccountedCall
from tasks.endpoint.fetch import Progress
from tasks.errors import ApiError, AuthorizationServerUnreachable, CampaignError, TokenNotFetched
from tasks.http.retry import is_retryable
from tasks.runs.log import Logger


def is_worth_a_retry(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: only failures that may pass. Says how long is waited before it begins."""
    error, attempt = state.data, task_run.run_count
    if not isinstance(error, ApiError) or not is_retryable(error):
        return False
    delays = task.retry_delay_seconds
    if attempt <= task.retries and isinstance(delays, list) and delays:
        # `_attempt` waits for the rest where the partner asks for more than the task's own delay.
        seconds = max(delays[min(attempt, len(delays)) - 1], error.retry_after or 0.0)
        log_retry(get_run_logger(), error, seconds, attempt + 1)
    return True


def log_retry(logger: Logger, error: BaseException, seconds: float, attempt: int) -> None:
    """Say what failed, how long is waited, and the number of the attempt that follows."""
    facts = error.facts if isinstance(error, CampaignError) else {}
    if isinstance(error, TokenNotFetched | AuthorizationServerUnreachable):
        logger.warning(
            "Failed to fetch the OAuth access token using the specified external account on attempt %d,"
            " retrying in %d ms.",
            attempt - 1,
            round(seconds * 1000),
        )
    else:
        logger.warning(
            "Retrying API URL '%s' due to %s in %d ms, attempt %d.",
            facts.get("url"),
            error,
            round(seconds * 1000),
            attempt,
        )


@dataclass
class Attempts:
    """What attempts at one call leave to the next: the pages that came, and how long the partner asked to wait."""

    progress: Progress = field(default_factory=Progress)
    not_before: float = 0.0


_LEFT: dict[UUID, Attempts] = {}
"""By task run; a retry happens in the process of the attempt before it."""


@contextmanager
def attempt(context: TaskRunContext) -> Iterator[Attempts]:
    """One attempt of a task run: goes on with what the attempts before it left."""
    run = context.task_run
    attempts = _LEFT.pop(run.id, None) or Attempts()
    time.sleep(max(0.0, attempts.not_before - time.monotonic()))
    try:
        yield attempts
    except ApiError as error:
        error.facts["attempts"] = run.run_count
        if is_retryable(error) and run.run_count <= context.task.retries:
            attempts.not_before = time.monotonic() + (error.retry_after or 0.0)
            _LEFT[run.id] = attempts
        raise


def task_run_context() -> TaskRunContext:
    """The task run that this is. Errors: `RuntimeError`."""
    context = TaskRunContext.get()
    if context is None:
        raise RuntimeError("There is no task run.")
    return context


def call_id(call: AccountedCall) -> str:
    """One identifier for all attempts at this call, those of a flow run that is retried included."""
    run = task_run_context().task_run
    return str(uuid5(NAMESPACE_URL, f"{run.flow_run_id or run.id}/{call.cache_key}"))
