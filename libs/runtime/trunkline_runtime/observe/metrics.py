"""Prometheus metrics: declared once, counted on by every RPC. endpoint.py shows them.

Use these, unless a profile shows that counting costs too much: for that there are tallies.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

M = TypeVar("M", bound=MetricWrapperBase)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_made: dict[str, MetricWrapperBase] = {}
# The moment at which each counter was made would be a series more of each, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


def counter(name: str, doc: str, labels: Sequence[str] = ()) -> Counter:
    """Return the counter of this name, made at the first call; names begin with `trunkline_`."""
    return _once(name, lambda: Counter(name, doc, labels))


def gauge(name: str, doc: str, labels: Sequence[str] = ()) -> Gauge:
    """Return the gauge of this name, made at the first call."""
    return _once(name, lambda: Gauge(name, doc, labels))


def histogram(
    name: str, doc: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
) -> Histogram:
    """Return the histogram of this name, made at the first call; durations are in seconds."""
    return _once(name, lambda: Histogram(name, doc, labels, buckets=buckets))


def _once(name: str, make: Callable[[], M]) -> M:
    if name not in _made:
        _made[name] = make()
    return _made[name]  # type: ignore[return-value]


class RpcMetrics:
    """Counts calls by method and code, and measures how long they take. `side` is `server` or `client`."""

    def __init__(self, side: str) -> None:
        self._calls = counter(
            f"trunkline_rpc_{side}_calls_total", f"RPCs that ended ({side})", ["method", "code"]
        )
        self._seconds = histogram(
            f"trunkline_rpc_{side}_seconds", f"Seconds an RPC took ({side})", ["method"]
        )
        self._in_flight = gauge(f"trunkline_rpc_{side}_in_flight", f"RPCs that run ({side})", ["method"])
        # Looking a child up by its labels costs more than counting on it.
        self._ended: dict[tuple[str, str], Counter] = {}
        self._took: dict[str, tuple[Histogram, Gauge]] = {}

    def began(self, method: str) -> None:
        """Count a call that begins; `method` must be one that exists, so that labels stay bounded."""
        self._of(method)[1].inc()

    def ended(self, method: str, code: str, seconds: float, exemplar: dict[str, str] | None = None) -> None:
        """Count a call that ended; `exemplar` is tracing.exemplar() of it."""
        seconds_of, in_flight = self._of(method)
        in_flight.dec()
        seconds_of.observe(seconds, exemplar)
        key = (method, code)
        if key not in self._ended:
            self._ended[key] = self._calls.labels(method, code)
        self._ended[key].inc()

    def _of(self, method: str) -> tuple[Histogram, Gauge]:
        known = self._took.get(method)
        if known is None:
            known = self._took[method] = (self._seconds.labels(method), self._in_flight.labels(method))
        return known
