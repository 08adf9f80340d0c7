"""OpenTelemetry: spans exported over OTLP. Imported only where an endpoint is set."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.metrics import counter
from trunkline_runtime.observe.sampling import Sampling

_KINDS = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}

# A collector that is not there must not hold the process at its end.
_EXPORT_SECONDS = 2
# What says that a collector does not answer says it twice every few seconds, for as long as that lasts.
_SAYS_SO = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal")
_SAY_SECONDS = 600.0

LOST = counter("trunkline_spans_lost_total", "Spans that the collector did not take.")


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

    def __init__(
        self,
        service: str,
        endpoint: str,
        sampling: Sampling | None = None,
        *,
        exporter: SpanExporter | None = None,
    ) -> None:
        self._sampling = sampling or Sampling()
        self._provider = TracerProvider(
            # What is not sampled is no span at all: tracing.py asks for none.
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": f"trunkline-{service}"}),
            id_generator=_Ids(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                Counting(
                    exporter
                    or OTLPSpanExporter(
                        endpoint=endpoint,
                        insecure=not endpoint.startswith("https://"),
                        timeout=_EXPORT_SECONDS,
                    )
                )
            )
        )
        for name in _SAYS_SO:
            logger = logging.getLogger(name)
            if not any(isinstance(one, NowAndThen) for one in logger.filters):
                logger.addFilter(NowAndThen())
        self._tracer = self._provider.get_tracer("trunkline")

    def samples(self, edge: str) -> bool:
        """Say whether a trace that begins at this edge is exported."""
        return self._sampling.takes(edge)

    @contextmanager
    def span(
        self,
        name: str,
        kind: str,
        parent: tracing.TraceContext | None,
        attributes: Mapping[str, Any],
        *,
        itself: tracing.TraceContext | None = None,
        linked: tracing.TraceContext | None = None,
    ) -> Iterator[OtelSpan]:
        """Open a span and make it the place in the trace."""
        span = self._start(name, kind, parent, attributes, itself, linked)
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

    def record(
        self,
        name: str,
        kind: str,
        parent: tracing.TraceContext | None,
        attributes: Mapping[str, Any],
        times: tuple[int, int],
        *,
        itself: tracing.TraceContext | None = None,
        linked: tracing.TraceContext | None = None,
    ) -> None:
        """Record a span that has ended."""
        began, ended = times
        self._start(name, kind, parent, attributes, itself, linked, began).end(ended)

    def shutdown(self) -> None:
        """Send what is left, then stop."""
        self._provider.shutdown()

    def _start(
        self,
        name: str,
        kind: str,
        parent: tracing.TraceContext | None,
        attributes: Mapping[str, Any],
        itself: tracing.TraceContext | None,
        linked: tracing.TraceContext | None,
        began: int | None = None,
    ) -> trace.Span:
        context = Context()
        if parent is not None:
            context = trace.set_span_in_context(NonRecordingSpan(_to_otel(parent)), context)
        token = _decided.set(itself)
        try:
            return self._tracer.start_span(
                name,
                context=context,
                kind=_KINDS[kind],
                attributes=dict(attributes),
                links=[Link(_to_otel(linked))] if linked is not None else (),
                start_time=began,
            )
        finally:
            _decided.reset(token)


class Counting(SpanExporter):
    """Counts what another exporter loses."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export, in the processor's own thread."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                LOST.inc(len(spans))
        return result

    def shutdown(self) -> None:
        """Export nothing more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait for what is under way."""
        return self._exporter.force_flush(timeout_millis)


class NowAndThen(logging.Filter):
    """Lets a logger's first line of each level pass, and then one every ten minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: dict[int, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line is written."""
        now = self._clock()
        if now - self._passed.get(record.levelno, -_SAY_SECONDS) < _SAY_SECONDS:
            return False
        self._passed[record.levelno] = now
        return True


_decided: ContextVar[tracing.TraceContext | None] = ContextVar("trunkline_span_ids", default=None)


class _Ids(RandomIdGenerator):
    """Gives a span the ids that were decided before it is made, and random ones to all others."""

    def generate_trace_id(self) -> int:
        decided = _decided.get()
        return int(decided.trace_id, 16) if decided is not None else super().generate_trace_id()

    def generate_span_id(self) -> int:
        decided = _decided.get()
        return int(decided.span_id, 16) if decided is not None else super().generate_span_id()

    def is_trace_id_random(self) -> bool:
        return False


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
