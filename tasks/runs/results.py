"""Results of activities: stored as Arrow IPC files, found again by key, never pickled.

A Prefect result record is JSON, so a table can only be stored as it is when the record's metadata lies apart.
Here it lies beside the result, in the same storage, whatever storage Prefect is configured with: the two cannot
come to stand under different roots. A stored file never chooses how it is read: it is one of our two formats, read
by our own code, or it is no result.
"""

import io
import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any, Literal

import polars as pl
from prefect.cache_policies import RUN_ID, TASK_SOURCE, CachePolicy
from prefect.context import TaskRunContext
from prefect.filesystems import WritableFileSystem
from prefect.logging.loggers import task_run_logger
from prefect.results import ResultStore, get_result_store
from prefect.serializers import JSONSerializer, Serializer
from prefect.utilities.hashing import stable_hash
from pydantic import BaseModel

from tasks.runs.digest import arrow_file, digest_of
from tasks.tables.transitions import Transitions

ARROW_MAGIC = b"ARROW1"
KIND = "__transitions__"
"""Column that names the class when one file holds several transitions."""


class ArrowSerializer(Serializer):  # Prefect registers the bare class only
    """Prefect serializer of activity results.

    A DataFrame becomes an Arrow IPC file of its rows. `Transitions`, an audience among them, become an Arrow
    IPC file of one row, in which each transition is a column holding the list of its rows. Anything else becomes
    JSON. Files hold no view types and no compression, so that old Arrow readers open them too.
    """

    type: Literal["arrow"] = "arrow"

    def dumps(self, obj: Any) -> bytes:  # noqa: ANN401
        """Bytes of the result file of `obj`."""
        return arrow_file(as_table(obj)) if isinstance(obj, pl.DataFrame | Transitions) else _JSON.dumps(obj)

    def loads(self, blob: bytes) -> Any:  # noqa: ANN401
        """The result that `dumps` wrote. Errors: `KeyError` if the transitions' class is not imported."""
        if not blob.startswith(ARROW_MAGIC):
            return _JSON.loads(blob)
        table = pl.read_ipc(io.BytesIO(blob))
        if KIND not in table.columns:
            return table
        transitions = Transitions.known[table.item(0, KIND)]
        lists = {name: table.item(0, name) for name in table.columns if name != KIND}
        return transitions.from_tables(**{name: rows.struct.unnest() for name, rows in lists.items()})


def as_table(result: pl.DataFrame | Transitions) -> pl.DataFrame:
    """The table that the file of a result holds: its rows, or one row with a list of rows for each transition."""
    if isinstance(result, pl.DataFrame):
        return result
    lists = {name: [table.to_struct()] for name, table in result.tables().items()}
    return pl.DataFrame({KIND: [type(result).__name__], **lists})


def known_object(found: dict[str, Any]) -> Any:  # noqa: ANN401
    """The error or model that an object of a stored JSON stands for; no module is imported to find its class.

    Errors: `ForeignResult` for any other class.
    """
    name = found.get("__class__") or found.get("__exc_type__")
    if name is None:
        return found
    module, _, kind = str(name).rpartition(".")
    known = getattr(sys.modules.get(module), kind, None)
    if isinstance(known, type) and issubclass(known, Exception):
        return known(str(found["message"]))
    if isinstance(known, type) and issubclass(known, BaseModel):
        return known.model_validate(found["data"])
    raise ForeignResult(f"it holds a '{name}'")


_JSON = JSONSerializer(object_decoder=f"{__name__}.known_object")


class ForeignResult(ValueError):
    """A stored file that is none of our results."""


def result_storage() -> WritableFileSystem:
    """The result storage of the current run. Errors: `ValueError` where there is none."""
    storage = get_result_store().result_storage
    if storage is None:
        raise ValueError("There is no result storage outside a run.")
    return storage


class BesideResults(WritableFileSystem):
    """Key storage that keeps a result's metadata next to the result, in the current result storage."""

    _block_type_name = "Beside Results"

    def read_path(self, path: str, **options: Any) -> bytes:  # type: ignore[override]  # noqa: ANN401
        """Metadata of the result `path`. Errors: `ForeignResult`, where it asks for another reader or file."""
        content: bytes = result_storage().read_path(f"{path}.meta.json", **options)  # type: ignore[assignment]
        metadata = json.loads(content)
        if metadata["serializer"] != {"type": "arrow"}:
            raise ForeignResult("its metadata asks for another reader")
        if PurePath(metadata["storage_key"]).name != PurePath(path).name:
            raise ForeignResult("its metadata names another file")
        return content

    def write_path(self, path: str, content: bytes, **options: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """Keep the metadata of the result `path`."""
        result_storage().write_path(f"{path}.meta.json", content=content, **options)  # type: ignore[unused-coroutine]


@dataclass
class Inputs(CachePolicy):
    """Cache policy: equal arguments, by `digest_of`."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> str | None:
        """Digest of the arguments."""
        return digest_of(inputs)


@dataclass
class ReadableResults(CachePolicy):
    """Finds results by the key of `policy`, passing over results that can no longer be read.

    Metadata may outlive its result (a deleted or moved file), for which Prefect fails the task. Here such a key
    counts as a miss: the next key of a chain that is the same in every run takes its place.
    """

    policy: CachePolicy = field(default_factory=lambda: Inputs() + TASK_SOURCE + RUN_ID)

    def __post_init__(self) -> None:
        self.key_storage = BesideResults()

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,  # noqa: ANN401
    ) -> str | None:
        """Key of the newest readable result, or the first free one; None where `policy` gives none."""
        key = self.policy.compute_key(task_ctx=task_ctx, inputs=inputs, flow_parameters=flow_parameters, **kwargs)
        while key is not None and (reason := _unreadable(task_ctx.result_store, key)):
            task_run_logger(task_ctx.task_run).warning("A stored result is passed over: %s.", reason)
            key = stable_hash(key)
        return key


def _unreadable(store: ResultStore, key: str) -> str:
    """Why what is stored under a key is no result; empty where it is one, or where there is nothing."""
    if not _was_written(store, key):
        return ""
    try:
        assert store.metadata_storage is not None  # noqa: S101  # nothing was written without
        store.metadata_storage.read_path(key)  # `exists` would hide what it says
        if store.exists(key):
            store.read(key)
    except ForeignResult as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # gone or cut short: whatever it is, it is no result
        return f"it cannot be read ({type(error).__name__})"
    return ""


@dataclass(frozen=True)
class Kept:
    """A stored result, and when it expires."""

    result: Any
    expires_at: datetime | None


def last_kept(store: ResultStore, key: str) -> Kept | None:
    """The newest result under a key or its followers, expired or not; None where there is none that can be read.

    The lock of a task run that makes the next one does not matter.
    """
    store = store.model_copy(update={"lock_manager": None})
    while True:
        try:
            record = store.read(key)
            return Kept(record.result, record.metadata.expiration)
        except Exception:  # noqa: BLE001  # absent or unreadable: a chain of keys ends with what was never written
            if not _was_written(store, key):
                return None
        key = stable_hash(key)


def _was_written(store: ResultStore, key: str) -> bool:
    if store.metadata_storage is None:
        return False
    try:
        store.metadata_storage.read_path(key)
    except ForeignResult:
        return True
    except Exception:  # noqa: BLE001
        return False
    return True


PER_RUN = ReadableResults()
"""Results are reused within one flow run: a run that is retried or resumed does only what is missing."""

ARROW = ArrowSerializer()
