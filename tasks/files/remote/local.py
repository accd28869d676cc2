"""A folder of the storage folder as a place."""

from typing import Literal

from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from pydantic import Field

from tasks.files.remote.place import FilesystemSession, Place, PlaceSession, Surroundings
from tasks.files.storage import within


class LocalFolder(Place):
    """A folder of the storage folder: where other programs of this machine put files, or fetch them."""

    kind: Literal["local"] = Field(default="local", title="Kind", description="A folder of the storage folder.")

    @property
    def shown(self) -> str:
        """The folder."""
        return f"the local folder '{self.folder or '.'}'"

    def session(self, surroundings: Surroundings) -> PlaceSession:
        """The folder itself. Errors: `OutsideStorage`."""
        root = within(surroundings.storage, self.folder) if self.folder else surroundings.storage.resolve()
        return FilesystemSession(LocalFileSystem(), root.as_posix(), self.shown, has_folders=True)
