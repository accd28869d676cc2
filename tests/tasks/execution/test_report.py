"""Report: the run in numbers, and what the Prefect UI shows of it."""

from datetime import date
from pathlib import Path

import polars as pl
from prefect import flow
from prefect.artifacts import Artifact

from tasks.execution.report import CampaignReport, report
from tasks.runs.audience import Audience
from tasks.runs.counts import COUNTS, counts_of, merged, rows_with_content, summed
from tasks.runs.published import message_preview, outcome_told, reject_reasons
from tasks.runs.table import Table
from tasks.send import Send

SEND = Send(campaign="report-test", label="Report test", business_date=date(2026, 11, 24))
MESSAGES = pl.DataFrame(
    {
        "profile_id": ["1", "2"],
        "email": ["ada@x.example", None],
        "subject": ["<b>Hi</b>", "s"],
        "html": ["<p>", "<p>"],
        "text": ["</pre><script>x</script>", "t"],
    }
)
REJECTS = pl.DataFrame(
    {"profile_id": ["1", "2", "3", "4"], "email": ["a@x"] * 4, "reason": ["b", "a", "b", "c"]},
)
ENRICHED = pl.DataFrame(
    {
        "n": [1, 2, 3],
        "tags": [["x"], [], None],
        "coupons": [{"code": "1"}, {"code": "2"}, None],
        "offers": [[{"title": "a"}, {"title": "b"}], [], None],
    }
)


def test_every_transition_is_counted_and_content_that_was_found() -> None:
    assert counts_of(ENRICHED, "Enrichment", "run").rows() == [
        ("run", "Enrichment", "standard", 3),
        ("run", "Enrichment", "standard, with coupons", 2),
        ("run", "Enrichment", "standard, with offers", 1),
        ("run", "Enrichment", "standard, with all content", 1),
    ]
    assert rows_with_content(ENRICHED, ["coupons", "offers"]) == 1
    assert rows_with_content(ENRICHED, []) == 3


def test_counts_of_parts_add_up_and_counts_that_are_told_twice_count_once() -> None:
    one = counts_of(ENRICHED, "Enrichment", "run")
    assert summed([one, one])["rows"].to_list() == [6, 4, 2, 2]
    assert merged([one, one]).equals(one)


def test_rejects_are_told_by_reason_the_most_frequent_first() -> None:
    assert reject_reasons(REJECTS.lazy()).rows() == [("b", 2), ("a", 1), ("c", 1)]


def test_a_preview_masks_addresses_and_shows_text_as_text() -> None:
    shown = message_preview(MESSAGES)
    assert "a…@x.example" in shown
    assert "ada@" not in shown
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert message_preview(MESSAGES.clear()) == "No messages."


def test_who_got_the_message_who_did_not_and_why_is_said_in_words_with_the_files(tmp_path: Path) -> None:
    reasons = pl.DataFrame(
        [("no address", 2), ("not taken yet: 451 4.7.1 (later)", 3), ("not yet: wave 2 of 3", 1)],
        schema=["reason", "profiles"],
        orient="row",
    )
    files = {"Who got none, and why": tmp_path / "rejects.csv"}
    told = outcome_told(SEND, "E-mail", {"got the message": 7, "had got it by another run": 0}, reasons, files)
    assert "| got the message | 7 |" in told
    assert "by another run |" not in told
    assert "| were put off: another run of the day may reach them | 4 |" in told
    assert "| were left out | 2 |" in told
    assert f"[{tmp_path / 'rejects.csv'}]({(tmp_path / 'rejects.csv').as_uri()})" in told
    why, later = told.index("### Why people were left out"), told.index("### Why people were put off")
    assert why < told.index("no address") < later < told.index("451")
    assert r"451 4.7.1 \(later\)" in told


def test_the_run_is_told_in_numbers_and_in_the_prefect_ui(prefect_backend: str) -> None:
    def way(*rows: tuple[str, str, int]) -> pl.DataFrame:
        return pl.DataFrame([("run", *row) for row in rows], schema=COUNTS, orient="row")

    queried = Audience(Table.of(ENRICHED), activity="Query", counts=way(("Query", "standard", 9)))
    sent = Audience(
        Table.of(MESSAGES),
        activity="Outbox",
        rejected={"one": Table.of(REJECTS)},
        counts=way(
            ("Query", "standard", 9),
            ("Enrichment offers", "standard, with offers", 7),
            ("Personalization", "standard", 5),
            ("Outbox", "inbound", 5),
            ("Outbox", "standard", 2),
            ("Outbox", "complement", 3),
        ),
    )

    @flow
    def campaign() -> CampaignReport:
        return report(SEND, queried, sent)

    told = campaign()
    assert told == CampaignReport(
        send=SEND,
        queried=9,
        enriched=7,
        personalized=5,
        rejected=4,
        delivered=2,
        delivered_before=3,
        sent_by="Outbox",
    )
    counts, rejects, preview = (Artifact.get(f"report-test-{kind}") for kind in ("counts", "rejects", "preview"))
    assert '"rows": 9' in str(counts.data)
    assert '"profiles": 2' in str(rejects.data)
    assert "a…@x.example" in str(preview.data)
