from dataclasses import dataclass
from datetime import date

import polars as pl
from prefect import flow
from prefect.artifacts import Artifact
from tasks.runs.partitions import rows_with_content, transition_counts

from tasks.execution.report import message_preview, reject_reasons, report
from tasks.send import Send
from tasks.tables.transitions import Transitions

SEND = Send(campaign="report-test", label="Report test", business_date=date(2026, 11, 24))
MESSAGES = pl.DataFrame(
    {"email": ["ada@x.example", None], "subject": ["<b>Hi</b>", "s"], "text": ["</pre><script>x</script>", "t"]}
)
REJECTS = pl.DataFrame({"reason": ["b", "a", "b", "c"]})


@dataclass(frozen=True)
class Sides(Transitions):
    standard: pl.DataFrame
    complement: pl.DataFrame


ENRICHED = pl.DataFrame(
    {
        "n": [1, 2, 3],
        "tags": [["x"], [], None],
        "coupons": [{"code": "1"}, {"code": "2"}, None],
        "offers": [[{"title": "a"}, {"title": "b"}], [], None],
    }
)


def test_every_transition_is_counted_and_content_that_was_found() -> None:
    outbound = {"Query": MESSAGES, "Split": Sides(REJECTS, REJECTS.clear()), "Enrichment": ENRICHED}
    assert transition_counts(outbound).rows() == [
        ("Query", "standard", 2),
        ("Split", "standard", 4),
        ("Split", "complement", 0),
        ("Enrichment", "standard", 3),
        ("Enrichment", "standard, with coupons", 2),
        ("Enrichment", "standard, with offers", 1),
    ]
    assert rows_with_content(ENRICHED, ["coupons", "offers"]) == 1
    assert rows_with_content(ENRICHED, []) == 3


def test_rejects_are_told_by_reason_the_most_frequent_first() -> None:
    assert reject_reasons(REJECTS).rows() == [("b", 2), ("a", 1), ("c", 1)]


def test_a_preview_masks_addresses_and_shows_text_as_text() -> None:
    shown = message_preview(MESSAGES)
    assert "a…@x.example" in shown
    assert "ada@" not in shown
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert message_preview(MESSAGES.clear()) == "No messages."


def test_the_artifacts_can_be_read_in_the_prefect_ui(prefect_backend: str) -> None:
    @flow
    def campaign() -> pl.DataFrame:
        return report(SEND, {"Query": MESSAGES}, MESSAGES, REJECTS)

    assert campaign().height == 1
    counts, rejects, preview = (Artifact.get(f"report-test-{kind}") for kind in ("counts", "rejects", "preview"))
    assert '"rows": 2' in str(counts.data)
    assert '"profiles": 2' in str(rejects.data)
    assert "a…@x.example" in str(preview.data)
