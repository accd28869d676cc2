"""A weather service, answered in the shape of Open-Meteo's daily forecast; the weather is generated."""

import hashlib
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

WEATHER_CODES = (0, 1, 3, 45, 61, 63, 80, 71, 75, 95)
"""WMO codes: clear, mainly clear, overcast, fog, rain, rain, showers, snow, snow, thunderstorm."""
LONGEST_RANGE = 16


def forecast_answer(query: Mapping[str, str]) -> Any:  # noqa: ANN401
    """The answer to `?latitude=52.52,48.85&longitude=13.41,2.35&start_date=...&end_date=...`.

    As the real service does, one place gives an object and several an array, whose first element has no
    `location_id`. Errors: `ValueError`, `KeyError`.
    """
    places = list(zip(query["latitude"].split(","), query["longitude"].split(","), strict=True))
    first, last = date.fromisoformat(query["start_date"]), date.fromisoformat(query["end_date"])
    days = [first + timedelta(days=offset) for offset in range(min((last - first).days + 1, LONGEST_RANGE))]
    found = [
        {
            "latitude": float(latitude),
            "longitude": float(longitude),
            "timezone": "GMT",
            "daily_units": {"time": "iso8601", "weather_code": "wmo code", "temperature_2m_max": "°C"},
            "daily": _daily(latitude, longitude, days),
            **({"location_id": number} if number else {}),
        }
        for number, (latitude, longitude) in enumerate(places)
    ]
    return found if len(found) > 1 else found[0]


def _daily(latitude: str, longitude: str, days: list[date]) -> dict[str, list[Any]]:
    chances = [hashlib.sha256(f"{latitude} {longitude} {day}".encode()).digest() for day in days]
    codes = [WEATHER_CODES[chance[0] % len(WEATHER_CODES)] for chance in chances]
    highest = [
        round(chance[1] / 255 * 4 - 2 if code in {71, 75} else 4 + chance[1] / 255 * 26, 1)
        for code, chance in zip(codes, chances, strict=True)
    ]
    return {
        "time": [day.isoformat() for day in days],
        "weather_code": codes,
        "temperature_2m_max": highest,
        "temperature_2m_min": [round(degrees - 6.5, 1) for degrees in highest],
        "precipitation_sum": [
            round(chance[2] / 20, 1) if code >= 51 else 0.0 for code, chance in zip(codes, chances, strict=True)
        ],
    }
