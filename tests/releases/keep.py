"""`python -m tests.releases.keep`: write what this version leaves on a disk, into tests/releases/<version>.

Done once for each release, before its tag (CONTRIBUTING.md). Two campaigns without Python are run for one day: by
mail, to a mail server here, and into the outbox.
"""

import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from prefect.testing.utilities import prefect_test_harness

from deployments.declared import declared_campaign
from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from tasks.execution.report import CampaignReport
from tasks.runs.results import ArrowSerializer
from tasks.sources.files import ProfileFile
from tasks.targeting.incremental_query import IncrementalQueryOptions, incremental_query
from tasks.targeting.save_audience import SaveAudienceOptions, save_audience

HERE = Path(__file__).parent
DAY = date(2026, 11, 24)
RUN_AT = datetime(2026, 11, 24, 7, tzinfo=UTC)
CAMPAIGNS = ("by-mail", "to-files")
PEOPLE = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3"],
        "first_name": ["Ada", "Grace", "Noor"],
        "email": ["ada@people.test", "grace@people.test", "noor@people.test"],
        "may_contact": [True, True, False],
    }
)
PART = pl.DataFrame({"profile_id": ["1", None], "day": [DAY, None], "tags": [["a"], []]})
ENVIRONMENT = """\
CAMPAIGN_PROFILES__PATH=people.csv
CAMPAIGN_ROOTS__TEMPLATES=templates
CAMPAIGN_EMAIL__SENDER_ADDRESS=offers@shop.test
CAMPAIGN_EMAIL__SERVER__HOST=127.0.0.1
CAMPAIGN_EMAIL__SERVER__SECURITY=none
"""
DECLARED = """\
deployments:
  - name: by-mail
    entrypoint: flows.campaign.campaign
    tags: [campaign]
    parameters:
      name: by-mail
      label: By mail
      audience: {where: may_contact}
      templates: {folder: templates}
      channel: {kind: email}
  - name: to-files
    entrypoint: flows.campaign.campaign
    tags: [campaign]
    parameters:
      name: to-files
      label: To files
      audience: {where: may_contact}
      templates: {folder: templates}
      channel: {kind: outbox}
"""
TEMPLATES = {
    "subject.txt": "News for {{ profile.first_name }}",
    "body.html": "<p>Hello {{ profile.first_name }}</p>",
    "body.txt": "Hello {{ profile.first_name }}",
}


def of_folder(folder: Path, mail_port: int) -> dict[str, str]:
    """The settings that are whole paths, or a port of this moment."""
    return {
        "CAMPAIGN_JOURNAL__URL": f"sqlite:///{folder}/journal.db",
        "CAMPAIGN_KEPT__FOLDER": str(folder / "kept"),
        "CAMPAIGN_EMAIL__SERVER__PORT": str(mail_port),
    }


def run(name: str) -> CampaignReport:
    """Run a campaign of this folder for the day."""
    found = declared_campaign(name)
    report = found.flow()(**found.parameters, business_date=DAY)
    assert isinstance(report, CampaignReport)
    return report


def newcomers(run_at: datetime) -> list[str]:
    """Whom the incremental query of this folder gives at a moment: outside a run, they are remembered at once."""
    options = IncrementalQueryOptions(
        source=ProfileFile(path=Path("people.csv")), history=Path("histories"), name="weekly"
    )
    return incremental_query.fn(options, run_at).collect()["profile_id"].to_list()


def keep(folder: Path) -> None:
    """Write everything into `folder`, which is empty and the working folder."""
    PEOPLE.write_csv("people.csv")
    Path(".env").write_text(ENVIRONMENT)
    Path("prefect.yaml").write_text(DECLARED)
    Path("templates").mkdir()
    for name, text in TEMPLATES.items():
        Path("templates", name).write_text(text)
    for name in CAMPAIGNS:
        assert run(name).delivered == 2
    assert newcomers(RUN_AT) == ["1", "2", "3"]
    save_audience.fn(PEOPLE, SaveAudienceOptions(folder=Path("audiences"), name="everybody"), DAY)
    Path("part.arrow").write_bytes(ArrowSerializer().dumps(PART))
    with closing(sqlite3.connect("journal.db")) as journal:
        Path("journal.sql").write_text("\n".join(journal.iterdump()) + "\n")
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def in_folder(folder: Path):
    """The working folder, until the block ends."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> None:
    """Write the folder of this version."""
    there = HERE / version("campaign-flows")
    with (
        TemporaryDirectory() as name,
        in_folder(Path(name)),
        running_mail_server(MailSandbox()) as server,
        prefect_test_harness(server_startup_timeout=600),
    ):
        os.environ.update(of_folder(Path(name), server.port))
        keep(Path(name))
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(name, there, ignore=shutil.ignore_patterns("*.lock", ".locks", "preview.html"))
    print(f"Written: {there}")


if __name__ == "__main__":
    main()
