"""A tally shows what Prometheus's own metrics would show."""

from __future__ import annotations

import itertools

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.openmetrics.exposition import generate_latest
from trunkline_runtime.observe.tallies import Tally, TallyOfSeconds, tally, tally_of_seconds

BUCKETS = (0.1, 1.0)
_NUMBER = itertools.count()


def shown(*collectors: object) -> list[str]:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)  # type: ignore[arg-type]
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_counter_is_shown_as_the_clients_own() -> None:
    ours, theirs = Tally("t_total", "T.", ["a", "b"]), Counter("t_total", "T.", ["a", "b"], registry=None)
    for metric in (ours, theirs):
        metric.labels("x", 'y"\n').inc()
        metric.labels("x", 'y"\n').inc(3)
        metric.labels("never", "counted")
    assert shown(ours) == shown(theirs)
    assert ours.labels("x", 'y"\n').count == 4


def test_a_histogram_is_shown_as_the_clients_own() -> None:
    ours, theirs = (
        TallyOfSeconds("t_seconds", "T.", BUCKETS),
        Histogram("t_seconds", "T.", buckets=BUCKETS, registry=None),
    )
    for seconds in (0.05, 0.1, 0.100001, 1.0, 7.0):
        ours.observe(seconds)
        theirs.observe(seconds)
    assert shown(ours) == shown(theirs)


def test_an_exemplar_stands_with_its_bucket() -> None:
    histogram = TallyOfSeconds("t_seconds", "T.", BUCKETS)
    histogram.observe(0.05)
    histogram.observe(0.5, {"trace_id": "ab"})
    (line,) = (line for line in shown(histogram) if "#" in line and "trace_id" in line)
    assert line.startswith('t_seconds_bucket{le="1.0"} 2.0 # {trace_id="ab"} 0.5 ')


def test_a_removed_series_is_shown_no_more() -> None:
    counter = Tally("t_total", "T.", ["a"])
    for value in "xyz":
        counter.labels(value).inc()
    counter.remove("x")
    counter.remove("never seen")
    assert [line for line in shown(counter) if "{" in line] == ['t_total{a="y"} 1.0', 't_total{a="z"} 1.0']
    counter.clear()
    assert not [line for line in shown(counter) if "{" in line]


def test_labels_are_as_many_as_were_declared() -> None:
    with pytest.raises(ValueError, match="t_total has the labels a, b"):
        Tally("t_total", "T.", ["a", "b"]).labels("x")


def test_one_name_is_one_metric_that_is_registered() -> None:
    name = f"trunkline_test_{next(_NUMBER)}"
    counter = tally(f"{name}_total", "T.", ["a"])
    counter.labels("x").count += 2
    assert tally(f"{name}_total", "T.", ["a"]) is counter
    assert REGISTRY.get_sample_value(f"{name}_total", {"a": "x"}) == 2
    seconds = tally_of_seconds(f"{name}_seconds", "T.", BUCKETS)
    assert tally_of_seconds(f"{name}_seconds", "T.", BUCKETS) is seconds
    seconds.observe(0.2)
    assert REGISTRY.get_sample_value(f"{name}_seconds_sum", {}) == 0.2
