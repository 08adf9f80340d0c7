"""The trace goes through every call; with an exporter each call has its spans, without one nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.errors import Aborted
from trunkline_runtime.observe import exporting, tracing
from trunkline_runtime.observe.otel import OtelExporter

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
ONE = "trunkline.test.v1.EchoService/One"


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
    await suite.call()
    by_kind = {span.kind: span for span in spans()}
    client, server, own = (by_kind[k] for k in (SpanKind.CLIENT, SpanKind.SERVER, SpanKind.INTERNAL))
    assert len({span.context.trace_id for span in by_kind.values()}) == 1
    assert client.parent is None
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

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask()
    assert raised.value.code() is grpc.StatusCode.ABORTED
    client = [s for s in spans() if s.kind is SpanKind.CLIENT]
    assert [s.status.description for s in client] == (["ABORTED"] if kind == "One" else [])
    server = next(s for s in spans() if s.kind is SpanKind.SERVER)
    assert server.status.status_code is StatusCode.ERROR
    assert server.status.description == "ABORTED"
    assert server.attributes["rpc.grpc.status"] == "ABORTED"
    assert "4155554559" not in server.to_json()


def test_an_exception_passes_through_a_span_and_marks_it_by_its_type_only(spans: Any) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.span("work"):
        raise ValueError("secret")
    (span,) = spans()
    assert span.status.status_code is StatusCode.ERROR
    assert "secret" not in span.to_json()


def is_exporting() -> bool:
    with tracing.span("work") as span:
        return span is not None


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
