"""Use case: a workflow that another one calls, with parameters that steer it.

query -> test (how many?) -> external signal ==> query (parameters) -> email

That an event really starts a deployment with typed parameters is tested with a real server and worker in
tests/tasks/execution/test_external_signal.py; here the called workflow is run with what the signal carries.
"""

from collections.abc import Callable
from datetime import date

import pytest
from prefect import flow
from prefect.exceptions import ParameterTypeError

from tasks.execution.external_signal import ExternalSignal, external_signal, signal_payload
from tasks.execution.test import BranchOptions
from tasks.execution.test import test as choose_branch
from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, equals, query

NEWS = ExternalSignal(
    name="news-is-out", parameters={"business_date": {"type": "date"}, "state": {}, "limit": {"type": "integer"}}
)
ENOUGH = BranchOptions(conditions=[{"branch": "call", "where": "queried >= 2"}])


def test_the_called_workflow_does_as_its_parameters_say(
    people: ProfileFile, deliver: Callable, mails: Callable
) -> None:
    @flow
    def called(business_date: date, state: str, limit: int) -> None:
        audience = query(QueryOptions(source=people, where=f"{equals('state', state)} AND email IS NOT NULL"))
        deliver(audience.head(limit), "called", "News, {{ profile.first_name }}", business_date)

    @flow
    def calling(state: str) -> str:
        queried = query(QueryOptions(source=people, where=equals("state", state))).height
        branch = choose_branch({"queried": queried}, ENOUGH)
        if branch == "call":
            external_signal(NEWS, {"business_date": date(2026, 11, 24), "state": state, "limit": 1})
        return branch

    assert (calling("CA"), calling("WA")) == ("call", "")
    called(**signal_payload(NEWS, {"business_date": date(2026, 11, 24), "state": "CA", "limit": 1}))
    assert mails("called") == {"ada@x.example": "News, Ada"}
    with pytest.raises(ParameterTypeError):
        called(business_date="soon", state="CA", limit=1)
