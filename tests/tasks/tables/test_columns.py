from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import ColumnsMissing, ValueRefused
from tasks.runs.results import ArrowSerializer
from tasks.tables.columns import REPORT, ColumnDefinition, TypedTable, typed_table

TEXTS = pl.List(pl.String())


def read(values: list[Any], dtype: pl.DataType | None = None, **options: object) -> TypedTable:
    raw = pl.DataFrame({"k": pl.Series(values, dtype=dtype or pl.String())})
    return typed_table(raw, {"c": ColumnDefinition(key="k", **options)}, activity="Load file", where="the file")


@pytest.mark.parametrize(
    ("options", "raw", "values"),
    [
        ({}, [" a ", "", None], [" a ", "", None]),
        ({"white_space": "trim"}, ["\t a  b "], ["a  b"]),
        ({"white_space": "collapse"}, ["\t a  b "], ["a b"]),
        ({"white_space": "remove"}, ["\t a  b "], ["ab"]),
        ({"letter_case": "upper"}, ["straße é"], ["STRASSE É"]),
        ({"letter_case": "lower"}, ["ÉA"], ["éa"]),
        ({"letter_case": "title"}, ["new york"], ["New York"]),
        ({"remap": {"m": "male"}, "white_space": "trim", "letter_case": "upper"}, [" m", "f"], ["MALE", "F"]),
        ({"max_length": 3}, ["ééé"], ["ééé"]),
        ({"max_length": None}, ["x" * 300], ["x" * 300]),
        ({"on_empty": "null"}, ["", None, "x"], [None, None, "x"]),
        ({"on_empty": "default", "default": "?"}, ["", None, "x"], ["?", "?", "x"]),
        ({"type": "integer"}, [" 7 ", "+5", "-0", "1.0", None], [7, 5, 0, 1, None]),
        ({"type": "integer"}, ["9223372036854775807"], [2**63 - 1]),
        ({"type": "integer", "thousands_separator": " "}, ["1 234 567", "12"], [1234567, 12]),
        ({"type": "integer", "on_empty": "null"}, ["", "1"], [None, 1]),
        ({"type": "number"}, ["1", "1.", ".5", "-2.5e3", "+1E-2"], [1.0, 1.0, 0.5, -2500.0, 0.01]),
        (
            {"type": "number", "decimal_separator": ",", "thousands_separator": "."},
            ["1.234,5", "0,25", "1234"],
            [1234.5, 0.25, 1234.0],
        ),
        ({"type": "decimal"}, ["1.10", "-3", "2.5000"], [Decimal("1.10"), Decimal("-3.00"), Decimal("2.50")]),
        ({"type": "decimal", "scale": 0}, ["12"], [Decimal(12)]),
        ({"type": "boolean"}, ["true", "FALSE", "1", "0", "", None], [True, False, True, False, None, None]),
        ({"type": "boolean", "remap": {"yes": "true", "no": "false"}}, ["yes", "no"], [True, False]),
        ({"type": "date"}, ["2024-02-29", "", None], [date(2024, 2, 29), None, None]),
        ({"type": "date", "format": "%d/%m/%Y"}, ["24/11/2026"], [date(2026, 11, 24)]),
        ({"type": "time"}, ["07:30", "23:59:59.5"], [time(7, 30), time(23, 59, 59, 500_000)]),
        ({"type": "time", "format": "%I:%M %p"}, ["07:30 PM"], [time(19, 30)]),
        (
            {"type": "datetime"},
            ["2026-11-24T07:30:00Z", "2026-11-24T07:30:00+01:00", "2026-11-24T07:30:00.125-0130"],
            [
                datetime(2026, 11, 24, 7, 30),
                datetime(2026, 11, 24, 6, 30),
                datetime(2026, 11, 24, 9, 0, 0, 125_000),
            ],
        ),
        (
            {"type": "datetime"},
            ["2026-11-24T07:30Z", "2026-11-24 07:30:00", "2026-11-24t07:30:00z", "2026-11-24T07:30"],
            [datetime(2026, 11, 24, 7, 30)] * 4,
        ),
        (
            {"type": "datetime", "format": "%d.%m.%Y %H:%M %z"},
            ["24.11.2026 07:30 +0100"],
            [datetime(2026, 11, 24, 6, 30)],
        ),
        ({"type": "datetime", "format": "%d.%m.%Y"}, ["24.11.2026"], [datetime(2026, 11, 24)]),
    ],
)
def test_texts_become_values_of_the_columns_type(
    options: dict[str, Any], raw: list[str | None], values: list[Any]
) -> None:
    table = read(raw, **options)
    assert table.standard["c"].to_list() == values
    assert table.standard.schema == {"c": ColumnDefinition(key="k", **options).column_type}
    assert (table.rejects.height, table.replaced.height) == (0, 0)


@pytest.mark.parametrize(
    ("options", "bad", "reason"),
    [
        ({"max_length": 3}, "abcd", "is longer than 3 characters"),
        ({"on_empty": "bad_value"}, "", "is empty"),
        ({"on_empty": "bad_value"}, None, "is empty"),
        ({"type": "integer"}, "", "is empty"),
        ({"type": "number"}, "", "is empty"),
        ({"type": "decimal"}, "", "is empty"),
        ({"type": "date", "on_empty": "bad_value"}, "", "is empty"),
        ({"type": "integer"}, "1.5", "is not an integer"),
        ({"type": "integer"}, "1e3", "is not an integer"),
        ({"type": "integer"}, "١", "is not an integer"),
        ({"type": "integer"}, "9223372036854775808", "is beyond 64-bit integers"),
        ({"type": "integer", "thousands_separator": ","}, "12,34", "is not an integer"),
        ({"type": "number"}, "NaN", "is not a number"),
        ({"type": "number"}, "Infinity", "is not a number"),
        ({"type": "number"}, "1,5", "is not a number"),
        ({"type": "number", "decimal_separator": ","}, "1.5", "is not a number"),
        ({"type": "number"}, "-1e400", "is beyond 64-bit floating numbers"),
        ({"type": "decimal"}, "1.105", "is not a decimal of at most 2 digits after the point"),
        ({"type": "decimal"}, "9" * 40, "is beyond decimals of 38 digits"),
        ({"type": "boolean"}, "yes", "is not a boolean"),
        ({"type": "boolean", "remap": {"yes": "si"}}, "yes", "is not a boolean"),
        ({"type": "date"}, "2026-02-30", "is not a date"),
        ({"type": "date"}, "2026-1-5", "is not a date"),
        ({"type": "date"}, "0000-01-01", "is not a date"),
        ({"type": "date"}, "2026-11-24T07:30:00Z", "is not a date"),
        ({"type": "time"}, "24:00", "is not a time"),
        ({"type": "datetime"}, "2026-11-24", "is not a datetime"),
        ({"type": "datetime"}, "2026-11-24T07:30:60Z", "is not a datetime"),
        ({"type": "datetime"}, "2026-11-24T07:30:00+24:00", "is not a datetime"),
        ({"type": "datetime"}, "2026-11-24T07:30:00+01:60", "is not a datetime"),
        ({"type": "datetime"}, "0001-01-01T00:00:00+01:00", "is not a datetime"),
        ({"type": "datetime"}, "9999-12-31T23:59:59-01:00", "is not a datetime"),
    ],
)
def test_a_bad_value_rejects_its_line_with_the_reason_and_the_raw_value(
    options: dict[str, Any], bad: str | None, reason: str
) -> None:
    good = {"integer": "1", "number": "1", "decimal": "1", "boolean": "1", "time": "07:30"}.get(
        str(options.get("type", "text")), None if options.get("on_empty") != "bad_value" else "2026-11-24"
    )
    table = read([good, bad, good], **options)
    assert table.rejects.schema == REPORT
    assert table.rejects.rows() == [(2, "c", reason, bad)]
    assert table.standard.height == 2
    assert table.standard["c"].null_count() == (2 if good is None else 0)


@pytest.mark.parametrize(
    ("options", "values", "rejected", "replaced"),
    [
        ({"on_bad_value": "reject"}, [1, 3], [2, 4], []),
        ({"on_bad_value": "null"}, [1, None, 3, None], [], [2, 4]),
        ({"on_bad_value": "default", "default": "7"}, [1, 7, 3, 7], [], [2, 4]),
        ({"on_bad_value": "default"}, [1, None, 3, None], [], [2, 4]),
        ({"on_bad_value": "default_unless_remapped", "default": "7", "remap": {"y": "yy"}}, [1, 7, 3], [4], [2]),
        ({"on_bad_value": "default_unless_remapped", "default": "7"}, [1, 7, 3, 7], [], [2, 4]),
        ({"on_bad_value": "default_unless_remapped", "default": "7", "remap": {"y": "5"}}, [1, 7, 3, 5], [], [2]),
    ],
)
def test_the_definition_says_what_becomes_of_a_bad_value(
    options: dict[str, Any], values: list[int | None], rejected: list[int], replaced: list[int]
) -> None:
    table = read(["1", "x", "3", "y"], type="integer", **options)
    assert table.standard["c"].to_list() == values
    assert table.rejects["row"].to_list() == rejected
    assert table.replaced["row"].to_list() == replaced


def test_a_bad_value_can_refuse_the_whole_table_and_is_not_shown() -> None:
    with pytest.raises(ValueRefused, match=r"Row 2 of the column 'c' is not an integer.*CMP-150") as refused:
        read(["1", "somebody"], type="integer", on_bad_value="error")
    assert "somebody" not in str(refused.value)


def test_a_longer_text_can_be_cut_and_the_report_says_so() -> None:
    table = read(["abcdef", "abc"], max_length=3, when_longer="cut")
    assert table.standard["c"].to_list() == ["abc", "abc"]
    assert table.replaced.rows() == [(1, "c", "was cut to 3 characters", "abcdef")]


@pytest.mark.parametrize(
    ("options", "values", "rejected"),
    [
        ({}, [["1", "x"], None, [], ["2", None]], []),
        ({"type": "integer"}, [None, [], [2, None]], [1]),
        ({"type": "integer", "on_bad_value": "null"}, [[1, None], None, [], [2, None]], []),
        ({"max_length": 1, "letter_case": "upper"}, [["1", "X"], None, [], ["2", None]], []),
    ],
)
def test_lists_are_read_value_by_value(options: dict[str, Any], values: list[Any], rejected: list[int]) -> None:
    table = read([["1", "x"], None, [], ["2", None]], TEXTS, many=True, **options)
    assert table.standard["c"].to_list() == values
    assert table.standard.schema == {"c": ColumnDefinition(key="k", many=True, **options).column_type}
    assert table.rejects.rows() == [(row, "c", "is not an integer", "1, x") for row in rejected]


@pytest.mark.parametrize(
    ("dtype", "values", "options", "read_as"),
    [
        (pl.Int64(), [1, None], {"type": "integer"}, [1, None]),
        (pl.Int64(), [1, None], {"type": "integer", "on_empty": "default", "default": "4"}, [1, 4]),
        (pl.Float64(), [1.5], {"type": "number"}, [1.5]),
        (pl.Date(), [date(2026, 11, 24)], {"type": "date"}, [date(2026, 11, 24)]),
        (pl.Int64(), [1, 2], {"type": "text"}, ["1", "2"]),
        (pl.Int64(), [1, 2], {"type": "boolean"}, None),
    ],
)
def test_values_of_the_type_already_are_taken_as_they_are(
    dtype: pl.DataType, values: list[Any], options: dict[str, Any], read_as: list[Any] | None
) -> None:
    table = read(values, dtype, **options)
    if read_as is None:
        assert table.rejects.rows() == [(2, "c", "is not a boolean", "2")]
    else:
        assert table.standard["c"].to_list() == read_as


def test_a_missing_list_is_empty() -> None:
    values = [["1"], None, []]
    assert read(values, TEXTS, many=True, on_empty="bad_value").rejects.rows() == [(2, "c", "is empty", None)]
    ignored = read(values, TEXTS, many=True, on_empty="bad_value", on_bad_value="null")
    assert ignored.standard["c"].to_list() == values
    assert ignored.replaced["row"].to_list() == [2]


def test_rejected_lines_are_reported_once_and_are_in_no_other_table() -> None:
    raw = pl.DataFrame({"a": ["1", "x", "3", "y"], "b": ["long", "long", "b", "b"], "unused": [None] * 4})
    table = typed_table(
        raw,
        {
            "price": ColumnDefinition(key="a", type="integer"),
            "name": ColumnDefinition(key="b", max_length=2, on_bad_value="null"),
            "code": ColumnDefinition(key="a", ignore=True),
            "again": ColumnDefinition(key="b"),
        },
        activity="Load file",
        where="the file",
    )
    assert table.standard.to_dict(as_series=False) == {"price": [1, 3], "name": [None, "b"], "again": ["long", "b"]}
    assert table.rejects.select("row", "column", "value").rows() == [(2, "price", "x"), (4, "price", "y")]
    assert table.replaced.select("row", "column", "value").rows() == [(1, "name", "long")]
    again = ArrowSerializer().loads(ArrowSerializer().dumps(table))
    assert isinstance(again, TypedTable)
    assert again.rejects.equals(table.rejects)


def test_no_rows_are_a_table_of_the_right_types() -> None:
    table = read([], type="datetime")
    assert table.standard.schema == {"c": pl.Datetime("us")}
    assert table.rejects.schema == table.replaced.schema == REPORT


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ColumnsMissing, match=r"Load file needs .*'zip'"):
        typed_table(
            pl.DataFrame({"k": ["1"]}), {"z": ColumnDefinition(key="zip")}, activity="Load file", where="the file"
        )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"decimal_separator": ",", "thousands_separator": ","}, "are the same"),
        ({"thousands_separator": "5"}, "cannot be a letter"),
        ({"type": "integer", "default": "x"}, "default value 'x' is not an integer"),
        ({"default": "x" * 256}, "is longer than 255"),
        ({"type": "date", "format": "%Q"}, "does not tell a date"),
        ({"type": "date", "format": "%d"}, "does not tell a date"),
        ({"type": "datetime", "format": "%H:%M"}, "does not tell a datetime"),
        ({"format": "%d"}, "has no format"),
        ({"max_length": 0}, "max_length"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_definition_that_cannot_work_is_refused_when_it_is_written(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ColumnDefinition(key="k", **options)


OFFSETS = st.sampled_from(["", "Z", "z", "+01:00", "-0930", "+23:59", "-00:01"])
MOMENTS = st.builds(
    lambda moment, between, parts, offset: moment.isoformat(between, parts) + offset,
    st.datetimes(),
    st.sampled_from("T "),
    st.sampled_from(["minutes", "seconds", "milliseconds", "microseconds"]),
    OFFSETS,
)
DATES_AND_MORE = st.one_of(
    MOMENTS,
    st.dates().map(date.isoformat),
    st.times().map(time.isoformat),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z?)?", fullmatch=True),
    st.text(alphabet="0123456789-:TZ+. ", max_size=20),
)


def moment_of(text: str) -> datetime | None:
    """What the standard library reads, in UTC; None where it reads none."""
    try:
        moment = datetime.fromisoformat(text.strip().upper())
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None


@settings(deadline=None, max_examples=300)
@given(st.lists(DATES_AND_MORE, min_size=1, max_size=8))
def test_no_moment_is_read_as_another_than_the_standard_library_reads(texts: list[str]) -> None:
    read_as = read(texts, type="datetime", on_bad_value="null").standard["c"].to_list()
    for text, moment in zip(texts, read_as, strict=True):
        assert moment is None or moment == moment_of(text)


@settings(deadline=None, max_examples=100)
@given(st.lists(MOMENTS, min_size=1, max_size=8))
def test_every_moment_of_the_usual_forms_is_read(texts: list[str]) -> None:
    read_as = read(texts, type="datetime", on_bad_value="null").standard["c"].to_list()
    assert read_as == [moment_of(text) for text in texts]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.decimals(-(10**30), 10**30, places=2), min_size=1, max_size=8))
def test_decimals_keep_every_digit(values: list[Decimal]) -> None:
    assert read([f"{value:f}" for value in values], type="decimal").standard["c"].to_list() == values


FORMS = {
    "integer": ["7", "-0", "+5", "007", "1.0", "1e3", "9223372036854775808", "٣", "1_0"],
    "number": ["1.5", ".5", "5.", "1E+5", "nan", "NaN", "inf", "-Infinity", "1e999", "0x1", "1,5", "+.5e-2"],
    "boolean": ["true", "1", "0", "false", "T", "FALSE", "yes", "on", "2"],
    "date": [
        "2026-11-24",
        "0000-01-01",
        "0001-01-01",
        "2026-02-29",
        "2024-02-29",
        "2026-1-5",
        "20261124",
        "2026-W48",
    ],
    "datetime": [
        "2026-11-24T07:30:00",
        "2026-11-24 07:30:00",
        "2026-11-24T07:30:00Z",
        "2026-11-24 07:30:00z",
        "2026-11-24T07:30:00.125",
        "2026-11-24T07:30:00+01:00",
        "2026-11-24T24:00:00",
        "2026-11-24T23:59:60",
        "2026-10-25T02:30:00",
        "2026-02-30T07:30:00",
        "2026-11-24",
    ],
}
KINDS = sorted(FORMS)


@given(
    kind=st.sampled_from(KINDS),
    at=st.data(),
    options=st.fixed_dictionaries(
        {},
        optional={
            "on_empty": st.sampled_from(["by_type", "null", "bad_value", "default"]),
            "on_bad_value": st.sampled_from(["reject", "null", "default"]),
            "white_space": st.sampled_from(["as_is", "trim", "remove"]),
            "zone": st.just("Europe/Berlin"),
        },
    ),
)
@pytest.mark.slow
@settings(max_examples=300)
def test_texts_in_common_forms_are_read_as_all_others_are(
    kind: str, at: st.DataObject, options: dict[str, object]
) -> None:
    form = st.sampled_from([*FORMS[kind], None, ""])
    spaced = st.tuples(st.sampled_from(["", "", "", " "]), form, st.sampled_from(["", "", "", "\t"]))
    values = at.draw(st.lists(spaced.map(lambda parts: parts[1] and "".join(map(str, parts))), max_size=8))
    # A remapping that replaces nothing has every text looked at by itself.
    closely = read(values, type=kind, remap={"\x00": "\x00"}, **options)
    quickly = read(values, type=kind, **options)
    for ours, other in zip(
        (quickly.standard, quickly.rejects, quickly.replaced),
        (closely.standard, closely.rejects, closely.replaced),
        strict=True,
    ):
        assert ours.equals(other)
