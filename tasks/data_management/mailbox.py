"""Mailbox: reads bounces and complaints from the mailbox that they come to."""

from contextlib import closing

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.delivery.journal.storage import open_journal
from tasks.feedback.mailboxes.mailbox import MailboxOptions
from tasks.feedback.mailboxes.opening import mailbox_of
from tasks.feedback.table import no_reports, reports_of_messages
from tasks.settings import Settings


@task(name="Mailbox", task_run_name="Mailbox", cache_policy=NO_CACHE, persist_result=False)
def mailbox(options: MailboxOptions, *, from_the_beginning: bool = False) -> pl.DataFrame:
    """Read what came into the mailbox since the last run, as reports. Nothing in it is changed.

    In: the mailbox; whether everything in it is read again, which doubles nothing.
    Out: reports, the columns of `tasks.feedback.table`. Feedback notes how far it was read, once they are written
    down. Errors: `MailboxUnreadable`, `HostNotAllowed`, `JournalUnavailable`.

    Example:
        ```python
        reports = mailbox(MailboxOptions(kind="maildir", path="bounces"))
        ```
    """
    settings = Settings.load()
    box = mailbox_of(options, settings.network.allowed_hosts)
    if box is None:
        return no_reports()
    with closing(open_journal(settings.journal)) as journal:
        position = "" if from_the_beginning else journal.outcomes.position(box.name) or ""
    reports = reports_of_messages(box.name, box.after(position))
    get_run_logger().info("%d reports in the mailbox %s.", reports.height, box.name)
    return reports
