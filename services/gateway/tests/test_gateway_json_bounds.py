"""What a JSON body may hold: the public API says what is too much, a webhook becomes a dead letter."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime

import gateway_echo as echo
import pytest
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway import json_bounds
from trunkline_gateway.api.transcode import reader
from trunkline_gateway.providers import bodies, payload
from trunkline_gateway.providers.base import Delivery, Malformed, Source
from trunkline_gateway.providers.registry import adapter_for
from trunkline_runtime.errors import InvalidArgument

JSON = {"content-type": "application/json"}
KEYS = b"{" + b",".join(b'"k%d":1' % n for n in range(60_000)) + b"}"
ITEMS = b'{"a":[' + b",".join([b"1"] * 60_000) + b"]}"
OBJECTS = b'{"a":[' + b",".join([b"{}"] * 60_000) + b"]}"
DEEP = b'{"a":' * 70 + b"1" + b"}" * 70
TOO_MUCH = {"keys": KEYS, "items": ITEMS, "objects": OBJECTS, "deep": DEEP}


def test_a_name_that_stands_twice_costs_no_more_than_any_other():
    """31 kB of them once took a third of a second."""
    distinct = b",".join(b'"k%d":1' % n for n in range(3_000))
    body = b"{" + distinct + b',"z":1,"z":1}'
    began = time.thread_time()
    with pytest.raises(InvalidArgument, match="occurs twice"):
        reader.parse_json(body)
    assert time.thread_time() - began < 0.1


@pytest.mark.parametrize("body", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_is_too_much_is_told_with_the_bound(body):
    bound = "at most 64 deep" if body is DEEP else "at most 10000 values"
    with pytest.raises(InvalidArgument, match=bound):
        reader.parse_json(body)
    with pytest.raises(Malformed, match=bound):
        payload.parse_json(body)


def test_text_with_commas_and_braces_is_text():
    body = b'{"a": "' + b"[{,:" * 20_000 + b'"}'
    assert len(reader.parse_json(body)["a"]) == 80_000
    assert len(payload.parse_json(body)["a"]) == 80_000


@pytest.mark.parametrize(
    ("body", "heavy"),
    [
        (b"{}", False),
        (b'{"a":"' + b"x" * 40_000 + b'"}', True),
        (b"{" + b'"a":1,' * 600, True),
        (b"a=1&" * 600, True),
    ],
)
def test_a_body_is_heavy_by_its_bytes_or_by_what_it_holds(body, heavy):
    assert json_bounds.is_heavy(body) is heavy


async def test_a_body_of_many_values_is_read_off_the_loop(monkeypatch):
    threads = []
    real = reader.read

    def noting(*given):
        threads.append(threading.current_thread())
        return real(*given)

    monkeypatch.setattr("trunkline_gateway.api.transcode.transcoder.read", noting)
    async with echo.transcoding([echo.echo_service()]) as (client, _):
        for body in (b'{"tags": ["a"]}', b'{"tags": [' + b",".join([b'"a"'] * 600) + b"]}"):
            answer = await client.post("/v1/boxes/b/things", content=body, headers=JSON)
            assert answer.status_code == 200
        answer = await client.post("/v1/boxes/b/things", content=KEYS, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["reason"] == "TOO_MUCH_JSON"
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


@pytest.mark.parametrize(
    "value", ["1" * 2_000_000, "Mon, " * 400_000, "2026-11-20T07:00:00" + "0" * 1_000_000]
)
def test_a_time_of_megabytes_is_no_time(value):
    began = time.thread_time()
    with pytest.raises(Malformed):
        payload.as_time(value, "timestamp")
    with pytest.raises(Malformed):
        payload.as_duration(value, "duration")
    assert time.thread_time() - began < 0.05


@pytest.mark.parametrize("value", [1_771_526_460_250, "1771526460250", 1_771_526_460.25, "1771526460.25"])
def test_a_time_in_unix_milliseconds_is_told_from_one_in_seconds(value):
    moment = payload.as_time(value, "timestamp")
    assert moment == datetime(2026, 2, 19, 18, 41, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize("provider", ["PROVIDER_GENERIC_HMAC", "PROVIDER_STANDARD_WEBHOOKS"])
def test_a_body_is_parsed_once_to_be_admitted_and_once_to_be_processed(monkeypatch, provider):
    parsed = []
    monkeypatch.setattr(bodies, "parse_json", lambda body: parsed.append(1) or json.loads(body))
    mapping = source_pb2.PayloadMapping(call_id="id", event_time="t")
    hmac = source_pb2.HmacOptions(header="x-sig", dedup_path="id")
    source = Source("s", "acme", getattr(provider_pb2, provider), (), mapping=mapping, hmac=hmac)
    body = b'{"id": "c1", "t": "2026-11-20T07:00:00Z"}'
    now = datetime(2026, 11, 20, tzinfo=UTC)
    adapter = adapter_for(source.provider)
    adapter.identify(source, "call", Delivery(body, {"webhook-id": "m1"}, "", now, ""))
    assert len(parsed) == 1
    adapter.normalise(source, "call", body, "application/json")
    assert len(parsed) == 2


@pytest.mark.parametrize("body", TOO_MUCH.values(), ids=TOO_MUCH)
def test_json_inside_of_a_text_is_held_to_the_same_bounds(body):
    bound = "at most 64 deep" if body is DEEP else "at most 10000 values"
    outer = payload.parse(json.dumps({"tags": f"[{body.decode()}]", "fields": body.decode()}).encode(), "")
    assert outer.texts("tags") is None
    assert outer.members("fields") == {}
    assert [warning.split(" ", 1)[0] for warning in outer.warnings] == ["tags", "fields"]
    assert all(bound in warning for warning in outer.warnings)
