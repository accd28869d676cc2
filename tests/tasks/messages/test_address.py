"""One address in many spellings: as files, forms and people give it."""

import polars as pl
import pytest

from tasks.messages.address import are_no_addresses, checked_recipient, normalized_address, normalized_addresses

SPELLINGS = [
    # as it is given, as a mail server takes it, what is the same for all its spellings
    ("ada@example.com", "ada@example.com", "ada@example.com"),
    ("Ada@Example.COM", "Ada@Example.COM", "ada@example.com"),
    (" ada@example.com\r\n", "ada@example.com", "ada@example.com"),
    ("\xa0ada@example.com\u202f", "ada@example.com", "ada@example.com"),
    ("\ufeffada@example.com", "ada@example.com", "ada@example.com"),
    ("\u200bada@example.com\u2060", "ada@example.com", "ada@example.com"),
    ("ada@Bücher.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
    ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
    ("ADA@BU\u0308CHER.example", "ADA@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
    ("Jose\u0301@example.com", "Jose\u0301@example.com", "josé@example.com"),
    ("JOSÉ@example.com", "JOSÉ@example.com", "josé@example.com"),
]


@pytest.mark.parametrize(("given", "taken", "same"), SPELLINGS)
def test_an_address_is_one_in_every_spelling(given: str, taken: str, same: str) -> None:
    assert checked_recipient(given).address == taken
    assert normalized_address(given) == same
    assert normalized_addresses(pl.Series([given, None])).to_list() == [same, None]
    assert are_no_addresses(pl.Series([given])).to_list() == [False]


@pytest.mark.parametrize("text", ["+43 664 123", "Token-AbC", "ada@", "@", "a b@example.com", "ada@ex ample.com"])
def test_what_is_no_mail_address_is_compared_too(text: str) -> None:
    assert normalized_address(f"\xa0{text} ") == normalized_address(text)
    assert normalized_addresses(pl.Series([f"\xa0{text}"])).to_list() == [normalized_address(text)]
