"""What large messages take of memory: `python tests/benchmarks/bench_large_mails.py [messages] [megabytes]`.

Messages whose HTML is so large are sent to a sink in another process. Shown is the peak beside what the process
held when the table of messages was there, in MiB, and in messages.
"""

import argparse
import tempfile
import threading
import time
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import psutil
from pydantic import SecretStr

from tasks.channels.email import EmailOptions, email_channel
from tasks.delivery.delivery import send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.smtp.connection import MailServer, Security
from tasks.send import Send
from tasks.settings import JournalSettings
from tests.benchmarks.mail_sink import running_sink

SEND = Send(campaign="large", label="Large", business_date=date(2026, 11, 24))
MEBIBYTE = 1024 * 1024


def main() -> None:
    """Send, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("messages", type=int, nargs="?", default=20)
    parser.add_argument("megabytes", type=int, nargs="?", default=10, help="of each message's HTML")
    given = parser.parse_args()
    count, size = given.messages, given.megabytes * 1_000_000
    line = "<p>Größe und Grüße, a very happy birthday from all of us.</p>\n"
    html = line * (size // len(line.encode()))
    messages = pl.select(number=pl.int_range(count)).select(
        profile_id=pl.format("p{}", "number"),
        email=pl.format("person{}@example.com", "number"),
        subject=pl.lit("Large"),
        html=pl.format("{}{}", pl.lit(html), "number"),
        text=pl.lit("Large"),
    )
    del html
    process = psutil.Process()
    before = peak = process.memory_info().rss
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    with tempfile.TemporaryDirectory() as folder, running_sink() as (port, ended):
        journal = open_journal(JournalSettings(url=SecretStr(f"sqlite:///{folder}/journal.db")))
        server = MailServer(host="127.0.0.1", port=port, security=Security.NONE)
        options = EmailOptions(server=server, folder=Path(folder))
        channel = email_channel(options, SEND, datetime(2026, 11, 24, 12, tzinfo=UTC))
        watching = threading.Thread(target=watch)
        watching.start()
        begun = time.perf_counter()
        mailed, failure = send_messages(messages, channel, options, SEND, journal=journal, tally=Tally(count))
        seconds = time.perf_counter() - begun
        over.set()
        watching.join()
        journal.close()
        taken, _ = ended()
    assert failure is None
    assert mailed.standard.height == taken == count
    held = peak - before
    print(f"{count} messages of {size:,} bytes in {seconds:.1f} s")
    print(f"peak: {held / MEBIBYTE:,.0f} MiB, or {held / size:.1f} messages")


if __name__ == "__main__":
    main()
