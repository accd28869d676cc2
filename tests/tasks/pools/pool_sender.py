"""A sender as a process of its own: it reserves, claims, holds and sends, and prints who was sent which code."""

import sys
from datetime import UTC, date, datetime

from tasks.delivery.journal.states import Event
from tasks.delivery.journal.storage import Settlement, open_journal
from tasks.pools.reservation import Reservations
from tasks.pools.stock import Pools
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.journal import shown

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
PEOPLE, WINDOW = 400, 20


def say(line: str) -> None:
    """One line for whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(url: str, run: str) -> None:
    """Send everybody a code whom nobody has sent one; every fifth message is refused, every seventh put off."""
    journal = open_journal(JournalSettings(url=url))
    journal.enter()
    pools = Pools(journal.database)
    reservations = Reservations(pools, pools.pool("birthday"), SEND, "email", run)
    say("ready")
    sys.stdin.readline()
    for begin in range(0, PEOPLE, WINDOW):
        wanted = {SEND.message_key("email", str(one)): str(one) for one in range(begin, begin + WINDOW)}
        found = reservations.reserve(wanted, datetime.now(UTC))
        codes = shown({key: [one.number] for key, one in found.items() if one is not None})
        mine, lost = journal.claim_and_hold(SEND, "email", {key: wanted[key] for key in found}, codes)
        numbers = {key for key in mine if found[key] is not None}
        outcomes = [Settlement(key, Event.POSTPONED, "lost") for key in lost]
        for key in sorted(numbers - lost):
            given, person = found[key], int(wanted[key])
            event = Event.REFUSED if person % 5 == 0 else Event.POSTPONED if person % 7 == 0 else Event.TAKEN
            outcomes.append(Settlement(key, event, "said"))
            if event is Event.TAKEN and given is not None:
                say(f"{person} {given.values['code']}")
        journal.record(SEND, "email", outcomes)
    journal.give_back_codes(SEND, "email", run)
    journal.leave()
    journal.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
