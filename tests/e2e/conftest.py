"""The real processes, started once for all end-to-end tests that one process runs."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from trunkline_cli.suite import web
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import SeededTenant, api, seed_tenant
from trunkline_cli.suite.webhooks import Webhook

from tests.forked import launch

CALLS = Path(__file__).parent.parent / "data" / "calls"
_numbers = itertools.count(1)


@dataclass
class World:
    """A running suite, its tenants, and the providers' recordings."""

    suite: Suite
    recordings: RecordingServer
    tenants: list[SeededTenant]

    def seed(self, name: str, *, spanish: bool = False) -> SeededTenant:
        """Add a tenant, whose recordings are served."""
        tenant = seed_tenant(
            self.suite.http_url, self.suite.operator_token, name, self.recordings.url, spanish=spanish
        )
        for source in tenant.sources:
            self.recordings.tokens.add(source.credential)
            self.recordings.accounts[source.account] = source.secret
        self.tenants.append(tenant)
        return tenant

    def post(self, webhook: Webhook, **headers: str) -> httpx.Response:
        """Post a webhook as its provider would."""
        return web.post(webhook.url, content=webhook.body, headers={**webhook.headers, **headers}, timeout=10)

    def get(self, tenant: SeededTenant, path: str, **params: str) -> httpx.Response:
        """Read /v1 with a tenant's API key; asks again, as clients do, while the answer is to come back later."""
        until = time.monotonic() + 20.0
        with api(self.suite.http_url, tenant.api_key) as client:
            while True:
                answer = client.get(f"/v1/{path}", params=params)
                if answer.status_code not in (429, 503) or time.monotonic() > until:
                    return answer
                time.sleep(0.1)

    def events(self, tenant: SeededTenant, **params: str) -> list[dict[str, Any]]:
        """A tenant's events, the latest first."""
        answer = self.get(tenant, f"tenants/{tenant.name}/events", pageSize="500", **params)
        return answer.raise_for_status().json().get("events", [])

    def event_of(self, tenant: SeededTenant, receipt_id: str) -> dict[str, Any]:
        """The event that a receipt was found to be, with its story; waits for admission."""

        def find() -> dict[str, Any] | None:
            for event in self.events(tenant):
                story = self.get(tenant, event["name"]).raise_for_status().json()
                if any(r["receiptId"] == receipt_id for r in story["receipts"]):
                    return story
            return None

        return self.wait(find, f"an event of receipt {receipt_id}")

    def finished(
        self, tenant: SeededTenant, receipt_id: str, state: str = "EVENT_STATE_DONE"
    ) -> dict[str, Any]:
        """The event of a receipt once it is in a state."""
        name = self.event_of(tenant, receipt_id)["name"]

        def look() -> dict[str, Any] | None:
            event = self.get(tenant, name).raise_for_status().json()
            assert event["state"] in (state, "EVENT_STATE_WAITING", "EVENT_STATE_PROCESSING"), event
            return event if event["state"] == state else None

        return self.wait(look, f"{name} in {state}")

    def wait(self, look: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
        """Return the first true answer of `look`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := look():
                return found
            time.sleep(0.1)  # a look costs the suite as much as some of its work
        raise AssertionError(f"waited {seconds:.0f} s for {what}\n{self.suite.log_end('worker')}")

    def call_id(self) -> str:
        """A number no other call here has."""
        return str(900_000_000 + next(_numbers))


@pytest.fixture(scope="session")
def samples() -> dict[str, dict[str, Any]]:
    """The sample calls by id."""
    return {sample["id"]: sample for sample in json.loads((CALLS / "calls.json").read_text())}


@contextmanager
def running(folder: Path, settings: dict[str, str]) -> Iterator[World]:
    """Start gateway, worker, tenant, audio and ai, as yet without tenants; stop them cleanly at the end."""
    settings = {
        "TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        # Tests ask more often than a tenant does; the limits have tests of their own.
        "TRUNKLINE_TENANT_RATE_TENANT_PER_HOUR": "0",
        "TRUNKLINE_AUDIO_DECODERS": "1",  # each takes most of a second to start
        **settings,
    }
    suite = Suite(folder, free_ports=True, launch=launch, env=settings)
    with RecordingServer() as recordings:
        try:
            suite.start()
            yield World(suite, recordings, [])
        finally:
            codes = suite.stop()
    assert set(codes.values()) == {0}, f"not every process stopped cleanly: {codes}"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The suite as users have it, started once a worker of the tests, with two tenants."""
    settings = {
        "TRUNKLINE_GATEWAY_MAX_BODY_BYTES": "100000",
        # Schemathesis asks for one tenant as fast as it can; the limit has a test of its own.
        "TRUNKLINE_GATEWAY_API_PER_SECOND": "10000",
        "TRUNKLINE_GATEWAY_API_BURST": "10000",
    }
    with running(tmp_path_factory.mktemp("suite"), settings) as made:
        for name in ("acme", "globex"):
            made.seed(name, spanish=True)
        yield made


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A suite whose engines stand in, without tenants: while `engine.down` is in its folder the language engine is.

    While `engine.held` is there the speech engine, which hears nothing, gives no answer.
    """
    folder = tmp_path_factory.mktemp("standins")
    settings = {
        "STANDIN_ENGINE_DOWN": str(folder / "engine.down"),
        "STANDIN_ENGINE_HELD": str(folder / "engine.held"),
        "TRUNKLINE_AI_ENGINE": "tests.standins.failing_ai:create",
        "TRUNKLINE_AI_ENGINE_REST_SECONDS": "0.5",
        "TRUNKLINE_AUDIO_ENGINE": "tests.standins.held_audio:create",
        "TRUNKLINE_WORKER_BREAKER_SECONDS": "0.5",
        "TRUNKLINE_WORKER_DEGRADED_RETRY_SECONDS": "0.5",
        "TRUNKLINE_WORKER_LEASE_SECONDS": "5",
        "TRUNKLINE_WORKER_SOURCE_SECONDS": "1",
    }
    with running(folder, settings) as made:
        yield made
