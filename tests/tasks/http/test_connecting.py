"""The next address is tried while the one before has not answered (RFC 8305)."""

import anyio
import httpcore
import pytest

from tasks.http.network import _first_stream, _in_turn


@pytest.mark.parametrize(
    ("addresses", "in_turn"),
    [
        ([], []),
        (["1.2.3.4"], ["1.2.3.4"]),
        (["::1", "::2", "1.2.3.4", "1.2.3.5"], ["::1", "1.2.3.4", "::2", "1.2.3.5"]),
        (["1.2.3.4", "::1"], ["1.2.3.4", "::1"]),
    ],
)
def test_the_families_of_addresses_are_tried_in_turn(addresses: list[str], in_turn: list[str]) -> None:
    assert _in_turn(addresses) == in_turn


async def connect(address: str) -> str:
    if address == "silent":
        await anyio.sleep_forever()
    if address == "refusing":
        raise httpcore.ConnectError("refused")
    return address


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        (["a", "b"], "a"),
        (["silent", "b"], "b"),
        (["refusing", "b"], "b"),
        (["silent", "refusing", "b"], "b"),
        ([], None),
    ],
)
def test_an_address_that_does_not_answer_keeps_nobody_waiting(addresses: list[str], found: str | None) -> None:
    assert anyio.run(_first_stream, addresses, connect) == found


def test_where_no_address_answers_the_last_failure_is_told() -> None:
    assert isinstance(anyio.run(_first_stream, ["refusing", "refusing"], connect), httpcore.ConnectError)
