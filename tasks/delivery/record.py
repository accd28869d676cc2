"""A send's own record of the journal that it began with: what notices a journal that is lost, another or older.

It lies in the send's folder, apart from the journal. Before the first message, the journal must be the one that is
recorded, and must have come at least as far; it is kept up with each window that is claimed.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from tasks.delivery.journal.database import shown
from tasks.delivery.journal.storage import Journal
from tasks.errors import JournalBehind, OutboxUnwritable
from tasks.messages.delivered import forced
from tasks.messages.send_folder import folder_of, writable, written
from tasks.send import Send


@dataclass
class SendRecord:
    """The record of one send over one channel."""

    path: Path
    journal: Journal
    _noted: int = field(default=0)

    @classmethod
    def of(cls, folder: Path, send: Send, channel: str, journal: Journal) -> "SendRecord":
        """The record in the folder of sends."""
        return cls(folder_of(folder, send) / f".{channel}-journal.json", journal)

    def check(self) -> None:
        """Compare it with the journal, and make it where there is none.

        Errors: `JournalBehind`, `JournalUnavailable`, `OutboxUnwritable`: what the end of a send needs to write is
        tried before its first message.
        """
        known = self._read()
        now = self.journal.newest_message()
        if known is not None:
            name, number, place = known
            here = shown(self.journal.engine.url)
            if name != self.journal.database.identity.name:
                made = "was made anew" if here == place else "is another one"
                self._refuse(f"{made}: it is not the journal that this send began with", place)
            if now < number:
                self._refuse("is an older copy, or was cut: it lacks what this send has written to it", place)
        self._write(now)

    def keep_up(self) -> None:
        """Note how far the journal has come. Errors: as `check`."""
        now = self.journal.newest_message()
        if now > self._noted:
            self._write(now)

    def _refuse(self, reason: str, place: str) -> None:
        raise JournalBehind(url=shown(self.journal.engine.url), reason=reason, known=place, record=self.path)

    def _read(self) -> tuple[str, int, str] | None:
        try:
            said = json.loads(self.path.read_bytes())
            return str(said["journal"]), int(said["newest_message"]), str(said["place"])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutboxUnwritable(path=self.path, reason=error.strerror or str(error)) from None
        except (ValueError, KeyError, TypeError):
            raise OutboxUnwritable(path=self.path, reason="it is not the record of a send, or is damaged") from None

    def _write(self, newest: int) -> None:
        is_first = not self._noted and not self.path.exists()
        said = {
            "journal": self.journal.database.identity.name,
            "newest_message": newest,
            "place": shown(self.journal.engine.url),
        }
        written(self.path, json.dumps(said).encode())
        if is_first:
            with writable(self.path):
                forced(self.path)
                forced(self.path.parent)
        self._noted = newest
