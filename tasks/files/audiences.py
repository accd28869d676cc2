"""Stored audiences: populations by name, each a Parquet file of a folder."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tasks.files.kept import kept

AUDIENCE_NAME = r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$"


class AudienceOptions(BaseModel):
    """Which stored audience."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(
        default=Path("audiences"),
        title="Folder",
        description="Where audiences are stored, below the folder of kept files.",
    )
    name: str = Field(
        pattern=AUDIENCE_NAME,
        title="Audience",
        description="Name of the audience: letters, digits, spaces, '_', '.' and '-'.",
    )

    @property
    def place(self) -> Path:
        """The whole path of the folder."""
        return kept(self.folder)

    def path_of(self, name: str) -> Path:
        """The file of an audience of this folder."""
        return self.place / f"{name}.parquet"
