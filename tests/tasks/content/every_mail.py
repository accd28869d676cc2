"""Every mail of the tests and of the flows, with a profile that has all its values."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

from tasks.content.personalization import TemplateFolder
from tests.tasks.content.test_mails import EVENTS, MAILS, NAMES, STARTS

FLOWS = Path(__file__).parents[3] / "flows" / "templates"

Profile = dict[str, Any]

OFFERS = [
    {"id": number, "title": title, "price": 9.5, "sold_out": number == 2, "text": "Fresh", "tags": ["new"]}
    | {"image": f"https://x.example/{number}.png", "discount": 12.5}
    for number, title in enumerate(["Tea", "Bread", "Cake"], 1)
]
ITEMS = [
    {"title": title, "number": 2, "price": 7.25, "image": "https://x.example/m.png"} for title in ("Mug", "Jug")
]
PERSON: Profile = {
    "profile_id": "P1",
    "email": "p@profiles.example",
    "first_name": "Ada",
    "last_name": "Smith",
    "city": "Wien",
}
OF_TESTS: Profile = {
    **PERSON,
    "joined": date(2019, 5, 4),
    "ordered_at": datetime(2026, 3, 19, 8, 5),
    "seen_at": datetime(2026, 3, 18, 23, 59, 59),
    "order_id": "A1",
    "total": 49.5,
    "points": 12_345,
    "vip": True,
    "color": "#2a3448",
    "tags": ["partner", "new"],
    "coupons": {"code": "C1", "url": "https://x.example/c"},
    "offers": OFFERS,
    "items": ITEMS,
    "event": EVENTS[0] | {"venue": "Hall"},
    "weather": {"temperature": 21.5, "sky": "Sun"},
}
OF_FLOWS: Profile = {
    **PERSON,
    "favourite_category": "Books",
    "favourite_team": "Rovers",
    "region": "Tirol",
    "coupons": {"code": "C1"},
    "gift": {"code": "G1", "value": 5.0},
    "offers": OFFERS,
    "match": {"name": "Rovers v. City", "score": "3", "place": "home", "venue": "Hall", "kickoff": STARTS},
    "weather": {"code": 60, "highest": 21.5},
}
FLOW_NAMES = sorted(folder.name for folder in FLOWS.iterdir() if folder.is_dir())
EVERY = [*NAMES, *FLOW_NAMES]


def mail(name: str) -> tuple[TemplateFolder, Profile]:
    """The templates of a mail, and its profile."""
    if name in FLOW_NAMES:
        return TemplateFolder(folder=FLOWS / name), OF_FLOWS
    folder = TemplateFolder(folder=MAILS, subject="subject.txt", html=f"{name}.html", text="body.txt")
    return folder, OF_TESTS
