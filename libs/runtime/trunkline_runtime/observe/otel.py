"""OpenTelemetry: spans exported over OTLP. Imported only where an endpoint is set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from trunkline_runtime.observe import tracing

_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}

# A collector that is not there must not hold the process at its end.
_EXPORT_SECONDS = 2


class OtelSpan:
    """One span that is recorded."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set_attribute(self, key: str, value: Any) -> None:
        """Add a fact."""
        self._span.set_attribute(key, value)

    def failed(self, code: str) -> None:
        """Say that it failed; exceptions are not recorded, their messages may hold content."""
        self._span.set_attribute("rpc.grpc.status", code)
        self._span.set_status(Status(StatusCode.ERROR, code))


class OtelExporter:
    """Makes spans and sends them in batches from a thread of its own."""

    def __init__(self, service: str, endpoint: str, *, exporter: SpanExporter | None = None) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": f"trunkline-{service}"}))
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter
                or OTLPSpanExporter(
                    endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=5
                )
            )
        )
        self._tracer = self._provider.get_tracer("trunkline")

    @contextmanager
    def span(
        self, name: str, kind: str, parent: tracing.TraceContext | None, attributes: Mapping[str, Any]
    ) -> Iterator[OtelSpan]:
        """Open a span under the parent and make it the place in the trace."""
        context = (
            trace.set_span_in_context(NonRecordingSpan(_to_otel(parent))) if parent is not None else None
        )
        span = self._tracer.start_span(name, context=context, kind=_KINDS[kind], attributes=dict(attributes))
        opened = OtelSpan(span)
        token = tracing.enter(_from_otel(span.get_span_context()))
        try:
            yield opened
        except Exception as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            tracing.leave(token)
            span.end()

    def shutdown(self) -> None:
        """Send what is left, then stop."""
        self._provider.shutdown()


def _to_otel(place: tracing.TraceContext) -> SpanContext:
    return SpanContext(
        trace_id=int(place.trace_id, 16),
        span_id=int(place.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(place.flags, 16)),
    )


def _from_otel(context: SpanContext) -> tracing.TraceContext:
    return tracing.TraceContext(
        f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{int(context.trace_flags):02x}"
    )
