"""The server of a Prefect home: at most one, whoever started it, and found by every run that has this home.

Locks of the system say who is there, since they end with their process, while a number in a file may be another's
process by now: `lock` is held by the server as long as it lives, `users` is shared by the runs that use it, and
`gate` is held by the process that looks for the server, starts or stops it.
"""

import fcntl
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deployments.ports import HOST
from tasks.files.storage import make_private, written_whole

WORD_SECONDS = 5
"""So often a wait says that it goes on."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """A server that is there."""

    pid: int
    port: int
    is_kept: bool
    """Kept in the background for local runs; else it is that of `deployments.serve`."""

    @property
    def address(self) -> str:
        """Its address, without path."""
        return f"http://{HOST}:{self.port}"

    def is_healthy(self) -> bool:
        """Whether it answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=WORD_SECONDS)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class HomeServer:
    """The server of a Prefect home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "server"
        self.log = home / "server.log"
        self._who = self.folder / "who.json"
        make_private(self.folder)

    @contextmanager
    def gate(self, say: Say) -> Iterator[None]:
        """Until the block ends no other process looks for the server, starts or stops it."""
        with self._locked("gate", fcntl.LOCK_EX, "Another run starts Prefect's server: waiting for it ...", say):
            yield

    @contextmanager
    def used(self, say: Say) -> Iterator[None]:
        """Until the block ends the server has a user, and does not end by itself."""
        with self._locked(
            "users", fcntl.LOCK_SH, "Prefect's server is just ending: waiting for it ...", say
        ) as file:
            os.utime(file)
            try:
                yield
            finally:
                os.utime(file)

    @contextmanager
    def unused(self) -> Iterator[float | None]:
        """The seconds since the last use, and no new user until the block ends; None while there are users."""
        file = self._open("users")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield time.time() - os.fstat(file).st_mtime
        except BlockingIOError:
            yield None
        finally:
            os.close(file)

    def take(self) -> int | None:
        """The server's lock, to be held as long as it lives; None while there is a server. Inside the gate."""
        file = self._open("lock")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        self._who.unlink(missing_ok=True)
        return file

    def tell(self, server: Running) -> None:
        """Write down who the server is. By the holder of the lock."""
        with written_whole(self._who) as draft:
            draft.write_text(json.dumps(asdict(server)), encoding="ascii")

    def who(self) -> Running | None:
        """Who the server is, whether it answers or not; None where there is none. Inside the gate."""
        while not self._is_free():
            with suppress(FileNotFoundError):  # it has just begun
                return Running(**json.loads(self._who.read_text(encoding="ascii")))
            time.sleep(0.05)
        return None

    def find(self, say: Say) -> Running | None:
        """The server, when it answers; None where there is none, or it has ended meanwhile. Inside the gate."""
        begun = said = time.monotonic()
        while server := self.who():
            if server.is_healthy():
                return server
            time.sleep(0.05)
            if time.monotonic() - said > WORD_SECONDS:
                said = time.monotonic()
                say(f"Prefect's server is still starting ({said - begun:.0f} s; its log: {self.log}) ...")
        return None

    def wait_until_gone(self, say: Say) -> None:
        """Wait until the server has ended. Inside the gate."""
        begun = said = time.monotonic()
        while not self._is_free():
            time.sleep(0.05)
            if time.monotonic() - said > WORD_SECONDS:
                said = time.monotonic()
                say(f"Prefect's server is still ending ({said - begun:.0f} s) ...")

    def _is_free(self) -> bool:
        file = self._open("lock")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(file)
        return True

    @contextmanager
    def _locked(self, name: str, how: int, word: str, say: Say) -> Iterator[int]:
        file = self._open(name)
        try:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                say(word)
                fcntl.flock(file, how)
            yield file
        finally:
            os.close(file)

    def _open(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
