"""Each service is rolled under load over real processes: no request fails, no event is lost, no call is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from trunkline_cli.suite import spanner
from trunkline_store.migrations import migrate

from tests.forked import launch
from tests.integration.spanner_emulator import require_emulator
from tools.bench.rollout import EDGES, SERVICES, Plan, Rollout, Told, cluster

pytestmark = pytest.mark.timeout(900)  # many processes start, some of them on Spanner's emulator


@contextmanager
def running(plan: Plan, folder: Path) -> Iterator[Rollout]:
    """A cluster with a tenant."""
    emulator = require_emulator()
    urls = {name: emulator.create_database() for name in plan.on_spanner}
    for name, url in urls.items():
        migrate(url, f"trunkline_{name}.migrations")
    try:
        with cluster(plan, folder, spanner.settings(urls, folder), launch) as rollout:
            yield rollout
    finally:
        for url in urls.values():
            emulator.drop_database(url)


def roll(rollout: Rollout) -> Told:
    """Roll each service under load, with some of it before and after each."""
    with rollout.loaded() as told:
        for service in rollout.plan.rolled:
            before = set(rollout.replicas.hosts(service))
            posted, read = len(told.acknowledged), told.read
            rollout.replicas.roll(service)
            assert told.failed == [], f"while {service} was rolled"
            assert len(told.acknowledged) > posted
            assert told.read > read
            replaced = before.isdisjoint(rollout.replicas.hosts(service))
            assert replaced == (service != "gateway"), "only a StatefulSet's replicas keep their addresses"
    assert told.failed == []
    return told


def test_the_services_behind_the_gateway_are_rolled_and_nobody_notices(tmp_path: Path) -> None:
    with running(SERVICES, tmp_path / "services") as rollout:
        told = roll(rollout)
        assert len(rollout.wait_settled(told)) == len(told.acknowledged), "each webhook is one event"
        calls = Counter(call["providerCallId"] for call in rollout.calls())
    assert calls == Counter(told.acknowledged), "each call is there once"


def test_the_edges_are_rolled_and_no_webhook_is_refused_or_lost(tmp_path: Path) -> None:
    with running(EDGES, tmp_path / "edges") as rollout:
        told = roll(rollout)
        assert len(rollout.wait_settled(told)) == len(told.acknowledged), "each webhook is one event"
