"""The shape of every place that files are transferred from and to, and the places that fsspec reaches."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem, Callback  # type: ignore[import-untyped]
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import CampaignError, OutsideStorage, TransferFailed, UrlNotSecure
from tasks.extras import extra_module
from tasks.http.bounded import Clock, Damaged, OutOfTime, OverBound, TooLarge
from tasks.http.network import canonical_host, check_host, check_url, is_allowed, public_url
from tasks.privacy import unencrypted

WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a place."""

    name: str
    """Relative to the place's folder."""
    bytes: int
    modified: datetime | None


@dataclass(frozen=True)
class Surroundings:
    """What the operator allows: the storage folder and the hosts."""

    storage: Path
    allowed_hosts: frozenset[str] = frozenset()


class PlaceSession(ABC):
    """An open connection to a place. Names are relative to its folder. Errors: `TransferFailed`."""

    @abstractmethod
    def found(self, pattern: str) -> list[RemoteFile]:
        """The files of a name, or of a pattern with `*`, `?` or `[...]` in its last part."""

    @abstractmethod
    def download(self, name: str, target: Path, max_bytes: int) -> None:
        """Write a file of the place to `target`, unless it is larger than `max_bytes`."""

    @abstractmethod
    def upload(self, source: Path, name: str) -> None:
        """Write a file into the place, replacing an earlier one."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file of the place."""


class Place(BaseModel, ABC):
    """Options of a place, with the credentials to reach it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    folder: str = Field(
        default="", title="Folder", description="Folder of the place that file names are relative to."
    )
    timeout_seconds: float = Field(
        default=600, gt=0, title="Timeout", description="Limit for one whole transfer, in seconds."
    )

    @property
    @abstractmethod
    def shown(self) -> str:
        """The place as logs and errors name it; never a secret."""

    @abstractmethod
    def session(self, surroundings: Surroundings) -> PlaceSession:
        """Connect. Errors: `TransferFailed`, `HostNotAllowed`, `ExtraMissing`, `OutsideStorage`."""


def check_endpoint(url: str, allowed_hosts: Iterable[str]) -> None:
    """Check the address of a service: https, to public or allowed hosts; http to this machine alone.

    Errors: `UrlUnparsable`, `UrlNotSecure`, `HostNotAllowed`.
    """
    allowed = list(allowed_hosts)
    scheme, _, rest = url.partition("://")
    if scheme == "http":
        parsed = check_url(f"https://{rest}", allowed)
        allowed_here = is_allowed(canonical_host(parsed.host), parsed.port or 80, allowed)
        if not allowed_here or unencrypted(parsed.host, is_encrypted=False):
            raise UrlNotSecure(url=public_url(url))
        return
    parsed = check_url(url, allowed)
    check_host(parsed.host, parsed.port or 443, allowed)


class _Counted(Callback):  # type: ignore[misc]  # fsspec has no types
    """Ends a download at its limits, as its client tells of each part: a server may send more than it said."""

    def __init__(self, limit: int, clock: Clock) -> None:
        super().__init__()
        self._limit = limit
        self._clock = clock

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Check what came so far. Errors: `TooLarge`, `OutOfTime`."""
        self._clock.check()
        if self.value > self._limit:
            raise TooLarge(f"has more than {self._limit} bytes")


class FilesystemSession(PlaceSession):
    """A session with a place that fsspec reaches."""

    def __init__(
        self, files: AbstractFileSystem, root: str, shown: str, *, has_folders: bool, seconds: float | None = None
    ) -> None:
        self._files = files
        self._root = root
        self._shown = shown
        self._has_folders = has_folders
        self._seconds = seconds

    def found(self, pattern: str) -> list[RemoteFile]:
        """The matching files, in the order of their names."""
        folder, _, last = plain_name(pattern).rpartition("/")
        with transfer_errors(self._shown):
            try:
                entries: Iterable[dict[str, Any]] = self._files.ls(self._path(folder), detail=True, refresh=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            files = [
                RemoteFile(f"{folder}/{name}" if folder else name, int(entry["size"] or 0), _modified(entry))
                for entry in entries
                if entry["type"] == "file" and _matches(name := PurePosixPath(entry["name"]).name, last)
            ]
        return sorted(files, key=lambda file: file.name)

    def download(self, name: str, target: Path, max_bytes: int) -> None:
        """Write the file to `target`."""
        with transfer_errors(self._shown):
            size = int(self._files.info(self._path(plain_name(name)))["size"] or 0)
            if size > max_bytes:
                raise TransferFailed(
                    where=self._shown, reason=f"'{name}' has {size} bytes, {max_bytes} are allowed"
                )
            try:
                self._fetch(self._path(plain_name(name)), target, max_bytes, Clock(self._seconds))
            except TimeoutError:
                raise OutOfTime(f"was not done within {self._seconds:g} seconds") from None

    def _fetch(self, path: str, target: Path, max_bytes: int, clock: Clock) -> None:
        """Copy the file, never more of it than the limits. Errors: `OverBound`, and the client's own."""
        # A client with a loop of its own is not waited for any longer than this, also where it is told nothing.
        waited = {} if self._seconds is None else {"timeout": self._seconds}
        self._files.get_file(path, str(target), callback=_Counted(max_bytes, clock), **waited)

    def upload(self, source: Path, name: str) -> None:
        """Write the file under its name once it is whole. An object store shows nothing before."""
        path = self._path(plain_name(name))
        if not self._has_folders:
            with transfer_errors(self._shown):
                self._files.put_file(str(source), path)
            return
        draft = str(PurePosixPath(path).with_name(f".{PurePosixPath(path).name}.part"))
        with transfer_errors(self._shown):
            self._files.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
            self._files.put_file(str(source), draft)
            if self._files.exists(path):
                self._files.rm_file(path)
            self._files.mv(draft, path)

    def delete(self, name: str) -> None:
        """Delete the file."""
        with transfer_errors(self._shown):
            self._files.rm_file(self._path(plain_name(name)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/") if self._root else name


def fetch_folder(url: str, target: Path) -> None:
    """Copy the files of a folder in an object store, reached as the store's own client is configured.

    Errors: `ExtraMissing`, `TransferFailed`, `OutsideStorage`.
    """
    scheme = url.partition("://")[0]
    extra, package = {"s3": ("s3", "s3fs"), "abfs": ("azure", "adlfs")}[scheme]
    extra_module(package, extra=extra, purpose=f"{scheme}://")
    with transfer_errors(url):
        files, root = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
        for path in files.find(root):
            copy = target / plain_name(path.removeprefix(f"{root.rstrip('/')}/"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(path, str(copy))


def plain_name(name: str) -> str:
    """A name of a place's file without ways out of its folder. Errors: `OutsideStorage`."""
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith("/") or "\x00" in name or any(part in {"", ".", ".."} for part in parts):
        raise OutsideStorage(file=name)
    return "/".join(parts)


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or (bool(WILDCARDS.intersection(pattern)) and fnmatchcase(name, pattern))


def _modified(entry: dict[str, Any]) -> datetime | None:
    moment = entry.get("mtime", entry.get("LastModified", entry.get("last_modified")))
    if isinstance(moment, int | float):
        return datetime.fromtimestamp(moment, UTC)
    if isinstance(moment, datetime):
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


@contextmanager
def transfer_errors(shown: str) -> Iterator[None]:
    """Turns whatever a client library raises into `TransferFailed`, in one line."""
    try:
        yield
    except CampaignError:
        raise
    except Exception as error:  # noqa: BLE001  # each client library has errors of its own
        if isinstance(refused := _refusal_within(error), CampaignError):
            raise refused from None
        raise _transfer_failed(shown, refused) from None


def _refusal_within(error: Exception) -> Exception:
    """What the guard or a bound said, where a client library has wrapped it; else the error itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CampaignError | OverBound | Damaged):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def _transfer_failed(shown: str, error: Exception) -> TransferFailed:
    match error:
        case TooLarge() | OutOfTime() | Damaged():
            reason, passing = f"the file {error}", not isinstance(error, TooLarge)
        case PermissionError() | FileNotFoundError():
            reason, passing = _line(error), False
        case _:
            reason, passing = _line(error), _may_pass(error)
    return TransferFailed(where=shown, reason=reason, retryable=passing)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError | TimeoutError):
        return True
    passing = ("Connection", "Timeout", "ServiceResponse", "ServiceRequest", "EndpointConnection", "Disconnect")
    return any(word in kind.__name__ for kind in type(error).__mro__ for word in passing)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")
