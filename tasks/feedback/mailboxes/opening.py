"""The mailbox that the settings name."""

from tasks.feedback.mailboxes.files import MailboxFiles
from tasks.feedback.mailboxes.imap import ImapMailbox
from tasks.feedback.mailboxes.mailbox import Mailbox, MailboxOptions


def mailbox_of(options: MailboxOptions, allowed_hosts: frozenset[str]) -> Mailbox | None:
    """The mailbox, not yet opened; None where there is none to read."""
    match options.kind:
        case "none":
            return None
        case "imap":
            return ImapMailbox(options, allowed_hosts)
        case kind:
            return MailboxFiles(kind, options.path)
