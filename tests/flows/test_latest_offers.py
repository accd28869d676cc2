"""Latest offers as their readers see them, against the sandbox and against DummyJSON's real answer."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl

from deployments.sandbox.partner import Partner
from deployments.sandbox.products import products
from deployments.sandbox.server import Server
from flows.latest_offers import latest_offers
from tests.made_up import WRITTEN

DAY = date(2026, 11, 24)
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"


def best_titles(every: list[dict], category: str, number: int) -> list[str]:
    """The titles with the greatest discounts of a category, worked out the plain way."""
    own = [product for product in every if product["category"] == category]
    return [product["title"] for product in sorted(own, key=lambda one: -one["discountPercentage"])[:number]]


def shown(text: str, titles: list[str]) -> bool:
    """Whether a mail lists these titles, in this order and no other offer."""
    places = [text.find(f"{number}. {title}: ") for number, title in enumerate(titles, start=1)]
    return min(places) > 0 and places == sorted(places) and f"{len(titles) + 1}. " not in text


def test_everyone_gets_the_best_offers_of_their_category_in_a_loop(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    mailed: Callable[..., dict],
) -> None:
    few = sample_profiles.head(200)
    few.write_parquet("samples/profiles.parquet")
    use_partner(start_partner())
    report = latest_offers(business_date=DAY, offers=4)

    readers = few.filter(
        pl.col("favourite_category").is_not_null(), pl.col("email").is_not_null(), pl.col("may_contact"), WRITTEN
    )
    messages = mailed("latest-offers", DAY)
    assert set(messages) == set(readers["email"])
    for reader in readers.iter_rows(named=True):
        text = messages[reader["email"]].get_body(("plain",)).get_content()
        assert shown(text, best_titles(list(products()), reader["favourite_category"], 4)), text
    assert report.queried == report.enriched == report.delivered + report.rejected
    assert report.delivered == readers.height > 100


def test_one_address_makes_it_a_real_shop(
    profiles_of_the_world: Callable[..., pl.DataFrame],
    public_service: Callable[[str, str], Server],
    result_folder: Path,
    mailed: Callable[..., dict],
) -> None:
    users = profiles_of_the_world(favourite_category="beauty")
    shop = public_service("OFFERS", "offers-dummyjson-products.json")
    report = latest_offers(business_date=DAY)
    messages = mailed("latest-offers", DAY)
    real = json.loads((SAMPLES / "offers-dummyjson-products.json").read_text())["products"]
    assert set(messages) == set(users["email"])
    assert all(
        shown(message.get_body(("plain",)).get_content(), best_titles(real, "beauty", 3))
        for message in messages.values()
    )
    assert [call.query["skip"] for call in shop.calls] == ["0", "30"]
    assert report.delivered == users.height


def test_who_likes_what_nobody_offers_is_told_so(
    profiles_of_the_world: Callable[..., pl.DataFrame],
    public_service: Callable[[str, str], Server],
    result_folder: Path,
    mailed: Callable[..., dict],
) -> None:
    profiles_of_the_world(rows=2, favourite_category="dragons")
    public_service("OFFERS", "offers-dummyjson-products.json")
    report = latest_offers(business_date=DAY)
    texts = [message.get_body(("plain",)).get_content() for message in mailed("latest-offers", DAY).values()]
    assert [text.count("Nothing today") for text in texts] == [1, 1]
    assert (report.enriched, report.delivered) == (0, 2)
