"""Each shape of activity gives the same on one part and on many, and is a task like any other."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from prefect import flow
from prefect.futures import wait

from tasks.errors import CampaignError, ColumnsMissing
from tasks.runs.audience import Audience
from tasks.runs.engine import ENGINE
from tasks.runs.shapes import Lazily, row_activity, source_activity, table_activity
from tasks.runs.sink import Closing, sink_activity
from tasks.runs.table import part_size
from tasks.tables.transitions import Transitions, require_columns
from tasks.targeting.segmentation import Segment, SegmentationOptions, segment, segmentation
from tests.shown import task_runs_of

PEOPLE = 25


@dataclass(frozen=True)
class Judged(Transitions):
    standard: pl.DataFrame
    complement: pl.DataFrame
    rejects: pl.DataFrame


def people(count: int = PEOPLE) -> pl.DataFrame:
    number = pl.int_range(count, dtype=pl.Int64()).alias("n")
    return pl.select(number).with_columns(profile_id=pl.format("P{}", "n"), email=pl.format("p{}@x.example", "n"))


@source_activity("Everyone", distinct=lambda count: "profile_id")
def everyone(count: int) -> Iterator[pl.DataFrame]:
    """People, a part at a time."""
    yield from people(count).iter_slices(part_size()) if count else [people(0)]


@source_activity("Loaded")
def loaded() -> Judged:
    """A table with rejects."""
    return judged(people())


def judged(rows: pl.DataFrame) -> Judged:
    """Who is odd, who is even, and who is divisible by five."""
    five = pl.col("n") % 5 == 0
    odd = pl.col("n") % 2 == 1
    return Judged(
        rows.filter(~five & odd),
        rows.filter(~five & ~odd),
        rows.filter(five).select("profile_id", "email", reason=pl.lit("five")),
    )


@row_activity("Judgement")
def judgement(rows: pl.DataFrame, column: str = "n") -> Judged:
    """Work on each row by itself."""
    require_columns(rows, [column], activity="Judgement", where="the inbound transition")
    return judged(rows)


@row_activity("Joined")
def joined(rows: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """A column of another table."""
    return rows.join(other.select("profile_id", again="n"), on="profile_id", how="left", maintain_order="left")


@table_activity("Whole", gives=Judged)
def whole(rows: pl.LazyFrame) -> Lazily:
    """Work on the whole table."""
    made = rows.sort("n", descending=True)
    rejects = rows.filter(pl.col("n") == 3).select("profile_id", "email", reason=pl.lit("three"))
    return {"standard": made.filter(pl.col("n") != 3), "complement": made.head(3), "rejects": rejects}


@table_activity("Both", gives=pl.DataFrame)
def both(rows: Mapping[str, pl.LazyFrame]) -> Lazily:
    """Several tables, one below the other."""
    return {"standard": pl.concat(rows.values())}


KEPT: list[pl.DataFrame] = []


@sink_activity("Kept")
def kept(rows: pl.DataFrame, bad: int = -1) -> Judged:
    """Keep the rows; one of them may be bad."""
    if bad == STOPPED:
        raise KeyboardInterrupt
    if rows.filter(pl.col("n") == bad).height:
        raise ColumnsMissing("there is a bad one")
    KEPT.append(rows)
    return judged(rows)


STOPPED = -100
"""In the place of the bad one: the run is stopped while the sink works."""
CLOSINGS: list[tuple[Closing, list[str]]] = []


@kept.closing
def close_kept(closing: Closing, bad: int = -1) -> None:
    """Note what the closing is given."""
    CLOSINGS.append((closing, reasons_of(closing.audience)))


@pytest.fixture(params=[1000, 7], ids=["1 part", "4 parts"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, result_folder: object) -> int:
    """The rows of a part."""
    KEPT.clear()
    CLOSINGS.clear()
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(request.param))
    return int(request.param)


def in_flow(body: Callable[[], Any]) -> Any:
    return flow(body, name="Shapes", task_runner=ENGINE)()


def reasons_of(audience: Audience) -> list[str]:
    return audience.rejects_so_far().collect()["reason"].to_list()


def told(audience: Audience) -> list[tuple[str, str, int]]:
    return audience.counts.select("activity", "transition", "rows").rows()


def same(audience: Audience, rows: pl.DataFrame) -> None:
    assert audience.columns == rows.columns
    assert audience.height == rows.height
    assert_frame_equal(audience.collect(), rows)
    assert_frame_equal(audience.head(9), rows.head(9))


def test_a_source_gives_its_rows(size: int) -> None:
    def body() -> None:
        audience = everyone(PEOPLE)
        assert audience.in_memory == (size > PEOPLE)
        same(audience, people())
        assert told(audience) == [("Everyone", "standard", PEOPLE)]

    in_flow(body)


def test_a_source_of_a_table_with_rejects_gives_them_to_the_way(size: int) -> None:
    def body() -> None:
        audience = loaded()
        same(audience, judged(people()).standard)
        assert_frame_equal(audience.rejects_so_far().collect(), judged(people()).rejects)

    in_flow(body)


def test_nobody_is_an_audience_with_columns(size: int) -> None:
    def body() -> None:
        same(judgement(whole(everyone(0)).standard), people(0))

    in_flow(body)


def test_rows_are_worked_on_by_themselves_and_each_transition_can_go_on(size: int) -> None:
    def body() -> None:
        audience = judgement(everyone(PEOPLE))
        same(audience, judged(people()).standard)
        same(audience.complement, judged(people()).complement)
        same(audience.rejects, judged(people()).rejects)
        same(joined(audience.complement, everyone(PEOPLE)), joined.function(judged(people()).complement, people()))

    in_flow(body)


def test_a_whole_table_is_worked_on_after_the_steps_that_are_planned(size: int) -> None:
    def body() -> Audience:
        audience = whole(judgement(everyone(PEOPLE)))
        odd = judged(people()).standard.sort("n", descending=True)
        same(audience, odd.filter(pl.col("n") != 3))
        same(audience.complement, odd.head(3))
        sent = kept(audience)
        assert reasons_of(sent) == ["five"] * 5 + ["three"]
        return sent

    audience = in_flow(body)
    assert ("Judgement", "rejects", 5) in told(audience)
    assert len(told(audience)) == len(set(told(audience)))


def test_branches_that_meet_again_tell_each_reject_and_count_once(size: int) -> None:
    def body() -> Audience:
        once = judgement(everyone(PEOPLE))
        first, second = joined(once, people()), joined(once.complement, people())
        sent = kept(both({"first": first, "second": second}))
        assert sent.rejects_so_far().collect()["profile_id"].to_list() == ["P0", "P5", "P10", "P15", "P20"]
        return sent

    audience = in_flow(body)
    assert pl.concat(KEPT)["n"].sort().to_list() == [n for n in range(PEOPLE) if n % 5]
    assert told(audience).count(("Judgement", "rejects", 5)) == 1


def test_a_planned_audience_serves_two_sinks_each_with_its_own(size: int) -> None:
    def body() -> None:
        once = judgement(everyone(PEOPLE))
        first, second = kept(once), kept(once.complement)
        same(first, judged(judged(people()).standard).standard)
        same(second.complement, judged(people()).complement)
        assert ("Kept", "inbound", 10) in told(first)
        assert ("Kept", "inbound", 10) in told(second)

    in_flow(body)


def test_a_check_that_needs_no_rows_is_made_at_once(size: int) -> None:
    def body() -> None:
        with pytest.raises(ColumnsMissing, match="nn"):
            judgement(everyone(PEOPLE), column="nn")
        assert not KEPT

    in_flow(body)


def test_the_segments_of_a_divided_audience_can_each_go_on(size: int) -> None:
    options = SegmentationOptions(
        segments=[Segment(code="low", where="n < 9"), Segment(code="high", where="n > 20", exclude=True)]
    )

    def body() -> None:
        divided = segmentation(judgement(everyone(PEOPLE)), options)
        numbers = {code: segment(divided, code).collect()["n"].to_list() for code in ("low", "high")}
        assert numbers == {"low": [1, 3, 7], "high": [21, 23]}
        again = segmentation(judgement(everyone(PEOPLE)), options)
        assert segment(again, "low").collect().height == 3, "as it comes from the stored result, too"

    in_flow(body)


@pytest.mark.parametrize("submitted", [False, True])
def test_branches_are_futures_whose_results_other_activities_take(size: int, submitted: bool) -> None:
    def body() -> None:
        start = everyone.submit if submitted else everyone
        rows = judgement.submit if submitted else judgement
        table = whole.submit if submitted else whole
        sink = kept.submit if submitted else kept
        sent = sink(table(rows(start(PEOPLE))))
        if submitted:
            wait([sent])
            sent = sent.result()
        assert reasons_of(sent) == ["five"] * 5 + ["three"]

    in_flow(body)
    assert sorted(pl.concat(KEPT)["n"]) == [1, 7, 9, 11, 13, 17, 19, 21, 23]


def test_a_branch_that_fails_is_told_where_its_result_is_asked_for(size: int) -> None:
    def body() -> None:
        branch = kept.submit(everyone(PEOPLE), bad=8)
        wait([branch])
        with pytest.raises(ColumnsMissing, match="a bad one"):
            branch.result()
        assert kept(everyone(PEOPLE), bad=9, return_state=True).is_failed()
        assert kept(everyone(PEOPLE), return_state=True).result().height == 10
        assert isinstance(branch.result(raise_on_failure=False), CampaignError)

    in_flow(body)


def test_what_is_waited_for_is_done_before(size: int) -> None:
    def body() -> None:
        for number, activity in enumerate((judgement, whole, kept)):
            KEPT.clear()
            before = kept.submit(everyone(PEOPLE), bad=-2 - number)
            activity(everyone(PEOPLE), wait_for=[before])
            assert sum(rows.height for rows in KEPT) >= PEOPLE

    in_flow(body)


def names_in(flow_run: UUID | None) -> list[str]:
    return sorted(run.name for run in task_runs_of(flow_run))


def test_an_activity_with_other_options_is_the_same_activity(size: int) -> None:
    def body() -> Audience:
        audience = judgement.with_options(name="Other", task_run_name="Other")(everyone(PEOPLE))
        return kept.with_options(task_run_name="Mine")(whole.with_options(retries=1)(audience))

    state = flow(body, name="Shapes", task_runner=ENGINE)(return_state=True)
    audience = state.result()
    assert {activity for activity, *_ in told(audience)} == {"Everyone", "Other", "Whole", "Mine"}
    assert ("Mine part 2" in names_in(state.state_details.flow_run_id)) == (size < 9)


def test_every_activity_has_a_task_run_of_its_own_whatever_the_size(size: int) -> None:
    def body() -> None:
        kept(judgement(everyone(PEOPLE)))

    state = flow(body, name="Shapes", task_runner=ENGINE)(return_state=True)
    parts = [] if size > PEOPLE else [f"Kept part {number}" for number in range(1, 5)]
    assert names_in(state.state_details.flow_run_id) == ["Everyone", "Judgement", "Kept", *parts]


def test_an_activity_that_a_part_would_not_find_says_so_before_any_work(size: int) -> None:
    @row_activity("Local")
    def local(rows: pl.DataFrame) -> pl.DataFrame:
        return rows

    def body() -> Audience:
        return kept(local(everyone(PEOPLE)))

    if size > PEOPLE:
        assert in_flow(body).height == 10
        return
    with pytest.raises(TypeError, match="top level of its module"):
        in_flow(body)
    assert not KEPT


def test_plain_tables_give_the_plain_result_of_the_function(size: int) -> None:
    def body() -> None:
        assert isinstance(judgement(people()), Judged)
        assert isinstance(whole(people()), Judged)
        assert isinstance(both({"a": people(), "b": people()}), pl.DataFrame)
        assert kept(people()).height == 10

    in_flow(body)


def test_the_closing_runs_after_a_failure_too_with_what_is_known(size: int) -> None:
    def body() -> None:
        kept(judgement(everyone(PEOPLE)), bad=1)

    with pytest.raises(ColumnsMissing, match="a bad one"):
        in_flow(body)
    ((closing, reasons),) = CLOSINGS
    assert isinstance(closing.failure, ColumnsMissing)
    assert reasons == ["five"] * 5
    counts = told(closing.audience)
    assert {("Judgement", "standard", 10), ("Judgement", "rejects", 5), ("Kept", "inbound", 10)} <= set(counts)
    assert closing.rows() == sum(judged(rows).standard.height for rows in KEPT)


def test_the_closing_runs_when_the_run_is_stopped_too(result_folder: object) -> None:
    CLOSINGS.clear()

    def body() -> None:
        kept(judgement(everyone(PEOPLE)), bad=STOPPED)

    with pytest.raises(KeyboardInterrupt):
        in_flow(body)
    ((closing, reasons),) = CLOSINGS
    assert isinstance(closing.failure, KeyboardInterrupt)
    assert reasons == ["five"] * 5
