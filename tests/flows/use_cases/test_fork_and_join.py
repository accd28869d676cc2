"""The pattern of fork and AND-join: branches are submitted tasks; a join waits for all and keeps the main set.

        /-> deduplication --\\
query -<                     >- join -> email
        \\-> extract file ---/
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import flow
from prefect.futures import wait as all_done

from tasks.data_management.extract_file import ExtractFileOptions, extract_file
from tasks.errors import OutsideStorage
from tasks.sources.files import ProfileFile
from tasks.targeting.deduplication import DeduplicationOptions, deduplication
from tasks.targeting.query import QueryOptions, query


@pytest.mark.parametrize("file", ["audience.csv", "../audience.csv"])
def test_the_mail_goes_out_when_every_branch_is_done(
    people: ProfileFile, storage: Path, deliver: Callable, mails: Callable, file: str
) -> None:
    @flow
    def forked() -> None:
        audience = query(QueryOptions(source=people, where="state = 'NY' AND may_contact"))
        main = deduplication.submit(audience, DeduplicationOptions(columns=["email"]))
        other = extract_file.submit(audience, ExtractFileOptions(file=file, columns={"Mail": "email"}))
        all_done([main, other])
        other.result()
        deliver(main.result().standard, "joined", "After all, {{ profile.first_name }}")

    if file.startswith(".."):
        with pytest.raises(OutsideStorage):
            forked()
        assert mails("joined") == {}, "a branch that fails stops the join"
    else:
        forked()
        assert (storage / file).read_text() == "Mail\ndee@x.example\n"
        assert mails("joined") == {"dee@x.example": "After all, Dee"}
