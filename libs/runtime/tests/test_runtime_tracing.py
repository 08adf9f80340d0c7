"""The trace goes through every call; with an exporter each call has its spans, without one nothing is loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.errors import Aborted
from trunkline_runtime.observe import exporting, tracing
from trunkline_runtime.observe.otel import NowAndThen, OtelExporter
from trunkline_runtime.observe.sampling import Sampling

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
ONE = "trunkline.test.v1.EchoService/One"
ONE_EDGE = "/edge/Ask"


@pytest.fixture
def spans() -> Iterator[Any]:
    """Export to memory; calling it gives what was exported."""
    memory = InMemorySpanExporter()
    exporter = OtelExporter("tenant", "", exporter=memory)
    end = tracing.export(exporter)

    def finished() -> list[Any]:
        exporter._provider.force_flush()
        return list(memory.get_finished_spans())

    yield finished
    end()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "garbage",
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"00-{'A' * 32}-{'b' * 16}-01",
        PARENT + "-x",
    ],
)
def test_a_header_that_says_no_place_is_none(header: str | None) -> None:
    assert tracing.incoming(header) is None


def test_a_header_is_read_and_written_the_same() -> None:
    place = tracing.incoming(PARENT)
    assert place is not None
    assert place.traceparent == PARENT
    assert tracing.incoming(tracing.new_trace().traceparent) is not None


async def test_without_an_exporter_the_callers_trace_goes_on(suite: Any) -> None:
    seen: list[str] = []

    async def note(_request: Any, _context: Any) -> Any:
        with tracing.span("work", size=1) as span:
            assert span is None
        seen.append(tracing.trace_id())
        return call_pb2.Call()

    suite.handlers["One"] = note
    await suite.call(metadata=(("traceparent", PARENT),))
    await suite.call()
    assert seen[0] == "a" * 32
    assert len(seen[1]) == 32
    assert seen[1] != seen[0]


async def test_client_server_and_own_spans_are_one_tree(suite: Any, spans: Any) -> None:
    async def work(_request: Any, _context: Any) -> Any:
        with tracing.span("store.read", rows=3):
            pass
        return call_pb2.Call()

    suite.handlers["One"] = work
    with tracing.edge_span(ONE_EDGE, None, "test"):
        await suite.call()
    found = spans()
    (edge,) = [span for span in found if span.name == ONE_EDGE[1:]]
    by_kind = {span.kind: span for span in found if span is not edge}
    client, server, own = (by_kind[k] for k in (SpanKind.CLIENT, SpanKind.SERVER, SpanKind.INTERNAL))
    assert len({span.context.trace_id for span in by_kind.values()}) == 1
    assert edge.parent is None
    assert client.parent.span_id == edge.context.span_id
    assert server.parent.span_id == client.context.span_id
    assert own.parent.span_id == server.context.span_id
    assert (server.name, own.name, own.attributes["rows"]) == (ONE, "store.read", 3)
    assert server.status.status_code is StatusCode.UNSET
    assert server.resource.attributes["service.name"] == "trunkline-tenant"


@pytest.mark.parametrize("kind", ["One", "Many"])
async def test_an_error_that_became_a_status_is_an_error_in_the_span_without_its_message(
    suite: Any, spans: Any, kind: str
) -> None:
    async def fail(_request: Any, _context: Any) -> Any:
        raise Aborted("caller +14155554559 said hello")

    async def fail_stream(_request: Any, _context: Any) -> Any:
        yield call_pb2.Call()
        raise Aborted("caller +14155554559 said hello")

    suite.handlers |= {"One": fail, "Many": fail_stream}
    request = call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc")
    method = suite.method(kind)

    async def ask() -> Any:
        if kind == "One":
            return await method(request, timeout=5)
        return [answer async for answer in method(request, timeout=5)]

    with pytest.raises(grpc.aio.AioRpcError) as raised, tracing.edge_span(ONE_EDGE, None, "test"):
        await ask()
    assert raised.value.code() is grpc.StatusCode.ABORTED
    client = [s for s in spans() if s.kind is SpanKind.CLIENT]
    assert [s.status.description for s in client] == (["ABORTED"] if kind == "One" else [])
    servers: list[Any] = []
    async with asyncio.timeout(10):
        while not servers:  # its span ends once the status was sent
            await asyncio.sleep(0.01)
            servers = [s for s in spans() if s.kind is SpanKind.SERVER and s.name != ONE_EDGE[1:]]
    server = servers[0]
    assert server.status.status_code is StatusCode.ERROR
    assert server.status.description == "ABORTED"
    assert server.attributes["rpc.grpc.status"] == "ABORTED"
    assert "4155554559" not in server.to_json()


def test_an_exception_passes_through_a_span_and_marks_it_by_its_type_only(spans: Any) -> None:
    with (
        pytest.raises(ValueError, match="secret"),
        tracing.edge_span(ONE_EDGE, None, "test"),
        tracing.span("work"),
    ):
        raise ValueError("secret")
    span = next(span for span in spans() if span.name == "work")
    assert span.status.status_code is StatusCode.ERROR
    assert "secret" not in span.to_json()


def is_exporting() -> bool:
    with tracing.edge_span(ONE_EDGE, None, "test") as span:
        return span is not None


KEY = (("authorization", "Bearer tl_viewer"), ("traceparent", PARENT))


def keyed(suite: Any) -> Any:
    return suite.method("One", grpc.aio.insecure_channel(suite.server.address))


async def test_who_holds_a_key_joins_no_trace_of_the_suite_and_its_own_is_linked(
    suite: Any, spans: Any
) -> None:
    seen: list[str] = []

    async def note(_request: Any, _context: Any) -> Any:
        seen.append(tracing.trace_id())
        return call_pb2.Call()

    suite.handlers["One"] = note
    request = call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc")
    await keyed(suite)(request, metadata=KEY, timeout=5)
    (span,) = spans()
    assert seen == [f"{span.context.trace_id:032x}"]
    assert seen != ["a" * 32]
    assert [f"{link.context.trace_id:032x}" for link in span.links] == ["a" * 32]


@pytest.mark.parametrize("authorization", ["", "Bearer tl_nobody", "Bearer eyJhbGciOiJub25lIn0.e30."])
async def test_of_a_stranger_nothing_is_exported(suite: Any, spans: Any, authorization: str) -> None:
    metadata = [("traceparent", PARENT)] + ([("authorization", authorization)] if authorization else [])
    request = call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await keyed(suite)(request, metadata=metadata, timeout=5)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert spans() == []


async def test_a_service_that_is_in_no_trace_begins_none_and_one_that_is_not_sampled_goes_on_so(
    suite: Any, spans: Any
) -> None:
    seen: list[tuple[str, bool]] = []

    async def note(_request: Any, _context: Any) -> Any:
        place = tracing.current()
        assert place is not None
        seen.append((place.trace_id, place.sampled))
        return call_pb2.Call()

    suite.handlers["One"] = note
    await suite.call()
    await suite.call(metadata=(("traceparent", PARENT[:-1] + "0"),))
    assert [sampled for _, sampled in seen] == [False, False]
    assert seen[1][0] == "a" * 32
    assert spans() == []


def test_a_span_that_was_recorded_has_the_ids_that_were_decided_before(spans: Any) -> None:
    first = tracing.TraceContext("c" * 32, "d" * 16, "01")
    linked = tracing.incoming(PARENT)
    tracing.record("received", "server", (10, 30), {"tenant": "acme"}, itself=first, linked=linked)
    with tracing.resumed_span("work", first):
        assert tracing.exemplar() == {"trace_id": "c" * 32}
    again = tracing.TraceContext("e" * 32, "f" * 16, "01")
    with tracing.resumed_span("again", again, first):
        pass
    received, work, repeated = spans()
    assert (received.start_time, received.end_time, received.parent) == (10, 30, None)
    assert (received.context.trace_id, received.context.span_id) == (int("c" * 32, 16), int("d" * 16, 16))
    assert work.parent.span_id == received.context.span_id
    assert (repeated.parent, repeated.context.trace_id) == (None, int("e" * 32, 16))
    assert [link.context.trace_id for link in repeated.links] == [received.context.trace_id]


def test_without_an_exporter_nothing_is_sampled_and_work_goes_on_in_its_trace() -> None:
    assert not tracing.samples("test")
    place = tracing.TraceContext("c" * 32, "d" * 16, "01")
    with tracing.resumed_span("work", place) as span:
        assert span is None
        assert tracing.trace_id() == "c" * 32
    assert tracing.current() is None
    tracing.record("received", "server", (10, 30), {}, itself=place)


def test_of_each_edge_so_many_traces_a_second_are_sampled() -> None:
    now = [1.5]
    sampling = Sampling(1.0, 2, clock=lambda: now[0])
    assert [sampling.takes("hooks") for _ in range(4)] == [True, True, False, False]
    assert sampling.takes("api"), "another edge has its own"
    now[0] = 2.0
    assert sampling.takes("hooks")


def test_a_share_is_sampled() -> None:
    draws = iter([0.0, 0.24, 0.25, 0.9])
    sampling = Sampling(0.25, 100, clock=lambda: 1.0, draw=lambda: next(draws))
    assert [sampling.takes("hooks") for _ in range(4)] == [True, True, False, False]
    assert not Sampling(0.0).takes("hooks")


@pytest.mark.parametrize("endpoint", [None, ""])
def test_configuring_without_an_endpoint_exports_nothing(endpoint: str | None) -> None:
    end = exporting.configure("tenant", endpoint)
    assert not is_exporting()
    end()


def test_configuring_with_an_endpoint_exports_until_it_is_ended() -> None:
    end = exporting.configure("tenant", "http://127.0.0.1:1")
    assert is_exporting()
    end()
    assert not is_exporting()


def test_what_a_collector_does_not_take_is_counted() -> None:
    class Away(InMemorySpanExporter):
        """No collector."""

        def export(self, spans: Any) -> Any:
            super().export(spans)
            return SpanExportResult.FAILURE

    lost = REGISTRY.get_sample_value("trunkline_spans_lost_total") or 0.0
    away = Away()
    end = tracing.export(OtelExporter("tenant", "", exporter=away))
    with tracing.edge_span(ONE_EDGE, None, "rpc"):
        pass
    end()
    assert len(away.get_finished_spans()) == 1
    assert REGISTRY.get_sample_value("trunkline_spans_lost_total") == lost + 1


def test_a_collector_that_is_away_is_said_now_and_then() -> None:
    now = [0.0]
    passes = NowAndThen(lambda: now[0])

    def said(level: int) -> bool:
        return passes.filter(logging.LogRecord("otel", level, "", 0, "away", None, None))

    assert [said(logging.WARNING), said(logging.ERROR)] == [True, True]
    now[0] = 599.0
    assert [said(logging.WARNING), said(logging.ERROR)] == [False, False]
    now[0] = 600.0
    assert said(logging.WARNING)
