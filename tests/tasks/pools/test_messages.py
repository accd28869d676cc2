"""Codes in messages: who gets one, what is given back, and that no sample and no lost code ever leaves."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tasks.channels.outbox import OutboxOptions, deliver
from tasks.content.personalization import PersonalizationOptions, PoolUse, Templates, personalize
from tasks.content.preview import PreviewOptions, previews
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.errors import ColumnTaken, PoolDry, PoolUnknown
from tasks.pools.codes import SAMPLE_CODE
from tasks.pools.stock import Pools
from tasks.runs.audience import first_messages
from tasks.send import Send
from tasks.settings import Settings

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLAIN = "Your code: {{ content.gift.code }}, worth {{ content.gift.value }}"


def templates(text: str, html: str = "<p>h</p>") -> Templates:
    return Templates(
        folder=Path("made-up"),
        parts={"subject": "subject", "html": "body.html", "text": "text"},
        sources={"subject": "Hi", "body.html": html, "text": text},
    )


def options(text: str = PLAIN, html: str = "<p>h</p>", **use: Any) -> PersonalizationOptions:
    return PersonalizationOptions(templates=templates(text, html), send=SEND, codes=(PoolUse(name="gift", **use),))


def people(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "profile_id": [str(number) for number in numbers],
            "email": [f"p{number}@x.example" for number in numbers],
            "vip": [number % 2 == 0 for number in numbers],
        }
    )


@contextmanager
def journal() -> Iterator[Journal]:
    with closing(open_journal(Settings.load().journal)) as opened:
        yield opened


def fill(*codes: str, pool: str = "gift") -> None:
    with journal() as opened:
        Pools(opened.database).fill(pool, pl.DataFrame({"code": codes, "value": [float(len(codes))] * len(codes)}))


def stock() -> dict[str, int]:
    with journal() as opened:
        pools = Pools(opened.database)
        return {str(state): count for state, count in pools.stock(pools.pool("gift")).items() if count}


def end_well() -> None:
    with journal() as opened:
        opened.give_back_codes(SEND, "email", "")


def test_each_message_shows_a_code_of_its_own_and_the_same_in_every_run() -> None:
    fill("GIFT-0001", "GIFT-0002", "GIFT-0003")
    first = personalize(people(1, 2), options()).standard
    again = personalize(people(2, 1), options()).standard
    assert sorted(text[11:20] for text in first["text"]) != [first["text"][0][11:20]] * 2
    assert first.sort("profile_id")["text"].equals(again.sort("profile_id")["text"])
    assert first["text"].str.ends_with("worth 3.0").all()
    assert stock() == {"free": 1, "reserved": 2}


SHOWN = [
    # the template, the profiles that keep a code of three
    ("{% if profile.vip %}{{ content.gift.code }}{% else %}no{% endif %}", 1),
    ("{{ content.gift.code | upper }}", 3),
    ("{{ content.gift.code | replace('-', ' ') | reverse }}", 3),
    ("Hello", 0),
    ("{{ content.gift.value }}", 0),
]


@pytest.mark.parametrize(("template", "kept"), SHOWN)
@pytest.mark.parametrize("code", ["gift-000{}-&", "g{}"])
def test_a_message_that_does_not_show_its_code_gives_it_back(template: str, kept: int, code: str) -> None:
    if "value" in template:
        template += " {% if content.gift.value > 1000 %}{{ content.gift.code }}{% endif %}"
    fill(*(code.format(number) for number in range(3)))
    made = personalize(people(1, 2, 3), options(template)).standard
    assert made["codes"].list.len().sum() == kept
    expected = {"reserved": kept, "free": 3 - kept}
    assert stock() == {state: count for state, count in expected.items() if count}


def test_a_code_that_is_written_otherwise_in_html_is_shown() -> None:
    fill("<A&B>'\"")
    made = personalize(
        people(1), options("t", '<a href="https://x.example/?c={{ content.gift.code }}">x</a>')
    ).standard
    assert made["codes"].list.len().to_list() == [1]
    assert stock() == {"reserved": 1}


def test_who_is_rejected_gives_the_code_back_and_who_comes_twice_has_one() -> None:
    fill("GIFT-0001", "GIFT-0002")
    audience = pl.concat([people(1, 1), people(2).with_columns(email=pl.lit(None, pl.String()))])
    made = personalize(audience, options("{{ content.gift.code }} {{ profile.email }}"))
    assert made.rejects["reason"].to_list() == ["no value for profile.email"]
    assert made.standard["text"].n_unique() == 1
    assert stock() == {"free": 1, "reserved": 1}


def test_a_dry_pool_stops_before_the_first_message_and_takes_nothing() -> None:
    fill("GIFT-0001", "GIFT-0002")
    with pytest.raises(PoolDry, match="no code for 1 of 3 messages"):
        personalize(people(1, 2, 3), options())
    assert stock() == {"free": 2}


def test_a_dry_pool_rejects_the_rest_with_the_reason() -> None:
    fill("GIFT-0001")
    made = personalize(people(1, 2), options("{{ content.gift.code | default('none') }}", when_dry="reject"))
    assert made.standard.height == 1
    assert made.rejects["reason"].to_list() == ["no code is left in the pool 'gift'"]
    assert stock() == {"reserved": 1}


def test_a_dry_pool_goes_on_with_another_text() -> None:
    fill("GIFT-0001")
    made = personalize(people(1, 2), options("{{ content.gift.code }}", when_dry="fallback", fallback="SALE"))
    assert sorted(made.standard["text"]) == ["GIFT-0001", "SALE"]
    assert sorted(made.standard["codes"].list.len()) == [0, 1]


def test_previews_and_proofs_show_a_sample_and_take_no_code() -> None:
    fill("GIFT-0001")
    shown = previews(people(1, 2), PreviewOptions(personalization=options(), branches=False))
    assert shown["text"].str.contains(SAMPLE_CODE, literal=True).all()
    made = personalize(people(1, 2), options(sample=True)).standard
    assert made["text"].str.contains(SAMPLE_CODE, literal=True).all()
    assert stock() == {"free": 1}


@pytest.mark.parametrize("form", ["maildir", "parquet"])
def test_the_outbox_uses_codes_up_and_lets_no_sample_out(tmp_path: Path, form: str) -> None:
    fill("GIFT-0001", "GIFT-0002", "GIFT-0003")
    outbox = OutboxOptions(folder=tmp_path, format=form)
    with journal() as opened:
        opened.suppressions.add([Sighting(Kind.OPT_OUT, "email", "no", "one-click", "p3@x.example")])
    made = personalize(people(1, 2, 3), options()).standard
    sent = deliver(made, outbox, SEND, NOON)
    assert sent.standard.height == 2
    assert stock() == {"used": 2, "reserved": 1}
    end_well()
    assert stock() == {"used": 2, "free": 1}
    again = deliver(personalize(people(1, 2), options()).standard, outbox, SEND, NOON)
    assert (again.standard.height, again.complement.height) == (0, 2)
    samples = deliver(personalize(people(4), options(sample=True)).standard, outbox, SEND, NOON)
    assert "sample" in samples.rejects["reason"][0]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert form == "parquet" or any(b"GIFT-000" in path.read_bytes() for path in files)


@pytest.mark.parametrize("form", ["maildir", "parquet"])
def test_the_outbox_keeps_a_message_back_whose_code_was_given_back(tmp_path: Path, form: str) -> None:
    fill("GIFT-0001")
    made = personalize(people(1), options()).standard
    personalize(people(1), options("Hello"))
    sent = deliver(made, OutboxOptions(folder=tmp_path, format=form), SEND, NOON)
    assert sent.standard.is_empty()
    assert "given back" in sent.rejects["reason"][0]
    assert stock() == {"free": 1}


def test_what_is_shown_of_the_first_messages_is_masked() -> None:
    fill("GIFT-0001")
    shown = first_messages(
        personalize(people(1), options(PLAIN, "<b>{{ content.gift.code | lower }}</b>")).standard
    )
    assert "GIFT" not in "".join(shown.select("subject", "html", "text").row(0))
    fill("GIFT-0002")
    changed = first_messages(personalize(people(2), options("{{ content.gift.code | lower }}")).standard)
    assert changed["text"].to_list() == ["…"]


def test_an_unknown_pool_and_a_name_that_is_taken_are_refused_before_anybody_is_read() -> None:
    with pytest.raises(PoolUnknown):
        personalize(people(), options())
    fill("GIFT-0001")
    with pytest.raises(ColumnTaken):
        personalize(people(1).with_columns(gift=pl.lit(1)), options())


def test_codes_are_rendered_over_whole_columns() -> None:
    fill(*(f"GIFT-{number:04}" for number in range(50)))
    slow = personalize(people(*range(50)), options().model_copy(update={"row_by_row": True})).standard
    fast = personalize(people(*range(50)), options()).standard
    assert fast.equals(slow)
