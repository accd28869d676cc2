"""What cannot be said, each with the sentence that it gets; no text ends a process or reads anything."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from tasks.errors import ColumnsMissing, ExpressionInvalid, FilterInvalid
from tasks.tables.conditions import aggregates, condition, expression

SCHEMA = pl.Schema(
    {
        "email": pl.String(),
        "visits": pl.Int64(),
        "spent": pl.Decimal(38, 2),
        "score": pl.Float64(),
        "born": pl.Date(),
        "may_contact": pl.Boolean(),
        "seen": pl.Datetime("us"),
        "sent": pl.Datetime("us", "UTC"),
        "tags": pl.List(pl.String()),
    }
)


def refusal(text: str) -> str:
    with pytest.raises(FilterInvalid) as refused:
        condition(text, SCHEMA, activity="Query", where="the profiles")
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("email IN (SELECT zz FROM read_csv('{file}'))", "SELECT is not possible: a condition has no query"),
        ("email IN (TABLE profiles)", "TABLE is not possible"),
        ("EXISTS (SELECT 1)", "EXISTS is not possible"),
        ("(SELECT may_contact FROM self)", "line 1, column 2: SELECT is not possible"),
        ("TRUE UNION SELECT * FROM self", "UNION is not possible"),
        ("may_contact; DROP TABLE profiles", "column 12: ; is not possible"),
        ("may_contact) OR (TRUE", r"near '\)'"),
        ("email = read_csv('{file}')", "line 1, column 9: the function READ_CSV is not known"),
        ("scan_parquet('{file}') = 'x'", "the function SCAN_PARQUET is not known"),
        ("read_text('{file}') = 'x'", "the function READ_TEXT is not known"),
        ("pg_read_file('{file}') = 'x'", "the function PG_READ_FILE is not known"),
        ("\"pg_read_file\"('{file}') = 'x'", '"pg_read_file" is no function'),
        ("pg_catalog.lower(email) = 'x'", "column 11: . is not possible"),
        ("self.email = 'x'", ". is not possible"),
        ("load_extension('{file}') = 1", "the function LOAD_EXTENSION is not known"),
        ("LPAD(email, 1500000000, 'x') = 'x'", "column 1: the function LPAD is not known"),
        ("REPEAT(email, 1500000000) = 'x'", "the function REPEAT is not known"),
        ("REPLACE(email, 'a', 'aaaa') = 'x'", "the function REPLACE is not known"),
        ("pg_sleep(1000) IS NULL", "the function PG_SLEEP is not known"),
        ("LOWR(email) = 'x'", "The nearest is LOWER"),
        ("SUBSTRNG(email, 1) = 'x'", "The nearest is SUBSTRING"),
        ("AGE(born) > 18", "compare dates|Compare dates"),
        ("IFNULL(visits, 0) = 0", "Write COALESCE"),
        ("NOW() > sent", "business_date"),
        ("born < CURRENT_DATE", "business_date"),
        ("email ~ '(a+)+$'", "~ is not possible in conditions: write LIKE"),
        ("email SIMILAR TO '(a+)+'", "SIMILAR TO is not possible"),
        ("email LIKE visits", "the pattern must be a written text"),
        ("email LIKE 'a\\'", "ends with its escape character"),
        ("email LIKE ANY (ARRAY['a'])", "ANY is not possible"),
        ("COUNT(*) > 1", "aggregate of many rows"),
        ("SUM(visits) OVER () > 1", "OVER is not possible"),
        ("visits = $1", r"\$ is not possible"),
        ("visits = :x", ": is not possible"),
        ("visits = ?", r"\? is not possible"),
        ("email = E'\\x41'", "not possible"),
        ("email = $$x$$", "not possible"),
        ("email = x'ff'", "not possible"),
        ("(visits, email) = (1, 'x')", "TUPLE is not possible"),
        ("tags[1] = 'x'", r"\[ is not possible"),
        ("visits BETWEEN SYMMETRIC 2 AND 1", "SYMMETRIC is not possible"),
        ("visits = visits = visits", "put one of them in parentheses"),
        ("visits IN ()", "list of IN is empty"),
        ("visits visits", "after the end of an expression"),
        ("'a' 'b' = email", "two texts stand side by side"),
        ("email = 'x", "not closed"),
        ("", "it is empty"),
        ("-- x", "it is empty"),
        ("email = '\x00'", "NUL character"),
        ("1 +", "near '\\+'"),
        ("LOWER(email", r"\) is missing"),
        ("visits", "it gives bigint"),
        ("NULL", "it gives NULL"),
        ("INTERVAL '1 day'", "it gives interval"),
    ],
)
def test_what_is_not_of_the_language_is_refused_by_its_name(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("zz\ncanary\n")
    sentence = refusal(text.replace("{file}", str(file)))
    assert re.search(says, sentence), sentence
    assert "canary" not in sentence


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" OR ".join(["visits = 1"] * 6000), r"it has 23999 words and signs|characters, at most"),
        (" OR ".join(["may_contact"] * 3000), r"it has 5999 words and signs, at most 5000"),
        ("(" * 2000 + "TRUE" + ")" * 2000, "nested more than 20 deep"),
        ("NOT " * 3000 + "TRUE", "nested more than 20 deep"),
        ("- " * 3000 + "1 = 1", "nested more than 20 deep"),
        ("CASE WHEN " * 900 + "TRUE" + " THEN TRUE END" * 900, "nested more than 20 deep"),
        ("LOWER(" * 1000 + "email" + ")" * 1000, "nested more than 20 deep"),
        ("1" + " + 1" * 2000 + " = 1", "nested more than|too large"),
        ("visits" + " / visits" * 30 + " = 1", "too large"),
        ("email = '" + "x" * 60_000 + "'", "it has 60010 characters, at most 50000"),
        ("email LIKE '" + "%a" * 5000 + "'", "a pattern has at most 500 characters"),
        ("visits = " + "9" * 4000, "too many digits"),
        ("score = 1e999999999", "too many digits"),
        ("visits = 9223372036854775808", "too large for an integer"),
        ("born > DATE '2026-01-01' + INTERVAL '999999 years'", "at most 10000 years"),
    ],
)
def test_what_is_too_large_is_a_sentence(text: str, says: str) -> None:
    sentence = refusal(text)
    assert re.search(says, sentence), sentence
    assert len(sentence) < 800


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("email > 5", "line 1, column 1: a > b does not go with text, bigint"),
        ("\n  visits = '5'", "line 2, column 3: a = b does not go with bigint, text"),
        ("LOWER(visits) = 'x'", r"LOWER\(text\) does not go with bigint"),
        ("email || visits = 'x'", "CAST.a AS TEXT. makes a text"),
        ("sent > DATE '2026-01-01'", "say the zone"),
        ("sent > seen", "say the zone"),
        ("CAST(sent AS DATE) = DATE '2026-01-01'", "say the zone"),
        ("EXTRACT(DAY FROM sent) = 1", "depends on the zone"),
        ("sent > sent - INTERVAL '1 day'", "need the zone"),
        ("sent AT TIME ZONE 'Mars/Base' = seen", "by its name"),
        ("seen AT TIME ZONE 'Europe/Berlin' = sent", "does not go with timestamp without time zone"),
        ("born = '25.11.2026'", "'25.11.2026' is not a date"),
        ("born = DATE '2026-02-29'", "'2026-02-29' is not a date"),
        ("seen > TIMESTAMP 'yesterday'", "is not a moment without a zone"),
        ("sent > TIMESTAMPTZ '2026-01-01 00:00'", "moment with its offset"),
        ("CAST(email AS INTEGER) = 5", "say the column's type in the source's types"),
        ("CAST(email AS VARCHAR(2)) = 'x'", "write LEFT"),
        ("CAST(email AS JSON) IS NULL", "the type JSON is not known"),
        ("spent / 2 > 1", "a numeric is not divided"),
        ("EXTRACT(YEAR FROM born) / 10 = 199", "a numeric is not divided"),
        ("score % 2 = 1", "a % b does not go with double precision"),
        ("seen - seen > INTERVAL '1 day'", "moments are compared"),
        ("EXTRACT(EPOCH FROM seen) = 1", "EXTRACT takes YEAR"),
        ("EXTRACT(HOUR FROM born) = 1", "a date has no HOUR"),
        ("born + INTERVAL 'soon' = seen", "an interval is written as"),
        ("tags = tags", "a = b does not go with"),
        ("may_contact > FALSE", "a > b does not go with boolean"),
        ("visits AND may_contact", "a AND b does not go with bigint"),
        ("visits IS TRUE", "a IS TRUE does not go with bigint"),
        ("LEFT(email, visits) = 'x'", "written whole number"),
    ],
)
def test_types_that_do_not_fit_are_refused_with_their_place(text: str, says: str) -> None:
    sentence = refusal(text)
    assert re.search(says, sentence), sentence


def test_a_column_that_is_not_there_is_named_with_its_place_and_the_nearest() -> None:
    with pytest.raises(ColumnsMissing, match=r"'emial'.*line 1, column 18.*Did you mean 'email'"):
        condition("may_contact AND (emial = 'x')", SCHEMA, activity="Query", where="the profiles")


@pytest.mark.parametrize("text", ["SUM(visits)", "COUNT(*)", "visits +", "nvl(visits, 1)", "INTERVAL '1 day'"])
def test_an_expression_is_of_one_row(text: str) -> None:
    with pytest.raises(ExpressionInvalid):
        expression(text, SCHEMA, activity="Query", where="the profiles")


@pytest.mark.parametrize(
    "text", ["visits", "SUM(visits) + visits", "SUM(SUM(visits))", "MIN(may_contact)", "SUM(email)"]
)
def test_an_aggregate_is_one_value_for_all_rows(text: str) -> None:
    with pytest.raises(ExpressionInvalid):
        aggregates({"x": text}, SCHEMA, activity="Query", where="the profiles")


def test_no_value_of_a_row_is_in_an_error_because_no_row_makes_one() -> None:
    row = pl.DataFrame(
        [
            (
                "canary",
                2**62,
                None,
                1e308,
                date(9999, 12, 31),
                True,
                datetime(9999, 12, 31),
                datetime(9999, 12, 31, tzinfo=UTC),
                [],
            )
        ],
        schema=SCHEMA,
        orient="row",
    )
    for text in ("visits * 4 > 0", "visits / 0 > 0", "score * score > 0", "score / 0 > 0", "visits + visits > 0"):
        where = condition(text, SCHEMA, activity="Query", where="it")
        assert row.select(where).item() is None, text
