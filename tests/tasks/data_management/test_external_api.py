import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRun
from pydantic import SecretStr

from deployments.sandbox.partner import Behaviour, Partner, coupon_of
from tasks.data_management.external_api import (
    Endpoint,
    InboundMapping,
    OutboundColumn,
    OutboundMapping,
    external_api,
    external_api_request_key,
    request_body,
    response_table,
)
from tasks.errors import (
    CampaignError,
    ColumnsMissing,
    ConfigurationError,
    ContentTypeRefused,
    HostNotAllowed,
    RequestBodyInvalid,
    ResponseMalformed,
    ResponseShapeInvalid,
    StatusRefused,
)

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"
ROWS = pl.DataFrame({"zip_code": ["95124", None], "since": [date(2026, 11, 24), None], "city": ["San José", "x"]})


def endpoint(**options: object) -> Endpoint:
    return Endpoint(**{"name": "coupons", "url": "https://partner.example/api", **options})


def outbound(path: str, **columns: OutboundColumn | str) -> Endpoint:
    return endpoint(outbound=OutboundMapping(path=path, columns=columns))


@pytest.mark.parametrize(
    ("inbound", "mapping", "body"),
    [
        (None, {"params": {"state": "CA"}}, {"params": {"state": "CA"}}),
        (None, {"add_count": True}, {"params": {}}),
        (
            ROWS,
            {"columns": {"zip_code": "zipCode"}, "add_count": True, "params": {"state": "CA"}},
            {"params": {"state": "CA", "count": 2}, "data": [{"zipCode": "95124"}, {"zipCode": None}]},
        ),
        (
            ROWS,
            {"columns": {"since": "since", "city": "town"}},
            {"params": {}, "data": [{"since": "2026-11-24", "town": "San José"}, {"since": None, "town": "x"}]},
        ),
        (
            pl.DataFrame(
                {"at": [datetime(2026, 11, 24, 7, 30)], "price": [Decimal("1.10")], "n": [3], "ok": [True]}
            ),
            {"columns": {name: name for name in ("at", "price", "n", "ok")}},
            {"params": {}, "data": [{"at": "2026-11-24T07:30:00", "price": "1.10", "n": 3, "ok": True}]},
        ),
        (ROWS.clear(), {"columns": {"city": "c"}, "add_count": True}, {"params": {"count": 0}, "data": []}),
    ],
)
def test_the_body_is_params_and_data(
    inbound: pl.DataFrame | None, mapping: dict[str, object], body: dict[str, object]
) -> None:
    assert json.loads(request_body(inbound, endpoint(inbound=InboundMapping(**mapping)))) == body


def test_a_column_that_is_not_inbound_is_named() -> None:
    with pytest.raises(ColumnsMissing, match="Did you mean 'zip_code'"):
        request_body(ROWS, endpoint(inbound=InboundMapping(columns={"zipcode": "zipCode"})))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes"])
def test_a_value_without_json_form_is_refused(value: object) -> None:
    inbound = pl.DataFrame({"v": [value]})
    with pytest.raises(RequestBodyInvalid, match="WKF-560249"):
        request_body(inbound, endpoint(inbound=InboundMapping(columns={"v": "v"})))


def test_rows_are_read_at_the_recorded_path_with_their_types() -> None:
    answer = b"""{"a": {"rows": [
        {"t": "x", "i": 7, "n": 1, "b": true, "d": "2026-11-24", "at": "2026-11-24T07:30:00Z", "extra": 1},
        {"t": 5, "i": "8", "n": 2.5, "b": false, "d": null, "at": "2026-11-24T07:30:00+01:00"},
        {"t": null, "i": null, "b": "true"}]}}"""
    table = response_table(
        answer,
        outbound(
            "a.rows",
            text=OutboundColumn(key="t"),
            whole=OutboundColumn(key="i", type="integer"),
            number=OutboundColumn(key="n", type="number"),
            flag=OutboundColumn(key="b", type="boolean"),
            day=OutboundColumn(key="d", type="date"),
            moment=OutboundColumn(key="at", type="datetime"),
        ),
    )
    half_past = datetime(2026, 11, 24, 7, 30)
    assert table.rows() == [
        ("x", 7, 1.0, True, date(2026, 11, 24), half_past),
        ("5", 8, 2.5, False, None, half_past - timedelta(hours=1)),
        (None, None, None, True, None, None),
    ]


@pytest.mark.parametrize(
    ("path", "answer", "codes"),
    [
        ("codeData.codes", b'{"codeData": {"codes": [{"code": "1"}]}}', ["1"]),
        ("@", b'[{"code": "1"}, {"code": "2"}]', ["1", "2"]),
        ('"a-b".c', b'{"a-b": {"c": [{"code": "1"}]}}', ["1"]),
        ("rows", b'{"rows": []}', []),
        ("rows", b'{"rows": [{"code": "1", "code": "2"}]}', ["2"]),
        ("rows", b'\xef\xbb\xbf {"rows": []}'[3:], []),
        ("rows", b'{"rows": [{"code": 123456789012345678901234567890}]}', ["123456789012345678901234567890"]),
        ("rows", '{"rows": [{"code": "\\u00e9 é"}]}'.encode(), ["é é"]),
    ],
)
def test_an_array_is_found_wherever_the_path_leads(path: str, answer: bytes, codes: list[str]) -> None:
    table = response_table(answer, outbound(path, code="code"))
    assert table.schema == {"code": pl.String()}
    assert table["code"].to_list() == codes


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (b"", ResponseMalformed, "empty body"),
        (b" \n", ResponseMalformed, "empty body"),
        (b"<html>", ResponseMalformed, "no JSON"),
        (b'{"rows": [', ResponseMalformed, "no JSON"),
        (b'{"rows": [{"code": NaN}]}', ResponseMalformed, "NaN"),
        (b'{"rows": [{"code": -Infinity}]}', ResponseMalformed, "Infinity"),
        (b'{"rows": [{"code": "\xff"}]}', ResponseMalformed, "not UTF-8"),
        (b"[" * 200_000, ResponseMalformed, "nested too deeply"),
        (b'{"other": []}', ResponseShapeInvalid, "no array at 'rows'; the answer is an object with 'other'"),
        (b'{"rows": {"code": 1}}', ResponseShapeInvalid, "no array at 'rows'"),
        (b'{"rows": null}', ResponseShapeInvalid, "no array at 'rows'"),
        (b"7", ResponseShapeInvalid, "no array at 'rows'"),
        (b'{"rows": [1, 2]}', ResponseShapeInvalid, "not objects"),
        (b'{"rows": [{"code": "1"}, null]}', ResponseShapeInvalid, "not objects"),
        (b'{"rows": [{"Code": "1"}]}', ResponseShapeInvalid, "has 'code', only 'Code'. Did you mean 'Code'"),
        (b'{"rows": [{"code": {"a": 1}}]}', ResponseShapeInvalid, "'code' is an object"),
        (b'{"rows": [{"code": [1]}]}', ResponseShapeInvalid, "'code' is a list"),
        (b'{"rows": [{"code": "\\ud800"}]}', ResponseShapeInvalid, "lone surrogate"),
    ],
)
def test_an_answer_that_is_not_of_the_shape_is_refused(
    answer: bytes, error: type[CampaignError], says: str
) -> None:
    with pytest.raises(error, match=says):
        response_table(answer, outbound("rows", code="code"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", "1.5"),
        ("integer", "99999999999999999999"),
        ("number", "x"),
        ("boolean", "yes"),
        ("date", "1.5.2020"),
    ],
)
def test_a_value_not_of_its_type_is_named_with_its_row(kind: str, value: str) -> None:
    answer = json.dumps([{"v": None}, {"v": value}]).encode()
    with pytest.raises(ResponseShapeInvalid, match=f"'v' of row 2 is '{value}', not of type {kind}"):
        response_table(answer, outbound("@", v=OutboundColumn(key="v", type=kind)))


def test_a_path_that_is_no_path_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="JMESPath"):
        response_table(b"{}", outbound("a..b", code="code"))


def test_the_sample_of_the_documentation_gives_its_columns() -> None:
    answer = (SAMPLES / "coupons-sample-response.json").read_bytes()
    names = ("code", "internalId", "state", "zipCode")
    table = response_table(answer, outbound("codeData.codes", **{name: name for name in names}))
    assert table.rows() == [("0798208", "54gewk-g3ig3q-3gk3gv-0798208", "CA", "95124")]


def test_the_cache_key_is_of_endpoint_mapping_and_rows_and_holds_no_secret() -> None:
    mapping = InboundMapping(columns={"zip_code": "zipCode"})
    base = endpoint(inbound=mapping, outbound=OutboundMapping(path="a", columns={"code": "code"}))
    key = external_api_request_key(ROWS, base)

    def changed(**options: object) -> str:
        return external_api_request_key(ROWS, base.model_copy(update=options))

    assert key == external_api_request_key(ROWS.with_columns(city=pl.lit("unsent")), base)
    assert key == changed(headers={"X-Key": SecretStr("secret")}, retries=9)
    different = [
        changed(url="https://partner.example/other"),
        changed(outbound=OutboundMapping(path="b", columns={"code": "code"})),
        changed(inbound=InboundMapping(columns={"zip_code": "zip"})),
        external_api_request_key(ROWS.head(1), base),
    ]
    assert len({key, *different}) == 5


@flow
def fetch(rows: pl.DataFrame, partner: Endpoint) -> pl.DataFrame:
    return external_api(rows, partner)


@pytest.fixture(autouse=True)
def _loopback_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')


def task_run_named(name: str) -> TaskRun:
    """The newest task run of that name, as the Prefect UI shows it."""
    with get_client(sync_client=True) as client:
        for _ in range(100):
            runs = [run for run in client.read_task_runs() if run.name == name and run.state.is_final()]
            if runs:
                return max(runs, key=lambda run: run.created)
            time.sleep(0.1)
    raise AssertionError(f"no task run {name}")


def test_the_task_runs_alone_and_gives_a_table(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    partner = start_partner()
    table = external_api(zip_codes, endpoint_of(partner))
    wanted = [{"code": coupon_of(zip_code)["code"], "zip_code": zip_code} for zip_code in zip_codes["zip_code"]]
    assert_frame_equal(table, pl.DataFrame(wanted))
    assert f"Invoking API URL '{partner.url}'." in caplog.text
    assert "2 rows sent, 2 rows of 'coupons' received." in caplog.text


def test_equal_calls_are_one_request_until_the_expiry_of_the_endpoint(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner()
    lasting, short = endpoint_of(partner), endpoint_of(partner, name="short", cache_expiry=timedelta(seconds=1))
    assert_frame_equal(fetch(zip_codes, lasting), fetch(zip_codes.with_columns(city=pl.lit("?")), lasting))
    assert len(partner.requests) == 1
    assert fetch(zip_codes.head(1), lasting).height == 1
    assert len(partner.requests) == 2
    fetch(zip_codes, short)
    time.sleep(1.1)
    fetch(zip_codes, short)
    assert len(partner.requests) == 4
    stored = [path.read_bytes()[:6] for path in result_folder.glob("external-api-*") if path.suffix != ".json"]
    assert stored == [b"ARROW1"] * 3


def test_two_failures_and_an_answer_are_a_completed_run_whose_retries_can_be_seen(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    partner = start_partner(Behaviour.FLAKY)
    endpoint = endpoint_of(partner, name="flaky", retry_after_limit_seconds=0.2)
    assert fetch(zip_codes, endpoint).height == 2
    assert len(partner.requests) == 3
    run = task_run_named("External API flaky")
    assert (run.state.is_completed(), run.run_count) == (True, 3)
    assert "attempt 2" in caplog.text
    assert "attempt 3" in caplog.text


def test_retry_after_is_obeyed(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner(Behaviour.BUSY)
    begun = time.monotonic()
    assert fetch(zip_codes, endpoint_of(partner, backoff_seconds=0)).height == 2
    assert time.monotonic() - begun >= 1.0
    assert len(partner.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "error", "requests"),
    [
        (Behaviour.DOWN, StatusRefused, 3),
        (Behaviour.FORBIDDEN, StatusRefused, 1),
        (Behaviour.HTML, ContentTypeRefused, 1),
        (Behaviour.NONSENSE, ResponseMalformed, 1),
    ],
)
def test_only_failures_that_pass_are_tried_again(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    behaviour: Behaviour,
    error: type[CampaignError],
    requests: int,
) -> None:
    partner = start_partner(behaviour)
    with pytest.raises(error):
        fetch(zip_codes, endpoint_of(partner, retries=2, retry_after_limit_seconds=0.05))
    assert len(partner.requests) == requests


def test_a_failure_is_not_cached(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner(Behaviour.FORBIDDEN)
    with pytest.raises(StatusRefused):
        fetch(zip_codes, endpoint_of(partner))
    partner.behaviour = Behaviour.NORMAL
    assert fetch(zip_codes, endpoint_of(partner)).height == 2


def test_an_allow_list_that_does_not_name_the_host_refuses_it(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS")
    partner = start_partner()
    with pytest.raises(HostNotAllowed):
        fetch(zip_codes, endpoint_of(partner))
    assert partner.requests == []


def test_no_rows_need_no_call(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner()
    table = fetch(zip_codes.clear(), endpoint_of(partner))
    assert table.schema == {"code": pl.String(), "zip_code": pl.String()}
    assert table.is_empty()
    assert partner.requests == []


def test_calls_can_be_submitted_side_by_side(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner(Behaviour.FLAKY)

    @flow
    def fork() -> list[int]:
        calls = [
            external_api.submit(zip_codes.slice(start, 1), endpoint_of(partner, retry_after_limit_seconds=0.1))
            for start in range(2)
        ]
        return [call.result().height for call in calls]

    assert fork() == [1, 1]
    assert len(partner.requests) == 4


def test_a_secret_header_reaches_the_partner_and_nothing_else(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    canary = "canary-7f3a9c"
    partner = start_partner(Behaviour.BUSY)
    endpoint = endpoint_of(
        partner, name="canary", headers={"X-Key": SecretStr(canary)}, url=f"{partner.url}?t={canary}"
    )
    caplog.set_level("DEBUG")
    external_api(zip_codes, endpoint)
    partner.behaviour = Behaviour.FORBIDDEN
    with pytest.raises(StatusRefused) as failed:
        external_api(zip_codes.head(1), endpoint)
    assert partner.requests[0].headers["x-key"] == canary
    run = task_run_named("External API canary")
    stored = b"".join(path.read_bytes() + path.name.encode() for path in result_folder.rglob("*") if path.is_file())
    for shown in (caplog.text, repr(failed.value), repr(endpoint.headers), run.model_dump_json(), repr(stored)):
        assert canary not in shown
    assert datetime.now(UTC) > run.created
