"""A send that asks a person first: the flow pauses, shows what is to be sent, and obeys the answer."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_runs import resume_flow_run
from prefect.runtime import flow_run

from tasks.channels.confirmation import ConfirmationOptions, confirmation
from tasks.errors import SendNotConfirmed
from tasks.send import Send
from tests.waiting import until

SEND = Send(campaign="birthday", label="Birthday", business_date=date(2026, 11, 24))
ASKING = ConfirmationOptions(required=True, poll_seconds=1)
started: list[UUID] = []
sent: list[str] = []


@flow
def campaign(options: ConfirmationOptions) -> str:
    started.append(UUID(flow_run.get_id()))
    confirmation(SEND, {"to send": 1234, "left out": 5}, "### Happy birthday\n\nTo a…@example.com", options)
    sent.append("sent")
    return "sent"


def answered(**answer: object) -> str:
    """Run the flow, wait until it asks, see what it shows, and answer."""
    started.clear()
    with ThreadPoolExecutor(1) as pool, get_client(sync_client=True) as client:
        running = pool.submit(campaign, ASKING)
        until(lambda: started and client.read_flow_run(started[0]).state.is_paused(), "a pause", pause=0.05)
        state = client.read_flow_run(started[0]).state
        base = state.state_details.run_input_keyset
        shown = until(
            lambda: list(client.filter_flow_run_input(started[0], base["description"], 1, set())),
            "what is to be sent",
            pause=0.05,
        )
        assert "1,234" in shown[0].value
        assert "a…@example.com" in shown[0].value
        assert sent == []
        resume_flow_run(started[0], run_input=answer)
        return running.result(timeout=600)


@pytest.fixture(autouse=True)
def nothing_sent(prefect_backend: str) -> None:
    sent.clear()


def test_a_person_who_says_yes_lets_the_flow_go_on() -> None:
    assert answered(send=True, by="Ada") == "sent"


def test_a_person_who_says_no_ends_it_in_a_sentence() -> None:
    with pytest.raises(SendNotConfirmed, match="'Birthday' was not sent: Ada said no"):
        answered(send=False, by="Ada")
    assert sent == []


def test_no_answer_in_time_is_a_no() -> None:
    with pytest.raises(SendNotConfirmed, match="nobody answered"):
        campaign(ConfirmationOptions(required=True, hours=1 / 3600, poll_seconds=1))
    assert sent == []


def test_a_send_that_need_not_be_confirmed_is_not_held_up() -> None:
    assert campaign(ConfirmationOptions()) == "sent"
