"""A revoked key stops within five seconds, at the HTTP API and at every service's gRPC."""

from __future__ import annotations

import time

import grpc
from trunkline.ai.v1 import analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import recording_service_pb2, recording_service_pb2_grpc
from trunkline.gateway.v1 import event_service_pb2, event_service_pb2_grpc
from trunkline.tenant.v1 import call_service_pb2, call_service_pb2_grpc
from trunkline_cli.suite.seed import api

from tests.e2e.conftest import World


def grpc_lists(world: World, parent: str, key: str) -> dict[str, str]:
    """What each service answers to a list that the key may read."""
    ask = {
        "gateway": lambda c: event_service_pb2_grpc.EventServiceStub(c).ListEvents(
            event_service_pb2.ListEventsRequest(parent=parent), metadata=shown),
        "tenant": lambda c: call_service_pb2_grpc.CallServiceStub(c).ListCalls(
            call_service_pb2.ListCallsRequest(parent=parent), metadata=shown),
        "audio": lambda c: recording_service_pb2_grpc.RecordingServiceStub(c).ListRecordings(
            recording_service_pb2.ListRecordingsRequest(parent=parent), metadata=shown),
        "ai": lambda c: analysis_service_pb2_grpc.AnalysisServiceStub(c).ListAnalyses(
            analysis_service_pb2.ListAnalysesRequest(parent=parent), metadata=shown),
    }  # fmt: skip
    shown = (("authorization", f"Bearer {key}"),)
    answers = {}
    for service, call in ask.items():
        with grpc.insecure_channel(world.suite.grpc[service]) as channel:
            try:
                call(channel)
                answers[service] = "OK"
            except grpc.RpcError as error:
                answers[service] = error.code().name
    with api(world.suite.http_url, key) as client:
        answers["http"] = str(client.get(f"/v1/{parent}/events").status_code)
    return answers


def test_a_revoked_key_stops_everywhere_within_five_seconds(world: World) -> None:
    parent = f"tenants/{world.tenants[0].name}"
    with api(world.suite.http_url, world.suite.operator_token) as operator:
        key = operator.post(f"/v1/{parent}/apiKeys", json={"role": "ROLE_VIEWER"}).raise_for_status().json()
        assert grpc_lists(world, parent, key["key"]) == dict.fromkeys(
            ("gateway", "tenant", "audio", "ai"), "OK"
        ) | {"http": "200"}
        operator.delete(f"/v1/{key['name']}").raise_for_status()
        revoked = time.monotonic()
    # It is in use all the time, which must not keep it alive.
    while time.monotonic() < revoked + 4.5:
        grpc_lists(world, parent, key["key"])
    time.sleep(max(0.0, revoked + 5 - time.monotonic()))
    assert grpc_lists(world, parent, key["key"]) == dict.fromkeys(
        ("gateway", "tenant", "audio", "ai"), "UNAUTHENTICATED"
    ) | {"http": "401"}
