"""The pages of the repository: every link leads somewhere, and every block is what it says that it is."""

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from cyclopts import App, CycloptsError
from jinja2 import Environment
from prefect.cli._app import _app as prefect

from deployments.reference import anchor
from deployments.terminal.app import app as campaign

ROOT = Path(__file__).parents[1]
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
PAGES = [ROOT / name for name in LISTED.split()]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
ELSEWHERE = ("cd", "docker", "export", "kubectl", "mkdir", "pg_dump", "pip", "sed")
"""Commands of other programs: only the files of ours that they name are looked at."""
LANGUAGES = {"sh", "python", "json", "yaml", "jinja", "html", "ini", "csv", "text"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    return BLOCK.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    text = prose(path)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {*map(anchor, titles), *re.findall(r'<a id="([^"]+)">', text)}


def blocks() -> Iterator[Any]:
    for path in PAGES:
        for number, (language, text) in enumerate(BLOCK.findall(path.read_text())):
            yield pytest.param(language, text, id=f"{named(path)}-{number}")


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_link_and_every_anchor_is_there(path: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    for link in (one or other for one, other in LINK.findall(text)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, place = unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if place:
            assert place in anchors(target / "README.md" if target.is_dir() else target), link


@pytest.mark.parametrize(
    "picture", sorted((ROOT / "deployments" / "pictures").iterdir()), ids=lambda path: path.name
)
def test_a_picture_is_small_and_shown_by_a_page(picture: Path) -> None:
    assert picture.stat().st_size < 150_000
    assert any(f"pictures/{picture.name}" in path.read_text() for path in PAGES)


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_test_that_a_page_names_is_there(path: Path) -> None:
    # The tutorial names the test that it makes its reader write.
    for file, name in re.findall(r"`(tests/(?!flows/test_spring)[\w/.]+\.py)(?:::(\w+))?`", path.read_text()):
        assert not name or f"def {name}(" in (ROOT / file).read_text(), name
        assert (ROOT / file).is_file(), file


@pytest.mark.parametrize(("language", "text"), list(blocks()))
def test_every_block_is_what_it_says(language: str, text: str) -> None:
    assert language in LANGUAGES, text
    readers: dict[str, Callable[[str], Any]] = {
        "python": lambda text: ast.parse(text if not text.startswith(" ") else f"if True:\n{text}"),
        "json": json.loads,
        "yaml": yaml.safe_load,
        "jinja": Environment().parse,
        "html": Environment().parse,
        "sh": check_commands,
    }
    readers.get(language, str)(text)


def check_commands(text: str) -> None:
    """Each command of a block is one that is there, with arguments that it takes."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in re.split(r"\s&&\s|\s;\s|\s\|\s", line):
            words = shlex.split(command, comments=True)
            if words:
                check_command(words)


def check_command(words: list[str]) -> None:
    """One command. Fails where it is not there or does not take the arguments."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    match words:
        case ["make", *arguments]:
            made = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr
        case ["campaign", *arguments]:
            parsed(campaign, arguments)
        case ["prefect", *arguments]:
            parsed(prefect, arguments)
        case ["python", "-m", module, *_]:
            assert find_spec(module), words
        case ["python", "-c", code]:
            ast.parse(code)
        case [program, *arguments]:
            assert program in ELSEWHERE or (ROOT / program).is_file(), words
            if program == "docker" and "-m" in arguments:
                assert find_spec(arguments[arguments.index("-m") + 1]), words
            for file in re.findall(r"\bdeployments/[\w./-]+", " ".join(arguments)):
                assert (ROOT / file).is_file(), file


def parsed(app: App, arguments: list[str]) -> None:
    try:
        app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"{' '.join(arguments)}: {error}")


@pytest.mark.parametrize(
    "text",
    [
        "make demmo",
        "campaign rum x",
        "campaign run x --dat 2027-02-28",
        "python -m deployments.no_such",
        "sed s/a/b/ deployments/no-such.json",
        "prefect work-pol create x",
        "no-such-program",
    ],
)
def test_a_command_that_is_not_there_is_found(text: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_commands(text)
