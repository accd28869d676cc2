"""The package as somebody installs it: no checkout, any folder."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import polars as pl
import pytest
from prefect.client.orchestration import SyncPrefectClient

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that has the built wheel, and dependencies from here, but not this checkout."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, ROOT]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", built],
        check=True,
        capture_output=True,
    )
    # A path is read without the .pth files in it, which would lead to this checkout.
    paths = [str(folder / "site"), sysconfig.get_path("purelib")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def said(installed: dict[str, str], folder: Path, *arguments: str) -> str:
    """What a module of the installed package prints, called in a folder."""
    done = subprocess.run(
        [sys._base_executable, "-m", *arguments],
        cwd=folder,
        env=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


CAMPAIGN = "deployments.terminal.app"


def test_the_package_is_used_from_an_empty_folder(
    installed: dict[str, str], prefect_backend: str, undeployed: SyncPrefectClient, tmp_path: Path
) -> None:
    environment = {
        **installed,
        "PREFECT_API_URL": prefect_backend,
        "CAMPAIGN_JOURNAL__URL": f"sqlite:///{tmp_path}/journal.db",
    }
    folder = tmp_path / "empty"
    folder.mkdir()
    assert said(environment, folder, CAMPAIGN, "--version") == "campaign-flows 0.1.0\n"
    assert "sports-weekend" in said(environment, folder, CAMPAIGN, "list")
    run = said(environment, folder, CAMPAIGN, "run", "sports-weekend", "--date", "2026-11-24")
    assert list((folder / "outbox" / "sports-weekend").iterdir()), run
    assert "Registered: birthday-coupons" in said(environment, folder, "deployments.register")
    found = undeployed.read_deployment_by_name("Campaign/sports-weekend")
    assert str(folder) in str(found.pull_steps)
    assert Path(found.parameters["templates"]["folder"]).is_dir()
    assert not found.parameters["templates"]["folder"].startswith(str(ROOT))

    # A folder of somebody's own has its own campaigns alone.
    own = tmp_path / "own"
    own.mkdir()
    people = {"profile_id": ["1"], "first_name": ["Ada"], "email": ["ada@people.test"], "may_contact": [True]}
    pl.DataFrame(people).write_csv(own / "people.csv")
    environment["CAMPAIGN_PROFILES__PATH"] = "people.csv"
    said(environment, own, CAMPAIGN, "new", "spring-offers")
    assert "sports-weekend" not in said(environment, own, CAMPAIGN, "list")
    assert said(environment, own, CAMPAIGN, "check") == "Nothing is wrong.\n"
    assert "delivered            1" in said(environment, own, CAMPAIGN, "run", "spring-offers")
    assert said(environment, own, "deployments.register") == "Registered: spring-offers\n"
