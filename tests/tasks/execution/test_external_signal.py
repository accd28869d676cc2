from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest
from prefect import flow

from tasks.errors import SignalRefused
from tasks.execution.external_signal import ExternalSignal, external_signal, signal_payload, started_by
from tests.waiting import until

SIGNAL = ExternalSignal(
    name="line-up-is-out",
    parameters={
        "business_date": {"type": "date"},
        "limit": {"type": "integer"},
        "region": {"required": False},
    },
)


@pytest.mark.parametrize(
    ("values", "payload"),
    [
        (
            {"business_date": date(2026, 11, 24), "limit": 5, "region": "EU"},
            {"business_date": "2026-11-24", "limit": 5, "region": "EU"},
        ),
        (
            {"business_date": "2026-11-24", "limit": "5"},
            {"business_date": "2026-11-24", "limit": 5, "region": None},
        ),
    ],
)
def test_values_are_carried_in_the_declared_types(values: dict[str, object], payload: dict[str, object]) -> None:
    assert signal_payload(SIGNAL, values) == payload


def test_every_type_can_be_declared() -> None:
    values = {"text": "x", "integer": 1, "number": 0.5, "boolean": True, "datetime": datetime(2026, 11, 24, 7)}
    signal = ExternalSignal(name="all", parameters={name: {"type": name} for name in values})
    assert signal_payload(signal, values) == {**values, "datetime": "2026-11-24T07:00:00"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"limit": 5}, "'business_date': Field required"),
        ({"business_date": "today", "limit": 5}, "'business_date': .*date"),
        ({"business_date": "2026-11-24", "limit": 5.5}, "'limit'"),
        ({"business_date": "2026-11-24", "limmit": 5}, "'limmit'. Did you mean 'limit'"),
    ],
)
def test_values_that_are_not_as_declared_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(SignalRefused, match=says):
        signal_payload(SIGNAL, values)


def test_a_signal_starts_the_workflow_with_its_parameters(deploy: Callable[..., str], tmp_path: Path) -> None:
    diary = tmp_path / "diary.txt"
    deploy("signalled", triggers=[started_by(SIGNAL)], parameters={"diary": str(diary)})

    @flow
    def other_workflow() -> None:
        for _ in range(2):
            external_signal(SIGNAL, {"business_date": date(2026, 11, 24), "limit": 7})

    other_workflow()
    until(lambda: diary.exists() and diary.read_text().endswith("\n"))
    assert diary.read_text() == "datetime.date(2026, 11, 24) 7 None\n"
