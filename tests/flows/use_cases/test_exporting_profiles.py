"""Use case: profiles are exported to a file, which is put where others fetch it.

query -> extract file -> transfer file (upload)
"""

import gzip
from pathlib import Path

from prefect import flow

from tasks.data_management.extract_file import ExtractFileOptions, extract_file
from tasks.data_management.transfer_file import TransferFileOptions, transfer_file
from tasks.files.remote.local import LocalFolder
from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, query

EXPORT = ExtractFileOptions(
    file="out/profiles.csv.gz",
    columns={"Name": "first_name", "Born": "birth_date", "Initials": "UPPER(LEFT(first_name, 1))"},
    sort=["birth_date"],
    separator=";",
    date_format="%d/%m/%Y",
    gzip=True,
)
HAND_OVER = TransferFileOptions(
    action="upload", place=LocalFolder(folder="partner"), file="profiles.csv.gz", folder="out", delete_after=True
)


def test_the_partner_finds_the_file(people: ProfileFile, storage: Path, result_folder: Path) -> None:
    @flow
    def export() -> None:
        extract_file(query(QueryOptions(source=people, where="state = 'CA'")), EXPORT)
        transfer_file(HAND_OVER)

    export()
    content = gzip.decompress((storage / "partner" / "profiles.csv.gz").read_bytes()).decode()
    assert content == "Name;Born;Initials\nFay;23/11/1990;F\nAda;24/11/1990;A\nBob;05/01/2003;B\n"
    assert list((storage / "out").iterdir()) == []
