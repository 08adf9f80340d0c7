"""What a stranger can have logged at will costs a few lines, and no count is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from trunkline.tenant.v1 import call_service_pb2
from trunkline_runtime.observe import logs
from trunkline_runtime.observe.repeats import Repeats

SERVICE = "trunkline.test.v1.EchoService"
FLOOD = 300


async def refused(suite: Any, channel: grpc.aio.Channel, token: str) -> None:
    request = call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc")
    with pytest.raises(grpc.aio.AioRpcError):
        await suite.method("One", channel)(
            request, metadata=(("authorization", f"Bearer {token}"),), timeout=20
        )


@pytest.mark.parametrize(
    ("token", "event"), [("tl_other", "cross_tenant_denied"), ("tl_stranger", "rpc_refused")]
)
async def test_a_flood_of_refused_calls_is_a_few_lines_and_their_count(
    suite: Any, token: str, event: str
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with grpc.aio.insecure_channel(suite.server.address) as channel:
            for _ in range(FLOOD // 20):
                await asyncio.gather(*(refused(suite, channel, token) for _ in range(20)))
        async with asyncio.timeout(10):
            while sum(line.get("count", 1) for line in lines if line["event"] == event) < FLOOD:
                await asyncio.sleep(0.05)
    told = [line for line in lines if line["event"] == event]
    assert sum(line.get("count", 1) for line in told) == FLOOD
    assert len(told) < 20


def test_each_key_has_its_own_lines_and_too_many_keys_have_one() -> None:
    due: list[Any] = []
    repeats = Repeats(at_once=2, most_keys=3, later=lambda _seconds, call: due.append(call))
    told: list[tuple[str, int]] = []
    for name in ("a", "b", "c", "d", "e"):
        for _ in range(4):
            repeats.note(name, lambda count, name=name: told.append((name, count)))
    assert told == [(name, 1) for name in "aabbccdd"]
    for call in list(due):
        call()
    assert told[8:] == [("a", 2), ("b", 2), ("c", 2), ("e", 6)]


def test_the_line_of_the_count_has_the_context_of_the_last_it_stands_for() -> None:
    due: list[Any] = []
    repeats = Repeats(at_once=1, later=lambda _seconds, call: due.append(call))
    seen: list[tuple[Any, int]] = []
    for number in range(3):
        with logs.bind(request_id=str(number)):
            repeats.note("key", lambda count: seen.append((logs.bound()["request_id"], count)))
    due.pop()()
    assert seen == [("0", 1), ("2", 2)]
    due.pop()()
    assert not due, "nothing came, so nothing is kept"
