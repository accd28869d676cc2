"""Activities: one decorated function of tables each. Its shape says how it meets an audience.

source   gives rows, which become an audience: in memory where they are one part, else written as parts
rows     works on each row by itself: at once on one part; on many it is checked with no rows, then planned
table    needs the whole table: its function takes and gives lazy tables, which polars streams over the parts
sink     delivers or stores: at once on one part; on many, one task run for each part (`tasks.runs.sink`)

Given plain DataFrames, an activity of any shape gives the plain result of its function.
"""

import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from copy import copy
from functools import partial, wraps
from threading import Thread
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar
from uuid import uuid4

import polars as pl
from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.states import Failed

from tasks.privacy import keep_files_private
from tasks.runs.audience import Audience, imported
from tasks.runs.counts import counts_of
from tasks.runs.outbound import show_counts, this_run
from tasks.runs.results import ARROW, PER_RUN

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[Concatenate[pl.DataFrame, P], R]


class Activity(Task[..., Any], Generic[P, R]):
    """A Prefect task over one function of tables."""

    def __init__(
        self,
        function: Callable[..., R],
        *,
        name: str,
        task_run_name: str | None = None,
        cache_policy: CachePolicy = PER_RUN,
    ) -> None:
        self.function = function
        self.signature = inspect.signature(function)
        self.inbound = next(iter(self.signature.parameters), "")

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            keep_files_private()
            return self.run(self.signature.bind(*args, **kwargs))

        super().__init__(
            run,
            name=name,
            task_run_name=task_run_name or name,
            cache_policy=cache_policy,
            result_serializer=ARROW,
        )

    def run(self, bound: inspect.BoundArguments) -> Any:  # noqa: ANN401
        """What the task run does."""
        raise NotImplementedError

    def with_options(self, **options: Any) -> Self:  # noqa: ANN401
        """The same activity with other options of Prefect's tasks. Prefect's own gives a plain task."""
        made = copy(self)
        made.__dict__.update(super().with_options(**options).__dict__)
        return made

    def submit(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Start the activity as a branch beside the flow; gives a future, to be waited for before the flow ends."""
        if self.is_one_run(args, kwargs):
            return super().submit(*args, **kwargs)
        # The parts need the engine's workers: a worker that waited for them would be one less.
        as_state = kwargs.pop("return_state", False)
        made: Future[Any] = Future()
        call = partial(copy_context().run, partial(self, *args, **{**kwargs, "return_state": True}))
        Thread(target=_settle, args=(made, call), name=self.name).start()
        future = PrefectConcurrentFuture[Any](uuid4(), made)
        if not as_state:
            return future
        future.wait()
        return future.state

    def is_one_run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call with these arguments is exactly one task run."""
        inbound = self.bound(args, kwargs).arguments.get(self.inbound)
        return all(
            isinstance(one, pl.DataFrame) or (isinstance(one, Audience) and one.in_memory)
            for one in (inbound.values() if isinstance(inbound, Mapping) else [inbound])
        )

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments by name, without those that are Prefect's."""
        return self.signature.bind(
            *args, **{name: value for name, value in kwargs.items() if name not in OF_PREFECT}
        )

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments by name, with the inbound rows of branches waited for."""
        for future in kwargs.get("wait_for") or ():
            future.wait()
        bound = self.bound(args, kwargs)
        if self.inbound in bound.arguments:
            bound.arguments[self.inbound] = _waited_for(bound.arguments[self.inbound])
        return bound

    def arguments(self, bound: inspect.BoundArguments) -> tuple[Any, dict[str, Any]]:
        """The inbound rows, and all other arguments; an audience among those is held in memory."""
        bound.apply_defaults()
        others = {name: in_memory(value) for name, value in bound.arguments.items() if name != self.inbound}
        return bound.arguments[self.inbound], others

    def with_counts_shown(self, outbound: R) -> R:
        """The plain result. Its counts are logged and shown in the UI."""
        if TaskRunContext.get() is not None:
            show_counts(self.label, counts_of(outbound, self.label, this_run()))
        return outbound

    @property
    def where(self) -> str:
        """Where a part's task run finds the activity: module:name. Errors: `TypeError` where it does not."""
        where = f"{self.function.__module__}:{self.function.__name__}"
        try:
            found = imported(where)
        except (ImportError, AttributeError):
            found = None
        if getattr(found, "function", None) is not self.function:
            raise TypeError(f"The activity '{where}' must be decorated at the top level of its module.")
        return where

    @property
    def label(self) -> str:
        """Name of this task run, as counts and logs have it."""
        context = TaskRunContext.get()
        return self.name if context is None else context.task_run.name


OF_PREFECT = ("wait_for", "return_state")
"""Arguments of every task's call."""


def of_prefect(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that are Prefect's."""
    return {name: kwargs[name] for name in OF_PREFECT if name in kwargs}


def _settle(future: "Future[Any]", call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
        future.set_result(Failed(message=str(error), data=error))


def _waited_for(inbound: Any) -> Any:  # noqa: ANN401
    """The result of a branch."""
    if isinstance(inbound, Mapping):
        return {name: _waited_for(one) for name, one in inbound.items()}
    return inbound.result() if isinstance(inbound, PrefectFuture | State) else inbound


def in_memory(value: object) -> object:
    """An argument as functions get it: an audience as a table."""
    return value.collect() if isinstance(value, Audience) else value
