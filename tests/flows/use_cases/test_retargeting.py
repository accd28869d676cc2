"""Use case: a second mail to those who did not open the first.

query -> email -> save audience -> wait -> read audience -> exclusion -> email
                                        load file (opens) --/
"""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from prefect import flow

from tasks.data_management.load_file import LoadFileOptions, load_file
from tasks.execution.wait import WaitOptions, wait
from tasks.sources.files import ProfileFile
from tasks.targeting.exclusion import ExclusionOptions, exclusion
from tasks.targeting.query import QueryOptions, query
from tasks.targeting.read_audience import ReadAudienceOptions, read_audience
from tasks.targeting.save_audience import SaveAudienceOptions, save_audience

TODAY = date(2026, 11, 24)
OPENS = LoadFileOptions(file="opens.csv", columns={"address": {"key": "email", "letter_case": "lower"}})
NOT_THOSE_WHO_OPENED = ExclusionOptions(primary="sent", rules={"opened": {"email": "address"}})


def test_who_did_not_open_gets_a_second_mail(
    people: ProfileFile, storage: Path, deliver: Callable, mails: Callable
) -> None:
    @flow
    def retargeting() -> None:
        audience = query(QueryOptions(source=people, where="may_contact AND email IS NOT NULL AND state <> 'CA'"))
        deliver(audience, "first", "An offer, {{ profile.first_name }}")
        save_audience(audience, SaveAudienceOptions(name="first mail"), TODAY)
        (storage / "opens.csv").write_text("email\nDEE@x.example\n")
        wait(WaitOptions(name="for opens", duration=timedelta(seconds=0.1)))
        sent = read_audience(ReadAudienceOptions(name="first mail"))
        opened = load_file(OPENS).standard
        silent = exclusion({"sent": sent, "opened": opened}, NOT_THOSE_WHO_OPENED)
        deliver(silent.standard, "second", "Still open, {{ profile.first_name }}")

    retargeting()
    assert set(mails("first")) == {"dee@x.example", "gus@x.example", "hal@x.example"}
    assert mails("second") == {"gus@x.example": "Still open, Gus", "hal@x.example": "Still open, Hal"}
