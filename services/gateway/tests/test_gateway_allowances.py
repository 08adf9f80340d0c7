"""The hourly limits of API requests where no Envoy counts them: few questions, none on the way of most requests."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from trunkline.tenant.v1 import rate_service_pb2 as messages
from trunkline_gateway.api.allowances import Allowances, admitted
from trunkline_gateway.api.credentials import Shown
from trunkline_gateway.api.problems import HttpProblem
from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity.callers import OPERATOR, Caller, CallerKind, Role

KEY = Caller(CallerKind.API_KEY, "k1", "acme", Role.VIEWER)
USER = Caller(CallerKind.USER, "u1", "acme", Role.VIEWER)


class Tenant:
    """Stands in for the tenant service: a limit for each kind, of which it gives a tenth at a time."""

    def __init__(self, **limits: int) -> None:
        self.left = dict(limits)
        self.limits = limits
        self.asked: list[tuple[str, str, str]] = []
        self.down = False

    async def __call__(self, request: messages.TakeRequestsRequest) -> messages.TakeRequestsResponse:
        await asyncio.sleep(0)
        kind = messages.RateKind.Name(request.kind).removeprefix("RATE_KIND_").lower()
        self.asked.append((kind, request.subject, request.route))
        if self.down:
            raise grpc.RpcError
        if kind not in self.limits:
            return messages.TakeRequestsResponse()
        granted = min(max(1, self.limits[kind] // 10), self.left[kind])
        self.left[kind] -= granted
        answer = messages.TakeRequestsResponse(
            granted=granted, limit=self.limits[kind], remaining=self.left[kind]
        )
        answer.reset.FromTimedelta(timedelta(seconds=30))
        return answer


class Gateway:
    def __init__(self, tenant: Tenant) -> None:
        self.now = 0.0
        self.authenticated = 0
        self.allowances = Allowances(tenant, clock=lambda: self.now)

    async def ask(
        self, caller: Caller | None = KEY, client: str = "192.0.2.1", route: str = "api"
    ) -> dict[bytes, Any]:
        async def authenticate(_header: bytes | None) -> Shown:
            self.authenticated += 1
            if caller is None:
                raise Unauthenticated("no", reason="CREDENTIALS_INVALID")
            return Shown(caller, "")

        header = str(caller).encode()
        _, headers = await self.allowances.admit(authenticate, header, client, route)
        return dict(headers)


async def test_most_requests_ask_nobody_and_the_limit_holds() -> None:
    tenant = Tenant(tenant=100)
    gateway = Gateway(tenant)
    left = [int((await gateway.ask())[b"ratelimit-remaining"]) for _ in range(100)]
    assert left == list(reversed(range(100)))
    assert len([one for one in tenant.asked if one[0] == "tenant"]) == 10
    with pytest.raises(HttpProblem) as refused:
        await gateway.ask()
    headers = dict(refused.value.headers)
    assert refused.value.http == 429
    assert headers[b"retry-after"] == b"30"
    assert (headers[b"ratelimit-limit"], headers[b"ratelimit-remaining"]) == (b"100", b"0")
    asked = len(tenant.asked)
    with pytest.raises(HttpProblem):
        await gateway.ask()
    assert len(tenant.asked) == asked, "a refusal is remembered for a moment"
    gateway.now += 2
    tenant.left["tenant"] = 1
    await gateway.ask()


async def test_requests_that_come_together_share_a_question() -> None:
    tenant = Tenant(tenant=1000)
    gateway = Gateway(tenant)
    await asyncio.gather(*(gateway.ask() for _ in range(100)))
    assert tenant.asked.count(("tenant", "acme", "api")) == 1


async def test_addresses_users_and_tenants_are_counted_and_operators_are_not() -> None:
    tenant = Tenant(tenant=100, user=50, address=200)
    gateway = Gateway(tenant)
    assert (await gateway.ask(USER, route="media"))[b"ratelimit-limit"] == b"50"
    assert tenant.asked == [
        ("address", "192.0.2.1", "media"), ("user", "acme/u1", "media"), ("tenant", "acme", "media"),
    ]  # fmt: skip
    tenant.asked.clear()
    assert await gateway.ask(OPERATOR) == {}
    assert not tenant.asked
    await gateway.ask(client="127.0.0.1")
    assert tenant.asked == [("tenant", "acme", "api")]


async def test_guesses_at_keys_are_counted_against_their_address() -> None:
    gateway = Gateway(Tenant(address=2))
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await gateway.ask(None)
    with pytest.raises(HttpProblem):
        await gateway.ask(None)


async def test_an_address_over_its_limit_is_refused_before_its_keys_are_looked_at() -> None:
    tenant = Tenant(address=2)
    gateway = Gateway(tenant)
    assert await gateway.ask(OPERATOR) == {}
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await gateway.ask(None)
    for _ in range(10):
        with pytest.raises(HttpProblem):
            await gateway.ask(None)
    assert gateway.authenticated == 4, "the limit is asked for once more, after the credentials"
    with pytest.raises(HttpProblem):
        await gateway.ask(KEY)
    assert gateway.authenticated == 4
    assert await gateway.ask(OPERATOR) == {}, "an operator has no limits"
    with pytest.raises(Unauthenticated):
        await gateway.ask(None, client="127.0.0.1")
    tenant.left["address"] = 1
    gateway.now += 2
    with pytest.raises(Unauthenticated):
        await gateway.ask(None)


async def test_nothing_is_refused_while_nobody_can_be_asked() -> None:
    tenant = Tenant(tenant=1)
    tenant.down = True
    gateway = Gateway(tenant)
    for _ in range(10):
        assert await gateway.ask() == {}
    assert len(tenant.asked) == 2
    tenant.down = False
    gateway.now += 2
    assert (await gateway.ask())[b"ratelimit-limit"] == b"1"


async def test_behind_envoy_nothing_is_counted() -> None:
    async def authenticate(_header: bytes | None) -> Shown:
        return Shown(KEY, "")

    assert await admitted(None, authenticate, None, {"client": ("192.0.2.1", 1)}, "api") == (
        Shown(KEY, ""),
        (),
    )
