import errno
import logging
import mailbox
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime
from email import policy
from email.parser import BytesParser
from pathlib import Path

import polars as pl
import pytest

from tasks.channels.outbox import OutboxOptions, deliver, outbox, write_page
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.errors import ColumnsMissing, OutboxUnwritable
from tasks.runs.audience import Audience
from tasks.runs.table import Part, Table
from tasks.send import Send
from tasks.settings import Settings

SEND = Send(campaign="birthday", label="Birthday <1>", business_date=date(2026, 11, 24))
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MESSAGES = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3"],
        "email": ["ada@x.example", "grace@x.example", "noor@x.example"],
        "subject": ["Hello Ada", "שלום, 山田 & <b>", "Hi"],
        "html": ["<p>Ada &lt;3</p>", "<script>alert(1)</script>" + "é" * 600, "<p>\nFrom here\n.\n</p>"],
        "text": ["Ada", "שלום", "From here\n.\nto there"],
    }
)


def options(folder: Path, **changed: object) -> OutboxOptions:
    return OutboxOptions(folder=folder, **changed)


def messages_in(folder: Path) -> list[mailbox.MaildirMessage]:
    box = mailbox.Maildir(
        options(folder).send_folder(SEND) / "maildir",
        factory=lambda file: BytesParser(policy=policy.default).parse(file),
        create=False,
    )
    return sorted(box, key=lambda message: str(message["To"]))


def message_id(key: str) -> str:
    with closing(open_journal(Settings.load().journal)) as journal:
        return f"<{journal.names.names_of(key[:32])}@campaign.example>"


def text_of(message: mailbox.MaildirMessage, kind: str) -> str:
    return message.get_body((kind,)).get_content()


def test_a_mail_program_opens_every_message_as_it_was_written(tmp_path: Path) -> None:
    deliver(MESSAGES, options(tmp_path, sender_name="Łukasz & Co."), SEND, NOON)
    read = messages_in(tmp_path)
    for message, row in zip(read, MESSAGES.sort("email").iter_rows(named=True), strict=True):
        assert message["To"] == row["email"]
        assert message["Subject"] == row["subject"]
        assert message["From"].addresses[0].display_name == "Łukasz & Co."
        assert message["Date"].datetime == NOON
        assert message["Message-ID"] == message_id(SEND.message_key("email", row["profile_id"]))
        assert text_of(message, "plain").rstrip("\n") == row["text"]
        assert text_of(message, "html").rstrip("\n") == row["html"]
        assert message.defects == []


def test_a_second_run_of_the_send_adds_no_second_message(tmp_path: Path) -> None:
    first = deliver(MESSAGES.head(2), options(tmp_path), SEND, NOON)
    again = deliver(MESSAGES, options(tmp_path), SEND, NOON)
    assert (first.standard.height, first.complement.height) == (2, 0)
    assert (again.standard["profile_id"].to_list(), again.complement["profile_id"].to_list()) == (["3"], ["1", "2"])
    assert len(messages_in(tmp_path)) == 3


def test_a_message_that_was_read_or_flagged_is_still_the_message(tmp_path: Path) -> None:
    deliver(MESSAGES, options(tmp_path), SEND, NOON)
    maildir = options(tmp_path).send_folder(SEND) / "maildir"
    for path in list((maildir / "new").iterdir()):
        path.rename(maildir / "cur" / f"{path.name}:2,S")
    assert deliver(MESSAGES, options(tmp_path), SEND, NOON).complement.height == 3
    assert len(messages_in(tmp_path)) == 3


def test_another_day_is_another_send(tmp_path: Path) -> None:
    deliver(MESSAGES, options(tmp_path), SEND, NOON)
    tomorrow = SEND.model_copy(update={"business_date": date(2026, 11, 25)})
    assert deliver(MESSAGES, options(tmp_path), tomorrow, NOON).standard.height == 3


def test_a_profile_that_comes_twice_gets_one_message(tmp_path: Path) -> None:
    delivered = deliver(pl.concat([MESSAGES, MESSAGES]), options(tmp_path), SEND, NOON)
    assert (delivered.standard.height, delivered.complement.height) == (3, 0)
    assert delivered.rejects["reason"].to_list() == ["the profile has another message in this send"] * 3


@pytest.mark.slow
def test_two_processes_at_the_same_time_deliver_each_message_once(tmp_path: Path) -> None:
    many = pl.DataFrame(
        {
            "profile_id": [str(n) for n in range(300)],
            "email": "a@x.example",
            "subject": "s",
            "html": "h",
            "text": "t",
        }
    )
    many.write_parquet(tmp_path / "messages.parquet")
    program = (
        "import sys, polars as pl\n"
        "from datetime import datetime, UTC\n"
        "from pathlib import Path\n"
        "from tasks.channels.outbox import OutboxOptions, deliver\n"
        "from tasks.send import Send\n"
        "folder, send = Path(sys.argv[1]), Send.model_validate_json(sys.argv[2])\n"
        "messages = pl.read_parquet(folder / 'messages.parquet')\n"
        "print(deliver(messages, OutboxOptions(folder=folder), send, datetime.now(UTC)).standard.height)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), SEND.model_dump_json()]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(process.communicate(timeout=600)[0]) for process in running]
    assert sum(counts) == 300
    assert len(messages_in(tmp_path)) == 300


def test_a_full_disk_leaves_no_half_message_and_the_next_run_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_bytes
    left = [2]

    def write_until_full(path: Path, content: bytes) -> int:
        if path.parent.name == "tmp":
            left[0] -= 1
            if left[0] < 0:
                written(path, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
        return written(path, content)

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write_until_full)
        with pytest.raises(OutboxUnwritable, match=r"No space left on device.*Choose no other folder"):
            deliver(MESSAGES, options(tmp_path), SEND, NOON)
    maildir = options(tmp_path).send_folder(SEND) / "maildir"
    assert list((maildir / "new").iterdir()) == [], "no message has its name before all of a window are on the disk"
    assert list((maildir / "tmp").iterdir()) == []
    assert deliver(MESSAGES, options(tmp_path), SEND, NOON).standard.height == 3


def test_an_outbox_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutboxUnwritable, match=r"file.*cannot be written"):
        deliver(MESSAGES, options(tmp_path / "file"), SEND, NOON)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"email": None}, "no address"),
        ({"email": "not an address"}, "the address is not valid"),
        ({"email": "ada@"}, "the address is not valid"),
        ({"email": "a@x.example, b@x.example"}, "the address is not valid"),
        ({"email": "ada@x.example\nBcc: eve@x.example"}, "the address is not valid"),
        ({"profile_id": None}, "no profile id"),
        ({"subject": "Hello\r\nBcc: eve@x.example"}, "the subject has a line break"),
    ],
)
def test_a_message_that_cannot_be_sent_is_a_reject_and_the_others_are_sent(
    tmp_path: Path, changed: dict[str, object], reason: str
) -> None:
    bad = MESSAGES.head(1).with_columns(**{name: pl.lit(value, pl.String()) for name, value in changed.items()})
    delivered = deliver(pl.concat([bad, MESSAGES.tail(2)]), options(tmp_path), SEND, NOON)
    assert delivered.rejects["reason"][0].startswith(reason)
    assert delivered.standard.height == 2
    assert not any("eve" in str(value) for message in messages_in(tmp_path) for value in message.values())


def test_messages_without_a_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ColumnsMissing, match="'html'"):
        deliver(MESSAGES.drop("html"), options(tmp_path), SEND, NOON)


def test_the_page_shows_the_first_messages_masked_and_harmless(tmp_path: Path) -> None:
    deliver(MESSAGES, options(tmp_path), SEND, NOON)
    page = write_page(MESSAGES, options(tmp_path, preview_messages=2), SEND).read_text()
    assert "2 of 3 messages" in page
    assert "a…@x.example" in page
    assert "ada@x.example" not in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert 'iframe sandbox title="Hello Ada"' in page
    assert "Birthday &lt;1&gt;" in page


@pytest.mark.parametrize("form", ["maildir", "parquet"])
def test_the_page_shows_what_was_delivered_not_what_is_rendered_now(tmp_path: Path, form: str) -> None:
    given = options(tmp_path, format=form)
    for count in (1, 2):  # Parquet: two files
        deliver(MESSAGES.head(count), given, SEND, NOON)
    changed = MESSAGES.with_columns(subject=pl.lit("Another"), html=pl.lit("<p>Another</p>"))
    page = write_page(changed, given, SEND).read_text()
    assert "Hello Ada" in page
    assert "Another" not in page
    assert "From Campaigns" in page or "offers@campaign.example" in page
    assert page.index("Hello Ada") < page.index("Names that look like code") < page.index("שלום")
    assert "2 of 3 messages" in page


def test_only_the_owner_reads_what_was_written(tmp_path: Path) -> None:
    folder = options(tmp_path).send_folder(SEND)
    deliver(MESSAGES, options(tmp_path), SEND, NOON)
    write_page(MESSAGES, options(tmp_path), SEND)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"new", ".delivered", "2026-11-24"}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def test_the_task_writes_messages_page_and_rejects(
    tmp_path: Path, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = pl.DataFrame(
        {"profile_id": ["9"], "email": ["z@x.example"], "reason": ["no value for profile.first_name"]}
    )
    bad = MESSAGES.head(1).with_columns(profile_id=pl.lit("8"), email=pl.lit("nowhere"))
    audience = Audience(
        Table.of(pl.concat([MESSAGES, bad])), activity="Personalization", rejected={"before": Table.of(earlier)}
    )
    delivered = outbox(audience, options(tmp_path), SEND)
    assert delivered.standard.height == 3
    folder = options(tmp_path).send_folder(SEND)
    rejects = pl.read_csv(folder / "rejects.csv", infer_schema=False)
    assert rejects.rows() == [
        ("9", "z@x.example", "no value for profile.first_name"),
        ("8", "nowhere", "the address is not valid"),
    ]
    assert (folder / "preview.html").is_file()
    assert "3 messages delivered, 0 delivered before, 1 rejected." in caplog.text
    assert outbox(MESSAGES.clear(), options(tmp_path), SEND).height == 0


def parquet(folder: Path) -> OutboxOptions:
    return options(folder, format="parquet")


def part(run: str, number: int = 1) -> Part:
    return Part(run=run, number=number, rows=3, file="")


def kept(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted((options(folder).send_folder(SEND) / "messages").glob("*.parquet")))


def test_messages_in_parquet_are_those_that_were_personalized_with_their_keys(tmp_path: Path) -> None:
    delivered = deliver(MESSAGES, parquet(tmp_path), SEND, NOON)
    assert kept(tmp_path).drop("message_key").rows() == MESSAGES.rows()
    assert kept(tmp_path)["message_key"].to_list() == [SEND.message_key("email", one) for one in ("1", "2", "3")]
    assert delivered.standard.equals(kept(tmp_path).select("profile_id", "email", "message_key"))
    assert not list(options(tmp_path).send_folder(SEND).rglob(".*.parquet*"))


@pytest.mark.parametrize(
    ("first", "second", "sent", "before"),
    [
        (part("a"), part("b"), ["3"], ["1", "2"]),
        (part("a"), part("a"), ["1", "2", "3"], []),
        (None, part("a"), ["3"], ["1", "2"]),
        (part("a"), None, ["3"], ["1", "2"]),
    ],
    ids=["another run", "a partition cut off", "after no partition", "before no partition"],
)
def test_in_parquet_too_a_profile_gets_one_message(
    tmp_path: Path, first: Part | None, second: Part | None, sent: list[str], before: list[str]
) -> None:
    later = datetime(2026, 11, 24, 13, tzinfo=UTC)
    deliver(MESSAGES.head(2), parquet(tmp_path), SEND, NOON, first)
    again = deliver(pl.concat([MESSAGES, MESSAGES]), parquet(tmp_path), SEND, later, second)
    assert again.standard["profile_id"].to_list() == sent
    assert again.complement["profile_id"].to_list() == before
    assert again.rejects["profile_id"].to_list() == ["1", "2", "3"]
    assert kept(tmp_path)["profile_id"].sort().to_list() == ["1", "2", "3"]
    assert len(kept(tmp_path)) == kept(tmp_path)["profile_id"].n_unique()


def test_two_runs_at_the_same_time_deliver_each_partition_s_messages_once(tmp_path: Path) -> None:
    many = (
        MESSAGES.head(1)
        .join(pl.DataFrame({"n": range(4000)}), how="cross")
        .with_columns(profile_id=pl.format("P{}", "n"))
    )
    tables = list(many.drop("n").iter_slices(500))
    # Each run divides the audience in its own order.
    with ThreadPoolExecutor(8) as pool:
        runs = [
            pool.submit(deliver, table, parquet(tmp_path), SEND, NOON, part(run, number))
            for run, order in (("a", tables), ("b", tables[::-1]))
            for number, table in enumerate(order)
        ]
        counts = sum(one.result().standard.height for one in runs)
    assert counts == len(kept(tmp_path)) == kept(tmp_path)["profile_id"].n_unique() == 4000


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"email": None}, "no address"),
        ({"email": "ada@x.example\nBcc: eve@x.example"}, "the address is not valid"),
        ({"profile_id": None}, "no profile id"),
    ],
)
def test_in_parquet_too_a_message_that_cannot_be_sent_is_a_reject(
    tmp_path: Path, changed: dict[str, object], reason: str
) -> None:
    bad = MESSAGES.head(1).with_columns(**{name: pl.lit(value, pl.String()) for name, value in changed.items()})
    delivered = deliver(pl.concat([bad, MESSAGES.tail(2)]), parquet(tmp_path), SEND, NOON)
    assert delivered.rejects["reason"].to_list() == [reason]
    assert kept(tmp_path)["profile_id"].to_list() == ["2", "3"]


def test_a_parquet_outbox_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutboxUnwritable, match="cannot be written"):
        deliver(MESSAGES, parquet(tmp_path / "file"), SEND, NOON)


@pytest.mark.parametrize("form", ["maildir", "parquet"])
def test_the_key_has_the_variant_and_who_got_one_variant_gets_no_other(tmp_path: Path, form: str) -> None:
    in_german = MESSAGES.with_columns(variant=pl.lit("de"))
    delivered = deliver(in_german, options(tmp_path, format=form), SEND, NOON)
    keys = [SEND.message_key("email", profile, "de") for profile in MESSAGES["profile_id"]]
    assert delivered.standard["message_key"].to_list() == keys
    if form == "maildir":
        assert {message["Message-ID"] for message in messages_in(tmp_path)} == set(map(message_id, keys))
    else:
        assert kept(tmp_path)["message_key"].to_list() == keys
    later = datetime(2026, 11, 24, 13, tzinfo=UTC)
    for other in (MESSAGES.with_columns(variant=pl.lit("fr")), MESSAGES):
        again = deliver(other, options(tmp_path, format=form), SEND, later)
        assert again.standard.is_empty()
        assert again.complement["profile_id"].to_list() == ["1", "2", "3"]


FORMATS = pytest.mark.parametrize(
    ("first", "second"),
    [("maildir", "maildir"), ("maildir", "parquet"), ("parquet", "maildir"), ("parquet", "parquet")],
)


@FORMATS
def test_mail_that_was_deleted_archived_or_renamed_is_not_delivered_again_in_either_format(
    tmp_path: Path, first: str, second: str
) -> None:
    deliver(MESSAGES, options(tmp_path, format=first), SEND, NOON)
    folder = options(tmp_path).send_folder(SEND)
    one, two, three = (
        sorted((folder / "maildir" / "new").iterdir())
        if first == "maildir"
        else [*(folder / "messages").glob("*.parquet"), None, None]
    )
    one.unlink()
    if two is not None:
        two.rename(folder / "maildir" / "cur" / "1790000000.from-a-mail-program:2,S")
        three.rename(tmp_path / "archived")
    again = deliver(MESSAGES, options(tmp_path, format=second), SEND, NOON.replace(hour=13))
    assert (again.standard.height, again.complement.height) == (0, 3)
    placed = [*(folder / second.replace("parquet", "messages")).rglob("new/*"), *folder.glob("messages/*.parquet")]
    assert placed == []


def test_an_empty_file_as_a_power_cut_leaves_it_is_no_message(tmp_path: Path) -> None:
    delivered = deliver(MESSAGES.head(1), options(tmp_path), SEND, NOON)
    folder = options(tmp_path).send_folder(SEND)
    (digits,) = (key[:32] for key in delivered.standard["message_key"])
    for record in (folder / ".delivered").glob("*.parquet"):
        record.unlink()  # the power went before anything was noted
    (folder / "maildir" / "new" / digits).write_bytes(b"")
    again = deliver(MESSAGES.head(1), options(tmp_path), SEND, NOON.replace(hour=13))
    assert again.standard.height == 1
    assert len(messages_in(tmp_path)) == 1


@pytest.mark.parametrize("next_part", [part("a"), part("b"), part("b", 7), None], ids=str)
@FORMATS
def test_an_attempt_that_was_killed_before_it_noted_what_it_placed_doubles_nothing(
    tmp_path: Path, first: str, second: str, next_part: Part | None
) -> None:
    deliver(MESSAGES.head(2), options(tmp_path, format=first), SEND, NOON, part("a"))
    folder = options(tmp_path).send_folder(SEND)
    for record in (folder / ".delivered").glob("*.parquet"):
        record.unlink()
    again = deliver(MESSAGES, options(tmp_path, format=second), SEND, NOON, next_part)
    assert again.standard.height + again.complement.height == 3
    placed = [pl.read_parquet(file).height for file in (folder / "messages").glob("*.parquet")]
    mails = [*(folder / "maildir" / "new").glob("*")]
    assert sum(placed) + len(mails) == 3
    once_more = deliver(MESSAGES, options(tmp_path, format=first), SEND, NOON, part("c"))
    assert (once_more.standard.height, once_more.complement.height) == (0, 3)


@pytest.mark.parametrize("form", ["maildir", "parquet"])
def test_who_is_not_to_be_written_to_gets_nothing_in_an_outbox_either(tmp_path: Path, form: str) -> None:
    with closing(open_journal(Settings.load().journal)) as journal:
        journal.suppressions.add(
            [
                Sighting(Kind.OPT_OUT, "", "by the link", "one-click", profile_id="2"),
                Sighting(Kind.QUARANTINE, "email", "550 5.1.1 No such user", "smtp", address="Noor@x.example"),
            ]
        )
    delivered = deliver(MESSAGES, options(tmp_path, format=form), SEND, NOON)
    assert delivered.standard["profile_id"].to_list() == ["1"]
    assert dict(delivered.rejects.select("profile_id", "reason").iter_rows()) == {
        "2": "opt-out: by the link",
        "3": "quarantine: 550 5.1.1 No such user",
    }


def test_the_log_says_where_the_journal_is_and_that_it_is_new(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        deliver(MESSAGES, options(tmp_path), SEND, NOON)
        assert "own-journal.db is new: it knows of no message" in caplog.text
        caplog.clear()
        deliver(MESSAGES, options(tmp_path), SEND, NOON)
    assert "Journal: sqlite:///" in caplog.text
    assert "is new" not in caplog.text
