"""A league's scoreboard, answered in the shape of ESPN's public site API; the matches are generated.

Every team plays once a day, so that any range of dates has matches: `dates=20261118-20261124`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

TEAMS = (
    "Harbour City",
    "North Lake United",
    "Red Valley",
    "Sport Meridian",
    "Old Mill Rovers",
    "Athletic São Bento",
)
"""An even number of teams, as the sandbox's profiles name them; each day all of them play."""
LONGEST_RANGE = 31


def schedule_answer(query: Mapping[str, str]) -> dict[str, Any]:
    """The answer to `?dates=<first>-<last>`, each as YYYYMMDD. Errors: `ValueError`, `KeyError`."""
    first, last = (date.fromisoformat(day) for day in query["dates"].split("-"))
    days = [first + timedelta(days=offset) for offset in range(min((last - first).days + 1, LONGEST_RANGE))]
    return {"season": {"year": first.year, "displayName": "Sandbox League"}, "events": list(_matches(days))}


def _matches(days: list[date]) -> Iterator[dict[str, Any]]:
    for day in days:
        turned = day.toordinal() % len(TEAMS)
        teams = [*TEAMS[turned:], *TEAMS[:turned]]
        for number, (home, away) in enumerate(zip(teams[::2], teams[1::2], strict=True)):
            yield _match(f"{day:%Y%m%d}{number}", f"{day}T{17 + number}:30Z", home, away)


def _match(number: str, kickoff: str, home: str, away: str) -> dict[str, Any]:
    sides = [(home, "home"), (away, "away")]
    goals = [int(hashlib.sha256(f"{number} {team}".encode()).hexdigest()[:2], 16) % 4 for team, _ in sides]
    return {
        "id": number,
        "date": kickoff,
        "name": f"{away} at {home}",
        "competitions": [
            {
                "id": number,
                "date": kickoff,
                "venue": {"fullName": f"{home} Stadium", "address": {"city": home}},
                "competitors": [
                    {
                        "id": str(TEAMS.index(team) + 1),
                        "homeAway": place,
                        "winner": own > other,
                        "team": {"id": str(TEAMS.index(team) + 1), "displayName": team},
                        "score": {"value": own, "displayValue": str(own)},
                    }
                    for (team, place), own, other in zip(sides, goals, reversed(goals), strict=True)
                ],
                "status": {"type": {"state": "post", "completed": True, "description": "Full Time"}},
            }
        ],
    }
