"""A server serves all four kinds of method, checks requests, tells its health, and says clearly why it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.request
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.config import CommonConfig, ConfigError
from trunkline_runtime.errors import Aborted, InvalidArgument, ResourceExhausted, from_rpc_error
from trunkline_runtime.identity.callers import Caller, CallerKind
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import logs, metrics, tracing
from trunkline_runtime.rpc.call import current_rpc
from trunkline_runtime.rpc.crowds import Crowds
from trunkline_runtime.rpc.health import Health
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.testing import KEY_FOLDER

C = grpc.StatusCode
SERVICE = "trunkline.test.v1.EchoService"
NAME = "tenants/acme/calls/abc"
KINDS = ["One", "Many", "Written", "Gather", "Chat"]


def request(name: str = NAME) -> Any:
    return call_service_pb2.GetCallRequest(name=name)


async def answers(suite: Any, method: str, requests: list[Any] | None = None, **kwargs: Any) -> list[str]:
    """Call any kind of method and return the names that came back."""
    requests = requests or [request()]
    streaming = method in ("Gather", "Chat")
    call = suite.method(method)(iter(requests) if streaming else requests[0], timeout=5, **kwargs)
    if method in ("One", "Gather"):
        return [(await call).name]
    return [answer.name async for answer in call]


async def test_every_kind_of_method_answers(suite: Any) -> None:
    two = [request(), request("tenants/acme/calls/def")]
    assert await answers(suite, "One") == [NAME]
    assert await answers(suite, "Many") == [f"{NAME}-{i}" for i in range(3)]
    assert await answers(suite, "Written") == [f"{NAME}-{i}" for i in range(3)]
    assert await answers(suite, "Gather", two) == [f"{NAME},tenants/acme/calls/def"]
    assert await answers(suite, "Chat", two) == [NAME, "tenants/acme/calls/def"]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_method_refuses_a_request_that_breaks_a_rule(suite: Any, kind: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await answers(suite, kind, [request("tenants/acme/calls/NOT!")])
    error = from_rpc_error(raised.value)
    assert isinstance(error, InvalidArgument)
    assert [field for field, _ in error.violations] == ["name"]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_method_counts_and_reports_what_it_raises(suite: Any, kind: str) -> None:
    async def fail_once(_request: Any, _context: Any) -> Any:
        raise Aborted("changed meanwhile", reason="ETAG_MISMATCH")

    async def fail_after_one(_request: Any, _context: Any) -> Any:
        yield call_pb2.Call(name="first")
        raise Aborted("changed meanwhile", reason="ETAG_MISMATCH")

    suite.handlers[kind] = fail_after_one if kind in ("Many", "Chat") else fail_once
    before = count(kind, "ABORTED")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await answers(suite, kind)
    assert from_rpc_error(raised.value).reason == "ETAG_MISMATCH"
    async with asyncio.timeout(5):  # the answer may be here before it is counted
        while count(kind, "ABORTED") != before + 1:
            await asyncio.sleep(0.01)


def count(method: str, code: str) -> float:
    return (
        REGISTRY.get_sample_value(
            "trunkline_rpc_server_calls_total", {"method": f"/{SERVICE}/{method}", "code": code}
        )
        or 0.0
    )


async def test_a_code_that_a_handler_sets_is_the_code_that_is_counted(suite: Any) -> None:
    async def set_code(_request: Any, context: Any) -> Any:
        context.set_code(C.OUT_OF_RANGE)
        return call_pb2.Call()

    suite.handlers["One"] = set_code
    before = count("One", "OUT_OF_RANGE")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await suite.call()
    assert raised.value.code() is C.OUT_OF_RANGE
    assert count("One", "OUT_OF_RANGE") == before + 1


async def test_a_client_that_leaves_ends_the_handler_and_its_generator(suite: Any) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def for_ever(_request: Any, _context: Any) -> Any:
        try:
            while True:
                yield call_pb2.Call(name="x")
                began.set()
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    suite.handlers["Many"] = for_ever
    before = count("Many", "CANCELLED")
    call = suite.method("Many")(request(), timeout=30)
    assert (await call.read()).name == "x"
    await began.wait()
    call.cancel()
    async with asyncio.timeout(5):
        await ended.wait()
        while count("Many", "CANCELLED") == before:
            await asyncio.sleep(0.01)


async def test_a_client_that_leaves_while_a_message_is_on_its_way_is_no_failure(suite: Any) -> None:
    """Else whoever hangs up on a download has the service report an error of its own."""

    async def large(_request: Any, _context: Any) -> Any:
        while True:
            yield call_pb2.Call(name="x" * 262_144)

    suite.handlers["Many"] = large
    internal, cancelled = count("Many", "INTERNAL"), count("Many", "CANCELLED")
    for _ in range(20):
        call = suite.method("Many")(request(), timeout=30)
        await call.read()
        await asyncio.sleep(0.02)
        call.cancel()
    async with asyncio.timeout(20):
        while count("Many", "CANCELLED") + count("Many", "INTERNAL") < cancelled + internal + 20:
            await asyncio.sleep(0.01)
    assert count("Many", "INTERNAL") == internal


async def test_a_client_that_leaves_before_it_is_refused_is_no_failure(
    suite: Any, caplog: pytest.LogCaptureFixture
) -> None:
    began = asyncio.Event()

    async def refuse_late(_request: Any, _context: Any) -> Any:
        began.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise Aborted("changed meanwhile", reason="ETAG_MISMATCH") from None

    suite.handlers["One"] = refuse_late
    before = count("One", "ABORTED")
    waiting = asyncio.ensure_future(suite.call())
    await began.wait()
    waiting.cancel()
    async with asyncio.timeout(5):
        while count("One", "ABORTED") == before:
            await asyncio.sleep(0.01)
    assert [one for one in caplog.records if one.name.startswith("grpc")] == []


def test_tenants_that_hold_what_they_may_leave_room_to_others() -> None:
    crowds = Crowds(4, 8)
    callers = {name: Caller(CallerKind.API_KEY, tenant=name) for name in ("one", "two", "three", "four")}
    with contextlib.ExitStack() as stack:
        for tenant, most in (("one", 4), ("two", 2), ("three", 1), ("four", 1)):
            for _ in range(most):
                stack.enter_context(crowds.of_tenant(callers[tenant]))
            with pytest.raises(ResourceExhausted):
                stack.enter_context(crowds.of_tenant(callers[tenant]))
    with crowds.of_tenant(callers["one"]):
        pass


async def test_a_request_id_is_kept_or_made_and_comes_back_with_an_error(suite: Any) -> None:
    seen: list[str] = []

    async def fail(_request: Any, _context: Any) -> Any:
        seen.append(current_rpc().request_id)  # type: ignore[union-attr]
        raise Aborted("x")

    suite.handlers["One"] = fail
    for wanted in ("my-id.1", None, "bad id with spaces", "x" * 65):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await suite.call(metadata=(("x-request-id", wanted),) if wanted else ())
        details = dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
        assert seen[-1].encode() in details
    assert seen[0] == "my-id.1"
    assert all(len(i) == 16 for i in seen[1:])


async def test_log_lines_of_a_handler_carry_who_and_what(suite: Any) -> None:
    bound: list[dict[str, Any]] = []

    async def note(_request: Any, _context: Any) -> Any:
        bound.append(logs.bound() | {"trace_id": tracing.trace_id()})
        return call_pb2.Call()

    suite.handlers["One"] = note
    await suite.call(metadata=(("x-request-id", "r1"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")))
    assert bound == [
        {
            "request_id": "r1",
            "trace_id": "a" * 32,
            "method": f"/{SERVICE}/One",
            "caller": "service:gateway",
            "tenant": "acme",
        }
    ]
    assert logs.bound() == {}


async def test_a_bug_is_logged_with_its_trace_and_a_refusal_without(suite: Any) -> None:
    async def bug(_request: Any, _context: Any) -> Any:
        raise KeyError("oops")

    suite.handlers["One"] = bug
    with structlog.testing.capture_logs() as lines:
        for name in (NAME, "tenants/acme/calls/NOT!"):
            with pytest.raises(grpc.aio.AioRpcError):
                await suite.call(name=name)
    by_event = {line["event"]: line for line in lines if line["event"].startswith("rpc_")}
    assert by_event["rpc_failed"]["log_level"] == "error"
    assert isinstance(by_event["rpc_failed"]["exc_info"], KeyError)
    assert by_event["rpc_refused"]["log_level"] == "info"


async def test_a_service_that_cannot_be_reached_is_told_without_its_address(suite: Any) -> None:
    async def relay(_request: Any, _context: Any) -> Any:
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            await channel.unary_unary("/x.Y/Z")(b"", timeout=5)

    suite.handlers["One"] = relay
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await suite.call()
    error = from_rpc_error(raised.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert "127.0.0.1" not in raised.value.details()


async def test_a_method_that_is_not_there_is_unimplemented(suite: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await suite.call("Nothing")
    assert raised.value.code() is C.UNIMPLEMENTED


async def test_further_interceptors_run_after_ours_and_see_every_call(start_suite: Any) -> None:
    seen: list[str] = []

    class Further(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.append(details.method)
            return await continuation(details)

    suite = await start_suite(server={"interceptors": [Further()]})
    for _ in range(3):
        await suite.call()
    assert seen == [f"/{SERVICE}/One"] * 3


# Health and reflection are open, without credentials


async def check(channel: grpc.aio.Channel, service: str = "") -> Any:
    stub = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status


async def test_health_starts_not_serving_and_follows_what_it_depends_on() -> None:
    server = Server(
        CommonConfig(keys=KEY_FOLDER, drain_seconds=0.2),
        service="tenant",
        signer=TokenSigner(KEY_FOLDER, "tenant"),
    )
    there = False
    asked = asyncio.Event()

    async def store() -> bool:
        asked.set()
        if not there:
            raise OSError("not yet")
        return True

    server.health = Health(retry_seconds=0.01, recheck_seconds=0.01)
    set_sources = server.health.depend("sources")
    server.health.depend("store", store)
    assert not server.health.serving
    await server.start()
    serving = health_pb2.HealthCheckResponse.SERVING
    async with grpc.aio.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)
        await asked.wait()
        assert await check(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        set_sources(True)
        assert server.health.missing == ["store"]
        there = True
        assert (await watch.read()).status == serving
        assert await check(channel) == serving
        there = False
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        there = True
        assert (await watch.read()).status == serving
        set_sources(False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        set_sources(True)
        assert (await watch.read()).status == serving
        stopping = asyncio.create_task(server.stop())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        await stopping


def test_a_dependency_can_be_set_before_there_is_a_loop() -> None:
    health = Health()
    set_store = health.depend("store")
    set_store(True)
    assert health.missing == []
    assert not health.serving


async def test_what_it_depends_on_hears_of_the_drain_once() -> None:
    health, told = Health(), []

    async def store() -> bool:
        return True

    health.depend("store", store, at_drain=lambda: told.append(health.serving))
    health.start()
    await asyncio.wait_for(health.wait_serving(), 5)
    assert told == []
    await health.drain()
    await health.drain()  # the gateway's own, and its server's
    assert told == [False]
    await health.close()


async def test_each_service_has_its_own_health_name(suite: Any) -> None:
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        await suite.server.health.wait_serving()
        assert await check(channel, SERVICE) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await check(channel, "nobody.v1.Nothing")
        assert raised.value.code() is C.NOT_FOUND


async def test_what_the_server_can_do_without_is_shown_and_keeps_nothing_from_serving() -> None:
    health, problem = Health(), ["its model is missing"]
    set_store = health.depend("store")
    health.note("engine whisper/1", lambda: problem[0])
    health.start()
    assert health.told() == (False, "not ready: store\nengine whisper/1: its model is missing")
    set_store(True)
    assert (health.serving, health.missing) == (True, [])
    assert health.told() == (True, "ok\nengine whisper/1: its model is missing")
    problem[0] = ""
    assert health.told() == (True, "ok")
    await health.drain()
    assert health.told() == (False, "stopping")
    await health.close()


async def test_reflection_lists_the_services_to_anybody(suite: Any) -> None:
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        names = [
            s.name async for a in stub.ServerReflectionInfo(asked) for s in a.list_services_response.service
        ]
    assert set(names) == {
        SERVICE,
        "google.longrunning.Operations",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


# Starting


async def test_a_port_in_use_is_said_with_the_address_and_the_setting(suite: Any) -> None:
    """Also by another server of ours: SO_REUSEPORT would let both bind and share the calls in silence."""
    config = CommonConfig(keys=KEY_FOLDER, grpc_address=suite.server.address)
    second = Server(config, service="audio", signer=TokenSigner(KEY_FOLDER, "audio"))
    with pytest.raises(ConfigError) as error:
        await second.start()
    assert suite.server.address in str(error.value)
    assert "TRUNKLINE_AUDIO_GRPC_ADDRESS" in str(error.value)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", ":50051", "127.0.0.1:x", "127.0.0.1:70000"])
async def test_an_address_that_is_none_is_said_so(address: str) -> None:
    server = Server(
        CommonConfig(keys=KEY_FOLDER, grpc_address=address),
        service="ai",
        signer=TokenSigner(KEY_FOLDER, "ai"),
    )
    with pytest.raises(ConfigError, match="TRUNKLINE_AI_GRPC_ADDRESS must be host:port"):
        await server.start()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_metrics_are_served_over_http_and_a_second_server_serves_without(start_suite: Any) -> None:
    address = f"127.0.0.1:{free_port()}"
    suite = await start_suite(metrics_address=address)
    await suite.call()
    text = await asyncio.to_thread(
        lambda: urllib.request.urlopen(f"http://{address}/metrics", timeout=5).read().decode()
    )
    assert f'trunkline_rpc_server_calls_total{{code="OK",method="/{SERVICE}/One"}}' in text
    assert f'trunkline_rpc_server_seconds_bucket{{le="0.001",method="/{SERVICE}/One"}}' in text
    config = CommonConfig(keys=KEY_FOLDER, metrics_address=address)
    second = Server(config, service="ai", signer=TokenSigner(KEY_FOLDER, "ai"))
    with structlog.testing.capture_logs() as lines:
        await second.start()
    (line,) = (line for line in lines if line["event"] == "metrics_not_served")
    assert (line["address"], line["setting"]) == (address, "TRUNKLINE_AI_METRICS_ADDRESS")
    async with grpc.aio.insecure_channel(second.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await second.stop(0)
    await suite.server.stop(0)
    with pytest.raises(OSError):  # noqa: PT011 -- refused, reset or closed, by platform
        await asyncio.to_thread(urllib.request.urlopen, f"http://{address}/metrics", timeout=5)


async def test_a_start_that_fails_leaves_nothing_open(suite: Any) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = CommonConfig(keys=KEY_FOLDER, grpc_address=suite.server.address, metrics_address=address)
    with pytest.raises(ConfigError):
        await Server(config, service="ai", signer=TokenSigner(KEY_FOLDER, "ai")).start()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", int(address.rpartition(":")[2])))


async def test_stopping_twice_is_stopping_once(suite: Any) -> None:
    await suite.server.stop(0)
    await suite.server.stop(0)
    assert suite.server.stopping.is_set()


def test_a_metric_is_made_once() -> None:
    one = metrics.counter("trunkline_test_things_total", "Things", ["kind"])
    assert metrics.counter("trunkline_test_things_total", "Things", ["kind"]) is one
    assert metrics.gauge("trunkline_test_level", "Level") is metrics.gauge("trunkline_test_level", "Level")
