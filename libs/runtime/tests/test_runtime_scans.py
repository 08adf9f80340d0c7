"""Lists of one tenant: few at once, a short wait, an end; no other tenant's and no service's wait for them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.errors import DeadlineExceeded, ResourceExhausted, from_rpc_error
from trunkline_runtime.identity import access
from trunkline_runtime.identity.callers import Caller, CallerKind, Role
from trunkline_runtime.rpc.scans import Scans

SERVICE = "trunkline.test.v1.EchoService"
RULES = {f"/{SERVICE}/One": access.Rule(Role.VIEWER, resource="name", scans=True)}


def key(tenant: str, key_id: str = "k") -> Caller:
    return Caller(CallerKind.API_KEY, tenant=tenant, role=Role.VIEWER, subject=key_id)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_every_list_of_the_suite_takes_a_turn() -> None:
    lists = {method for method in access.TABLE if "/List" in method}
    counts = {"ReplayEvents", "PurgeEvents", "AcceptRejections", "GetUsage"}
    internal = {method for method, rule in access.TABLE.items() if not rule.operators}
    scanning = {method for method, rule in access.TABLE.items() if rule.scans}
    assert scanning >= lists - internal
    assert {method.rpartition("/")[2] for method in scanning - lists} == counts


async def test_six_panels_at_once_are_all_answered(start_suite: Any) -> None:
    suite = await start_suite(server={"rules": RULES})
    most = running = 0

    async def panel(request: Any, _context: Any) -> Any:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return call_pb2.Call(name=request.name)

    suite.handlers["One"] = panel
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        await asyncio.gather(*(one(suite, channel, "tl_viewer") for _ in range(6)))
    assert most == 2


async def one(suite: Any, channel: grpc.aio.Channel, token: str, tenant: str = "acme") -> Any:
    request = call_service_pb2.GetCallRequest(name=f"tenants/{tenant}/calls/abc")
    metadata = (("authorization", f"Bearer {token}"),)
    return await suite.method("One", channel)(request, metadata=metadata, timeout=20)


async def test_a_flood_of_one_tenant_is_refused_and_others_are_answered(start_suite: Any) -> None:
    suite = await start_suite(server={"rules": RULES})
    begun: list[str] = []
    gate = asyncio.Event()

    async def waits(request: Any, _context: Any) -> Any:
        begun.append(request.name)
        if "acme" in request.name:
            await gate.wait()
        return call_pb2.Call(name=request.name)

    suite.handlers["One"] = waits
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        flood = [
            asyncio.create_task(one(suite, channel, token))
            for token in ("tl_viewer", "tl_admin")  # two keys of one tenant
            for _ in range(30)
        ]
        await until(lambda: sum(task.done() for task in flood) >= 42)
        assert (await one(suite, channel, "tl_other", "other")).name == "tenants/other/calls/abc"
        # 16 waited for a second and are refused as well; two run on.
        await until(lambda: sum(task.done() for task in flood) == 58)
        assert begun.count("tenants/acme/calls/abc") == 2
        error = from_rpc_error(next(task for task in flood if task.done()).exception())
        assert (type(error), error.reason, error.retry_after) == (ResourceExhausted, "LISTS_AT_ONCE", 1.0)
        assert error.metadata["subject"] == "tenants/acme"
        service = asyncio.create_task(suite.call())
        operator = asyncio.create_task(one(suite, channel, "tl_operator"))
        await until(lambda: begun.count("tenants/acme/calls/abc") == 4)
        gate.set()
        await asyncio.gather(service, operator, *(task for task in flood if not task.done()))
        assert (await one(suite, channel, "tl_viewer")).name


async def test_the_turn_of_a_caller_that_is_gone_is_free(start_suite: Any) -> None:
    suite = await start_suite(server={"rules": RULES})
    begun = 0

    async def waits(request: Any, _context: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun <= 2:
            await asyncio.sleep(600)
        return call_pb2.Call(name=request.name)

    suite.handlers["One"] = waits
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        gone = [asyncio.create_task(one(suite, channel, "tl_viewer")) for _ in range(2)]
        await until(lambda: begun == 2)
        for task in gone:
            task.cancel()
        await until(lambda: all(task.done() for task in gone))
        assert (await one(suite, channel, "tl_viewer")).name


async def test_a_list_without_an_end_is_ended_and_says_what_to_do() -> None:
    scans = Scans(1, 0.05)
    with pytest.raises(DeadlineExceeded, match="filter") as raised:
        async with scans.turn(key("acme"), "acme", is_list=True):
            await asyncio.sleep(600)
    assert raised.value.reason == "LIST_TOO_SLOW"
    async with scans.turn(key("acme"), "acme", is_list=False):  # the turn was given back
        await asyncio.sleep(0.1)
    with pytest.raises(TimeoutError):  # its own, not ours
        async with scans.turn(key("acme"), "acme", is_list=True):
            raise TimeoutError
