"""Each service is rolled under load over real processes: no request fails, no event is lost, no call is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from trunkline_cli.suite import spanner
from trunkline_store.migrations import migrate

from tests.forked import launch
from tests.integration.spanner_emulator import require_emulator
from tools.bench.rollout import ORDER, Rollout, cluster


@pytest.fixture(scope="module")
def rollout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollout]:
    """A cluster with a replica of each service, two edges, and a tenant."""
    emulator = require_emulator()
    folder = tmp_path_factory.mktemp("rollout")
    urls = {name: emulator.create_database() for name in spanner.SERVICES}
    for name, url in urls.items():
        migrate(url, f"trunkline_{name}.migrations")
    try:
        with cluster(folder, spanner.settings(urls, folder), launch) as made:
            yield made
    finally:
        for url in urls.values():
            emulator.drop_database(url)


@pytest.mark.timeout(600)  # ten processes start, on Spanner's emulator
def test_every_service_is_rolled_under_load_and_nobody_notices(rollout: Rollout) -> None:
    with rollout.loaded() as told:
        for service in ORDER:
            before = set(rollout.replicas.hosts(service)), len(told.acknowledged), told.read
            rollout.replicas.roll(service)
            hosts = set(rollout.replicas.hosts(service))
            assert (hosts == before[0]) == (service == "gateway"), (
                "a StatefulSet's replicas keep their addresses"
            )
            assert told.failed == [], f"while {service} was rolled"
    assert len(told.acknowledged) > 2 * len(ORDER)
    assert told.read > 2 * len(ORDER)
    events = rollout.wait_done(told)
    assert len(events) == len(told.acknowledged), "each webhook is one event"
    calls = Counter(call["providerCallId"] for call in rollout.calls())
    assert calls == Counter(told.acknowledged), "each call is there once"
