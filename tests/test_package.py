"""The package as tools see it: its folders, its versions, its deployments."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prefect import Flow
from prefect.utilities.importtools import import_object

import deployments
import flows
import tasks

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FLAT = ("errors", "settings", "send", "privacy", "characters", "extras", "forms")
PACKAGES = (
    *("tables", "runs", "http", "files", "templates", "lowering"),
    *("messages", "sources", "endpoint", "delivery", "pools", "feedback", "operations"),
)
"""Packages by theme, from the lowest: each may use those before it."""
ACTIVITY_GROUPS = ("targeting", "data_management", "content", "channels", "execution")


def modules_of(package: object) -> list[str]:
    return [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = {
        f"{node.module}.{name.name}" if (ROOT / node.module.replace(".", "/")).is_dir() else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }
    return found | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("package", [tasks, flows, deployments], ids=lambda package: package.__name__)
def test_every_module_imports_and_says_what_it_is(package: object) -> None:
    for name in modules_of(package):
        if not name.endswith(("__main__", ".env")):
            assert importlib.import_module(name).__doc__, name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tasks").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_arrows_run_one_way(path: Path) -> None:
    here = path.relative_to(ROOT / "tasks").with_suffix("").parts[0]
    allowed = {here, *FLAT}
    if here in PACKAGES:
        allowed |= set(PACKAGES[: PACKAGES.index(here)])
    elif here not in FLAT:
        allowed |= {*PACKAGES, *ACTIVITY_GROUPS, "__init__"}
    for module in imports_of(path):
        assert not module.startswith(("flows", "deployments")), module
        if not module.startswith("tasks."):
            continue
        there = module.split(".")[1]
        assert there in allowed, f"the arrow from {here} to {module} runs upwards"
        if there in ACTIVITY_GROUPS:
            private = module.split(".")[-1].startswith("_")
            assert private, f"an activity imports the activity {module}"
            assert there == here, f"a group imports the inside of another: {module}"


def test_every_package_has_its_place() -> None:
    present = {path.name for path in (ROOT / "tasks").iterdir() if (path / "__init__.py").is_file()}
    assert present == {*PACKAGES, *ACTIVITY_GROUPS}


def test_no_file_of_ours_opens_a_pickle() -> None:
    for folder in ("tasks", "flows", "deployments"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not imports_of(path) & {"pickle", "cloudpickle", "dill", "joblib"}, path


def test_the_constraints_are_names_and_versions_within_the_bounds() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    tested = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    extras = [wanted for group in PROJECT["optional-dependencies"].values() for wanted in group]
    for wanted in map(Requirement, [*PROJECT["dependencies"], *extras]):
        if wanted.name != PROJECT["name"]:
            assert wanted.specifier.contains(tested[canonicalize_name(wanted.name)]), wanted


def test_what_is_installed_is_what_the_project_says() -> None:
    assert version("campaign-flows") == PROJECT["version"]
    assert distribution("campaign-flows").metadata["Requires-Python"] in {">=3.11,<3.14", "<3.14,>=3.11"}


def test_every_import_is_of_a_package_that_the_project_names() -> None:
    """What happens to be installed beside is not there on a bare machine."""
    extras = [wanted for group in PROJECT["optional-dependencies"].values() for wanted in group]
    named = {canonicalize_name(Requirement(each).name) for each in [*PROJECT["dependencies"], *extras]}
    ours = {"tasks", "flows", "deployments", "tests"}
    packages = packages_distributions()
    for folder in ("tasks", "flows", "deployments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for module in {name.partition(".")[0] for name in imports_of(path)} - ours - sys.stdlib_module_names:
                of = {canonicalize_name(name) for name in packages.get(module, [module])}
                assert of & named, f"{path.relative_to(ROOT)} imports {module}, which pyproject.toml does not name"


def test_no_file_names_a_package_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    hosts = ("py" + "pi.org", "python" + "hosted", "npm" + "js.org", "npm" + "js.com")
    for name in listed:
        if (ROOT / name).is_file():
            content = (ROOT / name).read_bytes()
            assert not any(host.encode() in content for host in hosts), name


def test_every_deployment_names_a_flow_that_takes_its_parameters() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert declared
    for deployment in declared:
        found = import_object(deployment["entrypoint"])
        assert isinstance(found, Flow)
        assert set(deployment["parameters"]) <= set(found.parameters.properties)
        assert deployment["concurrency_limit"]["limit"] == 1
        assert all(not schedule["active"] and schedule["timezone"] for schedule in deployment["schedules"])
