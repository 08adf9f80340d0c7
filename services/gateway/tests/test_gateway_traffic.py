"""Webhooks are counted by source; beyond the busiest, the others are counted as one, and their series go."""

from __future__ import annotations

import math

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


def test_when_it_last_sent_is_right_to_the_second_also_when_the_clock_is_set_back():
    clock = [1_000.0]
    traffic = Traffic(now=lambda: clock[0])
    for now, shown in ((1_000.0, 1_000.0), (1_000.9, 1_000.0), (1_001.0, 1_001.0), (900.0, 900.0)):
        clock[0] = now
        traffic.note("tr-clock", "s1")
        assert last("tr-clock", "s1") == shown
    assert count("tr-clock", "s1") == 4.0


def test_beyond_the_most_the_others_are_one():
    others = count("other", "other") or 0.0
    traffic = Traffic(most=1)
    traffic.note("tr-a", "s1")
    traffic.note("tr-b", "s2")
    assert count("tr-b", "s2") is None
    assert last("tr-b", "s2") is None
    assert count("other", "other") == others + 1


def test_a_source_that_is_called_as_the_others_are_leaves_their_series_when_it_goes():
    others, bad = count("other", "other") or 0.0, Traffic(most=1)
    bad.note("other", "other")
    bad.note_bad_signature("other", "other")
    bad.gone("other", "other")
    bad.note("tr-k", "s1")
    assert count("other", "other") == others + 1


def test_a_quiet_source_gives_its_series_to_a_busier_one():
    traffic = Traffic(most=1)
    traffic.note("tr-c", "quiet")
    for _ in range(60):
        traffic.note("tr-d", "busy")
    assert count("tr-c", "quiet") is None
    assert last("tr-d", "busy") is not None


def test_a_source_that_lost_its_series_to_a_busier_one_and_sends_on_is_not_silent():
    clock = [1_000.0]
    traffic = Traffic(most=1, now=lambda: clock[0])
    traffic.note("tr-e", "steady")
    for _ in range(60):
        traffic.note("tr-f", "busy")
    assert count("tr-e", "steady") is None
    clock[0] = 5_000.0
    traffic.note("tr-e", "steady")
    assert last("tr-e", "steady") == 5_000.0


def test_what_is_known_of_sources_without_series_is_bounded():
    clock = [1_000.0]
    traffic = Traffic(most=1, now=lambda: clock[0])
    for number in range(6):
        clock[0] += 1.0
        for _ in range(60 * 3**number):
            traffic.note("tr-g", f"s{number}")
    known = [number for number in range(6) if last("tr-g", f"s{number}") is not None]
    assert known == [4, 5], "one with a series, and one that had it before"
    clock[0] += 7_201.0
    for _ in range(60 * 3**6):
        traffic.note("tr-g", "s6")
    assert last("tr-g", "s4") is None


def test_nobody_waits_for_a_source_that_is_gone():
    traffic = Traffic(most=1)
    traffic.note("tr-h", "deleted")
    traffic.gone("tr-h", "deleted")
    traffic.gone("tr-h", "never sent")
    assert (count("tr-h", "deleted"), last("tr-h", "deleted")) == (None, math.inf)
    assert last("tr-h", "never sent") is None
    traffic.note("tr-h", "deleted")
    assert last("tr-h", "deleted") < math.inf, "it was enabled again"


def test_wrong_signatures_are_counted_by_source_up_to_a_bound():
    def bad(tenant: str, source: str) -> float:
        labels = {"tenant": tenant, "source": source}
        return REGISTRY.get_sample_value("trunkline_source_bad_signatures_total", labels) or 0.0

    others = bad("other", "other")
    traffic = Traffic(most=1)
    traffic.note_bad_signature("tr-i", "s1")
    traffic.note_bad_signature("tr-i", "s2")
    assert (bad("tr-i", "s1"), bad("tr-i", "s2"), bad("other", "other")) == (1.0, 0.0, others + 1)
