"""Use case: a mail to everyone whose birthday is today.

query (birthday today, has an email, may be contacted) -> email
"""

from collections.abc import Callable
from datetime import date

import pytest
from prefect import flow

from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, birthday_on, has_text, query


@pytest.mark.parametrize(
    ("day", "delivered"),
    [
        (date(2026, 11, 24), {"ada@x.example": "Happy birthday, Ada", "gus@x.example": "Happy birthday, Gus"}),
        (date(2026, 11, 25), {}),
    ],
)
def test_who_has_a_birthday_gets_a_mail(
    people: ProfileFile, deliver: Callable, mails: Callable, day: date, delivered: dict[str, str]
) -> None:
    @flow
    def birthday_delivery(business_date: date) -> None:
        who = f"{birthday_on('birth_date', business_date)} AND {has_text('email')} AND may_contact"
        audience = query(QueryOptions(source=people, where=who))
        deliver(audience, "birthday", "Happy birthday, {{ profile.first_name }}", business_date)

    birthday_delivery(day)
    assert mails("birthday", day) == delivered
    birthday_delivery(day)
    assert mails("birthday", day) == delivered, "and nobody a second one"
