"""The printer's files: whole, in order, and no profile in two of them."""

import csv
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from prefect import flow

from tasks.channels.direct_mail import DirectMailOptions, Extracted, direct_mail, extract
from tasks.errors import ColumnsMissing, OutboxUnwritable, ParameterInvalid
from tasks.runs.audience import Audience
from tasks.runs.table import Part, Table
from tasks.send import Send
from tasks.tables.transitions import REJECTS

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
PEOPLE = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3"],
        "name": ['Ada "Countess"; Lovelace', "山田\n太郎", None],
        "street": ["1 Main St", "=2 Side St", "3 Back St"],
    }
)


RUNS = count()


def written(people: pl.DataFrame, options: DirectMailOptions, send: Send) -> Extracted:
    return extract(people, options, send, Part(run=f"run-{next(RUNS)}", number=1, rows=people.height, file=""))


def files(folder: Path) -> list[Path]:
    return sorted((folder / "birthday" / "2026-11-24").glob("*.csv"))


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as content:
        return list(csv.DictReader(content, delimiter=";"))


def test_the_file_has_the_chosen_columns_with_their_labels_and_every_value_as_it_is(tmp_path: Path) -> None:
    options = DirectMailOptions(folder=tmp_path, columns={"street": "Street", "name": "Name"})
    extracted = written(PEOPLE, options, SEND)
    (file,) = files(tmp_path)
    assert file.name == "direct-mail-001.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = read(file)
    assert list(rows[0]) == ["message_key", "Street", "Name"]
    assert [row["Name"] for row in rows] == ['Ada "Countess"; Lovelace', "山田\n太郎", ""]
    assert [row["message_key"] for row in rows] == extracted.standard["message_key"].to_list()
    assert extracted.standard["message_key"][0] == SEND.message_key("direct-mail", "1")


def test_a_second_run_extracts_only_who_is_new_into_a_file_of_their_own(tmp_path: Path) -> None:
    options = DirectMailOptions(folder=tmp_path)
    written(PEOPLE.head(2), options, SEND)
    again = written(PEOPLE, options, SEND)
    assert again.standard["profile_id"].to_list() == ["3"]
    assert again.complement["profile_id"].to_list() == ["1", "2"]
    assert [len(read(file)) for file in files(tmp_path)] == [2, 1]
    assert written(PEOPLE, options, SEND).standard.is_empty()
    assert len(files(tmp_path)) == 2


def test_runs_at_the_same_time_share_the_profiles(tmp_path: Path) -> None:
    people = pl.select(profile_id=pl.int_range(500)).with_columns(street=pl.lit("x"))
    with ThreadPoolExecutor(8) as pool:
        runs = list(
            pool.map(
                lambda first: written(people.slice(first * 50, 150), DirectMailOptions(folder=tmp_path), SEND),
                range(8),
            )
        )
    keys = [row["message_key"] for file in files(tmp_path) for row in read(file)]
    assert len(keys) == len(set(keys)) == 500
    assert sum(run.standard.height for run in runs) == 500


def test_a_profile_without_a_whole_address_is_rejected(tmp_path: Path) -> None:
    people = pl.concat(
        [PEOPLE, pl.DataFrame({"profile_id": ["1", None], "name": ["b", "c"], "street": ["s", "s"]})]
    )
    people = people.with_columns(street=pl.col("street").replace("1 Main St", "  "))
    extracted = written(people, DirectMailOptions(folder=tmp_path, required=("name", "street")), SEND)
    assert extracted.rejects.rows() == [
        ("1", None, "no value for street"),
        ("3", None, "no value for name"),
        (None, None, "no profile id"),
    ]
    assert extracted.standard["profile_id"].to_list() == ["2", "1"]


def test_a_file_that_the_printer_took_away_is_not_written_again(tmp_path: Path) -> None:
    options = DirectMailOptions(folder=tmp_path)
    written(PEOPLE.head(2), options, SEND)
    files(tmp_path)[0].unlink()
    again = written(pl.concat([PEOPLE, PEOPLE]), options, SEND)
    assert again.standard["profile_id"].to_list() == ["3"]
    assert again.rejects["reason"].to_list() == ["the profile has another message in this send"] * 3
    assert [file.name for file in files(tmp_path)] == ["direct-mail-002.csv"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"street": "Line", "name": "Line"}, "two columns have the label 'Line'"),
        ({"street": "message_key"}, "'message_key' is the file's own first column"),
    ],
)
def test_a_file_that_no_printer_could_read_is_refused_with_a_sentence(
    tmp_path: Path, columns: dict[str, str], says: str
) -> None:
    with pytest.raises(ParameterInvalid, match=says):
        written(PEOPLE, DirectMailOptions(folder=tmp_path, columns=columns), SEND)
    assert not tmp_path.joinpath("birthday").exists()


def test_nobody_is_no_file(tmp_path: Path) -> None:
    assert written(PEOPLE.clear(), DirectMailOptions(folder=tmp_path), SEND).standard.is_empty()
    assert files(tmp_path) == []


def test_what_cannot_be_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ColumnsMissing, match="'zip'"):
        written(PEOPLE, DirectMailOptions(folder=tmp_path, required=("zip",)), SEND)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxUnwritable, match="Not a directory"):
        written(PEOPLE, DirectMailOptions(folder=tmp_path / "file"), SEND)


def test_in_a_flow_the_rejects_of_all_activities_are_left_beside_the_file(
    result_folder: Path, in_folder: Path
) -> None:
    @flow
    def campaign() -> Audience:
        without_consent = pl.DataFrame([("9", None, "no consent")], schema=REJECTS, orient="row")
        audience = Audience(
            Table.of(PEOPLE), activity="Preparation", rejected={"before": Table.of(without_consent)}
        )
        return direct_mail(audience, DirectMailOptions(folder=in_folder, required=("name",)), SEND)

    assert campaign().standard.height == 2
    rejects = pl.read_csv(in_folder / "birthday" / "2026-11-24" / "rejects.csv", infer_schema=False)
    assert rejects["reason"].to_list() == ["no consent", "no value for name"]
