"""Real processes on databases that nobody has migrated or made yet wait, say why, and begin without a restart."""

from __future__ import annotations

import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline_cli.suite import spanner, web
from trunkline_cli.suite.processes import Suite
from trunkline_store.migrations import head_revision, migrate

from tests.forked import launch
from tests.integration.spanner_emulator import require_emulator
from tools.bench.calls import INSTANT

pytestmark = pytest.mark.timeout(300)  # four services start and are migrated on what may be a busy machine
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PROJECT = "spanner+spanner:///projects/trunkline/instances/local/databases"


def until(told, what, seconds=30):
    """Wait until `told()` holds."""
    end = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def health(suite, name):
    with grpc.insecure_channel(suite.grpc[name]) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service="")
            return health_pb2_grpc.HealthStub(channel).Check(request, timeout=2).status
        except grpc.RpcError:
            return None


@pytest.fixture
def waiting(tmp_path):
    """Services whose databases are there, but empty; the ai service's is not even there."""
    emulator = require_emulator()
    urls = {name: emulator.create_database(f"waited-for-{name}") for name in ("gateway", "tenant", "audio")}
    urls["ai"] = f"{PROJECT}/waited-for-ai"
    suite = Suite(tmp_path, free_ports=True, launch=launch, env=spanner.settings(urls, tmp_path) | INSTANT)
    for name in spanner.SERVICES:
        suite.spawn(name)
    yield suite, emulator
    suite.stop()
    for url in urls.values():
        emulator.drop_database(url)


def test_servers_wait_for_their_schema_and_say_so(waiting):
    suite, emulator = waiting
    needed = {name: head_revision(f"trunkline_{name}.migrations") for name in spanner.SERVICES}
    told = {
        name: f"databases/waited-for-{name} is at revision none and trunkline_{name}.migrations needs "
        f"{needed[name]}: run python -m trunkline_store.migrate {PROJECT}/waited-for-{name} "
        f"trunkline_{name}.migrations"
        for name in ("gateway", "tenant", "audio")
    }
    told["ai"] = "Database not found"
    for name in spanner.SERVICES:
        until(lambda name=name: health(suite, name) == NOT_SERVING, lambda name=name: suite.log_end(name))
        # On a busy machine it answers before the first attempt has failed.
        until(lambda name=name: told[name] in suite.log_end(name), lambda name=name: suite.log_end(name))
    assert web.get(f"{suite.http_url}/readyz").text == "not ready\n", "why is nothing for strangers"
    ready = web.get(f"{suite.metrics_url()}/readyz")
    assert ready.status_code == 503
    assert ready.text.startswith("not ready: store: ")
    assert told["gateway"] in ready.text
    assert web.get(f"{suite.http_url}/healthz").status_code == 200
    hook = web.post(f"{suite.http_url}/hooks/none/post_call", content=b"{}")
    assert (hook.status_code, hook.headers["retry-after"]) == (503, "3")

    assert suite.stop("audio") == {"audio": 0}  # a clean stop needs no store
    emulator.create_database("waited-for-ai")
    suite.spawn("audio")
    for name in spanner.SERVICES:
        migrate(suite.env[f"TRUNKLINE_{name.upper()}_STORE_URL"], f"trunkline_{name}.migrations")
    for name in spanner.SERVICES:
        suite.wait_ready(name, seconds=30)
        assert suite.running[name].poll() is None
    assert set(suite.stop().values()) == {0}
