"""Provider list: reads a provider's list of bounces, blocks or complaints as reports."""

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.feedback.services import RowMapping
from tasks.feedback.table import reports_of_list


@task(name="Provider list", task_run_name="Provider list {source}", cache_policy=NO_CACHE, persist_result=False)
def provider_list(rows: pl.DataFrame, source: str, mapping: RowMapping) -> pl.DataFrame:
    """Read rows that External API has brought as reports, by a declared mapping.

    In: rows with the mapping's columns; the list's name, by which it is remembered how far it was read.
    Out: reports, the columns of `tasks.feedback.table`; a row that cannot be read has the reason in it.

    Example:
        ```python
        bounces = pl.DataFrame({"address": ["ada@people.test"], "created": [1795651200]})
        meaning = {"kind": "bounced", "status": "5.1.1"}
        mapping = RowMapping.model_validate({"recipient": "address", "at": "created", "kind": meaning})
        reports = provider_list(bounces, "our-provider", mapping)
        ```
    """
    reports = reports_of_list(source, rows, mapping)
    get_run_logger().info("%d rows of %s.", reports.height, source)
    return reports
