"""The tutorial of flows/README.md, played from an empty folder: real files, a partner over TLS, a mail server."""

import json
import re
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import default as internet_message
from pathlib import Path

import pytest

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from deployments.sandbox.server import Call, Reply, Server
from deployments.terminal.app import app, told

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "flows" / "README.md").read_text()


def written(name: str) -> list[str]:
    """The blocks of a file, as the page shows them."""
    return re.findall(rf"`{re.escape(name)}`\n```\w+\n(.*?)```", TEXT, re.DOTALL)


def campaign(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        told(app, list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def folder(in_folder: Path, result_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with the campaign that the first command wrote."""
    assert campaign("new", "spring-offers") == 0
    (people,) = written("people.csv")
    Path("people.csv").write_text(people)
    add_settings(0)
    return in_folder


@pytest.fixture
def partner(folder: Path, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """The reader's partner: two vouchers; Hamburg has none."""
    (answer,) = written("answer.json")
    Path("answer.json").write_text(answer)

    def respond(call: Call) -> Reply:
        assert call.path == "/vouchers"
        return Reply(json.dumps(json.loads(answer)).encode())

    server = start_server(respond)
    add_settings(1, ("https://partner.example", server.address))
    # Of this test server: its authority, and that it is on loopback.
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__VOUCHERS__CA_FILE", str(server.ca_file))
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost", "127.0.0.1"]')
    return server


@pytest.fixture
def mail_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailSandbox]:
    """The reader's mail server, on loopback and so without TLS."""
    with running_mail_server(MailSandbox()) as server:
        monkeypatch.setenv("CAMPAIGN_EMAIL__SERVER__SECURITY", "none")
        monkeypatch.setenv("CAMPAIGN_EMAIL__SERVER__PORT", str(server.port))
        yield server


def add_settings(place: int, *replaced: tuple[str, str]) -> None:
    """Append a block of `.env` to the file, with other words in the place of what is the reader's own."""
    text = written(".env")[place]
    for one, other in replaced:
        assert one in text
        text = text.replace(one, other)
    with Path(".env").open("a") as file:
        file.write(text)


def write_templates() -> None:
    for part in ("body.html", "body.txt"):
        name = f"flows/templates/spring_offers/{part}"
        (text,) = written(name)
        Path(name).write_text(text)


def join_the_vouchers() -> None:
    """The changes of the flow, where the page says that they go."""
    flow = Path("flows/spring_offers.py")
    steps, imports = written(str(flow))
    lines = flow.read_text().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if line.startswith("    messages = "))
    lines[place : place + 1] = [steps]
    place = next(number for number, line in enumerate(lines) if line.startswith("from tasks"))
    flow.write_text("".join([*lines[:place], imports, *lines[place:]]))


def test_the_people_of_a_spreadsheet_get_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert campaign("check") == 0
    assert campaign("run", "spring-offers") == 0
    assert "delivered            3" in capsys.readouterr().out
    assert campaign("run", "spring-offers") == 0
    assert "3  were delivered before, and not again" in capsys.readouterr().out


def test_the_first_mail_is_sent_by_a_flow(
    partner: Server, mail_server: MailSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert campaign("endpoint", "sample", "answer.json") == 0
    assert "euros" in capsys.readouterr().out
    assert campaign("endpoint", "try", "vouchers") == 0
    assert "MUNICH-9" in capsys.readouterr().out
    join_the_vouchers()
    write_templates()
    assert campaign("preview", "spring-offers") == 0
    assert mail_server.taken == []
    flow = Path("flows/spring_offers.py")
    text = flow.read_text().replace(
        "from tasks.channels.outbox import outbox", "from tasks.channels.email import email"
    )
    flow.write_text(
        text.replace("outbox(messages, settings.outbox, send)", "email(messages, settings.email, send)")
    )
    login = ("smtp.shop.test", "127.0.0.1"), ("offers\n", "\n"), ("the password", "")
    add_settings(2, *login)
    assert campaign("run", "spring-offers") == 0
    assert sorted(one.recipient for one in mail_server.taken) == ["ada@people.test", "grace@people.test"]
    assert all(b"The Shop" in one.content for one in mail_server.taken)
    assert any("MUNICH-9" in text_of(one.content) and "9,00" in text_of(one.content) for one in mail_server.taken)


def test_the_first_mail_is_sent_without_python(
    partner: Server, mail_server: MailSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert campaign("new", "spring-yaml", "--kind", "yaml") == 0
    write_templates()
    (parameters,) = written("prefect.yaml")
    declared = Path("prefect.yaml").read_text()
    begin = declared.index("      contents: []")
    end = declared.index("    work_pool", begin)
    Path("prefect.yaml").write_text(declared[:begin] + parameters + declared[end:])
    monkeypatch.setenv("CAMPAIGN_ROOTS__TEMPLATES", "flows/templates")
    add_settings(2, ("smtp.shop.test", "127.0.0.1"), ("offers\n", "\n"), ("the password", ""))
    assert campaign("run", "spring-yaml") == 0
    assert sorted(one.recipient for one in mail_server.taken) == ["ada@people.test", "grace@people.test"]


def text_of(content: bytes) -> str:
    message = message_from_bytes(content, policy=internet_message)
    return message.get_body(("html",)).get_content()
