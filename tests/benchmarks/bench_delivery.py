"""How fast messages are built and sent, beside the ways that a Python program usually has.

One run, contenders interleaved, medians of the rounds; loopback; the server is a sink in a process of its own,
which offers PIPELINING. The journal's cost (SQLite on disk, synchronous) is in ours; the usual ways have none.
"""

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

import aiosmtplib
import polars as pl
import sqlalchemy as sa
from pydantic import SecretStr

from tasks.channels.email import EmailOptions, email_channel
from tasks.delivery.delivery import send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.codes import IN_MESSAGES
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.delivery.provider import ProviderMessage, messages_of
from tasks.delivery.smtp.connection import MailServer, Security
from tasks.messages.letter import LETTER_COLUMNS, Letter, MessageOptions, prepared_skeleton
from tasks.pools.reservation import Reservations
from tasks.pools.stock import Pools
from tasks.send import CODES_SHOWN, Send
from tasks.settings import JournalSettings
from tests.benchmarks.mail_sink import running_sink

SEND = Send(campaign="bench", label="Bench", business_date=date(2026, 11, 24))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SKELETON = prepared_skeleton(MessageOptions(), SEND, NOW)
CONNECTIONS = 4
HTML = "<p>Dear {}, a very happy birthday from all of us.</p>\n" * 45
TEXT = "Dear {}, a very happy birthday from all of us.\n" * 8


def made_up(count: int, first: int = 0) -> pl.DataFrame:
    numbers = pl.select(number=pl.int_range(first, first + count))
    return numbers.select(
        profile_id=pl.format("p{}", "number"),
        email=pl.format("person{}@example.com", "number"),
        subject=pl.format("Happy birthday, number {}", "number"),
        html=pl.format(HTML, *["number"] * HTML.count("{}")),
        text=pl.format(TEXT, *["number"] * TEXT.count("{}")),
    )


def written(messages: pl.DataFrame) -> list[ProviderMessage]:
    """Messages as whoever writes to one person has them: with their texts."""
    return messages_of(messages.with_columns(SEND.message_keys("email", messages)))


def letters(messages: pl.DataFrame) -> list[Letter]:
    key = SEND.message_keys("email", messages)
    unused = [pl.lit(None).alias(name) for name in LETTER_COLUMNS]
    return SKELETON.letters(messages.with_columns(key, key.alias("name"), *unused))


def by_the_library(letter: ProviderMessage) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("Campaign Flows", addr_spec="offers@campaign.example")
    message["To"] = Address(addr_spec=letter.email)
    message["Subject"] = letter.subject
    message["Date"] = NOW
    message["Message-ID"] = f"<{letter.key}@campaign.example>"
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message


def pooled(
    port: int, work: list[ProviderMessage], build: Callable[[ProviderMessage], EmailMessage | bytes]
) -> float:
    """Messages a second by aiosmtplib over a pool of connections that stay open."""

    async def one(queue: Iterator[ProviderMessage]) -> None:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="bench.example")
        await client.connect()
        for letter in queue:
            message = build(letter)
            if isinstance(message, bytes):
                await client.sendmail("offers@campaign.example", [letter.email], message)
            else:
                await client.send_message(message)
        client.close()

    async def all_of_them() -> None:
        queue = iter(work)
        await asyncio.gather(*(one(queue) for _ in range(CONNECTIONS)))

    begun = time.perf_counter()
    asyncio.run(all_of_them())
    return len(work) / (time.perf_counter() - begun)


def suppress(journal: Journal, people: int) -> None:
    """Suppress people, none of whom is written to."""
    journal.suppressions.add(
        Sighting(Kind.QUARANTINE, "email", "550 5.1.1", "smtp", address=f"gone{number}@example.com")
        for number in range(people)
    )


def age(journal: Journal, rows: int) -> None:
    """Write messages of old sends, a hundred thousand each, as a journal of many campaigns has them."""
    statement = sa.text(
        "WITH RECURSIVE old(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM old WHERE n + 1 < :rows)"
        " INSERT INTO messages (send, key, variant, profile_id, state, sender, attempts, changed_at, answer)"
        " SELECT 1000000 + n / 100000, lower(hex(randomblob(16))), '', 'p' || n, 'sent', 'old', 1,"
        " '2026-01-01 00:00:00', '250 2.0.0 Ok' FROM old"
    )
    journal.database.write(lambda database: database.execute(statement, {"rows": rows}), at_leisure=True)


def ours(
    port: int,
    messages: pl.DataFrame,
    *,
    suppressed: int = 0,
    rate: float | None = None,
    old: int = 0,
    codes: bool = False,
) -> float:
    """Messages a second by the Email activity: keys, claims, building, sending, answers written down.

    `suppressed`: how many people the journal knows that are not to be written to; `rate`: a shared one, higher than
    what is reached, for its cost; `old`: how many messages of other sends the journal has; `codes`: whether each
    message has a code, which is reserved, held and used.
    """
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(JournalSettings(url=SecretStr(f"sqlite:///{folder}/journal.db")))
        suppress(journal, suppressed)
        age(journal, old)
        server = MailServer(
            host="127.0.0.1",
            port=port,
            security=Security.NONE,
            connections=CONNECTIONS,
            messages_per_second=rate,
        )
        options = EmailOptions(server=server, folder=Path(folder))
        if codes:
            table = pl.select(code=pl.format("GIFT-{}", pl.int_range(messages.height).cast(pl.String())))
            Pools(journal.database).fill("gift", table)
        begun = time.perf_counter()
        if codes:
            messages = with_codes(messages, journal)
        mailed, failure = send_messages(
            messages,
            email_channel(options, SEND, NOW),
            options,
            SEND,
            journal=journal,
            tally=Tally(messages.height),
        )
        seconds = time.perf_counter() - begun
        journal.engine.dispose()
    assert failure is None
    assert mailed.standard.height == messages.height
    return messages.height / seconds


def with_codes(messages: pl.DataFrame, journal: Journal) -> pl.DataFrame:
    """Messages with the codes that are reserved for them."""
    pools = Pools(journal.database)
    keys = SEND.message_keys("email", messages)
    found = Reservations(pools, pools.pool("gift"), SEND, "email", "bench").reserve(
        dict(zip(keys, messages["profile_id"], strict=True)), NOW
    )
    given = [found[key] for key in keys]
    numbers = pl.Series("number", [one.number for one in given], dtype=pl.Int64())
    codes = pl.Series("code", [one.values["code"] for one in given], dtype=pl.String())
    shown = pl.concat_list(pl.struct(numbers, codes)).cast(IN_MESSAGES)
    return messages.with_columns(shown.alias(CODES_SHOWN))


def rate_of(
    messages: pl.DataFrame, build: Callable[[Any], object], rows: Callable[[pl.DataFrame], list[Any]]
) -> float:
    begun = time.perf_counter()
    for row in rows(messages):
        build(row)
    return messages.height / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000, help="of ours, a round; the others send a tenth")
    parser.add_argument("--whole", type=int, default=100_000, help="messages of the last, whole send")
    parser.add_argument("--suppressed", type=int, default=100_000, help="people who are not to be written to")
    parser.add_argument("--old", type=int, default=10_000_000, help="messages of old sends in the journal")
    options = parser.parse_args()
    suppressed = options.suppressed
    many = made_up(options.messages)
    some = many.head(options.messages // 10)
    few = written(some)
    built = {one.key: SKELETON.message(one).content for one in letters(some)}
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        with running_sink() as (port, _):
            for name, measure in {
                "build: EmailMessage": lambda: rate_of(some, lambda one: bytes(by_the_library(one)), written),
                "build: skeleton": lambda: rate_of(many, SKELETON.message, letters),
                "build and send: EmailMessage, pooled aiosmtplib": lambda: pooled(port, few, by_the_library),
                "send only: pooled aiosmtplib": lambda: pooled(port, few, lambda letter: built[letter.key]),
                "build and send, with journal: Email": lambda: ours(port, many),
                f"the same, {suppressed:,} people suppressed": lambda: ours(port, many, suppressed=suppressed),
                "the same, and a shared rate": lambda: ours(port, many, suppressed=suppressed, rate=100_000),
                "Email, and a code for each": lambda: ours(port, many, codes=True),
            }.items():
                gc.collect()  # what the one before left is nobody else's work
                rates.setdefault(name, []).append(measure())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    library, skeletons, plain, client, mail, _, whole, coded = medians.values()
    for name, value in medians.items():
        spread = f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}"
        print(f"{name:<50} {value:>9,.0f} a second ({spread})")
    print(f"{'skeleton / EmailMessage':<50} {skeletons / library:>9.1f} times")
    print(f"{'Email / EmailMessage with a pooled client':<50} {mail / plain:>9.1f} times")
    print(f"{'Email / aiosmtplib, sending only':<50} {mail / client:>9.1f} times")
    print(f"{'with suppression and a shared rate / without':<50} {whole / mail:>9.2f} times")
    print(f"{'the same / EmailMessage with a pooled client':<50} {whole / plain:>9.1f} times")
    print(f"{'the same / aiosmtplib, sending only':<50} {whole / client:>9.1f} times")
    print(f"{'with a code for each / without':<50} {coded / mail:>9.2f} times")
    with running_sink() as (port, ended):
        rate = ours(port, made_up(options.whole))
        taken, different = ended()
    print(
        f"{options.whole:,} messages, whole: {rate:,.0f} a second; server took {taken:,}, {different:,} different"
    )
    assert taken == different == options.whole
    with running_sink() as (port, _):
        after = ours(port, made_up(options.whole), old=options.old)
    print(f"{options.whole:,} beside {options.old:,} old ones: {after:,.0f} a second, {after / rate:.2f} times")


if __name__ == "__main__":
    main()
