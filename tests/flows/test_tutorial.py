"""The tutorial of flows/README.md, played from an empty folder: real files, a partner over TLS, a mail server."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import default as internet_message
from pathlib import Path
from typing import Any

import pytest

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from deployments.sandbox.server import Call, Reply, Server
from deployments.terminal.app import app, told
from tests.browser import browser_page, choose, field, log_in, submit, write_json
from tests.deployments.serving import Served, serving
from tests.ports import free_port
from tests.prefect_database import migrated
from tests.waiting import until

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


def write_templates(folder: str = "spring_offers") -> None:
    for part in ("body.html", "body.txt"):
        (text,) = written(f"flows/templates/spring_offers/{part}")
        Path("flows", "templates", folder, part).write_text(text)


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


@pytest.fixture
def browser(partner: Server, mail_server: MailSandbox, folder: Path) -> Iterator[tuple[Served, Any]]:
    """The reader's own server, and a browser that is logged in."""
    assert campaign("new", "spring-form", "--kind", "yaml") == 0
    add_settings(2, ("smtp.shop.test", "127.0.0.1"), ("offers\n", "\n"), ("the password", ""))
    write_templates("spring_form")
    add_settings(3)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    home = folder / "prefect"
    home.mkdir()
    shutil.copyfile(migrated(), home / "prefect.db")
    environment |= {"PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deployments.serve", "--port", str(port)]
    with serving(command, folder, folder, environment, port) as served, browser_page() as page:
        page.goto(f"{served.address}/login")
        log_in(page, served.login)
        yield served, page


def test_the_first_mail_is_sent_by_the_form(
    browser: tuple[Served, Any], mail_server: MailSandbox, tmp_path: Path
) -> None:
    """Takes the README's pictures too (`PICTURES=deployments/pictures`), each when what it shows is there."""
    served, page = browser
    pictures = ROOT / os.environ.get("PICTURES", tmp_path)
    page.goto(f"{served.address}/deployments/deployment/{served.deployments()['spring-form']['id']}/run")
    page.get_by_text("Parameters", exact=True).wait_for()
    page.get_by_role("button", name="Add item").first.click()
    choose(page, field(page, "Endpoint"), "vouchers")
    field(page, "Name").locator("textarea").fill("vouchers")
    write_json(page, field(page, "On"), '{"zip_code": "zip"}')
    page.get_by_text("E-mail", exact=True).click()
    page.get_by_text("Messages are sent by mail").wait_for()
    page.get_by_text("contents (Optional)").scroll_into_view_if_needed()
    page.screenshot(path=pictures / "campaign-form.png")
    submit(page)
    run = until(lambda: finished(served), "the run of the form")
    assert run["state_type"] == "COMPLETED", served.output
    assert sorted(one.recipient for one in mail_server.taken) == ["ada@people.test", "grace@people.test"]
    page.goto(f"{served.address}/runs/flow-run/{run['id']}")
    page.get_by_text("Completed", exact=True).first.wait_for()
    page.get_by_text("External API vouchers").first.wait_for()
    page.screenshot(path=pictures / "campaign-run.png", clip={"x": 0, "y": 0, "width": 1280, "height": 640})


def finished(served: Served) -> dict[str, Any] | None:
    """The one run, when it has ended."""
    ended = {"COMPLETED", "FAILED", "CRASHED"}
    return next((run for run in served.post("flow_runs/filter") if run["state_type"] in ended), None)


def text_of(content: bytes) -> str:
    message = message_from_bytes(content, policy=internet_message)
    return message.get_body(("html",)).get_content()
