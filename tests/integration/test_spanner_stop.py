"""SIGTERM to the real processes while Spanner does not answer: gone within 10 s, and what was acknowledged is kept."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from trunkline.ai.v1 import analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import recording_service_pb2, recording_service_pb2_grpc
from trunkline.gateway.v1 import event_service_pb2, event_service_pb2_grpc
from trunkline.tenant.v1 import tenant_service_pb2, tenant_service_pb2_grpc
from trunkline_cli.suite import spanner
from trunkline_cli.suite.processes import COMMANDS, Suite
from trunkline_cli.suite.seed import seed_tenant
from trunkline_gateway.intake.spool_log import frames
from trunkline_runtime.errors import from_rpc_error
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_store.migrations import migrate

from tests.e2e.posting import posting
from tests.forked import launch
from tests.integration.spanner_emulator import require_emulator
from tests.integration.spanner_world import World
from tools.bench.calls import INSTANT

LIMIT_SECONDS = 10.0
TENANT = "tenants/acme"

# One call of each service that reads its store: stub, method, request.
READS = {
    "gateway": (
        event_service_pb2_grpc.EventServiceStub, "GetEvent",
        event_service_pb2.GetEventRequest(name=f"{TENANT}/events/e{'0' * 32}"),
    ),
    "tenant": (
        tenant_service_pb2_grpc.TenantServiceStub, "GetTenant", tenant_service_pb2.GetTenantRequest(name=TENANT),
    ),
    "audio": (
        recording_service_pb2_grpc.RecordingServiceStub, "ListRecordings",
        recording_service_pb2.ListRecordingsRequest(parent=TENANT),
    ),
    "ai": (
        analysis_service_pb2_grpc.AnalysisServiceStub, "ListAnalyses",
        analysis_service_pb2.ListAnalysesRequest(parent=TENANT),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def emulator():
    """An emulator that a test may stop."""
    shared = require_emulator()
    from trunkline_store.spanner.emulator import Emulator

    own = Emulator()
    own.start()
    yield own
    own.stop()
    os.environ["SPANNER_EMULATOR_HOST"] = shared.address


@pytest.fixture(scope="module")
def world(emulator, tmp_path_factory):
    """All five processes with the settings that they come with, but for engines that stand in: they have no store."""
    tmp_path = tmp_path_factory.mktemp("stopped")
    urls = {name: emulator.create_database(f"stopped-{name}") for name in spanner.SERVICES}
    for name, url in urls.items():
        migrate(url, f"trunkline_{name}.migrations")
    suite = Suite(tmp_path, free_ports=True, launch=launch, env=spanner.settings(urls, tmp_path) | INSTANT)
    try:
        suite.start()
        tenant = seed_tenant(suite.http_url, suite.operator_token, "acme", "http://127.0.0.1:1")
        world = World(suite, None, [tenant])
        world.url = urls["gateway"]
        yield world
    finally:
        emulator.go_on()
        suite.stop()


@contextmanager
def asking(suite):
    """Let one call of each service wait for its store; gives what each was told in the end."""
    token = TokenSigner(suite.folder / "keys", "gateway").service_token()
    metadata = (("authorization", f"Bearer {token}"),)
    told, calls = {}, {}
    with ExitStack() as stack:
        for name, (stub, method, request) in READS.items():
            channel = stack.enter_context(grpc.insecure_channel(suite.grpc[name]))
            calls[name] = getattr(stub(channel), method).future(request, timeout=30, metadata=metadata)
        yield told
        told.update({name: call.exception() for name, call in calls.items()})


def terminate_all(suite):
    """SIGTERM to every process at once; for each its code and the seconds that it took."""
    ended = {}
    began = time.monotonic()

    def wait(name, process):
        ended[name] = (process.wait(60), time.monotonic() - began)

    waits = [threading.Thread(target=wait, args=item) for item in suite.running.items()]
    for process in suite.running.values():
        process.terminate()
    for thread in waits:
        thread.start()
    for thread in waits:
        thread.join()
    suite.running.clear()
    return ended


def spooled(suite):
    held = [payload for path in (suite.folder / "gateway.spool").glob("*.log") for _, payload in frames(path)]
    return {json.loads(payload.partition(b"\n")[0])["receipt_id"] for payload in held}


@pytest.mark.parametrize("away", ["silent", "gone"])  # what is gone forgets everything: no test can follow
def test_processes_whose_spanner_is_away_stop_in_time_and_lose_nothing(world, emulator, away):
    suite = world.suite
    if stopped := [name for name in COMMANDS if name not in suite.running]:
        suite.start(*stopped)
    with posting(world, senders=6, every_seconds=0.25) as told:
        world.wait(lambda: len(told.receipts) > 20, "webhooks in good times")
        (emulator.stop if away == "gone" else emulator.pause)()
        world.wait(lambda: world.metric("trunkline_store_circuit_open") == 1, "the store to be given up")
        before = len(told.receipts)
        world.wait(lambda: len(told.receipts) > before + 40, "webhooks without a store")
        with asking(suite) as answers:
            time.sleep(0.2)  # on the way into the services
            ended = terminate_all(suite)
    assert {name: code for name, (code, _) in ended.items()} == dict.fromkeys(COMMANDS, 0)
    assert max(seconds for _, seconds in ended.values()) < LIMIT_SECONDS, ended
    reasons = {name: from_rpc_error(error).reason for name, error in answers.items()}
    assert reasons == dict.fromkeys(READS, "STORE_DEADLINE"), "who was let in is answered, not cut off"
    assert told.errors == told.refused == []
    assert told.turned_away == 6, "everyone who came later was turned away at the door"
    assert set(told.receipts[before:]) <= spooled(suite)
    if away == "silent":
        emulator.go_on()
        suite.start("tenant", "gateway")
        world.assert_each_is_one_event(told)
