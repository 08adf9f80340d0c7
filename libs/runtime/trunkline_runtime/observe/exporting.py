"""Where spans go: nowhere, or to an OTLP endpoint by OpenTelemetry, which is imported only for that."""

from __future__ import annotations

from collections.abc import Callable

from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.sampling import PER_SECOND, RATIO, Sampling


def configure(
    service: str, otlp_endpoint: str | None, ratio: float = RATIO, per_second: int = PER_SECOND
) -> Callable[[], None]:
    """Start exporting if there is an endpoint; return what ends it. Per process, as OpenTelemetry is.

    `ratio` and `per_second` bound the traces that begin in this process.
    """
    if not otlp_endpoint:
        return lambda: None
    from trunkline_runtime.observe.otel import OtelExporter  # noqa: PLC0415 -- costs time and memory only where it is used

    return tracing.export(OtelExporter(service, otlp_endpoint, Sampling(ratio, per_second)))
