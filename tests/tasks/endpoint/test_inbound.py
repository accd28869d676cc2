import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
import pytest

from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.inbound import InboundMapping, check_campaign_wide
from tasks.endpoint.pagination import Step
from tasks.errors import ColumnsMissing, ProfileLevelCall, RequestBodyInvalid

URL = "https://partner.example/api"
ROWS = pl.DataFrame({"zip_code": ["95124", None], "since": [date(2026, 11, 24), None], "city": ["San José", "x"]})
FORMS = pl.DataFrame(
    {
        "at": [datetime(2026, 11, 24, 7, 30)],
        "with_zone": [datetime(2026, 11, 24, 7, 30, tzinfo=UTC)],
        "clock": [time(7, 30)],
        "price": [Decimal("1.10")],
        "n": [3],
        "share": [0.25],
        "ok": [True],
        "tags": [["a", None]],
        "place": [{"lat": 1.5, "day": date(2026, 1, 2)}],
        "nothing": [None],
    }
)


def request_body(inbound: pl.DataFrame | None, mapping: InboundMapping, more: dict[str, object]) -> bytes:
    endpoint = Endpoint(name="x", url=URL, inbound=mapping)
    return EndpointCall(inbound, endpoint).request(Step(parameters=more)).body


def request_url(
    url: str, inbound: pl.DataFrame | None, mapping: InboundMapping, method: str, more: dict[str, object]
) -> str:
    endpoint = Endpoint(name="x", url=url, inbound=mapping, method=method, paged_in="query")
    return EndpointCall(inbound, endpoint).request(Step(parameters=more)).url


@pytest.mark.parametrize(
    ("inbound", "mapping", "more", "body"),
    [
        (None, {"params": {"state": "CA"}}, {}, {"params": {"state": "CA"}}),
        (None, {"add_count": True}, {}, {"params": {}}),
        (
            ROWS,
            {
                "columns": {"zip_code": "zipCode"},
                "add_count": True,
                "params": {"state": "CA", "deep": {"a": [1, None]}},
            },
            {},
            {
                "params": {"state": "CA", "deep": {"a": [1, None]}, "count": 2},
                "data": [{"zipCode": "95124"}, {"zipCode": None}],
            },
        ),
        (
            ROWS,
            {"columns": {"since": "since", "city": "town"}, "params": {"page": 9, "kept": 1}},
            {"page": 2},
            {
                "params": {"page": 2, "kept": 1},
                "data": [{"since": "2026-11-24", "town": "San José"}, {"since": None, "town": "x"}],
            },
        ),
        (
            FORMS,
            {"columns": {name: name for name in FORMS.columns}},
            {},
            {
                "params": {},
                "data": [
                    {
                        "at": "2026-11-24T07:30:00",
                        "with_zone": "2026-11-24T07:30:00+00:00",
                        "clock": "07:30:00",
                        "price": "1.10",
                        "n": 3,
                        "share": 0.25,
                        "ok": True,
                        "tags": ["a", None],
                        "place": {"lat": 1.5, "day": "2026-01-02"},
                        "nothing": None,
                    }
                ],
            },
        ),
        (
            ROWS.clear(),
            {"columns": {"city": "c"}, "add_count": True},
            {},
            {"params": {"count": 0}, "data": []},
        ),
    ],
)
def test_the_body_is_params_and_data(
    inbound: pl.DataFrame | None, mapping: dict[str, object], more: dict[str, object], body: dict[str, object]
) -> None:
    assert json.loads(request_body(inbound, InboundMapping(**mapping), more)) == body


@pytest.mark.parametrize(
    ("inbound", "mapping", "method", "more", "url"),
    [
        (None, {}, "GET", {}, URL),
        (ROWS, {"add_count": True, "count_in_url": True}, "POST", {}, f"{URL}?count=2"),
        (ROWS, {"add_count": True}, "POST", {}, URL),
        (ROWS, {"add_count": True}, "GET", {}, f"{URL}?count=2"),
        (None, {"add_count": True, "count_in_url": True}, "POST", {}, URL),
        (
            None,
            {"params": {"a": "ä b&c", "n": 1.5, "yes": True, "no": None}},
            "GET",
            {},
            f"{URL}?a=%C3%A4+b%26c&n=1.5&yes=true",
        ),
        (None, {"params": {"a": 1}}, "POST", {}, URL),
        (None, {"query": {"day": ["mon", "tue"]}}, "POST", {}, f"{URL}?day=mon&day=tue"),
        (None, {"query": {"page": 7}}, "GET", {"page": 2, "limit": 30}, f"{URL}?page=2&limit=30"),
    ],
)
def test_the_url_carries_count_query_and_with_get_the_params(
    inbound: pl.DataFrame | None, mapping: dict[str, object], method: str, more: dict[str, object], url: str
) -> None:
    assert request_url(URL, inbound, InboundMapping(**mapping), method, more) == url


def test_a_query_that_the_url_has_already_is_kept() -> None:
    mapping = InboundMapping(query={"b": "2"})
    assert request_url(f"{URL}?a=1&b=1", None, mapping, "GET", {}) == f"{URL}?a=1&b=2"


def test_an_object_cannot_go_into_the_query() -> None:
    with pytest.raises(RequestBodyInvalid, match="'deep' is an object"):
        request_url(URL, None, InboundMapping(params={"deep": {"a": 1}}), "GET", {})


def test_a_column_that_is_not_inbound_is_named() -> None:
    with pytest.raises(ColumnsMissing, match="Did you mean 'zip_code'"):
        request_body(ROWS, InboundMapping(columns={"zipcode": "zipCode"}), {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", timedelta(days=1)])
def test_a_value_without_json_form_is_refused_with_the_part_it_is_in(value: object) -> None:
    with pytest.raises(RequestBodyInvalid, match=r"\(data\).*WKF-560249"):
        request_body(pl.DataFrame({"v": [value]}), InboundMapping(columns={"v": "v"}), {})


def test_a_parameter_without_json_form_is_refused_with_the_part_it_is_in() -> None:
    with pytest.raises(RequestBodyInvalid, match=r"\(params\).*WKF-560249"):
        request_body(None, InboundMapping(params={"v": float("nan")}), {})


MANY = pl.DataFrame({"zip_code": [str(n) for n in range(11)], "profile_id": "x", "email": "e"})


@pytest.mark.parametrize(
    ("mapping", "reason"),
    [
        ({"columns": {"profile_id": "id"}}, "'profile_id' tells profiles apart"),
        ({"columns": {"zip_code": "zip", "email": "mail"}}, "'email' tells profiles apart"),
        ({"columns": {"zip_code": "zip"}, "profile_keys": ["zip_code"]}, "'zip_code' tells profiles apart"),
        ({"columns": {"zip_code": "zip"}, "max_rows": 10}, "11 rows are more than 10"),
    ],
)
def test_one_row_per_profile_is_refused_and_pointed_to_load_file(mapping: dict[str, object], reason: str) -> None:
    with pytest.raises(ProfileLevelCall, match=f"{reason}.*Transfer file and Load file"):
        check_campaign_wide(MANY, InboundMapping(**mapping), URL)
    check_campaign_wide(MANY, InboundMapping(**mapping, allow_profile_level=True), URL)


def test_campaign_wide_rows_pass() -> None:
    check_campaign_wide(MANY, InboundMapping(columns={"zip_code": "zip"}, max_rows=11), URL)
