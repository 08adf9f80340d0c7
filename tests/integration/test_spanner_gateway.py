"""The real gateway on Spanner: a webhook becomes an event, and an emulator that stands still loses none."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from trunkline_store.migrations import migrate

from tests.integration.spanner_emulator import require_emulator
from tools.suite.processes import Suite
from tools.suite.seed import api, seed_tenant
from tools.suite.webhooks import callrail


class World:
    def __init__(self, suite, tenant):
        self.suite, self.tenant = suite, tenant
        self.client = httpx.Client(timeout=20)

    def post(self, number):
        payload = {"id": number, "resource_id": f"CAL{number}", "timestamp": "2026-11-20T07:00:00Z"}
        webhook = callrail(self.tenant.source("callrail"), "post_call", payload)
        return self.client.post(webhook.url, content=webhook.body, headers=webhook.headers)

    def events(self, **params):
        with api(self.suite.http_url, self.tenant.api_key) as client:
            path = f"/v1/tenants/{self.tenant.name}/events"
            answer = client.get(path, params={"pageSize": 500, **params}).raise_for_status()
            return answer.json().get("events", [])

    def story(self, name):
        with api(self.suite.http_url, self.tenant.api_key) as client:
            return client.get(f"/v1/{name}").raise_for_status().json()

    def metric(self, name):
        text = self.client.get(f"{self.suite.http_url}/metrics").text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def until(self, told, what, seconds=40):
        end = time.monotonic() + seconds
        while not told():
            assert time.monotonic() < end, f"{what}:\n{self.suite.log_end('gateway')}"
            time.sleep(0.05)


@pytest.fixture
def world(tmp_path):
    emulator = require_emulator()
    url = emulator.create_database()
    migrate(url, "trunkline_gateway.migrations")
    env = {
        "TRUNKLINE_GATEWAY_STORE_URL": f"{url}?deadline_seconds=3",
        "TRUNKLINE_GATEWAY_SPOOL_PATH": str(tmp_path / "gateway.spool"),
        "TRUNKLINE_GATEWAY_LIST_STALENESS_SECONDS": "0.2",
    }
    suite = Suite(tmp_path, free_ports=True, env=env)
    try:
        suite.start("tenant", "gateway")
        yield World(suite, seed_tenant(suite.http_url, suite.operator_token, "acme", "http://127.0.0.1:1"))
    finally:
        suite.stop()
        emulator.drop_database(url)


def test_webhooks_become_events_and_those_of_an_outage_become_theirs_once(world):
    answer = world.post(1)
    assert answer.status_code == 202, answer.text
    world.until(world.events, "the first event")
    [event] = world.events()
    assert world.post(1).status_code == 202
    world.until(lambda: world.story(event["name"])["receiptCount"] == 2, "the redelivery")

    emulator = require_emulator()
    numbers = list(range(100, 140))
    with ThreadPoolExecutor(8) as senders:
        emulator.pause()
        try:
            answers = list(senders.map(world.post, numbers))
            assert {answer.status_code for answer in answers} == {202}
            assert world.metric("trunkline_spool_rows") == len(numbers)
            assert world.metric("trunkline_store_circuit_open") == 1
            ready = world.client.get(f"{world.suite.http_url}/readyz")
            assert ready.status_code == 200, "spooled is kept: send more"
            assert "spool:" in ready.text
        finally:
            emulator.go_on()
    world.until(lambda: world.metric("trunkline_spool_rows") == 0, "an empty spool")
    world.until(lambda: len(world.events()) >= 1 + len(numbers), "an event of each")
    stories = [world.story(event["name"]) for event in world.events()]
    assert len(stories) == 1 + len(numbers)
    assert sorted(story["receiptCount"] for story in stories) == [1] * len(numbers) + [2]
    assert world.post(7).status_code == 202
    world.until(lambda: world.client.get(f"{world.suite.http_url}/readyz").text == "ok\n", "all well")
