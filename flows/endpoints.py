"""The partners that the campaigns here call: what is sent to each and what is read of its answer.

Addresses come from the settings (`CAMPAIGN_<NAME>__URL`). The shapes are those of services that the world knows, so
that one address makes a campaign real: a coupon system of Adobe's example, ESPN's scoreboard or team schedule,
DummyJSON's products, Open-Meteo's forecast.
"""

from collections.abc import Mapping
from datetime import date, timedelta

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tasks.endpoint.answer.column import OutboundColumn
from tasks.endpoint.answer.guards import ReaderLimits
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.inbound import InboundMapping
from tasks.endpoint.pagination import Offset
from tasks.settings import merged

COUPONS = Endpoint(
    name="coupons",
    inbound=InboundMapping(columns={"zip_code": "zipCode"}, add_count=True),
    outbound=OutboundMapping(
        path="codeData.codes",
        columns={"code": OutboundColumn(key="code"), "zip_code": OutboundColumn(key="zipCode")},
    ),
)
"""The coupon system's shape of request and answer."""

CODES = Endpoint(
    name="codes",
    inbound=InboundMapping(params={"count": "{count}", "batch": "{batch}"}),
    outbound=OutboundMapping(
        path="codes",
        columns={
            "code": OutboundColumn(key="code"),
            "value": OutboundColumn(key="value", type="number"),
            "expires_at": OutboundColumn(key="validUntil", type="date"),
        },
    ),
)
"""A voucher system that makes codes, a batch at a time; a batch that is asked for again has the same codes."""

SCHEDULE = Endpoint(
    name="schedule",
    method="GET",
    outbound=OutboundMapping(
        path="events[].competitions[].competitors[]",
        columns={
            "team": OutboundColumn(key="team.displayName"),
            "place": OutboundColumn(key="homeAway"),
            "score": OutboundColumn(key="score.displayValue", optional=True),
            "name": OutboundColumn(key="name", at="events[]"),
            "kickoff": OutboundColumn(key="date", at="events[]", type="datetime"),
            "venue": OutboundColumn(key="venue.fullName", at="events[].competitions[]", optional=True),
        },
        # ESPN nests one level deeper than Adobe Campaign's limit.
        limits=ReaderLimits(max_depth=12),
    ),
)
"""Matches, a row for each team of each."""

OFFERS = Endpoint(
    name="offers",
    method="GET",
    pagination=Offset(parameter="skip", limit_parameter="limit", limit=100, total="total"),
    outbound=OutboundMapping(
        path="products",
        columns={
            "title": OutboundColumn(key="title"),
            "category": OutboundColumn(key="category"),
            "price": OutboundColumn(key="price", type="number"),
            "discount": OutboundColumn(key="discountPercentage", type="number"),
            "picture": OutboundColumn(key="thumbnail", max_length=2000, optional=True),
        },
    ),
)
"""Products with their discounts."""

WEATHER = Endpoint(
    name="weather",
    method="GET",
    inbound=InboundMapping(query={"daily": "weather_code,temperature_2m_max", "timezone": "GMT"}),
    outbound=OutboundMapping(
        path="[].daily",
        parallel=True,
        columns={
            "day": OutboundColumn(key="time", type="date"),
            "code": OutboundColumn(key="weather_code", type="integer"),
            "highest": OutboundColumn(key="temperature_2m_max", type="number"),
        },
    ),
)
"""A daily forecast, a row for each place and day."""


class Place(BaseModel):
    """Where a region's weather is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latitude: float = Field(ge=-90, le=90, title="Latitude", description="In degrees north.")
    longitude: float = Field(ge=-180, le=180, title="Longitude", description="In degrees east.")


def schedule_between(endpoint: Endpoint, first: date, last: date) -> Endpoint:
    """The schedule of these days."""
    return _asking(endpoint, {"dates": f"{first:%Y%m%d}-{last:%Y%m%d}"})


def days_before(day: date, days: int) -> date:
    """The first of `days` days of which `day` is the last."""
    return day - timedelta(days=days - 1)


def forecast_of(endpoint: Endpoint, places: Mapping[str, Place], day: date) -> Endpoint:
    """The forecast for a day, with a column `region` that names the place.

    The service numbers the places as they were asked for, but the first, and answers one place without an array.
    """
    names = list(places)
    region = OutboundColumn(
        key="location_id",
        at="[]" if len(names) > 1 else "@",
        optional=True,
        on_empty="default",
        default=names[0],
        remap={str(number): name for number, name in enumerate(names) if number},
    )
    outbound = merged(
        endpoint.outbound,
        path="[].daily" if len(names) > 1 else "daily",
        columns={**endpoint.outbound.columns, "region": region},
    )
    query: dict[str, JsonValue] = {
        "latitude": ",".join(str(place.latitude) for place in places.values()),
        "longitude": ",".join(str(place.longitude) for place in places.values()),
        "start_date": day.isoformat(),
        "end_date": day.isoformat(),
    }
    return merged(_asking(endpoint, query), outbound=outbound)


def _asking(endpoint: Endpoint, query: dict[str, JsonValue]) -> Endpoint:
    return merged(endpoint, inbound=merged(endpoint.inbound, query={**endpoint.inbound.query, **query}))


BUSINESS_DATE = "{business_date}"


def dated(text: str, day: date) -> str:
    """The text with {business_date} replaced by the day."""
    return text.replace(BUSINESS_DATE, day.isoformat())


def asked_on(endpoint: Endpoint, day: date) -> Endpoint:
    """The endpoint with {business_date} replaced by the day, wherever something is sent."""
    inbound = endpoint.inbound
    asked = {name: _dated_json(getattr(inbound, name), day) for name in ("params", "query", "body")}
    return merged(endpoint, url=dated(endpoint.url, day), inbound=merged(inbound, **asked))


def minting_on(endpoint: Endpoint, pool: str, number: int, count: int) -> Endpoint:
    """The endpoint with {count} and {batch}, wherever something is sent: how many codes, and the batch's name."""
    said: dict[str, JsonValue] = {"{count}": count, "{batch}": f"{pool}-{number}"}
    inbound = endpoint.inbound
    asked = {name: _said_json(getattr(inbound, name), said) for name in ("params", "query", "body")}
    return merged(endpoint, inbound=merged(inbound, **asked))


def _said_json(value: JsonValue, said: Mapping[str, JsonValue]) -> JsonValue:
    match value:
        case str():
            return said.get(value, value)
        case list():
            return [_said_json(each, said) for each in value]
        case dict():
            return {name: _said_json(each, said) for name, each in value.items()}
        case _:
            return value


def _dated_json(value: JsonValue, day: date) -> JsonValue:
    match value:
        case str():
            return dated(value, day)
        case list():
            return [_dated_json(each, day) for each in value]
        case dict():
            return {name: _dated_json(each, day) for name, each in value.items()}
        case _:
            return value
