"""Webhooks are counted by source; beyond the busiest, the others are counted as one, and their series go."""

from __future__ import annotations

from prometheus_client import REGISTRY
from trunkline_gateway.hooks.traffic import Traffic


def count(tenant: str, source: str) -> float | None:
    return REGISTRY.get_sample_value("trunkline_source_webhooks_total", {"tenant": tenant, "source": source})


def last(tenant: str, source: str) -> float | None:
    return REGISTRY.get_sample_value(
        "trunkline_source_last_webhook_seconds", {"tenant": tenant, "source": source}
    )


def test_each_source_is_counted_and_says_when_it_last_sent():
    traffic = Traffic(now=lambda: 1234.5)
    traffic.note("tr-acme", "s1")
    traffic.note("tr-acme", "s1")
    assert (count("tr-acme", "s1"), last("tr-acme", "s1")) == (2.0, 1234.5)


def test_beyond_the_most_the_others_are_one():
    others = count("other", "other") or 0.0
    traffic = Traffic(most=1)
    traffic.note("tr-a", "s1")
    traffic.note("tr-b", "s2")
    assert count("tr-b", "s2") is None
    assert last("tr-b", "s2") is None
    assert count("other", "other") == others + 1


def test_a_quiet_source_gives_its_series_to_a_busier_one():
    traffic = Traffic(most=1)
    traffic.note("tr-c", "quiet")
    for _ in range(60):
        traffic.note("tr-d", "busy")
    assert count("tr-c", "quiet") is None
    assert last("tr-d", "busy") is not None
