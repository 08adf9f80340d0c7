"""Metrics of a hot path: counted in plain numbers, and put into Prometheus's form when somebody looks.

The client's `inc` takes half a microsecond and its `observe` more, for a lock and for checks of every call. A tally's
`count += 1` takes a tenth of that. Use a tally only for what is counted once a webhook, and by one thread: `count += 1`
isn't safe for two. Everything else uses metrics.py.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

_made: dict[str, Tally | TallyOfSeconds] = {}


def tally(name: str, doc: str, labels: Sequence[str]) -> Tally:
    """Return the counter of this name, made at the first call; names begin with `trunkline_` and end with `_total`."""
    made = _made.get(name)
    if made is None:
        made = Tally(name, doc, labels)
        REGISTRY.register(made)
        _made[name] = made
    assert isinstance(made, Tally)
    return made


def tally_of_seconds(name: str, doc: str, buckets: Sequence[float]) -> TallyOfSeconds:
    """Return the histogram of this name, made at the first call."""
    made = _made.get(name)
    if made is None:
        made = TallyOfSeconds(name, doc, buckets)
        REGISTRY.register(made)
        _made[name] = made
    assert isinstance(made, TallyOfSeconds)
    return made


class Series:
    """One series of a counter; `count` is added to where even a call would cost too much."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def inc(self, amount: int = 1) -> None:
        """Count `amount` more."""
        self.count += amount


class Tally(Collector):
    """A counter: its series by the values of their labels."""

    def __init__(self, name: str, doc: str, labels: Sequence[str]) -> None:
        self._name, self._doc, self._labels = name, doc, tuple(labels)
        self._series: dict[tuple[str, ...], Series] = {}

    def labels(self, *values: str) -> Series:
        """Return the series of these labels, which is shown from now on; keep it where it is counted on often."""
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has the labels {', '.join(self._labels)}")
            series = self._series[values] = Series()
        return series

    def remove(self, *values: str) -> None:
        """Show a series no more."""
        self._series.pop(values, None)

    def clear(self) -> None:
        """Show no series more."""
        self._series.clear()

    def describe(self) -> Iterable[Metric]:
        """Name the metric, without series."""
        return [CounterMetricFamily(self._name, self._doc, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """Return what was counted; on any thread."""
        family = CounterMetricFamily(self._name, self._doc, labels=self._labels)
        # A copy is made in one step, whatever other threads do.
        for values, series in self._series.copy().items():
            family.add_metric(values, series.count)
        return [family]


class TallyOfSeconds(Collector):
    """A histogram without labels: how many observations each bucket holds, and their sum in seconds."""

    def __init__(self, name: str, doc: str, buckets: Sequence[float]) -> None:
        """`buckets` are upper bounds in seconds, in rising order; one without a bound follows them."""
        self._name, self._doc = name, doc
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        self._exemplars: list[Exemplar | None] = [None] * len(self._counts)

    def observe(self, seconds: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count one; `exemplar` names the trace of it."""
        place = bisect_left(self._bounds, seconds)
        self._counts[place] += 1
        self._sum += seconds
        if exemplar is not None:
            self._exemplars[place] = Exemplar(dict(exemplar), seconds, time.time())

    def describe(self) -> Iterable[Metric]:
        """Name the metric, without series."""
        return [HistogramMetricFamily(self._name, self._doc)]

    def collect(self) -> Iterable[Metric]:
        """Return what was observed; on any thread."""
        family = HistogramMetricFamily(self._name, self._doc)
        upto = accumulate(list(self._counts))
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for bound, count, exemplar in zip((*self._bounds, inf), upto, self._exemplars, strict=True):
            place = str(floatToGoString(bound))  # type: ignore[no-untyped-call]
            buckets.append((place, count, exemplar) if exemplar else (place, count))
        family.add_metric((), buckets, self._sum)
        return [family]
