"""Mailboxes that are files of this machine: Maildir and mbox. They are read whole each time."""

import mailbox
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import MailboxUnreadable
from tasks.feedback.mailboxes.mailbox import Received
from tasks.feedback.parts import LARGEST_MESSAGE


@dataclass(frozen=True)
class MailboxFiles:
    """A Maildir folder or an mbox file. What has been read before is known by its content."""

    kind: str
    path: Path

    @property
    def name(self) -> str:
        """By which the position in it is kept."""
        return f"{self.kind}:{self.path}"

    def after(self, position: str) -> Iterator[Received]:  # noqa: ARG002  # files have no order that stays
        """Every message. Errors: `MailboxUnreadable`."""
        if not self.path.exists():
            raise MailboxUnreadable(mailbox=self.name, reason="it does not exist")
        try:
            box = OPENED[self.kind](self.path)
            for key in sorted(box.keys()):
                with box.get_file(key) as file:
                    yield Received("", file.read(LARGEST_MESSAGE))
        except (OSError, mailbox.Error, ValueError) as error:
            raise MailboxUnreadable(mailbox=self.name, reason=str(error) or type(error).__name__) from None


OPENED: dict[str, Callable[[Path], mailbox.Mailbox[Any]]] = {
    "maildir": lambda path: mailbox.Maildir(path, create=False),
    "mbox": lambda path: mailbox.mbox(path, create=False),
}
