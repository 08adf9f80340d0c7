"""Envoy's ratelimit service: windows in memory and in a real Redis, and what Envoy is told."""

from __future__ import annotations

import asyncio
import json
import time

import grpc.aio
import pytest
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    RateLimitDescriptor,
    RateLimitDescriptorEntry,
)
from envoy_data_plane.envoy.service.ratelimit.v3 import (
    RateLimitRequest,
    RateLimitResponse,
    RateLimitResponseCode,
)
from trunkline.tenant.v1 import (
    api_key_service_pb2,
    rate_service_pb2,
    rate_service_pb2_grpc,
    tenant_pb2,
    tenant_service_pb2,
)
from trunkline_tenant.edge.rates import Measure, Measures, network
from trunkline_tenant.edge.windows import Windows

from tests.redises import redis_server

from .conftest import As, make_config, running

EDGE = "tl_edge_" + "e" * 40
OK, OVER = RateLimitResponseCode.OK, RateLimitResponseCode.OVER_LIMIT


@pytest.fixture
def redis(tmp_path):
    """A real Redis; its URL and what stops it."""
    with redis_server(tmp_path) as running_redis:
        yield running_redis


def descriptor(hits=None, **entries):
    return RateLimitDescriptor(
        entries=[RateLimitDescriptorEntry(key=key, value=value) for key, value in entries.items()],
        hits_addend=hits,
    )


class Envoy:
    """Asks as Envoy does."""

    def __init__(self, channel, token=EDGE):
        self._ask = channel.unary_unary(
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            request_serializer=bytes,
            response_deserializer=RateLimitResponse.parse,
        )
        self._token = token

    async def ask(self, *descriptors):
        request = RateLimitRequest(domain="trunkline", descriptors=list(descriptors))
        metadata = (("authorization", f"Bearer {self._token}"),)
        return await self._ask(request, metadata=metadata, timeout=30)


@pytest.fixture
async def edge(tmp_path):
    """A tenant service that Envoy may ask, with small limits."""
    config = make_config(
        f"sqlite:///{tmp_path / 'tenant.db'}",
        edge_token=EDGE,
        rate_address_per_hour=3,
        rate_user_per_hour=2,
        rate_tenant_per_hour=5,
        rates_file=tmp_path / "rates.json",
    )
    async with running(config) as suite:
        await suite.tenant()
        suite.envoy = Envoy(suite.channel)
        suite.rates_file = config.rates_file
        yield suite


async def test_an_address_a_user_and_a_tenant_each_have_a_limit_on_each_route(edge):
    for kind, limit in (
        ({"remote_address": "192.0.2.1"}, 3), ({"tenant": "acme", "user": "u1"}, 2), ({"tenant": "acme"}, 5),
    ):  # fmt: skip
        for left in reversed(range(limit)):
            answer = await edge.envoy.ask(descriptor(route="api", **kind))
            assert answer.overall_code == OK
            assert answer.statuses[0].limit_remaining == left
            assert answer.statuses[0].current_limit.requests_per_unit == limit
        assert (await edge.envoy.ask(descriptor(route="api", **kind))).overall_code == OVER
        assert (await edge.envoy.ask(descriptor(route="grpc", **kind))).overall_code == OK


async def test_a_refusal_says_the_limit_what_is_left_and_when_to_come_again(edge):
    for _ in range(3):
        answer = await edge.envoy.ask(descriptor(route="api", remote_address="192.0.2.1"))
    told = {header.key: header.value for header in answer.response_headers_to_add}
    assert set(told) == {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}
    refused = await edge.envoy.ask(descriptor(route="api", remote_address="192.0.2.1"))
    told = {header.key: header.value for header in refused.response_headers_to_add}
    assert told["ratelimit-limit"] == "3"
    assert told["ratelimit-remaining"] == "0"
    assert 1 <= int(told["retry-after"]) == int(told["ratelimit-reset"]) <= 3600
    body = json.loads(refused.raw_body)["error"]
    assert (body["code"], body["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert body["details"][0]["reason"] == "RATE_LIMIT"


async def test_each_descriptor_has_its_status_and_one_that_is_over_refuses(edge):
    asked = [
        descriptor(route="api", remote_address="192.0.2.1"),
        descriptor(route="api", tenant="acme"),
        descriptor(route="api"),
    ]
    for _ in range(3):
        assert (await edge.envoy.ask(*asked)).overall_code == OK
    answer = await edge.envoy.ask(*asked)
    assert answer.overall_code == OVER
    assert [status.code for status in answer.statuses] == [OVER, OK, OK]


async def test_what_one_limit_refuses_takes_nothing_of_those_after_it(edge):
    asked = [descriptor(route="api", remote_address="192.0.2.1"), descriptor(route="api", tenant="acme")]
    answers = [await edge.envoy.ask(*asked) for _ in range(9)]
    assert [answer.overall_code for answer in answers] == [OK] * 3 + [OVER] * 6
    elsewhere = await edge.envoy.ask(descriptor(route="api", tenant="acme"))
    assert elsewhere.statuses[0].limit_remaining == 1


async def test_over_grpc_a_refusal_is_a_sentence(edge):
    for _ in range(4):
        refused = await edge.envoy.ask(descriptor(route="grpc", remote_address="192.0.2.1"))
    assert refused.raw_body == b"the limit is 3 requests an hour; try again later"
    assert "content-type" not in {header.key for header in refused.response_headers_to_add}


async def test_the_plan_sets_a_tenants_limit_whether_envoy_names_it_or_not(edge):
    request = tenant_service_pb2.UpdateTenantRequest(
        tenant=tenant_pb2.Tenant(name="tenants/acme", plan=tenant_pb2.PLAN_LARGE),
        update_mask={"paths": ["plan"]},
    )
    await edge.operator.UpdateTenant(request)
    answer = await edge.envoy.ask(descriptor(route="api", tenant="acme"))
    assert answer.statuses[0].current_limit.requests_per_unit == 50
    named = await edge.envoy.ask(descriptor(route="api", tenant="acme", plan="trial"))
    assert named.statuses[0].current_limit.requests_per_unit == 1


async def test_hits_are_taken_whole_or_not_at_all(edge):
    assert (await edge.envoy.ask(descriptor(4, route="api", tenant="acme"))).overall_code == OK
    assert (await edge.envoy.ask(descriptor(2, route="api", tenant="acme"))).overall_code == OVER
    assert (await edge.envoy.ask(descriptor(1, route="api", tenant="acme"))).overall_code == OK


async def test_the_emergency_throttle_takes_effect_while_the_service_runs(edge):
    assert (await edge.envoy.ask(descriptor(route="api", tenant="acme"))).overall_code == OK
    edge.rates_file.write_text('{"routes": {"api": {"throttle": 0}}}')
    until = time.monotonic() + 10
    while (await edge.envoy.ask(descriptor(route="api", tenant="acme"))).overall_code == OK:
        assert time.monotonic() < until
        await asyncio.sleep(0.2)
    assert (await edge.envoy.ask(descriptor(route="grpc", tenant="acme"))).overall_code == OK


async def test_a_gateway_takes_a_hundredth_of_a_limit_at_once_and_shares_it_with_envoy(edge, raised):
    edge.rates_file.write_text('{"tenant": 200}')
    request = rate_service_pb2.TakeRequestsRequest(kind="RATE_KIND_TENANT", subject="acme", route="api")
    ask = rate_service_pb2_grpc.RateServiceStub(edge.channel).TakeRequests
    metadata = (("authorization", f"Bearer {edge.gateway.authorization}"),)
    answer = await ask(request, metadata=metadata, timeout=10)
    assert (answer.granted, answer.limit, answer.remaining) == (2, 200, 198)
    told = await edge.envoy.ask(descriptor(route="api", tenant="acme"))
    assert told.statuses[0].limit_remaining == 197
    key = (await edge.api_key()).key
    error = await raised(ask(request, metadata=(("authorization", f"Bearer {key}"),), timeout=10))
    assert error.code is grpc.StatusCode.PERMISSION_DENIED


async def test_only_the_edge_may_ask_and_it_may_ask_nothing_else(edge, raised):
    key = (await edge.api_key()).key
    for token in (key, edge.operator.authorization, edge.gateway.authorization):
        error = await raised(Envoy(edge.channel, token).ask(descriptor(route="api", tenant="acme")))
        assert error.code is grpc.StatusCode.PERMISSION_DENIED
    error = await raised(Envoy(edge.channel, "tl_edge_" + "x" * 40).ask(descriptor(route="api")))
    assert error.code is grpc.StatusCode.UNAUTHENTICATED
    error = await raised(
        As(edge.channel, EDGE).GetTenant(tenant_service_pb2.GetTenantRequest(name="tenants/acme"))
    )
    assert error.code is grpc.StatusCode.PERMISSION_DENIED
    asked = edge.gateway.Authenticate(api_key_service_pb2.AuthenticateRequest(token=EDGE))
    assert (await raised(asked)).code is grpc.StatusCode.UNAUTHENTICATED


async def test_what_is_no_message_is_refused_as_such(edge, raised):
    ask = edge.channel.unary_unary("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
    error = await raised(ask(b"\x0a\x01\xff", metadata=(("authorization", f"Bearer {EDGE}"),), timeout=10))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_without_a_token_of_the_edge_envoy_is_not_served(tmp_path, raised):
    async with running(make_config(f"sqlite:///{tmp_path / 'tenant.db'}")) as suite:
        error = await raised(Envoy(suite.channel).ask(descriptor(route="api")))
        assert error.code is grpc.StatusCode.UNIMPLEMENTED


async def test_replicas_share_their_windows_in_redis_and_count_alone_while_it_is_down(redis):
    url, process = redis
    now = [0.0]
    first, second = (Windows(url, clock=lambda: now[0]) for _ in range(2))
    for windows, left in ((first, 1), (second, 0)):
        count = await windows.take("api/tenant", "acme", 2, 1, least=1)
        assert (count.granted, count.remaining) == (1, left)
    refused = await first.take("api/tenant", "acme", 2, 1, least=1)
    assert refused.granted == 0
    assert 0 < refused.reset_seconds <= 3600
    process.kill()
    process.wait()
    assert (await first.take("api/tenant", "acme", 2, 1, least=1)).granted == 1
    await first.close()
    await second.close()


async def test_a_lease_takes_what_is_left():
    windows = Windows()
    assert (await windows.take("api/tenant", "acme", 10, 4, least=1)).granted == 4
    assert (await windows.take("api/tenant", "acme", 10, 9, least=1)).granted == 6
    assert (await windows.take("api/tenant", "acme", 10, 9, least=1)).granted == 0


async def test_counts_in_memory_are_bounded():
    windows = Windows(most_keys=10)
    for number in range(100):
        await windows.take("api/address", str(number), 5, 1, least=1)
    assert len(windows._own.storage.storage) <= 11


def test_the_file_of_limits_keeps_its_word_when_it_is_damaged(tmp_path):
    file, now = tmp_path / "rates.json", [0.0]
    measures = Measures(Measure(1, 2, 3), file, clock=lambda: now[0])
    assert measures.of("api") == Measure(1, 2, 3)

    def told(text):
        file.write_text(text)
        now[0] += 2
        return measures.of("api"), measures.of("grpc")

    assert told('{"tenant": 7, "routes": {"api": {"throttle": 0.5}}}') == (
        Measure(1, 2, 7, 0.5),
        Measure(1, 2, 7),
    )
    assert told('{"throttle": 0.5, "routes": {"api": {"throttle": 0.5}}}') == (
        Measure(1, 2, 3, 0.25),
        Measure(1, 2, 3, 0.5),
    )
    assert told('{"throttle": 0, "routes": {"api": {"throttle": 0.1}}}')[0].throttle == 0
    assert told('{"tenant": 7, "routes": {"api": {"throttle": 0.5}}}')[0] == Measure(1, 2, 7, 0.5)
    for damaged in (
        "[" * 100_000, '{"routes": {"apis": {"throttle": 0}}}',
        "{", "[]", '{"tenant": -1}', '{"tenant": true}', '{"tenants": 1}', '{"routes": 5}',
    ):  # fmt: skip
        assert told(damaged)[0] == Measure(1, 2, 7, 0.5)
    file.unlink()
    now[0] += 2
    assert measures.of("api") == Measure(1, 2, 3)


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:0:1:2::3", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("nonsense", "nonsense"),
    ],
)  # fmt: skip
def test_one_sender_is_an_address_or_a_64(address, sender):
    assert network(address) == sender
