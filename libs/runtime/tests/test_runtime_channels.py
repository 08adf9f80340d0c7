"""Every call that a service makes has a deadline, an identity, an id, a place in the trace, and retries that fit."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import REGISTRY
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.errors import Unavailable, from_rpc_error
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import tracing
from trunkline_runtime.rpc.call import current_rpc
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.client_interceptors import DEADLINE_SECONDS, STREAM_DEADLINE_SECONDS
from trunkline_runtime.testing import KEY_FOLDER

C = grpc.StatusCode
METHOD = "/trunkline.test.v1.EchoService/{}"
REQUEST = call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc")


def count(method: str, code: str) -> float:
    labels = {"method": METHOD.format(method), "code": code}
    return REGISTRY.get_sample_value("trunkline_rpc_client_calls_total", labels) or 0.0


async def test_a_call_without_a_deadline_gets_one(suite: Any) -> None:
    remaining: list[float] = []

    async def note(_request: Any, context: Any) -> Any:
        remaining.append(context.time_remaining())
        return call_pb2.Call()

    async def note_stream(_request: Any, context: Any) -> Any:
        remaining.append(context.time_remaining())
        yield call_pb2.Call()

    suite.handlers |= {"One": note, "Many": note_stream}
    await suite.call()
    await suite.call(timeout=3)
    assert [a async for a in suite.method("Many")(REQUEST)]
    assert DEADLINE_SECONDS - 2 < remaining[0] < DEADLINE_SECONDS + 0.1
    # The wire rounds a deadline up a little.
    assert 1 < remaining[1] < 3.1
    assert STREAM_DEADLINE_SECONDS - 2 < remaining[2] < STREAM_DEADLINE_SECONDS + 1


async def test_a_call_made_while_serving_has_no_more_time_than_the_caller_waits_and_keeps_id_and_trace(
    start_suite: Any,
) -> None:
    suite = await start_suite()
    seen: dict[str, Any] = {}

    async def inner(_request: Any, context: Any) -> Any:
        rpc = current_rpc()
        assert rpc is not None
        seen["inner"] = (context.time_remaining(), rpc.request_id, tracing.trace_id())
        return call_pb2.Call()

    async def outer(_request: Any, _context: Any) -> Any:
        rpc = current_rpc()
        assert rpc is not None
        seen["outer"] = (None, rpc.request_id, tracing.trace_id())
        return await suite.call("Admin")

    suite.handlers |= {"One": outer, "Admin": inner}
    await suite.call(timeout=2)
    assert seen["inner"][0] < 2.1
    assert seen["inner"][1:] == seen["outer"][1:]
    assert len(seen["outer"][2]) == 32


async def test_a_deadline_that_passes_is_a_domain_error_and_is_counted(suite: Any) -> None:
    async def slow(_request: Any, _context: Any) -> Any:
        await asyncio.Event().wait()

    suite.handlers["One"] = slow
    before = count("One", "DEADLINE_EXCEEDED")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await suite.call(timeout=0.1)
    assert from_rpc_error(raised.value).transient
    assert count("One", "DEADLINE_EXCEEDED") == before + 1


async def test_giving_a_call_up_cancels_it_on_the_server(suite: Any) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(_request: Any, _context: Any) -> Any:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    suite.handlers["One"] = slow
    before = count("One", "CANCELLED")
    task = asyncio.create_task(suite.call())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await ended.wait()
    assert count("One", "CANCELLED") == before + 1


async def test_streams_are_counted_when_they_end(suite: Any) -> None:
    before = {m: count(m, "OK") for m in ("Many", "Gather", "Chat")}
    assert len([a async for a in suite.method("Many")(REQUEST)]) == 3
    assert (await suite.method("Gather")(iter([REQUEST, REQUEST]))).name
    assert len([a async for a in suite.method("Chat")(iter([REQUEST, REQUEST]))]) == 2
    async with asyncio.timeout(5):
        while any(count(m, "OK") != n + 1 for m, n in before.items()):
            await asyncio.sleep(0.01)


async def test_what_a_handler_says_is_unavailable_is_not_repeated_by_the_channel(suite: Any) -> None:
    calls = 0

    async def not_ready(_request: Any, _context: Any) -> Any:
        nonlocal calls
        calls += 1
        raise Unavailable("the provider does not have it yet", reason="RECORDING_NOT_READY", retry_after=60)

    suite.handlers["One"] = not_ready
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await suite.call()
    assert from_rpc_error(raised.value).retry_after == 60
    assert calls == 1


async def test_what_the_transport_says_is_unavailable_is_repeated(suite: Any) -> None:
    calls = 0

    async def lost_twice(_request: Any, context: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < 3:
            # Without our status in the trailers, as a proxy or a lost connection says it.
            await context.abort(C.UNAVAILABLE, "connection lost")
        return call_pb2.Call(name="third time")

    suite.handlers["One"] = lost_twice
    assert (await suite.call()).name == "third time"
    assert calls == 3


async def test_a_peer_that_is_not_there_is_unavailable_soon(start_suite: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    channels = Channels(TokenSigner(KEY_FOLDER, "gateway"))
    suite = await start_suite()
    async with asyncio.timeout(8):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await suite.method("One", channels.get(address))(REQUEST)
    error = from_rpc_error(raised.value)
    assert isinstance(error, Unavailable)
    assert error.transient
    await channels.close()


async def test_a_channel_heals_when_its_peer_comes_back(start_suite: Any) -> None:
    suite = await start_suite()
    address = suite.server.address
    channel = suite.channel()
    await suite.method("One", channel)(REQUEST)
    await suite.server.stop(0)
    with pytest.raises(grpc.aio.AioRpcError):
        await suite.method("One", channel)(REQUEST, timeout=2)
    again = await start_suite(grpc_address=address)
    assert again.server.address == address
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert (await suite.method("One", channel)(REQUEST, timeout=2)).name == REQUEST.name
                break
            await asyncio.sleep(0.05)


async def test_old_connections_are_left_for_new_ones_without_a_failed_call(start_suite: Any) -> None:
    """max_connection_age sends clients to new replicas; calls in between must not notice."""
    suite = await start_suite(max_connection_age_seconds=1.0, max_connection_age_grace_seconds=5.0)
    peers: set[str] = set()

    async def note(_request: Any, context: Any) -> Any:
        peers.add(context.peer())
        return call_pb2.Call()

    suite.handlers["One"] = note
    async with asyncio.timeout(10):
        while len(peers) < 3:
            await suite.call()
            await asyncio.sleep(0.005)


async def test_a_stream_that_may_take_long_is_not_ended_with_its_connections_age(start_suite: Any) -> None:
    suite = await start_suite(
        max_connection_age_seconds=0.1, max_connection_age_grace_seconds=0.1, server={"stream_seconds": 60.0}
    )
    peers: set[str] = set()
    aged = asyncio.Event()

    async def note(_request: Any, context: Any) -> Any:
        peers.add(context.peer())
        return call_pb2.Call()

    async def slow(request: Any, _context: Any) -> AsyncIterator[Any]:
        yield call_pb2.Call(name="first")
        await aged.wait()
        yield call_pb2.Call(name="last")

    suite.handlers |= {"One": note, "Many": slow}
    stream = suite.method("Many")(REQUEST)
    assert (await stream.read()).name == "first"
    async with asyncio.timeout(20):
        while len(peers) < 4:  # so many connections have been old since
            await suite.call()
            await asyncio.sleep(0.02)
    aged.set()
    assert (await stream.read()).name == "last"


async def test_a_channel_is_opened_once_per_address() -> None:
    channels = Channels(TokenSigner(KEY_FOLDER, "gateway"))
    one = channels.get("127.0.0.1:1")
    assert channels.get("127.0.0.1:1") is one
    assert channels.get("127.0.0.1:2") is not one
    await channels.close()
    await channels.close()


async def test_a_slow_reader_of_bytes_holds_little_of_them(start_suite: Any) -> None:
    """Five hundred who read a kilobyte a second would otherwise fill the memory of the process between."""
    suite = await start_suite()
    sent: dict[str, int] = {}

    async def pieces(request: Any, _context: Any) -> Any:
        for _ in range(200):
            sent[request.name] = sent.get(request.name, 0) + 1
            yield call_pb2.Call(name="x" * 262_144)

    suite.handlers["Many"] = pieces
    suite.channel()

    async def begun(name: str, *, bulk: bool) -> Any:
        channel = suite.channels.get(suite.server.address, bulk=bulk)
        call = suite.method("Many", channel)(call_service_pb2.GetCallRequest(name=name))
        await call.read()
        return call

    plain = await begun("tenants/acme/calls/plain", bulk=False)
    async with asyncio.timeout(20):
        while sent["tenants/acme/calls/plain"] <= 6:
            await asyncio.sleep(0.01)
    bulk = await begun("tenants/acme/calls/bulk", bulk=True)
    before = -1
    while before != sent["tenants/acme/calls/bulk"]:  # until nothing has moved for a while
        before = sent["tenants/acme/calls/bulk"]
        await asyncio.sleep(0.3)
    assert before <= 6
    for call in (plain, bulk):
        call.cancel()
