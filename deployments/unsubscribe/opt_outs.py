"""Opt-outs in the journal: they hold from the next claim on."""

import threading
from datetime import date

import sqlalchemy as sa

from tasks.delivery.journal.outcomes import Feedback, OutcomeKind
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.messages.unsubscribe import Unsubscriber
from tasks.settings import JournalSettings

PATIENCE_SECONDS = 5
"""How long a request waits for the journal: who posts for others does not wait a minute."""
SOURCE = "one-click"


class OptOuts:
    """The journal as the page uses it; opened with the first request, so that the page starts without it."""

    def __init__(self, settings: JournalSettings) -> None:
        self._settings = settings.model_copy(update={"patience_seconds": PATIENCE_SECONDS})
        self._journal: Journal | None = None
        self._opening = threading.Lock()

    def _opened(self) -> Journal:
        with self._opening:
            if self._journal is None:
                self._journal = open_journal(self._settings)
            return self._journal

    def add(self, who: Unsubscriber) -> None:
        """Write down that somebody wants no more, over any channel. Errors: `JournalUnavailable`."""
        journal = self._opened()
        at = journal.database.now()
        wish = Sighting(
            Kind.OPT_OUT, channel="", reason="unsubscribed", source=SOURCE, profile_id=who.profile_id, at=at
        )
        journal.suppressions.add([wish])
        journal.outcomes.add(
            Feedback(message.key, OutcomeKind.UNSUBSCRIBED, at, SOURCE, reference=message.key)
            for message in journal.outcomes.messages_to(
                who.campaign, date.fromisoformat(who.business_date), who.profile_id
            )
        )

    def check(self) -> None:
        """Ask the journal something. Errors: `JournalUnavailable`, `ConfigurationError`."""
        self._opened().database.read(lambda database: database.execute(sa.select(1)).scalar())

    def close(self) -> None:
        """Give the database's connections back."""
        if self._journal is not None:
            self._journal.close()
