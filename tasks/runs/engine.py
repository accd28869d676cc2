"""Engine: where the partitions of a flow are worked on. A setting; no flow knows which one it is.

A flow names `ENGINE` as its task runner. When a run starts, the settings say what that is: threads of the run's own
process, or a Dask or Ray cluster, one made for the run or an existing one. A flow's other activities run in the
run's own process, whatever the engine.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.errors import CampaignError
from tasks.extras import extra_module
from tasks.settings import EngineSettings, Settings

LOOPBACK = "127.0.0.1"
LOCAL_RAY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "false", "RAY_AUTH_MODE": "token"}
"""Ray on loopback, on Linux too: where it makes no cluster of several machines it takes no other address. Whoever
gives it work shows a token, which is made for this cluster."""


def threads(settings: EngineSettings) -> TaskRunner[Any]:
    """Threads of the run's own process."""
    return ThreadPoolTaskRunner(max_workers=settings.workers)


def dask(settings: EngineSettings) -> TaskRunner[Any]:
    """An existing Dask cluster, or one on this machine for the run, a process a worker. Errors: `ExtraMissing`."""
    runner = extra_module("prefect_dask", extra="dask", purpose="the engine dask").DaskTaskRunner
    if settings.address:
        return runner(address=settings.address)  # type: ignore[no-any-return]
    # A worker is one thread, as Dask sees to for OpenMP and BLAS; polars would take every core in each of them.
    extra_module("dask", extra="dask", purpose="the engine dask").config.set(
        {"distributed.nanny.pre-spawn-environ.POLARS_MAX_THREADS": 1}
    )
    # Each partition in a process of its own: a worker that dies takes no other partition with it.
    workers: dict[str, Any] = {"n_workers": settings.workers, "threads_per_worker": 1, "dashboard_address": None}
    # Loopback, and a certificate that is made for this cluster: no other process of the machine gives it work.
    workers |= {"host": LOOPBACK, "security": True}
    return runner(cluster_kwargs=workers)  # type: ignore[no-any-return]


def ray(settings: EngineSettings) -> TaskRunner[Any]:
    """An existing Ray cluster, or one on this machine for the run. Errors: `ExtraMissing`."""
    if not settings.address:
        # Read when Ray is imported, and by every process that it starts.
        os.environ.update(LOCAL_RAY, RAY_AUTH_TOKEN=secrets.token_hex(32))
    runner = extra_module("prefect_ray", extra="ray", purpose="the engine ray").RayTaskRunner
    if settings.address:
        return runner(address=settings.address)  # type: ignore[no-any-return]
    return runner(init_kwargs={"num_cpus": settings.workers, "include_dashboard": False})  # type: ignore[no-any-return]


RUNNERS: Mapping[str, Callable[[EngineSettings], TaskRunner[Any]]] = {"threads": threads, "dask": dask, "ray": ray}


class NoEngine(TaskRunner[Any]):
    """The task runner where the settings name none that can be used: whoever gives it work is told why."""

    def __init__(self, error: CampaignError) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.error = error

    def duplicate(self) -> Self:
        """Itself."""
        return self

    def submit(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401
        """Errors: the error with which the engine was not made."""
        raise self.error


class EngineOfSettings(TaskRunner[Any]):
    """A task runner that a flow run replaces by the one that the settings name."""

    def duplicate(self) -> TaskRunner[Any]:  # type: ignore[override]
        """The task runner of one flow run, which Prefect asks for when it starts."""
        try:
            settings = Settings.load().engine
            return RUNNERS[settings.kind](settings)
        except CampaignError as error:
            # Raised here, Prefect would leave the run as Running for ever.
            return NoEngine(error)

    def submit(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401
        """Never asked of it: a run works with a duplicate."""
        raise NotImplementedError


ENGINE = EngineOfSettings()  # type: ignore[no-untyped-call]
"""Task runner of every flow that works in partitions: `@flow(task_runner=ENGINE)`."""
