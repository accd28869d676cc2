"""Who gets a message, and why the others do not."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect import flow
from pydantic import SecretStr

from tasks.channels import preparation as judging
from tasks.channels.preparation import PreparationOptions, Prepared, preparation, prepare
from tasks.delivery.journal.states import Event
from tasks.delivery.journal.storage import Journal, Settlement, open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.errors import ColumnsMissing
from tasks.messages.address import PLAIN_ADDRESS, checked_recipient
from tasks.runs.shapes import source_activity
from tasks.runs.table import part_size
from tasks.send import Send
from tasks.settings import JournalSettings

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))


def audience(*rows: tuple[str | None, ...], **columns: list[object]) -> pl.DataFrame:
    people = pl.DataFrame(rows, schema={"profile_id": pl.String(), "email": pl.String()}, orient="row")
    return people.with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def reasons(prepared: Prepared) -> dict[str, str]:
    return dict(prepared.rejects.select("profile_id", "reason").iter_rows())


def people(count: int) -> pl.DataFrame:
    return audience(*((str(number), f"p{number}@example.com") for number in range(count)))


def test_each_profile_that_is_left_out_has_its_first_reason() -> None:
    table = audience(
        ("fine", "fine@example.com"),
        ("quiet", "quiet@example.com"),
        ("unasked", "unasked@example.com"),
        ("none", None),
        ("blank", "  "),
        ("bad", "not an address"),
        ("gone", "Gone@Example.com"),
        ("twin", "FINE@example.com"),
        ("abroad", "josé@bücher.example"),
        ("spelled", "\ufeffjosé@BÜCHER.example\xa0"),
        may=[True, False, None, *[True] * 7],
    )
    suppressed = table["profile_id"].replace_strict({"gone": "quarantine: 550 5.1.1"}, default=None)
    prepared = prepare(table, PreparationOptions(consent="may"), SEND, suppressed=suppressed)
    assert reasons(prepared) == {
        "quiet": "no consent for the channel",
        "unasked": "no consent for the channel",
        "none": "no address",
        "blank": "no address",
        "bad": "the address is not valid",
        "gone": "quarantine: 550 5.1.1",
        "twin": "duplicate address",
        "spelled": "duplicate address",
    }
    assert prepared.standard["profile_id"].to_list() == ["fine", "abroad"]
    assert prepared.standard.columns == table.columns
    assert prepared.rejects.columns == ["profile_id", "email", "reason"]


def test_one_who_is_left_out_does_not_take_an_address_from_another() -> None:
    table = audience(("a", "one@example.com"), ("b", "one@example.com"), may=[False, True])
    prepared = prepare(table, PreparationOptions(consent="may"), SEND)
    assert prepared.standard["profile_id"].to_list() == ["b"]


def test_duplicates_can_be_allowed() -> None:
    table = audience(("a", "one@example.com"), ("b", "one@example.com"))
    assert prepare(table, PreparationOptions(duplicates=True), SEND).standard.height == 2


def test_a_proof_goes_to_test_profiles_only() -> None:
    table = people(3).with_columns(is_test=pl.Series([False, True, None]))
    prepared = prepare(table, PreparationOptions(test_profiles="is_test"), SEND)
    assert prepared.standard["profile_id"].to_list() == ["1"]
    assert set(reasons(prepared).values()) == {"not a test profile"}


def test_the_control_group_has_its_share_and_is_the_same_whoever_else_is_there() -> None:
    options = PreparationOptions(control_share=0.1)
    everyone = reasons(prepare(people(5000), options, SEND))
    assert 400 < len(everyone) < 600
    assert set(everyone.values()) == {"control group"}
    some = reasons(prepare(people(5000).sample(2000, seed=1, shuffle=True), options, SEND))
    assert set(some) <= set(everyone)
    tomorrow = SEND.model_copy(update={"business_date": date(2026, 11, 25)})
    assert reasons(prepare(people(5000), options, tomorrow)) == everyone
    other = reasons(prepare(people(5000), PreparationOptions(control_share=0.1, control_seed=2), SEND))
    assert len(set(other) & set(everyone)) < 150


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a@x.example", "A@x.example", "b@x.example", "bad", "", None]), st.booleans()),
        max_size=30,
    )
)
def test_nobody_is_lost_and_no_address_is_there_twice(rows: list[tuple[str | None, bool]]) -> None:
    table = audience(
        *((str(number), address) for number, (address, _) in enumerate(rows)),
        may=[may for _, may in rows],
    )
    prepared = prepare(table, PreparationOptions(consent="may", control_share=0.3), SEND)
    everyone = Counter([*prepared.standard["profile_id"], *prepared.rejects["profile_id"]])
    assert everyone == Counter(table["profile_id"])
    assert prepared.standard["email"].str.to_lowercase().is_unique().all()


@given(st.from_regex(PLAIN_ADDRESS, fullmatch=True).filter(lambda one: "\n" not in one and len(one) < 64))
def test_what_is_plainly_an_address_is_one(address: str) -> None:
    assert checked_recipient(address).address == address


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ColumnsMissing, match="'may_mail'"):
        prepare(people(1), PreparationOptions(consent="may_mail"), SEND)


def test_numbers_as_keys_and_other_addresses_than_mail_are_taken() -> None:
    table = pl.DataFrame({"id": [1, 2, 3], "phone": ["+43123", None, "+43123"]})
    options = PreparationOptions(channel="sms", key="id", address="phone", addresses_are_mail=False)
    prepared = prepare(table, options, SEND)
    assert prepared.standard["id"].to_list() == [1]
    assert prepared.rejects.rows() == [("2", None, "no address"), ("3", "+43123", "duplicate address")]


def test_a_channel_without_addresses_needs_none() -> None:
    table = pl.DataFrame({"profile_id": ["1", None, "3"], "may": [True, True, False]})
    prepared = prepare(table, PreparationOptions(channel="direct-mail", address="", consent="may"), SEND)
    assert prepared.standard["profile_id"].to_list() == ["1"]
    assert prepared.rejects.rows() == [
        (None, None, "no profile id"),
        ("3", None, "no consent for the channel"),
    ]


def of_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))


def journal_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    url = f"sqlite:///{tmp_path}/journal.db"
    monkeypatch.setenv("CAMPAIGN_JOURNAL__URL", url)
    return open_journal(JournalSettings(url=SecretStr(url)))


@source_activity("People", distinct=lambda table: "profile_id")
def people_in_parts(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    size = part_size()
    return iter([*table.iter_slices(size)] or [table])


@pytest.mark.parametrize("size", [100, 2])
def test_in_a_flow_the_journal_says_who_is_not_to_be_written_to_and_the_channel_what_was_sent(
    result_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    journal = journal_of(tmp_path, monkeypatch)
    key = SEND.message_key("email", "1")
    journal.renew()
    journal.claim(SEND, "email", {key: "1"})
    journal.record(SEND, "email", [Settlement(key, Event.TAKEN, "250 Ok")])
    told = [
        (Kind.QUARANTINE, "550 5.1.1", {"address": "p2@example.com"}),
        (Kind.OPT_OUT, "", {"profile_id": "4"}),
        (Kind.COMPLAINT, "abuse", {"profile_id": "5"}),
    ]
    journal.suppressions.add([Sighting(kind, "email", why, "test", **who) for kind, why, who in told])
    of_size(monkeypatch, size)

    @flow
    def campaign() -> tuple[list[str], dict[str, str]]:
        prepared = preparation(people_in_parts(people(7)), PreparationOptions(), SEND).counted()
        rejects = prepared.rejects_so_far().collect()
        return prepared.collect()["profile_id"].to_list(), dict(rejects.select("profile_id", "reason").iter_rows())

    left, reasons = campaign()
    assert reasons == {"2": "quarantine: 550 5.1.1", "4": "opt-out", "5": "complaint: abuse"}
    assert left == ["0", "1", "3", "6"], "what was sent is known at the claim, where it may be sent again"


@pytest.mark.parametrize("size", [100, 1, 2, 3])
def test_of_one_address_in_several_parts_the_first_that_gets_a_message_keeps_it(
    result_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    journal = journal_of(tmp_path, monkeypatch)
    journal.suppressions.add([Sighting(Kind.OPT_OUT, "email", "", "test", profile_id="a")])
    of_size(monkeypatch, size)
    table = audience(
        *[(name, "one@example.com") for name in "abc"],
        ("d", "two@example.com"),
        ("e", "ONE@example.com "),
        ("f", "not an address"),
        ("g", "not an address"),
        ("h", None),
    )

    @flow
    def campaign() -> tuple[list[str], dict[str, str]]:
        prepared = preparation(people_in_parts(table), PreparationOptions(), SEND).counted()
        rejects = prepared.rejects_so_far().collect()
        return prepared.collect()["profile_id"].to_list(), dict(rejects.select("profile_id", "reason").iter_rows())

    again = "duplicate address"
    left, reasons = campaign()
    assert left == ["b", "d"]
    assert reasons == {"a": "opt-out", "c": again, "e": again} | dict.fromkeys("fg", "the address is not valid") | {
        "h": "no address"
    }


def test_a_row_is_judged_once_whatever_the_parts(
    result_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal_of(tmp_path, monkeypatch)
    of_size(monkeypatch, 2)
    judged: Counter[str] = Counter()
    unsendable = judging.unsendable

    def counting(rows: pl.DataFrame, *args: object, **named: object) -> pl.Series:
        judged.update(rows["profile_id"])
        return unsendable(rows, *args, **named)

    monkeypatch.setattr(judging, "unsendable", counting)

    @flow
    def campaign() -> int:
        return preparation(people_in_parts(people(7)), PreparationOptions(), SEND).counted().passed

    assert campaign() == 7
    assert set(judged.values()) == {1}
