"""What one profile's message carries besides what all carry: a file of its own, or bytes."""

import mimetypes
import os
import stat
from dataclasses import dataclass
from email.message import MIMEPart
from email.policy import SMTP
from io import BufferedReader
from pathlib import Path

from tasks.errors import OutsideStorage
from tasks.files.storage import within
from tasks.messages.address import Unsendable


def media_type(name: str) -> tuple[str, str]:
    """The type of a file, by its name."""
    kind, encoding = mimetypes.guess_type(name)
    whole = kind if kind and not encoding else "application/octet-stream"
    first, _, second = whole.partition("/")
    return first, second


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@dataclass(frozen=True)
class ProfileAttachment:
    """How a profile's attachment is found, and how large it may be."""

    root: Path | None
    """Folder that the files are in; None: there are bytes only."""
    name: str
    """As the reader sees it, where there are bytes only."""
    most_bytes: int

    def part(self, value: str | bytes | None) -> bytes:
        """The MIME part of a profile's attachment. Errors: `Unsendable`, with the reason, which names no file."""
        if not value:
            raise Unsendable("the profile has no attachment")
        content, name = (value, self.name) if isinstance(value, bytes) else self._read(value)
        if len(content) > self.most_bytes:
            raise Unsendable(f"its attachment is larger than {self.most_bytes:,} bytes")
        part = MIMEPart(policy=SMTP)
        part.set_content(content, *media_type(name), filename=name, disposition="attachment")
        return bytes(part)

    def _read(self, value: str) -> tuple[bytes, str]:
        if self.root is None:
            raise Unsendable("its attachment is a file, and no folder of attachments is set")
        try:
            path = within(self.root, value)
        except (OutsideStorage, ValueError):
            raise Unsendable("its attachment is outside the folder of attachments") from None
        try:
            # Not buffered, and opened without waiting: it may be a pipe.
            with open(path, "rb", buffering=0, opener=_at_once) as file:
                is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                content = BufferedReader(file).read(self.most_bytes + 1) if is_file else b""
        except OSError as error:
            raise Unsendable(f"its attachment cannot be read: {error.strerror}") from None
        if not is_file:
            raise Unsendable("its attachment is no file")
        return content, path.name
