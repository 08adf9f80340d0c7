"""Envoy's ext_authz service: who is let in, what is minted for them, and what others are told."""

from __future__ import annotations

import json

import grpc
import pytest
from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress
from envoy_data_plane.envoy.service.auth.v3 import (
    AttributeContext,
    AttributeContextHttpRequest,
    AttributeContextPeer,
    AttributeContextRequest,
    CheckRequest,
    CheckResponse,
)
from trunkline.tenant.v1 import api_key_pb2, api_key_service_pb2
from trunkline_runtime.identity.callers import CallerKind, Role
from trunkline_runtime.identity.tokens import TokenSigner

from .conftest import make_config, running

EDGE = "tl_edge_" + "e" * 40


@pytest.fixture
async def edge(tmp_path):
    config = make_config(f"sqlite:///{tmp_path / 'tenant.db'}", edge_token=EDGE, rate_address_per_hour=3)
    async with running(config) as suite:
        await suite.tenant()
        ask = suite.channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=bytes,
            response_deserializer=CheckResponse.parse,
        )

        async def check(authorization="", kind="application/json"):
            headers = {"content-type": kind} | ({"authorization": authorization} if authorization else {})
            http = AttributeContextHttpRequest(method="GET", path="/v1/tenants/acme/calls", headers=headers)
            source = Address(socket_address=SocketAddress(address="192.0.2.9", port_value=1))
            attributes = AttributeContext(
                source=AttributeContextPeer(address=source),
                request=AttributeContextRequest(http=http),
                context_extensions={"route": "api"},
            )
            request = CheckRequest(attributes=attributes)
            return await ask(request, metadata=(("authorization", f"Bearer {EDGE}"),), timeout=30)

        suite.check = check
        yield suite


def facts(answer):
    return {name: value.string_value for name, value in answer.dynamic_metadata.fields.items()}


async def test_a_key_becomes_a_token_that_every_service_verifies(edge):
    key = await edge.api_key(role=api_key_pb2.ROLE_MEMBER)
    answer = await edge.check(f"Bearer {key.key}")
    (option,) = answer.ok_response.headers
    assert option.header.key == "authorization"
    caller = TokenSigner(edge.config.keys, "audio").verify(option.header.value.removeprefix("Bearer "))
    assert (caller.kind, caller.tenant, caller.role) == (CallerKind.API_KEY, "acme", Role.MEMBER)
    assert facts(answer) == {"limited": "yes", "tenant": "acme", "plan": "standard"}


async def test_an_operator_passes_with_its_own_token_and_no_limit(edge):
    answer = await edge.check(f"Bearer {edge.operator.authorization}")
    assert answer.status.code == 0
    assert answer.ok_response.headers == []
    assert facts(answer) == {}


async def test_without_credentials_the_service_decides(edge):
    answer = await edge.check()
    assert answer.status.code == 0
    assert answer.ok_response.headers == []
    assert facts(answer) == {"limited": "yes"}


async def test_wrong_credentials_are_refused_as_the_gateway_refuses_them(edge):
    answer = await edge.check("Bearer tl_nobody_secret")
    denied = answer.denied_response
    told = {option.header.key: option.header.value for option in denied.headers}
    assert denied.status.code == 401
    assert told["www-authenticate"] == 'Bearer realm="trunkline", error="invalid_token"'
    body = json.loads(denied.body)["error"]
    assert (body["status"], body["details"][0]["reason"]) == ("UNAUTHENTICATED", "API_KEY_INVALID")
    grpc_answer = await edge.check("Bearer tl_nobody_secret", kind="application/grpc")
    assert grpc_answer.denied_response.body == "the API key is not valid"


async def test_tokens_of_the_suite_do_not_come_from_outside(edge):
    key = await edge.api_key()
    minted = (await edge.check(f"Bearer {key.key}")).ok_response.headers[0].header.value
    for given in (minted, f"Bearer {edge.gateway.authorization}", f"Bearer {EDGE}"):
        assert (await edge.check(given)).denied_response.status.code in (401, 429)


async def test_guesses_are_counted_against_their_address(edge):
    codes = [
        (await edge.check(f"Bearer tl_{number}_guess")).denied_response.status.code for number in range(5)
    ]
    assert codes == [401, 401, 401, 429, 429]
    over = (await edge.check("Bearer tl_9_guess", kind="application/grpc")).denied_response
    assert over.body == "the limit is 3 requests an hour; try again later"
    told = {option.header.key: option.header.value for option in over.headers}
    assert told["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert int(told["retry-after"]) >= 1
    assert (await edge.check()).status.code == 0


async def test_a_revoked_key_is_refused_within_seconds(edge):
    key = await edge.api_key()
    await edge.operator.DeleteApiKey(api_key_service_pb2.DeleteApiKeyRequest(name=key.name))
    answer = await edge.check(f"Bearer {key.key}")
    assert json.loads(answer.denied_response.body)["error"]["details"][0]["reason"] == "KEY_REVOKED"
