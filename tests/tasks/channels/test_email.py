"""The Email activity as a flow uses it, against a real mail server: TLS, a login, and what is left behind."""

import asyncio
import json
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
import trustme
from aiosmtplib import SMTPException
from polars.testing import assert_frame_equal
from prefect import flow
from prefect.runtime import flow_run
from pydantic import SecretStr, ValidationError

from deployments.sandbox.mail_server import At, Fault, MailBehaviour, MailSandbox, running_mail_server
from tasks.channels.email import EmailOptions, email, email_channel
from tasks.content.personalization import PersonalizationOptions, Templates, personalize
from tasks.delivery import windows
from tasks.delivery.delivery import Delivery, send_messages
from tasks.delivery.dispatch import Tally
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.tables import PACES
from tasks.delivery.pace import Pace
from tasks.delivery.smtp import parcel
from tasks.delivery.smtp.connection import MailServer, Security, _why_not
from tasks.errors import ColumnsMissing, MailServerRefuses, MailServerUnavailable
from tasks.messages.letter import Letter, Message, Skeleton
from tasks.runs.audience import Audience
from tasks.runs.engine import ENGINE
from tasks.runs.part import PartFailed
from tasks.runs.results import ArrowSerializer
from tasks.runs.table import stored
from tasks.settings import JournalSettings
from tests.shown import newest_artifact
from tests.tasks.channels.email_flow import SEND, made_up_messages, options_for

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SCHEMA = ("profile_id", "email", "subject", "html", "text")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """A certificate authority that only this test trusts; its file is ca.pem."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


@pytest.fixture
def serve() -> Iterator[Callable[..., MailSandbox]]:
    """Starts mail servers."""
    with ExitStack() as running:

        def start(
            starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, **options: object
        ) -> MailSandbox:
            return running.enter_context(running_mail_server(MailSandbox(**options), starttls, tls))

        yield start


def context_for(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def sent(messages: pl.DataFrame, options: EmailOptions, folder: Path) -> tuple[Delivery, object]:
    journal = open_journal(JournalSettings(url=SecretStr(f"sqlite:///{folder}/journal.db")))
    return send_messages(
        messages,
        email_channel(options, SEND, NOON),
        options,
        SEND,
        journal=journal,
        tally=Tally(messages.height),
    )


def message_id(key: str, folder: Path) -> str:
    journal = open_journal(JournalSettings(url=SecretStr(f"sqlite:///{folder}/journal.db")))
    return f"<{journal.names.names_of(key[:32])}@campaign.example>"


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")
@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
@pytest.mark.parametrize("pipelining", [True, False])
def test_messages_go_over_verified_tls_with_a_login(
    serve: Callable[..., MailSandbox], authority: trustme.CA, tmp_path: Path, security: Security, pipelining: bool
) -> None:
    context = context_for(authority, "localhost")
    tls = {"starttls": context} if security is Security.STARTTLS else {"tls": context}
    sandbox = serve(**tls, login=("sender", "s3cret"), pipelining=pipelining)
    server = {
        "host": "localhost",
        "security": security,
        "ca_file": tmp_path / "ca.pem",
        "username": "sender",
        "password": SecretStr("s3cret"),
    }
    mailed, failure = sent(made_up_messages(100), options_for(sandbox.port, tmp_path, server=server), tmp_path)
    assert failure is None
    assert mailed.standard.height == 100
    assert sorted(one.recipient for one in sandbox.taken) == sorted(made_up_messages(100)["email"])


@pytest.mark.parametrize(
    ("name", "server", "says"),
    [
        ("localhost", {"password": SecretStr("wr0ng")}, "535"),
        ("localhost", {"ca_file": None}, "certificate does not verify"),
        ("another.example", {}, "certificate does not verify"),
        ("localhost", {"security": Security.NONE, "username": ""}, "530 5.7.0 Authentication required"),
    ],
)
def test_a_server_that_cannot_be_trusted_or_does_not_trust_us_ends_the_run_in_a_sentence(
    serve: Callable[..., MailSandbox],
    authority: trustme.CA,
    tmp_path: Path,
    name: str,
    server: dict[str, object],
    says: str,
) -> None:
    sandbox = serve(starttls=context_for(authority, name), login=("sender", "s3cret"))
    usual = {
        "host": "localhost",
        "security": Security.STARTTLS,
        "ca_file": tmp_path / "ca.pem",
        "username": "sender",
        "password": SecretStr("s3cret"),
    }
    options = options_for(sandbox.port, tmp_path, server={**usual, **server})
    mailed, failure = sent(made_up_messages(5), options, tmp_path)
    assert isinstance(failure, MailServerRefuses)
    assert says in str(failure)
    assert "s3cret" not in str(failure)
    assert "wr0ng" not in str(failure)
    assert sandbox.taken == []
    assert mailed.rejects.height == 5


def test_a_server_without_starttls_is_not_sent_to_in_the_clear(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    options = options_for(sandbox.port, tmp_path, server={"security": Security.STARTTLS})
    _, failure = sent(made_up_messages(5), options, tmp_path)
    assert isinstance(failure, MailServerRefuses)
    assert "it does not offer STARTTLS; set CAMPAIGN_EMAIL__SERVER__SECURITY=none, as it is on this" in str(failure)
    assert sandbox.taken == []


def test_the_remedy_against_a_server_without_starttls_is_never_the_clear_but_on_this_machine() -> None:
    error = SMTPException("SMTP STARTTLS extension not supported by server.")
    assert str(_why_not(error, MailServer(host="mail.partner.example"))) == (
        "it does not offer STARTTLS; set CAMPAIGN_EMAIL__SERVER__SECURITY=tls and the port that it has for it,"
        " usually 465"
    )


def test_a_message_arrives_as_it_was_made(serve: Callable[..., MailSandbox], tmp_path: Path) -> None:
    sandbox = serve()
    messages = pl.DataFrame(
        [("7", "josé@bücher.example", "Größe — ✓", "<p>Größe</p>\n.\n..x\n", "Zeile\n.\n..\n.x\n")],
        schema=SCHEMA,
        orient="row",
    )
    mailed, _ = sent(messages, options_for(sandbox.port, tmp_path, sender_name="Käse & Co"), tmp_path)
    (taken,) = sandbox.taken
    assert taken.recipient == "josé@xn--bcher-kva.example"
    message = message_from_bytes(taken.content, policy=default)
    assert message["Subject"] == "Größe — ✓"
    assert message["From"] == "Käse & Co <offers@campaign.example>"
    assert message["Date"].datetime == NOON
    assert message.get_body(["plain"]).get_content().replace("\r\n", "\n") == "Zeile\n.\n..\n.x\n"
    assert message.get_body(["html"]).get_content().replace("\r\n", "\n") == "<p>Größe</p>\n.\n..x\n"
    (key,) = mailed.standard["message_key"]
    assert key == SEND.message_key("email", "7")
    assert message["Message-ID"] == message_id(key, tmp_path)


def test_the_key_has_the_variant_and_who_got_one_variant_gets_no_other(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    messages = made_up_messages(2)
    mailed, _ = sent(messages.with_columns(variant=pl.lit("de")), options_for(sandbox.port, tmp_path), tmp_path)
    keys = mailed.standard["message_key"].sort().to_list()
    assert keys == sorted(SEND.message_key("email", profile, "de") for profile in messages["profile_id"])
    found = sorted(str(message_from_bytes(taken.content, policy=default)["Message-ID"]) for taken in sandbox.taken)
    assert found == sorted(message_id(key, tmp_path) for key in keys)
    again, _ = sent(messages.with_columns(variant=pl.lit("fr")), options_for(sandbox.port, tmp_path), tmp_path)
    assert (again.standard.height, again.complement.height, len(sandbox.taken)) == (0, 2, 2)


def test_a_profile_without_a_message_that_can_be_is_rejected_with_the_reason_and_the_others_are_sent(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    bad = [
        (None, "a@example.com", "s", "h", "t", "no profile id"),
        ("1", None, "s", "h", "t", "no address"),
        ("2", "", "s", "h", "t", "no address"),
        ("3", "not an address", "s", "h", "t", "the address is not valid"),
        ("4", "a@example.com", "s\r\nBcc: eve@example.com", "h", "t",
         "not taken yet: the subject has a line break or a control character"),
        ("5", "a@example.com\r\nRCPT TO:<eve@example.com>", "s", "h", "t",
         "the address is not valid"),
        ("6", "a@example.com", "s", None, "t", "the message lacks a part"),
        ("good", "b@example.com", "s", "h", "t", "the profile has another message in this send"),
    ]  # fmt: skip
    rows = [("good", "good@example.com", "s", "h", "t"), *(row[:5] for row in bad)]
    messages = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    mailed, _ = sent(messages, options_for(sandbox.port, tmp_path), tmp_path)
    assert [one.recipient for one in sandbox.taken] == ["good@example.com"]
    assert sorted(mailed.rejects.rows(), key=str) == sorted(((row[0], row[1], row[5]) for row in bad), key=str)
    corrected = messages.with_columns(email=pl.lit("c@example.com"), subject=pl.lit("s")).head(6)
    again, _ = sent(corrected, options_for(sandbox.port, tmp_path), tmp_path)
    assert again.standard["profile_id"].sort().to_list() == ["1", "2", "3", "4"], "a corrected profile is sent to"


def test_without_the_key_nobody_finds_whose_message_it_is_and_with_it_a_bounce_does(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    options = options_for(sandbox.port, tmp_path, bounce_address="bounces@mail.campaign.example")
    mailed, _ = sent(made_up_messages(30), options, tmp_path)
    names = {taken.recipient: str(message_from_bytes(taken.content)["Message-ID"])[1:33] for taken in sandbox.taken}
    every_key = {SEND.message_key("email", str(profile)) for profile in range(1000)}
    assert not every_key & set(names.values()), "a profile's id can be tried out"
    assert {taken.sender for taken in sandbox.taken} == {
        f"bounces+{name}@mail.campaign.example" for name in names.values()
    }
    journal = open_journal(JournalSettings(url=SecretStr(f"sqlite:///{tmp_path}/journal.db")))
    told = [
        (found.profile_id, found.key)
        for name in names.values()
        if (found := journal.outcomes.message(name)) is not None
    ]
    assert sorted(told) == sorted(mailed.standard.select("profile_id", "message_key").iter_rows())
    other = open_journal(JournalSettings(url=SecretStr(f"sqlite:///{tmp_path}/other.db")))
    assert not [name for name in names.values() if other.names.digits_of(name) in every_key]
    again, _ = sent(made_up_messages(30), options, tmp_path)
    assert (again.complement.height, len(sandbox.taken)) == (30, 30)


def test_a_server_that_knows_ascii_only_is_not_given_other_addresses(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve(utf8=False)
    messages = made_up_messages(3).with_columns(email=pl.col("email").str.replace(r"^p1@", "josé@"))
    mailed, failure = sent(messages, options_for(sandbox.port, tmp_path), tmp_path)
    assert failure is None
    assert mailed.rejects["reason"].to_list() == [
        "not taken yet: the mail server takes no address with letters outside ASCII"
    ]
    assert mailed.standard.height == 2


def test_a_bug_ends_the_run_and_does_not_hang_it(
    serve: Callable[..., MailSandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Skeleton.message

    def breaking(skeleton: Skeleton, letter: Letter) -> Message:
        return 1 / 0 if letter.profile_id == "33" else made(skeleton, letter)

    monkeypatch.setattr(Skeleton, "message", breaking)
    with pytest.raises(PartFailed, match="division by zero"):
        sent(made_up_messages(50), options_for(serve().port, tmp_path), tmp_path)


def test_a_table_without_the_columns_of_a_message_is_named(tmp_path: Path) -> None:
    with pytest.raises(ColumnsMissing, match="'html', 'text'"):
        sent(made_up_messages(1).drop("html", "text"), options_for(1, tmp_path), tmp_path)


def test_a_proof_is_marked_and_leaves_the_send_itself_to_come(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    messages = made_up_messages(2)
    for options in ({"proof": "first"}, {"proof": "first"}, {"proof": "second"}, {}):
        sent(messages, options_for(sandbox.port, tmp_path, **options), tmp_path)
    subjects = [str(message_from_bytes(one.content, policy=default)["Subject"]) for one in sandbox.taken]
    assert sum(subject.startswith("[Proof] Happy") for subject in subjects) == 4
    assert sum(subject.startswith("Happy") for subject in subjects) == 2
    assert len(sandbox.message_ids) == 6


@pytest.mark.parametrize(
    ("rate", "moments", "waits"),
    [
        (None, [0, 0, 0], [0, 0, 0]),
        (2, [0, 0, 0.25, 0.5, 0.5], [0, 0.5, 0.25, 0, 0.5]),
        (2, [0, 10, 10, 10.5], [0, 0, 0.5, 0]),
    ],
)
def test_a_rate_limit_spaces_messages_and_saves_up_no_burst(
    rate: float | None, moments: list[float], waits: list[float]
) -> None:
    now = [0.0]
    pace = Pace(rate, lambda: now[0])

    def waited(moment: float) -> float:
        now[0] = moment
        if not (delay := asyncio.run(pace.delay())):
            assert pace.is_due()
            pace.take()
        return delay

    assert [waited(moment) for moment in moments] == pytest.approx(waits)


def test_the_sends_of_one_account_share_one_rate_whatever_their_journal_s_connections(
    journal_settings: JournalSettings,
) -> None:
    one, two = open_journal(journal_settings), open_journal(journal_settings)
    assert one.paces.reserve("mail:25/me", 1000, 10) == pytest.approx(0, abs=1)
    assert two.paces.reserve("mail:25/me", 500, 10) > 50
    assert one.paces.reserve("mail:25/me", 1, 10) > 100
    assert two.paces.reserve("mail:25/another", 1, 10) == pytest.approx(0, abs=1)


def test_a_send_with_a_rate_takes_its_moments_from_the_journal(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    server = {"messages_per_second": 200, "username": ""}
    mailed, failure = sent(made_up_messages(40), options_for(sandbox.port, tmp_path, server=server), tmp_path)
    assert (mailed.standard.height, failure) == (40, None)
    journal = open_journal(JournalSettings(url=SecretStr(f"sqlite:///{tmp_path}/journal.db")))
    accounts = journal.database.read(lambda database: database.execute(sa.select(PACES.c.account)).scalars().all())
    assert accounts == [f"127.0.0.1:{sandbox.port}/"]


@flow
def mail_flow(count: int, options: EmailOptions) -> Audience:
    return email(made_up_messages(count), options, SEND, NOON)


def test_a_run_leaves_a_report_its_progress_the_rejects_and_a_manifest(
    serve: Callable[..., MailSandbox],
    tmp_path: Path,
    result_folder: Path,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{tmp_path}/journal.db")
    sandbox = serve(
        behaviour=MailBehaviour.PICKY, faults=(Fault(At.TAKEN, every=30, times=1),), login=None, pipelining=True
    )
    messages = made_up_messages(50).with_columns(email=pl.col("email").str.replace(r"^p9@", "bad9@"))

    @flow
    def campaign() -> Audience:
        return email(messages, options_for(sandbox.port, in_folder), SEND, NOON)

    mailed = campaign()
    counts = {row["outcome"]: row["messages"] for row in json.loads(newest_artifact("birthday-email").data)}
    assert counts.items() >= {"sent": 48, "sent by another run": 0, "not sent": 1, "unknown": 1}.items()
    assert newest_artifact("birthday-email-progress").data == 100.0
    folder = in_folder / "birthday" / "2026-11-24"
    assert pl.read_csv(folder / "rejects.csv", infer_schema=False).rows() == [
        ("9", "bad9@example.com", "refused: 550 5.1.1 No such user")
    ]
    path = folder / "email-manifest.parquet"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    manifest = pl.read_parquet(path)
    assert dict(manifest["outcome"].value_counts().iter_rows()) == {"sent": 48, "refused": 1, "unknown": 1}
    assert set(manifest.filter(outcome="sent")["message_id"]) | set(mailed.unknown.collect()["message_id"]) == set(
        sandbox.message_ids
    )
    assert manifest.filter(outcome="sent")["answer"].str.starts_with("250 2.0.0 Ok: queued as").all()
    assert manifest["at"].null_count() == 0
    assert "1 messages may have been sent, or not" in caplog.text
    assert not any(f"p{number}@" in caplog.text for number in range(50)), "an address in the log"
    again = ArrowSerializer().loads(ArrowSerializer().dumps(mailed))
    assert_frame_equal(again.unknown.collect(), mailed.unknown.collect())


def test_a_run_that_cannot_send_fails_with_the_sentence_and_still_leaves_the_manifest(
    tmp_path: Path,
    result_folder: Path,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", f"sqlite:///{tmp_path}/journal.db")
    with pytest.raises(MailServerUnavailable, match="CMP-151"):
        mail_flow(3, options_for(1, in_folder, server={"patience_seconds": 0}))
    manifest = pl.read_parquet(in_folder / "birthday" / "2026-11-24" / "email-manifest.parquet")
    assert manifest["outcome"].to_list() == ["deferred"] * 3
    assert "Traceback" not in caplog.text


def test_the_password_is_shown_nowhere() -> None:
    options = EmailOptions(server=MailServer(username="me", password=SecretStr("s3cret")))
    assert "s3cret" not in repr(options)
    assert "s3cret" not in options.model_dump_json()


def test_an_option_that_is_misspelt_is_refused() -> None:
    with pytest.raises(ValidationError, match="sender_adress"):
        EmailOptions(sender_adress="a@example.com")


def test_the_journal_is_for_its_owner_only(tmp_path: Path) -> None:
    open_journal(JournalSettings(url=SecretStr(f"sqlite:///{tmp_path}/j/journal.db")))
    assert stat.S_IMODE((tmp_path / "j" / "journal.db").stat().st_mode) == 0o600


def test_partitions_that_are_mailed_side_by_side_are_one_send(
    serve: Callable[..., MailSandbox], in_folder: Path, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox = serve()
    options = options_for(sandbox.port, in_folder)
    messages = made_up_messages(100).with_columns(
        email=pl.when(pl.col("profile_id") == "7").then(pl.lit("")).otherwise("email")
    )

    @flow(task_runner=ENGINE)
    def campaign() -> Audience:
        in_parts = stored(messages.iter_slices(30), str(flow_run.id), distinct=True)
        return email(Audience(in_parts, activity="Personalization"), options, SEND)

    first, again = campaign(), campaign()
    assert (first.height, first.rejects.height) == (99, 1)
    assert (again.height, again.complement.height) == (0, 99)
    assert sorted(one.recipient for one in sandbox.taken) == sorted(set(messages["email"]) - {""})
    folder = in_folder / "birthday" / "2026-11-24"
    assert pl.read_parquet(folder / "email-manifest.parquet")["outcome"].to_list() == ["sent"] * 99
    assert pl.read_csv(folder / "rejects.csv")["reason"].to_list() == ["no address"]
    assert "99 messages sent, 0 sent by another run, 1 not sent" in caplog.text


def test_waves_together_reach_everyone_once_and_the_last_one_leaves_nobody_out(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    messages, parts = made_up_messages(300), []
    for wave in (1, 2, 4):  # the third one's run never came
        mailed, failure = sent(messages, options_for(sandbox.port, tmp_path, waves=4, wave=wave), tmp_path)
        assert failure is None
        assert mailed.standard.height + mailed.complement.height + mailed.rejects.height == 300
        assert mailed.rejects["reason"].str.contains(r"^not yet: wave [2-4] of 4$").all()
        parts.append(mailed.standard.height)
    assert sum(parts) == 300
    assert set(sandbox.message_ids.values()) == {1}
    assert 40 < parts[0] < 110
    assert 40 < parts[1] < 110
    with pytest.raises(ValidationError, match="wave 5 is none of 4"):
        options_for(sandbox.port, tmp_path, waves=4, wave=5)


def test_who_s_attachment_is_missing_is_a_reject_and_the_others_get_theirs(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    (tmp_path / "1.pdf").write_bytes(b"one")
    messages = made_up_messages(3).with_columns(
        bill=pl.format("{}.pdf", "profile_id"), first=pl.Series(["Ada", None, "Zoë"])
    )
    chosen = {"attachment": "bill", "attachment_folder": tmp_path, "recipient_name": "first", "text_only": True}
    options = options_for(sandbox.port, tmp_path, headers={"X-Shop": "one"}, **chosen)
    mailed, failure = sent(messages, options, tmp_path)
    assert failure is None
    assert mailed.standard["profile_id"].to_list() == ["1"]
    assert set(mailed.rejects["reason"]) == {
        "not taken yet: its attachment cannot be read: No such file or directory"
    }
    for number in (0, 2):
        (tmp_path / f"{number}.pdf").write_bytes(b"later")
    assert sent(messages, options, tmp_path)[0].standard.height == 2
    mails = [message_from_bytes(one.content, policy=default) for one in sandbox.taken]
    assert {str(mail["To"]) for mail in mails} == {"p1@example.com", "Ada <p0@example.com>", "Zoë <p2@example.com>"}
    assert {mail["X-Shop"] for mail in mails} == {"one"}
    assert {next(mail.iter_attachments()).get_content() for mail in mails} == {b"one", b"later"}
    with pytest.raises(ColumnsMissing, match=r"bill.* its option `carried` names"):
        sent(made_up_messages(3), options, tmp_path)


def test_a_key_of_whole_numbers_is_the_same_key_where_a_gap_made_them_floating(
    serve: Callable[..., MailSandbox], tmp_path: Path
) -> None:
    sandbox = serve()
    people = pl.DataFrame({"id": [1, 2, 2**53], "email": ["a@example.com", "b@example.com", "c@example.com"]})
    with_gap = pl.DataFrame({"id": [1.0, 2.0, float(2**53), None], "email": [*people["email"], "d@example.com"]})
    parts = dict.fromkeys(("subject", "html", "text"), "t")
    templates = Templates(folder=tmp_path, parts=parts, sources={"t": "Hi"})
    making = PersonalizationOptions(templates=templates, send=SEND, key="id")
    first, later = (personalize(rows, making).standard for rows in (people, with_gap))
    options = options_for(sandbox.port, tmp_path)
    assert sent(first, options, tmp_path)[0].standard["profile_id"].to_list() == ["1", "2", str(2**53)]
    again, _ = sent(later, options, tmp_path)
    assert (again.standard.height, again.complement.height) == (0, 3)
    assert again.rejects["reason"].to_list() == ["no profile id"]
    raw, _ = sent(first.with_columns(pl.col("profile_id").cast(pl.Float64())), options, tmp_path)
    assert (raw.standard.height, raw.complement.height) == (0, 3), "nor where no activity made texts of them"
    assert len(sandbox.taken) == 3


def test_a_null_character_in_one_profile_id_rejects_that_row_alone_and_a_rerun_sends_the_rest(
    serve: Callable[..., MailSandbox], tmp_path: Path, journal_settings: JournalSettings
) -> None:
    sandbox = serve()
    people = made_up_messages(60)
    broken = people.with_columns(
        profile_id=pl.when(pl.col("profile_id") == "7").then(pl.lit("7\x00")).otherwise("profile_id")
    )
    options = options_for(sandbox.port, tmp_path)

    def run(messages: pl.DataFrame) -> Delivery:
        journal, channel = open_journal(journal_settings), email_channel(options, SEND, NOON)
        return send_messages(messages, channel, options, SEND, journal=journal, tally=Tally(messages.height))[0]

    for sent_now, sent_before in ((59, 0), (0, 59)):
        mailed = run(broken)
        assert (mailed.standard.height, mailed.complement.height) == (sent_now, sent_before)
        assert mailed.rejects.rows() == [
            ("7\x00", "p7@example.com", "the profile id has a character that nothing can store")
        ]
    assert run(people).standard["profile_id"].to_list() == ["7"], "once it is corrected"
    assert len(sandbox.taken) == 60


def test_a_channel_is_good_for_many_deliveries(
    serve: Callable[..., MailSandbox], tmp_path: Path, journal_settings: JournalSettings
) -> None:
    options = options_for(serve().port, tmp_path)
    journal, channel = open_journal(journal_settings), email_channel(options, SEND, NOON)
    people = made_up_messages(60)
    for some in (people.head(20), people):
        mailed, failure = send_messages(some, channel, options, SEND, journal=journal, tally=Tally(some.height))
        assert failure is None
    assert (mailed.standard.height, mailed.complement.height) == (40, 20)


def test_large_messages_are_made_a_few_at_a_time(
    serve: Callable[..., MailSandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    count_them = parcel.Weight.has_room

    def noted(weight: parcel.Weight, size: int) -> bool:
        made.append(weight.bytes)
        return count_them(weight, size)

    monkeypatch.setattr(parcel, "BYTES_ON_WAY", 400_000)
    monkeypatch.setattr(parcel.Weight, "has_room", noted)
    monkeypatch.setattr(windows, "WINDOW_BYTES", 300_000)
    sandbox = serve()
    messages = made_up_messages(40).with_columns(html=pl.lit("<p>Hello</p>\n" * 10_000))
    mailed, failure = sent(messages, options_for(sandbox.port, tmp_path), tmp_path)
    assert (mailed.standard.height, failure) == (40, None)
    assert 130_000 < max(made) <= 400_000 + 140_000
    one_is_larger = made_up_messages(3).with_columns(
        profile_id=pl.format("large {}", "profile_id"), html=pl.lit("<p>Hello</p>\n" * 50_000)
    )
    assert sent(one_is_larger, options_for(sandbox.port, tmp_path), tmp_path)[0].standard.height == 3
