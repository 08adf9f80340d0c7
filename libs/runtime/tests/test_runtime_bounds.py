"""A gRPC server asks who calls before it reads what they send, and takes no more than it needs."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.errors import from_rpc_error
from trunkline_runtime.identity import access
from trunkline_runtime.identity.access.rules import MOST_MESSAGE_BYTES, MOST_REQUEST_BYTES

SERVICE = "trunkline.test.v1.EchoService"
ANY = [("grpc.max_send_message_length", -1)]


async def raw(suite: Any, method: str, body: Any, token: str = "", **options: Any) -> grpc.aio.AioRpcError:
    """Call with bytes as a stranger does, and return the refusal."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    async with grpc.aio.insecure_channel(suite.server.address, options=ANY) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(body, metadata=metadata, timeout=20, **options)
        return raised.value


@pytest.fixture
async def large(start_suite: Any) -> Any:
    rules = {
        f"/{SERVICE}/One": access.Rule(None, operators=True),
        f"/{SERVICE}/Many": access.Rule(None, large=True),
    }
    return await start_suite(server={"rules": rules})


async def test_a_stranger_is_refused_before_a_large_message_is_read(large: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = await raw(large, "Many", bytes(MOST_MESSAGE_BYTES - 100))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    error = await raw(large, "Many", bytes(MOST_MESSAGE_BYTES - 100), token="tl_wrong")
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    # The client's own copies are in this process too: with the server's it would be twice as much.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2.5 * MOST_MESSAGE_BYTES / 1024


async def test_only_methods_that_need_it_take_large_messages(large: Any) -> None:
    error = await raw(large, "One", bytes(MOST_REQUEST_BYTES + 1), token="tl_operator")
    assert from_rpc_error(error).reason == "REQUEST_TOO_LARGE"
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_without_such_a_method_grpc_itself_takes_none(suite: Any) -> None:
    error = await raw(suite, "One", bytes(MOST_REQUEST_BYTES + 1), token="tl_viewer")
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_table_says_which_methods_take_large_messages() -> None:
    assert [method for method, rule in access.TABLE.items() if rule.large] == [
        "/trunkline.ai.v1.AnalysisService/AnalyzeCall"
    ]


async def test_bytes_that_are_no_message_are_the_callers_mistake(suite: Any) -> None:
    error = await raw(suite, "One", b"\xff\xff\xff", token="tl_viewer")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(error).reason == "BAD_MESSAGE"


async def test_a_name_of_megabytes_is_refused_as_one(suite: Any) -> None:
    body = call_service_pb2.GetCallRequest(name="tenants/acme/calls/" + "a" * 3_000_000).SerializeToString()
    error = await raw(suite, "One", body, token="tl_viewer")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_metadata_has_a_bound(suite: Any) -> None:
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/One")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(b"", metadata=(("x-more", "a" * 20_000),), timeout=5)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_calls_and_connections_have_bounds(start_suite: Any) -> None:
    suite = await start_suite(grpc_calls=16, grpc_connections=4)
    gate, entered = asyncio.Event(), 0

    async def waits(request: Any, context: Any) -> Any:
        nonlocal entered
        entered += 1
        await gate.wait()
        return suite.handlers["Done"](request, context)

    suite.handlers["One"] = waits
    suite.handlers["Done"] = lambda request, _context: request
    calls = [asyncio.ensure_future(suite.call()) for _ in range(16)]
    async with asyncio.timeout(20):
        while entered < 16:
            await asyncio.sleep(0.01)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await suite.call(timeout=5)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    gate.set()
    await asyncio.gather(*calls, return_exceptions=True)

    host, _, port = suite.server.address.rpartition(":")
    open_ones = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
    settings = await asyncio.gather(
        *(asyncio.wait_for(reader.read(9), 5) for reader, _ in open_ones), return_exceptions=True
    )
    assert sum(answer == b"" or isinstance(answer, Exception) for answer in settings) >= 4
    for _, writer in open_ones:
        writer.close()


_CHECK = "/grpc.health.v1.Health/Check"
_DESCRIBE = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_NO_TEXT = b"\x0a\x02\xff\xfe"
_LONG_NAME = b"\x0a\x80\x80\x40" + b"a" * (1 << 20)


@pytest.mark.parametrize("method", [_CHECK, "/grpc.health.v1.Health/Watch", _DESCRIBE])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (_NO_TEXT, grpc.StatusCode.INVALID_ARGUMENT),
        (_LONG_NAME, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_what_anybody_may_call_refuses_what_is_no_small_message(
    suite: Any, method: str, body: bytes, code: grpc.StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    async with grpc.aio.insecure_channel(suite.server.address, options=ANY) as channel:
        call = channel.unary_stream(method)(body, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    assert raised.value.code() is code
    assert len(raised.value.details() or "") < 200
    assert "Traceback" not in caplog.text


async def test_a_stream_of_reflection_ends_after_so_many_messages(suite: Any) -> None:
    list_services = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()

    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        call = channel.stream_stream(_DESCRIBE)(timeout=60)
        for _ in range(1_000):
            await call.write(list_services)
            assert await call.read() is not grpc.aio.EOF
        await call.write(list_services)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    assert from_rpc_error(raised.value).reason == "STREAM_TOO_LONG"


async def test_reflection_finds_a_method(suite: Any) -> None:
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        call = channel.stream_stream(_DESCRIBE)(timeout=60)
        for symbol, found in (
            ("grpc.health.v1.Health", True),
            ("grpc.health.v1.Health.Check", True),
            ("grpc.health.v1.Health.Chuck", False),
            ("grpc.health.v1.Wealth.Check", False),
        ):
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
            await call.write(request.SerializeToString())
            answer = reflection_pb2.ServerReflectionResponse.FromString(await call.read())
            assert answer.HasField("file_descriptor_response") is found, symbol


async def test_a_stream_of_reflection_that_is_silent_ends(start_suite: Any) -> None:
    suite = await start_suite(server={"open_seconds": 0.3})
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        call = channel.stream_stream(_DESCRIBE)(timeout=30)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert from_rpc_error(raised.value).reason == "STREAM_TOO_LONG"
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30)
        assert await watch.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watch.read()
    assert from_rpc_error(raised.value).reason == "STREAM_TOO_LONG"


async def test_watches_of_one_address_leave_the_calls_of_others(suite: Any) -> None:
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        watches = [watch(b"", timeout=30) for _ in range(64)]
        for one in watches:
            assert await one.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watch(b"", timeout=10).read()
        assert from_rpc_error(raised.value).reason == "CALLS_AT_ONCE"
        # A probe from the same address, such as that of a proxy, is answered.
        assert await channel.unary_unary(_CHECK)(b"", timeout=10)

        watches.pop().cancel()
        for _ in range(50):
            with contextlib.suppress(grpc.aio.AioRpcError):
                watches.append(again := watch(b"", timeout=30))
                assert await again.read()
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("a watch that ended keeps its place")
        for one in watches:
            one.cancel()


async def test_calls_of_one_tenant_leave_those_of_others(start_suite: Any) -> None:
    suite = await start_suite(grpc_calls_per_tenant=3)
    gate = asyncio.Event()
    entered = []

    async def waits(request: Any, _context: Any) -> Any:
        entered.append(request.name)
        await gate.wait()
        return call_pb2.Call(name=request.name)

    suite.handlers["One"] = waits

    async def ask(channel: Any, token: str, tenant: str) -> Any:
        body = call_service_pb2.GetCallRequest(name=f"tenants/{tenant}/calls/abc").SerializeToString()
        metadata = (("authorization", f"Bearer {token}"),)
        return await channel.unary_unary(f"/{SERVICE}/One")(body, metadata=metadata, timeout=20)

    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        calls = [
            asyncio.create_task(ask(channel, key, "acme")) for key in ("tl_viewer", "tl_viewer", "tl_admin")
        ]
        while len(entered) < 3:
            await asyncio.sleep(0.01)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel, "tl_viewer", "acme")
        assert from_rpc_error(raised.value).reason == "CALLS_AT_ONCE"
        calls.append(asyncio.create_task(ask(channel, "tl_other", "other")))
        while len(entered) < 4:
            await asyncio.sleep(0.01)
        gate.set()
        await asyncio.gather(*calls)
        await ask(channel, "tl_viewer", "acme")
