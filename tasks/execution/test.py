"""Test: the first condition that holds decides which branch of a workflow runs."""

from collections.abc import Mapping
from datetime import date, datetime

import polars as pl
from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict, Field

from tasks.runs.results import ARROW, PER_RUN
from tasks.tables.conditions import condition

Fact = str | int | float | bool | date | datetime | None
"""What a condition may be about: a count, a parameter of the run."""


class BranchCondition(BaseModel):
    """One branch and when it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    branch: str = Field(min_length=1, title="Branch", description="Name of the branch.")
    where: str = Field(
        title="Condition", description="SQL condition over the facts, for example queried > 1000 AND region = 'EU'."
    )


class BranchOptions(BaseModel):
    """Options of the Test activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditions: list[BranchCondition] = Field(
        min_length=1, title="Conditions", description="In order: the first that holds decides."
    )
    default: str = Field(
        default="", title="Default branch", description="Runs when no condition holds; empty lets no branch run."
    )


def branch_of(facts: Mapping[str, Fact], options: BranchOptions) -> str:
    """The branch that runs, or an empty text. All conditions are checked before the first decides.

    Errors: `FilterInvalid`, `ColumnsMissing` (a condition names a fact that is not given).
    """
    row = pl.DataFrame({name: [value] for name, value in facts.items()})
    tried = [
        (option.branch, condition(option.where, row.schema, activity="Test", where="the facts"))
        for option in options.conditions
    ]
    return next((branch for branch, where in tried if row.filter(where).height), options.default)


@task(name="Test", task_run_name="Test", cache_policy=PER_RUN, result_serializer=ARROW)
def test(facts: Mapping[str, Fact], options: BranchOptions) -> str:
    """Decide which branch of the workflow runs.

    In: facts by name, such as `{"queried": audience.height}`. Out: the name of the branch; the default branch,
    or an empty text, when no condition holds. Errors: `FilterInvalid`, `ColumnsMissing`.
    Source: Adobe Campaign Standard, Test activity.

    Example:
        ```python
        large = BranchCondition(branch="large", where="queried > 1000")
        branch = test({"queried": audience.height}, BranchOptions(conditions=[large], default="small"))
        ```
    """
    branch = branch_of(facts, options)
    get_run_logger().info("Branch '%s' runs." if branch else "No branch runs.%s", branch)
    return branch
