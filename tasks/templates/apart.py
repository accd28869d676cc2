"""Rendering in a process of its own, which can be ended: whatever a template does, it has a budget.

A template that is lowered takes memory and time in proportion to its profiles. Any other is rendered here, row by
row, by a child process with limits that the kernel keeps: `SECONDS` of a processor and `MEMORY` bytes for each
message. Beyond them the child is ended and the profile is rejected. Children are kept for the next messages.
"""

import atexit
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from io import BytesIO
from json import dumps, loads
from pathlib import Path as File
from threading import Lock
from typing import IO, Any

import polars as pl

from tasks.templates.fields import Path

SECONDS = 2.0
"""Seconds of a processor for one message."""
MEMORY = 256 * 1024 * 1024
"""Bytes that one message may take beside what the process has."""
TOGETHER = 500
"""Messages that a child is given at a time."""
RECIPES_KEPT = 40
"""Templates that a child keeps compiled."""

CHILD = File(__file__).with_name("child.py")


@dataclass(frozen=True)
class Recipe:
    """What a child needs to know to render one part of the messages."""

    part: str
    name: str
    """File of the part."""
    sources: Mapping[str, str]
    html: bool
    locale: str
    marks_branches: bool
    constants: Mapping[Path, object]
    used: Mapping[Path, Path]

    def written(self) -> tuple[bytes, bytes]:
        """As JSON, with the constants as a table of one row beside it."""
        values = {".".join(path): value for path, value in self.constants.items()}
        recipe = {**asdict(self), "constants": list(self.constants), "used": list(self.used.items())}
        return dumps(recipe).encode(), table_bytes(pl.DataFrame([values]))

    @classmethod
    def read(cls, recipe: dict[str, Any], constants: Mapping[str, object]) -> "Recipe":
        """What was written."""
        paths = [tuple(path) for path in recipe["constants"]]
        used = {tuple(path): tuple(full) for path, full in recipe["used"]}
        return cls(**{**recipe, "constants": {path: constants[".".join(path)] for path in paths}, "used": used})


def table_bytes(table: pl.DataFrame) -> bytes:
    """A table as an Arrow file."""
    target = BytesIO()
    table.write_ipc(target)
    return target.getvalue()


@dataclass
class Outcome:
    """What became of some messages: a text or a reason for each, and what it took."""

    texts: list[str | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    seconds: float = 0.0
    """Of a processor."""
    ended: int = 0
    """Messages that went beyond their budget."""

    def add(self, text: str | None, reason: str | None) -> None:
        """One more message."""
        self.texts.append(text)
        self.reasons.append(reason)


class ChildEnded(Exception):
    """The child is gone, and with it the message that it was at."""


class Child:
    """A process that renders; it waits for the next messages until its parent closes its input."""

    def __init__(self) -> None:
        paths = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-P", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, "POLARS_MAX_THREADS": "1"},
        )
        self._known: set[str] = set()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        return self._process.stdout

    def answers(self, key: str, recipe: tuple[bytes, bytes], rows: pl.DataFrame) -> Iterator[Any]:
        """What it says of each row, then how many seconds it took. Errors: `ChildEnded`."""
        try:
            if key not in self._known:
                if len(self._known) >= RECIPES_KEPT:
                    self._known.clear()
                self._known.add(key)
                self._tell(key, *recipe)
            self._tell(key, b"", table_bytes(rows))
            self._input.flush()
        except OSError as error:
            raise ChildEnded from error
        while line := self._output.readline():
            answer = loads(line)
            yield answer
            if "seconds" in answer:
                return
        raise ChildEnded

    def _tell(self, key: str, recipe: bytes, table: bytes) -> None:
        head = dumps({"key": key, "recipe": len(recipe), "table": len(table), "seconds": SECONDS})
        self._input.write(head.encode() + b"\n" + recipe + table)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._input, self._output):
            with suppress(OSError):  # what it was never told
                pipe.close()


class Children:
    """The children of this process that wait for messages."""

    def __init__(self) -> None:
        self._waiting: list[Child] = []
        self._owner = os.getpid()
        self._lock = Lock()
        atexit.register(self.close)

    def take(self) -> Child:
        """One that waits, or a new one."""
        with self._lock:
            if self._owner != os.getpid():  # a copy of this process shares no children with it
                self._waiting, self._owner = [], os.getpid()
            return self._waiting.pop() if self._waiting else Child()

    def give_back(self, child: Child) -> None:
        """It waits for others."""
        with self._lock:
            self._waiting.append(child)

    def close(self) -> None:
        """End those that wait."""
        if self._owner == os.getpid():
            while self._waiting:
                self._waiting.pop().close()


CHILDREN = Children()


def rendered_apart(recipe: Recipe, rows: pl.DataFrame) -> Outcome:
    """Render the rows, fields by dotted path, in a child. A message beyond its budget is a reject."""
    outcome = Outcome()
    written = recipe.written()
    key = blake2b(b"".join(written), digest_size=16).hexdigest()
    child = CHILDREN.take()
    try:
        while len(outcome.texts) < rows.height:
            some = rows.slice(len(outcome.texts), TOGETHER)
            try:
                for answer in child.answers(key, written, some):
                    _take(answer, outcome)
            except ChildEnded:
                outcome.add(None, "the template ended the process that renders it")
                outcome.ended += 1
                child.close()
                child = CHILDREN.take()
    except BaseException:
        child.close()  # it may be in the midst of an answer
        raise
    CHILDREN.give_back(child)
    return outcome


def _take(answer: dict[str, Any], outcome: Outcome) -> None:
    if "bug" in answer:
        raise RuntimeError(answer["bug"])
    if "seconds" in answer:
        outcome.seconds += answer["seconds"]
        return
    outcome.add(answer.get("text"), answer.get("reason"))
    outcome.ended += answer.get("ended", False)
