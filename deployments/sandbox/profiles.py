"""Made-up profiles with birthdays on every day of the year, and with what real data brings along.

Names that are non-Latin, right-to-left, or hold `<`, `&` and quotes; nulls in every column but the id; profiles
that may not be contacted.
"""

import random
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from deployments.sandbox.products import THINGS
from deployments.sandbox.schedule import TEAMS
from tasks.files.storage import written_whole

SEED = 20261124
PROFILES_PER_DAY = 10

FIRST_NAMES = """
Ada, Grace, Noor, Mateo, Ingrid, Kofi, Priya, Lars, Chiara, Tomás, Zoë, Bjørn, Siobhán, Łukasz, Åsa,
Ольга, Дмитрий, Ελένη, 健太, 小明, 지우, สมชาย, आरव, నవ్య, მარიამ, Հայկ, ኃይሌ,
أحمد, فاطمة, דוד, שרה,
Jean & Marie, <b>Bold</b>, "Ace", O'Neil, Ann <ann@home>, A&amp;B, Rock 'n' Roll, {{ 7*7 }}, 🎉 Pip
"""
LAST_NAMES = """
Lovelace, Hopper, Haddad, García, Nilsson, Mensah, Sharma, Olsen, Rossi, D'Angelo, Smith & Sons, O"Hara,
Иванова, Παπαδοπούλου, 山田, 王, 김, كريم, כהן, Müller, <Null>
"""
CITIES = """
San José, Springfield, Coeur d'Alene, Winston & Salem, Łódź, القاهرة, תל אביב, 東京, São Paulo, Reykjavík, Zürich
"""

REGIONS = ("Berlin", "Paris", "Lyon")


def _choices(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


def sample_profiles(seed: int = SEED, per_day: int = PROFILES_PER_DAY) -> pl.DataFrame:
    """Profiles for each of a leap year's 366 days: the same for the same seed.

    Columns: profile_id, first_name, last_name, email, zip_code, city (text), birth_date (date), may_contact
    (boolean), favourite_team, favourite_category, region (text). Zip codes keep their leading zeros.
    """
    chance = random.Random(seed)  # noqa: S311
    first_day = date(2000, 1, 1)
    rows = [
        _profile(chance, number=offset * per_day + place, birthday=first_day + timedelta(days=offset), place=place)
        for offset in range(366)
        for place in range(per_day)
    ]
    # What was added later has a chance of its own, so that the columns before stay what they were.
    likings = random.Random(f"{seed} likings")  # noqa: S311
    return pl.DataFrame([{**row, **_likings(likings)} for row in rows], schema_overrides={"birth_date": pl.Date()})


def _likings(chance: random.Random) -> dict[str, object]:
    """A favourite team, a favourite category and a region; each is unknown of one in ten."""
    choices = {"favourite_team": TEAMS, "favourite_category": tuple(THINGS), "region": REGIONS}
    return {name: None if chance.random() < 0.1 else chance.choice(known) for name, known in choices.items()}


def _profile(chance: random.Random, number: int, birthday: date, place: int) -> dict[str, object]:
    lacking = {0: "first_name", 1: chance.choice(("email", "zip_code", "may_contact", "city", "birth_date"))}
    years = [year for year in range(1940, 2009) if (birthday.month, birthday.day) != (2, 29) or year % 4 == 0]
    profile: dict[str, object] = {
        "profile_id": f"P{number:06d}",
        "first_name": chance.choice(_choices(FIRST_NAMES)),
        "last_name": chance.choice(_choices(LAST_NAMES)),
        "email": f"p{number:06d}@profiles.example",
        "birth_date": birthday.replace(year=chance.choice(years)),
        "zip_code": f"{chance.randrange(400):03d}{chance.randrange(30):02d}",
        "city": chance.choice(_choices(CITIES)),
        "may_contact": place != 2,
    }
    if place in lacking:
        profile[lacking[place]] = chance.choice((None, "")) if lacking[place] == "first_name" else None
    return profile


def write_sample_profiles(path: Path) -> None:
    """Write the sample profiles as Parquet, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as draft:
        sample_profiles().write_parquet(draft)


if __name__ == "__main__":
    write_sample_profiles(Path("samples/profiles.parquet"))
