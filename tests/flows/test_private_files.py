"""Every file of a campaign is its owner's alone, and every folder that is made, under an ordinary umask."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os
from datetime import UTC, date, datetime
from pathlib import Path

from prefect import flow

from tasks.channels.direct_mail import DirectMailOptions, direct_mail
from tasks.channels.outbox import OutboxOptions, outbox
from tasks.content.personalization import PersonalizationOptions, Templates, personalization
from tasks.content.preview import PreviewOptions, preview
from tasks.data_management.extract_file import ExtractFileOptions, extract_file
from tasks.data_management.load_file import LoadFileOptions, load_file
from tasks.runs.engine import ENGINE
from tasks.send import Send
from tasks.sources.files import ProfileFile
from tasks.targeting.incremental_query import IncrementalQueryOptions, incremental_query
from tasks.targeting.save_audience import SaveAudienceOptions, save_audience

DAY = date(2026, 11, 24)
WORDS = "Hello {{ profile.profile_id }}{% if profile.zip_code == '7' %}{{ reject('no') }}{% endif %}"
TEMPLATES = Templates(
    folder=Path("here"),
    parts={"subject": "subject", "html": "body.html", "text": "text"},
    sources=dict.fromkeys(("subject", "body.html", "text"), WORDS),
)


def written(form):
    send = Send(campaign=f"files-{form}", label="Files", business_date=DAY)
    channel = OutboxOptions(folder=Path("o/utbox"), format=form)
    return send, PersonalizationOptions(templates=TEMPLATES, send=send), channel


@flow(task_runner=ENGINE)
def files():
    people = ProfileFile(path="people.csv", types={}, on_bad_value="reject")
    audience = incremental_query(IncrementalQueryOptions(source=people, name="new"), datetime.now(UTC))
    save_audience(audience, SaveAudienceOptions(name="kept"), DAY)
    for form in ("maildir", "parquet"):
        send, options, channel = written(form)
        preview(audience, PreviewOptions(personalization=options, folder=Path("p/reviews")))
        outbox(personalization(audience, options), channel, send)
    direct_mail(audience, DirectMailOptions(folder=Path("l/etters"), required=("zip_code",)), send)
    for form in ("delimited", "ndjson", "parquet"):
        extract_file(audience, ExtractFileOptions(file=f"out/{form}.file", format=form))
    number = {"key": "profile_id", "type": "integer", "on_bad_value": "reject"}
    load_file(LoadFileOptions(file="in.csv", columns={"number": number}, rejects_file="re/jects.csv"))


os.umask(int(os.environ["UMASK"], 8))
files()
"""
SETTINGS = {
    "CAMPAIGN_JOURNAL__URL": "sqlite:///{folder}/j/ournal/journal.db",
    "CAMPAIGN_KEPT__FOLDER": "{folder}/k/ept",
    "CAMPAIGN_PARTITIONS__SIZE": "20",
    "CAMPAIGN_ENGINE__WORKERS": "2",
    "PREFECT_LOCAL_STORAGE_PATH": "{folder}/r/esults",
}


def modes(folder: Path) -> Iterator[tuple[str, str, bool]]:
    """What is in the folder: its path, its mode, whether it is a folder. What goes away meanwhile is left out."""
    below = len(str(folder)) + 1  # strings: it is called all the time, and paths take five times as long
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = f"{where}/{name}"
            with suppress(FileNotFoundError):
                found = os.lstat(path).st_mode
                yield path[below:], oct(found & 0o777), stat.S_ISDIR(found)


def test_files_of_a_campaign_are_its_owner_s_alone_while_they_are_written_and_after(
    in_folder: Path, prefect_backend: str
) -> None:
    rows = pl.DataFrame({"profile_id": [f"P{number}" for number in range(100)]})
    rows = rows.with_columns(
        email=pl.format("{}@x.example", "profile_id"), zip_code=pl.Series([str(n % 10) for n in range(100)])
    )
    rows.write_csv("people.csv")
    (in_folder / "storage").mkdir()
    rows.write_csv("storage/in.csv")
    given = {path for path, _, _ in modes(in_folder)}
    settings = {name: value.format(folder=in_folder) for name, value in SETTINGS.items()}
    with (in_folder.parent / "printed").open("w") as printed:
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={
                **os.environ,
                **settings,
                "UMASK": "022",
                "PYTHONPATH": str(ROOT),
                "PREFECT_API_URL": prefect_backend,
            },
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        seen = set()
        while running.poll() is None:
            seen |= set(modes(in_folder))
    seen |= set(modes(in_folder))
    assert running.returncode == 0, (in_folder.parent / "printed").read_text()[-4000:]
    made = {entry for entry in seen if entry[0] not in given}
    assert {path.partition("/")[0] for path, _, _ in made} >= {"j", "k", "l", "o", "p", "r"}
    assert any(path.endswith("-wal") for path, _, _ in made)
    open_to_others = [entry for entry in made if entry[1] != ("0o700" if entry[2] else "0o600")]
    assert sorted(open_to_others) == []
