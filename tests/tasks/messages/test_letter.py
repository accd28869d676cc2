"""Messages as a mail program reads them: parsed by `email`, beside what `email.message` itself would have made."""

import base64
import os
import re
import subprocess
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, default
from email.utils import parseaddr
from pathlib import Path
from typing import Any, NamedTuple

import dkim
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from tasks.errors import MessageFileUnreadable
from tasks.messages.letter import (
    NO_PAGE,
    MessageOptions,
    Unsendable,
    checked_recipient,
    prepared_skeleton,
    subject_header,
)
from tasks.messages.texts import encoded_texts
from tasks.messages.unsubscribe import Unsubscriber, who_unsubscribes
from tasks.send import Send
from tasks.settings import UnsubscribeSettings

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = SEND.message_key("email", "7")
NAME = "0123456789abcdef" * 2
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
SECRET = SecretStr("0123456789abcdef")
PLAIN = MessageOptions()
PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3000)


class Written(NamedTuple):
    """A row of the table that letters are made of."""

    message_key: str = KEY
    name: str = NAME
    profile_id: str = "7"
    email: str = "ada@example.com"
    subject: str = "Happy birthday, Ada"
    html: str = "<p>Happy birthday</p>"
    text: str = "Happy birthday"
    to_name: str | None = None
    attachment: str | bytes | None = None


def letter(**values: Any) -> Written:
    return Written(**values)


def content_of(written: Written, options: MessageOptions = PLAIN, page: UnsubscribeSettings = NO_PAGE) -> bytes:
    skeleton = prepared_skeleton(options, SEND, NOON, page)
    (one,) = skeleton.letters(pl.DataFrame([written], schema=Written._fields, orient="row"))
    return skeleton.message(one).content


def made(one: Written, options: MessageOptions = PLAIN) -> EmailMessage:
    content = content_of(one, options)
    assert b"\n" not in content.replace(b"\r\n", b""), "every line ends as RFC 5322 wants it"
    assert max(map(len, content.split(b"\r\n"))) <= 998
    return message_from_bytes(content, policy=default)


def made_by_the_library(one: Written, options: MessageOptions = PLAIN) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(options.sender_name, addr_spec=options.sender_address)
    message["To"] = one.email
    message["Subject"] = one.subject
    message["Date"] = NOON
    message["Message-ID"] = f"<{one.name}@campaign.example>"
    message.set_content(one.text)
    message.add_alternative(one.html, subtype="html")
    for content_id, path in options.inline_images.items():
        (_, html) = message.iter_parts()
        html.add_related(path.read_bytes(), "image", "png", cid=f"<{content_id}>", filename=path.name)
    for path in options.attachments:
        message.add_attachment(path.read_bytes(), "application", "pdf", filename=path.name)
    return message_from_bytes(bytes(message), policy=default)


def meaning(message: EmailMessage) -> list[object]:
    headers = sorted((name, str(value)) for name, value in message.items() if name != "Content-Type")
    parts = [
        (
            part.get_content_type(),
            part.get_content_charset(),
            part["Content-ID"],
            part.get_filename(),
            part.get_content_disposition(),
            None if part.is_multipart() else _unix(part.get_content()),
        )
        for part in message.walk()
    ]
    return [headers, parts, [part.defects for part in message.walk()]]


def _unix(content: str | bytes) -> str | bytes:
    return content.replace("\r\n", "\n") if isinstance(content, str) else content


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"subject": "Ünïcode — 🎂 for you, and a text that is long enough to be folded into many lines " * 2},
        {"subject": "A plain subject of more than seventy-eight characters, as people do write them now and then"},
        {"text": "Zeile\nzwei\n", "html": "<p>Größe</p>\r\n<p>x</p>"},
        {"text": ".\n..\n. a dot first\nFrom here\n"},
        {"html": "<p>" + "long line " * 300 + "</p>"},
        {"text": "trailing space \nand tab\t\n= equals =\n"},
        {"text": "", "html": ""},
        {"email": "o'brien+tag@mail.example.co.uk"},
    ],
)
def test_a_message_means_what_the_library_would_have_made(values: dict[str, str]) -> None:
    assert meaning(made(letter(**values))) == meaning(made_by_the_library(letter(**values)))


def test_files_stand_in_the_message_as_the_library_would_put_them(tmp_path: Path) -> None:
    logo, terms = tmp_path / "logo.png", tmp_path / "Größe und Preis.pdf"
    logo.write_bytes(PNG)
    terms.write_bytes(b"%PDF-1.7 \x00\xff" * 50)
    options = MessageOptions(sender_name="Käse, GmbH", inline_images={"logo": logo}, attachments=(terms,))
    message = made(letter(), options)
    assert meaning(message) == meaning(made_by_the_library(letter(), options))
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]


@settings(max_examples=100, deadline=None)
@given(PRINTABLE)
@example("=?utf-8?q?not_a_word?=")
@example("Müller, Söhne & Co., the house of fine gifts, wines and letters since eighteen hundred and something")
@example("A long, very long name of a sender, with commas, and (remarks), that no single line of a header can hold")
@example('He said "hello", \\ and left; <x@y.example>')
@example("")
def test_any_sender_s_name_is_read_as_it_was_written_with_one_address(name: str) -> None:
    sender = MessageOptions(sender_name=name, sender_address="offers@campaign.example")
    raw = content_of(letter(), sender)
    assert [each.addr_spec for each in message_from_bytes(raw, policy=default)["From"].addresses] == [
        "offers@campaign.example"
    ]
    written = message_from_bytes(raw)["From"]  # as RFC 2047 reads several encoded words
    assert str(make_header(decode_header(parseaddr(written.replace("\r\n", ""))[0]))) == name


@settings(max_examples=300, deadline=None)
@given(PRINTABLE)
@example("=?utf-8?q?not_a_word?=")
def test_any_subject_is_read_as_it_was_written(subject: str) -> None:
    raw = f"Subject: {subject_header(subject)}\r\nTo: a@b\r\n\r\n".encode()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    message = message_from_bytes(raw, policy=default)
    assert message.keys() == ["Subject", "To"]
    assert message["Subject"] == subject
    assert not message["Subject"].defects


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY_TEXT, min_size=1, max_size=4))
def test_any_text_is_read_as_it_was_written(texts: list[str]) -> None:
    for text, encoded in zip(texts, encoded_texts(pl.Series(texts)), strict=True):
        check_encoded(text, encoded.encode())


def check_encoded(text: str, encoded: bytes) -> None:
    raw = b'Content-Type: text/plain; charset="utf-8"\r\n' + encoded
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    read = message_from_bytes(raw, policy=default).get_content().replace("\r\n", "\n")
    written = text.replace("\r\n", "\n").replace("\r", "\n")
    assert read == (written if written.endswith("\n") else written + "\n")


@pytest.mark.parametrize(
    "subject", ["a\nBcc: all@example.com", "a\rb", "a\r\n b", "a\x00b", "a\x85b", "a\u2028b", "a\u2029b", "\x7f"]
)
def test_a_subject_that_could_begin_another_header_is_refused(subject: str) -> None:
    with pytest.raises(Unsendable, match="line break"):
        made(letter(subject=subject))


@pytest.mark.parametrize(
    ("address", "as_sent", "needs_utf8"),
    [
        ("ada@example.com", "ada@example.com", False),
        ("a.b+c'd@sub.example.co", "a.b+c'd@sub.example.co", False),
        ("root@localhost", "root@localhost", False),
        ("ada@bücher.example", "ada@xn--bcher-kva.example", False),
        ("用户@例子.example", "用户@xn--fsqu00a.example", True),
        ("josé@example.com", "josé@example.com", True),
    ],
)
def test_an_address_is_given_to_the_server_in_the_form_it_takes(
    address: str, as_sent: str, needs_utf8: bool
) -> None:
    assert checked_recipient(address) == (as_sent, needs_utf8)
    message = made(letter(email=address))
    assert str(message["To"]) == as_sent


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@example..com",
        "ada@-example.com",
        "ada@example.com.",
        ".ada@example.com",
        "ada.@example.com",
        "a..b@example.com",
        "ada lovelace@example.com",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada\n@example.com",
        "ada>@example.com",
        "ada@[127.0.0.1]",
        "ada\x85@example.com",
        "ada\u2028@example.com",
        "ada\u00a0@example.com",
        "a" * 65 + "@example.com",
        "a@" + ".".join(["b" * 60] * 5),
        "ada@exa_mple.com",
        "ada@☃️\u0000.com",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Unsendable, match="address is not valid"):
        made(letter(email=address))


def test_each_message_has_its_own_signed_link_for_one_click() -> None:
    page = UnsubscribeSettings(url="https://example.com/stop?lang=de", secret=SECRET)
    content = content_of(letter(profile_id="a&b=ü/7"), page=page)
    message = message_from_bytes(content, policy=default)
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = message["List-Unsubscribe"].strip("<>")
    assert link.startswith("https://example.com/stop?lang=de&c=birthday&d=2026-11-24&p=")
    secret = SECRET.get_secret_value().encode()
    assert who_unsubscribes(link, secret) == Unsubscriber("birthday", "2026-11-24", "a&b=ü/7")
    forged = link.replace("p=a", "p=b"), link[:-1] + "x", link + "&p=8", "https://example.com/stop", link[:-41]
    assert [who_unsubscribes(one, secret) for one in forged] == [None] * 5
    assert who_unsubscribes(link, b"another secret...") is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sender_name": "A\nBcc: x@y"}, "line break"),
        ({"sender_address": "nobody"}, "not valid"),
        ({"sender_address": "josé@example.com"}, "not ASCII"),
        ({"reply_to": "a@b\r\nBcc: x@y"}, "not valid"),
        ({"dkim_selector": "s1"}, "go together"),
    ],
)
def test_options_that_would_make_bad_headers_are_refused(options: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MessageOptions(**options)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "http://example.com", "secret": SECRET}, "not an https address"),
        ({"url": "http://localhost.example.com/", "secret": SECRET}, "not an https address"),
        ({"url": "https://example.com/\r\nBcc: x@y", "secret": SECRET}, "not an https address"),
        ({"url": "https://example.com", "secret": "short"}, "fewer than 16"),
        ({"url": "https://example.com"}, "fewer than 16"),
    ],
)
def test_a_page_that_would_make_bad_links_is_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        UnsubscribeSettings(**settings)


def test_a_file_that_is_not_there_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(MessageFileUnreadable, match=r"terms\.pdf.*No such file"):
        made(letter(), MessageOptions(attachments=(tmp_path / "terms.pdf",)))
    (tmp_path / "logo.txt").write_text("no image")
    with pytest.raises(MessageFileUnreadable, match="not an image"):
        made(letter(), MessageOptions(inline_images={"logo": tmp_path / "logo.txt"}))


def test_the_same_message_is_the_same_bytes_in_every_run() -> None:
    one, two = (content_of(letter()) for _ in range(2))
    assert one == two


def test_a_dkim_signature_verifies_and_covers_the_unsubscribe_headers(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.der"
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", private, "2048"], check=True, capture_output=True)
    subprocess.run(
        ["openssl", "rsa", "-in", private, "-pubout", "-outform", "DER", "-out", public],
        check=True,
        capture_output=True,
    )
    options = MessageOptions(dkim_selector="s1", dkim_key_file=private)
    page = UnsubscribeSettings(url="https://example.com/stop", secret=SECRET)
    content = content_of(letter(subject="Größe", text="é"), options, page)
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public.read_bytes())
    asked: list[bytes] = []

    def dns(name: bytes, timeout: int = 5) -> bytes:
        asked.append(name)
        return record

    assert dkim.verify(content, dnsfunc=dns)
    assert asked == [b"s1._domainkey.campaign.example."]
    for tampered in (
        content.replace(b"One-Click", b"Two-Click"),
        content.replace(b"Happy", b"Sorry"),
        content.replace(b"ada@", b"eve@"),
    ):
        assert not dkim.verify(tampered, dnsfunc=dns)


def test_a_signature_by_an_ed25519_key_verifies(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.der"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-outform", "DER", "-out", public], check=True)
    options = MessageOptions(dkim_selector="s1", dkim_key_file=private)
    content = content_of(letter(), options)
    record = b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public.read_bytes()[-32:])
    assert b"a=ed25519-sha256" in content
    assert dkim.verify(content, dnsfunc=lambda *_, **__: record)
    assert not dkim.verify(content.replace(b"Happy", b"Sorry"), dnsfunc=lambda *_, **__: record)


def test_a_dkim_key_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(MessageFileUnreadable, match=r"DKIM key.*key\.pem"):
        prepared_skeleton(MessageOptions(dkim_selector="s1", dkim_key_file=tmp_path / "key.pem"), SEND, NOON)


@pytest.mark.parametrize(
    "name",
    ["Ada Lovelace", 'Ada "the Countess" Lovelace', "Lovelace, Ada", "Zoë Müller", "", "  Ada ", "a@b.example",
     "=?x?=", "Ada " * 60, "名前" * 40],
)  # fmt: skip
def test_the_recipient_s_name_in_to_reads_back_with_this_one_address(name: str) -> None:
    message = made(letter(to_name=name))
    (address,) = message["To"].addresses
    assert address.addr_spec == "ada@example.com"
    read = parseaddr(message_from_bytes(bytes(message), policy=SMTP)["To"])[0]
    assert "".join(str(make_header(decode_header(read))).split()) == "".join(name.split())


def test_a_recipient_s_name_of_two_lines_is_no_name() -> None:
    with pytest.raises(Unsendable, match="name has a line break"):
        made(letter(to_name="Ada\r\nBcc: all@example.com"))


def test_a_send_s_own_headers_are_in_every_message_and_signed(tmp_path: Path) -> None:
    own = {
        "X-Campaign": "spring",
        "List-Help": "<https://shop.test/help?" + "a" * 300 + ">",
        "Feedback-ID": "1:2:3:shop",
    }
    message = made(letter(), MessageOptions(headers=own))
    assert {name: message[name] for name in own} == own


@pytest.mark.parametrize(
    "headers",
    [
        {"Subject": "x"}, {"Bcc": "a@b.example"}, {"Return-Path": "x"}, {"DKIM-Signature": "x"}, {"X-": "x"},
        {"List-Unsubscribe": "<https://shop.test>"}, {"list-unsubscribe-post": "x"}, {"X-A": "a", "x-a": "b"},
        {"X-A": ""}, {"X-A": "two\r\nBcc: a@b.example"}, {"X-A": "ü"}, {"X-A": "x" * 1000},
        {"X-A:": "x"}, {"X A": "x"},
    ],
)  # fmt: skip
def test_a_header_that_is_not_a_send_s_own_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        MessageOptions(headers=headers)


@pytest.mark.parametrize("extra", [{}, {"attachment": "file"}])
def test_a_message_of_text_alone_has_no_html(extra: dict[str, str], tmp_path: Path) -> None:
    message = made(letter(attachment=b"x"), MessageOptions(text_only=True, **extra))
    types = [part.get_content_type() for part in message.walk()]
    assert types == (["multipart/mixed", "text/plain", "application/pdf"] if extra else ["text/plain"])
    assert message.get_body(("plain",)).get_content().strip() == "Happy birthday"


@pytest.fixture
def files(tmp_path: Path) -> MessageOptions:
    folder = tmp_path / "attachments"
    (folder / "bills").mkdir(parents=True)
    (folder / "bills" / "Rechnung für Ada.pdf").write_bytes(b"%PDF" + bytes(range(256)) * 9)
    (folder / "large.bin").write_bytes(b"x" * 5000)
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (tmp_path / "secret").write_text("secret")
    all_of_them = tmp_path / "terms.pdf"
    all_of_them.write_bytes(b"terms")
    return MessageOptions(
        attachment="bill", attachment_folder=folder, attachment_bytes=4000, attachments=(all_of_them,)
    )


def test_a_profile_s_own_attachment_comes_after_those_of_all(files: MessageOptions) -> None:
    options = files.model_copy(update={"inline_images": {}})
    message = made(letter(attachment="bills/Rechnung für Ada.pdf"), options)
    terms, bill = message.iter_attachments()
    assert terms.get_content() == b"terms"
    assert bill.get_filename() == "Rechnung für Ada.pdf"
    assert bill.get_content_type() == "application/pdf"
    assert bill.get_content() == b"%PDF" + bytes(range(256)) * 9
    assert message.get_body(("html",)).get_content().strip() == "<p>Happy birthday</p>"
    assert not any(part.defects for part in message.walk())
    (_, of_bytes) = made(letter(attachment=b"bytes"), options).iter_attachments()
    assert (of_bytes.get_filename(), of_bytes.get_content()) == ("attachment.pdf", b"bytes")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "has no attachment"),
        ("", "has no attachment"),
        ("bills/gone.pdf", "cannot be read: No such file"),
        ("bills", "Is a directory"),
        ("pipe", "no file"),
        ("../secret", "outside"),
        ("out/secret", "outside"),
        ("/etc/passwd", "outside"),
        ("a\x00b", "outside"),
        ("large.bin", "larger than 4,000 bytes"),
        (b"x" * 4001, "larger than 4,000 bytes"),
    ],
)
def test_an_attachment_that_cannot_be_keeps_its_message_back(
    files: MessageOptions, value: str | bytes | None, reason: str
) -> None:
    with pytest.raises(Unsendable, match=reason) as kept:
        made(letter(attachment=value), files)
    assert "secret" not in str(kept.value)
    assert "gone" not in str(kept.value)


ROWS = st.fixed_dictionaries(
    {
        "email": st.sampled_from(
            ["ada@example.com", "o'brien@example.com", "ada@münchen.de", " a@example.com", "no"]
        ),
        "subject": st.one_of(st.sampled_from(["Hi", "x" * 66, "x" * 67, "a ", "", "=?x", "Grüße"]), PRINTABLE),
        "text": st.one_of(st.sampled_from([".", "a\n.b", "\r\n..", "--=_"]), ANY_TEXT),
        "to_name": st.sampled_from([None, "", "Ada", "a, b"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ROWS, min_size=1, max_size=6),
    st.sampled_from([NO_PAGE, UnsubscribeSettings(url="https://u.example/x", secret=SECRET)]),
)
def test_what_is_made_for_many_together_is_what_each_would_be_alone(
    rows: list[dict[str, Any]], page: UnsubscribeSettings
) -> None:
    skeleton = prepared_skeleton(PLAIN, SEND, NOON, page)
    schema = dict.fromkeys(Written._fields, pl.String)
    table = pl.DataFrame([letter(**row) for row in rows], schema=schema, orient="row")
    for row, made_of in zip(rows, skeleton.letters(table), strict=True):
        try:
            message = skeleton.message(made_of)
        except Unsendable as reason:
            with pytest.raises(Unsendable, match=re.escape(str(reason))):
                content_of(letter(**row), page=page)
            continue
        recipient = checked_recipient(row["email"])
        assert message.content == content_of(letter(**row), page=page)
        assert message.content.startswith(skeleton._headers(made_of, recipient).encode() + skeleton.head.encode())
        assert message.recipient == recipient
        assert message.has_dots == (b"\r\n." in message.content) or not made_of.is_plain
