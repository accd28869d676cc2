"""A shop's products, page by page, answered in the shape of DummyJSON; the products are generated."""

from collections.abc import Iterator, Mapping
from typing import Any

THINGS = {
    "beauty": (
        "Lip balm",
        "Hand cream",
        "Soap & Sponge",
        "Face mask",
        "Bath salt",
        "Sun lotion",
        "Comb",
        "Nail file",
    ),
    "furniture": ("Stool", "Side table", "Reading lamp", "Shelf", "Coat rack", "Rug", "Mirror", "Desk"),
    "groceries": ("Olive oil", "Espresso", "Rye bread", "Honey", "Pasta", "Apples", "Oat milk", "Mustard <hot>"),
    "sports": ("Yoga mat", "Football", "Skipping rope", "Running belt", "Bottle", "Dumbbell", "Cap", "Towel"),
}
"""Products by category, as the sandbox's profiles name these."""


def products() -> Iterator[dict[str, Any]]:
    """Every product, with a price and a discount that are always the same."""
    number = 0
    for category, titles in THINGS.items():
        for title in titles:
            number += 1
            yield {
                "id": number,
                "title": title,
                "description": f"A made-up product of the sandbox: {title}.",
                "category": category,
                "price": round(4.99 + number * 37 % 60, 2),
                "discountPercentage": round(5 + number * 13.37 % 40, 2),
                "rating": round(3 + number % 20 / 10, 2),
                "stock": number * 7 % 50,
                "tags": [category, "sandbox"],
                "thumbnail": f"https://shop.example/pictures/{number}.webp",
            }


def products_answer(query: Mapping[str, str]) -> dict[str, Any]:
    """The answer to `?skip=0&limit=30`. Errors: `ValueError`."""
    every = list(products())
    skip, limit = int(query.get("skip", "0")), int(query.get("limit", "30"))
    return {"products": every[skip : skip + limit], "total": len(every), "skip": skip, "limit": limit}
