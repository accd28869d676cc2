"""Where files are that are kept between runs: a place that does not depend on the working folder."""

from pathlib import Path

from prefect.settings import PREFECT_HOME

from tasks.settings import Settings


def kept(folder: Path) -> Path:
    """The whole path of a folder of kept files; a relative one is below the operator's (CAMPAIGN_KEPT__FOLDER)."""
    return (Settings.load().kept.folder or Path(PREFECT_HOME.value()).absolute() / "campaigns") / folder
