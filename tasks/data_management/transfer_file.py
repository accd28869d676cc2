"""Transfer file: downloads, uploads, lists or looks for files, and gives their names."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from shutil import copyfile, disk_usage
from typing import Annotated, Any, Literal, Self

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import INPUTS, RUN_ID, TASK_SOURCE, CachePolicy
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.errors import FilesMissing
from tasks.files.remote.azure import AzureContainer
from tasks.files.remote.https import HttpsServer
from tasks.files.remote.local import LocalFolder
from tasks.files.remote.place import PlaceSession, RemoteFile, Surroundings, plain_name
from tasks.files.remote.s3 import S3Bucket
from tasks.files.remote.sftp import SftpServer
from tasks.files.storage import FILES, files_table, within, written_whole
from tasks.forms import AsChoice
from tasks.http.retry import failed_for_now
from tasks.runs.results import ARROW, ReadableResults
from tasks.settings import Settings

NO_MOMENT = datetime.min.replace(tzinfo=UTC)


class History(BaseModel):
    """A folder of the storage folder that keeps what was transferred, up to its limits; the oldest go first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str = Field(min_length=1, title="History folder", description="Folder inside the storage folder.")
    maximum_files: int = Field(default=100, ge=1, title="Maximum files", description="How many files to keep.")
    maximum_bytes: int = Field(
        default=1024**3, ge=1, title="Maximum size", description="How many bytes to keep, all files together."
    )


class TransferFileOptions(BaseModel):
    """Options of the Transfer file activity."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    action: Literal["download", "upload", "exists", "list"] = Field(
        default="download",
        title="Action",
        description=(
            "download: from the place into the storage folder; upload: the other way; exists: whether the place has"
            " the file; list: what it has. The last two move nothing."
        ),
    )
    place: Annotated[
        LocalFolder | HttpsServer | SftpServer | S3Bucket | AzureContainer, Field(discriminator="kind"), AsChoice()
    ] = Field(title="Place", description="Where files are transferred from or to.")
    file: str = Field(
        min_length=1,
        title="File",
        description="Name of the file, or a pattern with *, ? and [...] in its last part, relative to the folder.",
    )
    folder: str = Field(
        default="",
        title="Storage folder",
        description="Folder inside the storage folder to download to or upload from.",
    )
    delete_after: bool = Field(
        default=False, title="Delete after transfer", description="Delete the file where it came from."
    )
    sort: Literal["name", "modified", "size"] = Field(
        default="name", title="Sort", description="Order of the files: the order in which they are given on."
    )
    descending: bool = Field(default=False, title="Descending", description="The last, newest or largest first.")
    maximum_files: int | None = Field(
        default=None, ge=1, title="Maximum files", description="Take only the first this many; empty takes all."
    )
    max_bytes: int = Field(
        default=4 * 1024**3, gt=0, title="Largest file", description="A larger file is not downloaded, in bytes."
    )
    when_none: Literal["error", "nothing"] = Field(
        default="error",
        title="When there is no file",
        description="An error, or nothing is given on. For exists and list it is no error.",
    )
    history: History | None = Field(
        default=None, title="History", description="Where to keep what was transferred."
    )

    @model_validator(mode="after")
    def _goes_elsewhere(self) -> Self:
        moves = self.action in {"download", "upload"}
        if moves and isinstance(self.place, LocalFolder) and self.place.folder.strip("/") == self.folder.strip("/"):
            raise ValueError("a local folder and the storage folder of the transfer must differ")
        return self


def transfer(options: TransferFileOptions, surroundings: Surroundings, at: datetime) -> pl.DataFrame:
    """Do the transfer; `at` goes into the names of the history's files.

    Out: file (name in the storage folder; for exists and list: in the place), bytes; in the order asked for.
    Errors: `FilesMissing`, `TransferFailed`, `OutsideStorage`, `StoreUnwritable`, those of the place.
    """
    there = options.place.session(surroundings)
    place = LocalFolder(folder=options.folder) if options.action == "upload" else options.place
    source = there if place is options.place else place.session(surroundings)
    chosen = _chosen(source.found(options.file), options)
    if not chosen and options.when_none == "error" and options.action in {"download", "upload"}:
        raise FilesMissing(pattern=options.file, where=place.shown)
    match options.action:
        case "download":
            moved = [_download(source, file, options, surroundings) for file in chosen]
        case "upload":
            moved = [_upload(there, file, options, surroundings) for file in chosen]
        case _:
            return pl.DataFrame([(file.name, file.bytes) for file in chosen], schema=FILES, orient="row")
    table = files_table(surroundings.storage, moved)
    if options.history is not None:
        _keep(moved, options.history, surroundings.storage, at)
    if options.delete_after:
        for file in chosen:
            source.delete(file.name)
    return table


def _chosen(files: list[RemoteFile], options: TransferFileOptions) -> list[RemoteFile]:
    orders = {
        "name": lambda file: file.name,
        "modified": lambda file: (file.modified or NO_MOMENT, file.name),
        "size": lambda file: (file.bytes, file.name),
    }
    return sorted(files, key=orders[options.sort], reverse=options.descending)[: options.maximum_files]


def _download(
    source: PlaceSession, file: RemoteFile, options: TransferFileOptions, surroundings: Surroundings
) -> Path:
    target = within(surroundings.storage, _joined(options.folder, PurePosixPath(plain_name(file.name)).name))
    with written_whole(target) as draft:
        # Less where the disk has less: what is left to others is theirs.
        source.download(file.name, draft, min(options.max_bytes, disk_usage(draft.parent).free // 2))
    return target


def _upload(
    target: PlaceSession, file: RemoteFile, options: TransferFileOptions, surroundings: Surroundings
) -> Path:
    path = within(surroundings.storage, _joined(options.folder, file.name))
    target.upload(path, PurePosixPath(file.name).name)
    return path


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else name


def _keep(files: list[Path], history: History, storage: Path, at: datetime) -> None:
    """Copy the files into the history, and take its oldest out until it keeps to its limits."""
    folder = within(storage, history.folder)
    for file in files:
        with written_whole(folder / f"{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}_{file.name}") as draft:
            copyfile(file, draft)
    kept = sorted((path for path in folder.iterdir() if path.is_file()), reverse=True)
    size = 0
    for number, path in enumerate(kept, start=1):
        size += path.stat().st_size
        if number > history.maximum_files or size > history.maximum_bytes:
            path.unlink()


@dataclass
class MovedFiles(CachePolicy):
    """Within a run a file that was moved is not moved again; what is looked at is looked at each time."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,  # noqa: ANN401
    ) -> str | None:
        """Key of a transfer of this run; None for exists and list."""
        if inputs["options"].action in {"exists", "list"}:
            return None
        policy = INPUTS + TASK_SOURCE + RUN_ID
        return policy.compute_key(task_ctx=task_ctx, inputs=inputs, flow_parameters=flow_parameters, **kwargs)


@task(
    name="Transfer file",
    task_run_name="Transfer file {options.action} {options.file}",
    cache_policy=ReadableResults(policy=MovedFiles()),
    result_serializer=ARROW,
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=1,
    retry_condition_fn=failed_for_now,
)
def transfer_file(options: TransferFileOptions, at: datetime | None = None) -> pl.DataFrame:
    """Download, upload, list or look for files.

    In: the options; the moment that the history's files are named by (now, if not given). Out, without population:
    file (its name in the storage folder; for exists and list: in the place), bytes; no row when there is no file.
    Connections that break are retried; `transfer_file.with_options(retries=...)` says how often.
    Errors: `FilesMissing`, `TransferFailed`, `OutsideStorage`, `StoreUnwritable`, `ExtraMissing`, `HostNotAllowed`,
    `UrlNotSecure`, `UrlUnparsable`. Source: Adobe Campaign Standard, Transfer file activity.

    Example:
        ```python
        place = LocalFolder(folder="incoming")
        files = transfer_file(TransferFileOptions(place=place, file="purchases-*.csv", folder="purchases"))
        ```
    """
    settings = Settings.load()
    surroundings = Surroundings(settings.storage.folder, settings.network.allowed_hosts)
    files = transfer(options, surroundings, at or datetime.now(UTC))
    get_run_logger().info("%s with %s: %d files.", options.action.capitalize(), options.place.shown, files.height)
    return files
