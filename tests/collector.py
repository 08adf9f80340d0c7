"""A collector of traces: the real OTLP over gRPC, received in the test's own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Spanned:
    """A span as it arrived; ids in hex, `parent` empty of a first one."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, Any]
    links: list[str]
    """The ids of the traces that it is linked to."""
    failed: bool
    text: str
    """All of it, as text."""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent while it is entered."""

    def __init__(self) -> None:
        self._spans: list[Spanned] = []
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def Export(self, request: Any, context: Any) -> Any:
        """Take a batch of a process."""
        with self._lock:
            for of_process in request.resource_spans:
                facts = {fact.key: fact.value.string_value for fact in of_process.resource.attributes}
                for scope in of_process.scope_spans:
                    self._spans += [_spanned(facts["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Spanned]:
        """All that arrived."""
        with self._lock:
            return list(self._spans)

    def trace(self, trace_id: str) -> list[Spanned]:
        """The spans of one trace."""
        return [span for span in self.spans() if span.trace_id == trace_id]

    def wait(
        self, trace_id: str, enough: Callable[[list[Spanned]], Any], seconds: float = 30.0
    ) -> list[Spanned]:
        """Return the spans of a trace once they are enough: processes send every five seconds."""
        until = time.monotonic() + seconds
        while True:
            found = self.trace(trace_id)
            if enough(found):
                return found
            if time.monotonic() > until:
                raise AssertionError(
                    f"of trace {trace_id} there are {sorted((s.service, s.name) for s in found)}"
                )
            time.sleep(0.1)


def _spanned(service: str, span: Any) -> Spanned:
    return Spanned(
        service.removeprefix("trunkline-"),
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        {fact.key: _value(fact.value) for fact in span.attributes},
        [link.trace_id.hex() for link in span.links],
        span.status.code == span.status.STATUS_CODE_ERROR,
        str(span),
    )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
