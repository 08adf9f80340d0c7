"""The real grpcurl against the four services by reflection, with no .proto file at hand; and gRPC's own refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from trunkline.tenant.v1 import (
    call_service_pb2,
    call_service_pb2_grpc,
    source_service_pb2,
    source_service_pb2_grpc,
)
from trunkline_cli.suite import webhooks

from tests.e2e.conftest import World

ROOT = Path(__file__).parent.parent.parent
GRPCURL = ROOT / ".tools" / "grpcurl"
README = ROOT / "README.md"


@pytest.fixture
def grpcurl(tmp_path):
    """Run grpcurl in an empty folder, as an operator without any .proto would."""
    if not GRPCURL.exists():
        if os.environ.get("CI") == "true" and shutil.which("go"):
            pytest.fail("grpcurl is not in .tools/ although Go is on the PATH: make tools")
        pytest.skip("grpcurl is not installed (no Go): make tools")

    def run(*args: str) -> str:
        done = subprocess.run(
            [GRPCURL, "-plaintext", *args], capture_output=True, text=True, cwd=tmp_path, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


SERVICES = {
    "gateway": {
        "trunkline.gateway.v1.EventService", "trunkline.gateway.v1.JobService",
        "trunkline.gateway.v1.ConversationService",
    },
    "tenant": {
        "trunkline.tenant.v1.TenantService", "trunkline.tenant.v1.SourceService", "trunkline.tenant.v1.ApiKeyService",
        "trunkline.tenant.v1.CallService", "trunkline.tenant.v1.LeadService",
    },
    "audio": {
        "trunkline.audio.v1.RecordingService", "trunkline.audio.v1.TranscriptionService",
        "trunkline.audio.v1.AudioFeatureService", "trunkline.audio.v1.AdminService",
    },
    "ai": {"trunkline.ai.v1.AnalysisService", "trunkline.ai.v1.AdminService"},
}  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_grpcurl_lists_and_describes(world, grpcurl, service):
    address = world.suite.grpc[service]
    listed = set(grpcurl(address, "list").split())
    assert SERVICES[service] <= listed
    assert "grpc.health.v1.Health" in listed
    for name in listed:
        assert "rpc " in grpcurl(address, "describe", name)
    health = grpcurl(address, "grpc.health.v1.Health/Check")
    assert json.loads(health)["status"] == "SERVING"


def test_grpcurl_calls_all_four_and_shows_an_events_whole_story(world, grpcurl):
    tenant = world.tenants[0]
    key = f"authorization: Bearer {tenant.api_key}"
    source, call_id = tenant.source("callrail"), world.call_id()
    text = {
        "id": call_id, "resource_id": f"SMS{call_id}", "source_number": "+15555550123",
        "destination_number": "+15555550199",
        "content": "Hi, how much would it cost to fix a leaking kitchen faucet?", "message_type": "sms",
        "timestamp": "2026-11-20T10:00:00.000Z",
    }  # fmt: skip
    answer = world.post(webhooks.callrail(source, "text_message_received", text))
    event = world.finished(tenant, answer.json()["receiptId"])

    def call(service: str, method: str, **request: object) -> dict:
        return json.loads(grpcurl("-H", key, "-d", json.dumps(request), world.suite.grpc[service], method))

    story = call("gateway", "trunkline.gateway.v1.EventService/GetEvent", name=event["name"])
    assert story["state"] == "EVENT_STATE_DONE"
    assert story["history"]
    assert story["receipts"]
    row = call("tenant", "trunkline.tenant.v1.CallService/GetCall", name=story["call"])
    assert row["intent"] == "INTENT_QUOTE_REQUEST"
    analysis = call("ai", "trunkline.ai.v1.AnalysisService/GetAnalysis", name=row["analysis"])
    assert analysis["call"] == row["name"]
    recordings = call(
        "audio", "trunkline.audio.v1.RecordingService/ListRecordings", parent=f"tenants/{tenant.name}"
    )
    assert all(r["name"].startswith(f"tenants/{tenant.name}/") for r in recordings.get("recordings", []))


def refusal(world: World, method, request, key: str | None) -> grpc.RpcError:
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    with pytest.raises(grpc.RpcError) as refused:
        method(request, metadata=metadata, timeout=5)
    return refused.value


def test_another_tenants_call_is_not_found_over_grpc(world):
    mine, other = world.tenants
    with grpc.insecure_channel(world.suite.grpc["tenant"]) as channel:
        stub = call_service_pb2_grpc.CallServiceStub(channel)
        request = call_service_pb2.ListCallsRequest(parent=f"tenants/{mine.name}")
        assert stub.ListCalls(request, metadata=(("authorization", f"Bearer {mine.api_key}"),)) is not None
        assert refusal(world, stub.ListCalls, request, other.api_key).code() == grpc.StatusCode.NOT_FOUND
        assert refusal(world, stub.ListCalls, request, None).code() == grpc.StatusCode.UNAUTHENTICATED
        assert refusal(world, stub.ListCalls, request, "tl_wrong").code() == grpc.StatusCode.UNAUTHENTICATED


def test_secrets_are_resolved_for_the_gateway_only(world):
    tenant = world.tenants[0]
    with grpc.insecure_channel(world.suite.grpc["tenant"]) as channel:
        stub = source_service_pb2_grpc.SourceServiceStub(channel)
        request = source_service_pb2.ResolveSourceRequest(source_id=tenant.sources[0].id)
        for key in (tenant.api_key, world.suite.operator_token):
            assert (
                refusal(world, stub.ResolveSource, request, key).code() == grpc.StatusCode.PERMISSION_DENIED
            )


def test_the_readmes_grpcurl_commands_are_those_that_work(world, grpcurl):
    """Each grpcurl line of the README runs here, with the running suite's addresses, keys and names put in."""
    tenant = world.tenants[0]
    event = world.events(tenant, filter="state = done")[0]
    call = world.get(tenant, event["name"]).json()["call"]
    ports = {"50050": "gateway", "50051": "tenant", "50052": "audio", "50053": "ai"}
    commands = [
        line.strip()
        for line in README.read_text().replace("\\\n", " ").splitlines()
        if line.strip().startswith("grpcurl ")
    ]
    assert len(commands) >= 4
    seen = set()
    for command in commands:
        for port, service in ports.items():
            if f"127.0.0.1:{port}" in command:
                seen.add(service)
                command = command.replace(f"127.0.0.1:{port}", world.suite.grpc[service])
        command = (
            command.replace("$KEY", tenant.api_key).replace("$EVENT", event["name"]).replace("$CALL", call)
        )
        command = command.replace("tenants/acme", f"tenants/{tenant.name}")
        import shlex

        words = shlex.split(command)
        assert words[:2] == ["grpcurl", "-plaintext"]
        assert grpcurl(*words[2:])
    assert seen == set(ports.values())
