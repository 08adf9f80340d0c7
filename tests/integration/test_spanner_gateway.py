"""The real gateway on Spanner: a webhook becomes an event, and an emulator that stands still loses none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from trunkline_cli.suite import web
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.seed import seed_tenant
from trunkline_store.migrations import migrate

from tests.e2e.posting import posting, small_call
from tests.forked import launch
from tests.integration.spanner_emulator import require_emulator
from tests.integration.spanner_world import MIGRATIONS, World


@contextmanager
def standing_still() -> Iterator[None]:
    """Stop the emulator as a debugger would: it keeps what it has, takes connections and says nothing."""
    emulator = require_emulator()
    emulator.pause()
    try:
        yield
    finally:
        emulator.go_on()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    emulator = require_emulator()
    url = emulator.create_database()
    migrate(url, MIGRATIONS)
    folder = tmp_path_factory.mktemp("suite")
    env = {
        "TRUNKLINE_GATEWAY_STORE_URL": f"{url}?deadline_seconds=3",
        "TRUNKLINE_GATEWAY_SPOOL_PATH": str(folder / "gateway.spool"),
        "TRUNKLINE_GATEWAY_LIST_STALENESS_SECONDS": "0.2",
    }
    suite = Suite(folder, free_ports=True, launch=launch, env=env)
    try:
        suite.start("tenant", "gateway")
        tenant = seed_tenant(suite.http_url, suite.operator_token, "acme", "http://127.0.0.1:1")
        world = World(suite, None, [tenant])  # type: ignore[arg-type]
        world.url = url
        yield world
    finally:
        codes = suite.stop()
        emulator.drop_database(url)
    assert set(codes.values()) == {0}


def test_a_webhook_becomes_an_event_and_a_redelivery_another_receipt_of_it(world):
    [tenant] = world.tenants
    hook = small_call(world, tenant.source("callrail"))
    first, second = world.post(hook), world.post(hook)
    assert (first.status_code, second.status_code) == (202, 202)
    event = world.event_of(tenant, first.json()["receiptId"])
    receipts = {first.json()["receiptId"], second.json()["receiptId"]}
    world.wait(lambda: world.get(tenant, event["name"]).json()["receiptCount"] == 2, "the redelivery")
    story = world.get(tenant, event["name"]).json()
    assert {receipt["receiptId"] for receipt in story["receipts"]} == receipts
    assert story["state"] == "EVENT_STATE_WAITING"


def test_while_the_emulator_stands_still_webhooks_go_to_the_spool_and_become_events_once(world):
    with posting(world, senders=6, every_seconds=0.25) as told:
        world.wait(lambda: len(told.receipts) > 20, "webhooks in good times")
        with standing_still():
            world.wait(lambda: world.metric("trunkline_spool_rows") > 40, "receipts in the spool")
            assert world.metric("trunkline_store_circuit_open") == 1
            assert web.get(f"{world.suite.http_url}/readyz").status_code == 200, "spooled is kept: send more"
            assert "spool:" in web.get(f"{world.suite.metrics_url()}/readyz").text
        world.wait(lambda: world.metric("trunkline_store_circuit_open") == 0, "the store to be used again")
    world.assert_each_is_one_event(told)

    # The same with a gateway that is killed meanwhile, and begins without its store.
    with posting(world, senders=6, every_seconds=0.25) as told, standing_still():
        world.wait(lambda: world.metric("trunkline_spool_rows") > 40, "receipts in the spool")
        world.suite.kill("gateway")
    world.suite.start("gateway")
    told.errors.clear()  # what was under way when it was killed
    world.assert_each_is_one_event(told)
    assert web.get(f"{world.suite.metrics_url()}/readyz").text == "ok\n"
