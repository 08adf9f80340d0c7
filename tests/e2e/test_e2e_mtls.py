"""The suite with mutual TLS between its processes: it works, certificates change under load, wrong ones are refused."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline.tenant.v1 import (
    source_service_pb2,
    source_service_pb2_grpc,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)
from trunkline_cli.edge import bootstrap, certificates, layout
from trunkline_cli.edge.commands import certify
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_runtime.identity.authority import Authority
from trunkline_runtime.identity.tokens import TokenSigner

from tests.e2e.conftest import CALLS, World
from tests.e2e.documented import ROOT, Shell, commands
from tests.envoys import TOKEN, Envoy, needed
from tests.forked import launch

SERVICES = ("gateway", "tenant", "audio", "ai")
SETTINGS = {
    "TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
    "TRUNKLINE_AI_ENGINE": "tests.standins.instant_ai:create",
    "TRUNKLINE_AUDIO_ENGINE": "tests.standins.instant_audio:create",
    # Connections are made anew so often that certificates that do not fit show soon.
    **{f"TRUNKLINE_{name.upper()}_MAX_CONNECTION_AGE_SECONDS": "1" for name in SERVICES},
    # Longer than a worker's claim waits for a job.
    **{f"TRUNKLINE_{name.upper()}_MAX_CONNECTION_AGE_GRACE_SECONDS": "60" for name in SERVICES},
    "TRUNKLINE_TENANT_EDGE_TOKEN": TOKEN,
    "TRUNKLINE_GATEWAY_API_LIMITS": "edge",
    "TRUNKLINE_WORKER_BREAKER_SECONDS": "0.5",
    "TRUNKLINE_WORKER_DEGRADED_RETRY_SECONDS": "0.5",
}
RATES = "rates.json"
HEALTH = health_pb2.HealthCheckRequest()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A suite of its own, with certificates."""
    folder = tmp_path_factory.mktemp("mtls")
    settings = {**SETTINGS, "TRUNKLINE_TENANT_RATES_FILE": str(folder / RATES)}
    suite = Suite(folder, free_ports=True, launch=launch, env=settings, mtls=True)
    with RecordingServer() as recordings:
        try:
            suite.start()
            made = World(suite, recordings, [])
            made.seed("acme")
            yield made
        finally:
            codes = suite.stop()
    assert set(codes.values()) == {0}, codes


def log_of(world: World, name: str) -> str:
    text = (world.suite.folder / "log" / f"{name}.log").read_text(errors="replace")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def post(world: World) -> str:
    """Post a call with a recording, so that every service has its part."""
    source, number = world.tenants[0].source("callrail"), world.call_id()
    world.recordings.files[f"CAL{number}"] = world.recordings.files[number] = CALLS / "silence.wav"
    payload = webhooks.callrail_call(source, number, duration="6", recording_duration=6)
    answer = world.post(webhooks.callrail(source, "post_call", payload))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["receiptId"])


def credentials(world: World, folder: str, holder: str) -> grpc.ChannelCredentials:
    """Another program's, with a certificate of that folder, which trusts the suite's authority."""
    own = world.suite.folder / folder / holder
    authorities = (world.suite.tls / "ca.crt").read_bytes()
    return grpc.ssl_channel_credentials(
        authorities, (own / "tls.key").read_bytes(), (own / "tls.crt").read_bytes()
    )


def opened(world: World, name: str, given: grpc.ChannelCredentials) -> grpc.Channel:
    options = [("grpc.ssl_target_name_override", f"{name}.trunkline.internal")]
    return grpc.secure_channel(world.suite.grpc[name], given, options)


def test_a_webhook_becomes_an_analysed_call(world):
    assert world.finished(world.tenants[0], post(world))


def test_the_commands_of_the_document(world, tmp_path):
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "tls").symlink_to(world.suite.tls)
    script = "".join(block.text for block in commands(ROOT / "docs/security.md"))
    said = Shell(tmp_path).run(script.replace("127.0.0.1:50051", world.suite.grpc["tenant"]), {})
    assert "every certificate is good" in said
    assert "audio.trunkline.internal" in said
    if (ROOT / ".tools" / "grpcurl").exists():
        assert "trunkline.tenant.v1.TenantService" in said


def test_plaintext_is_refused_by_every_service(world):
    for name in SERVICES:
        with grpc.insecure_channel(world.suite.grpc[name]) as channel, pytest.raises(grpc.RpcError) as raised:
            health_pb2_grpc.HealthStub(channel).Check(HEALTH, timeout=5)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_certificates_of_another_authority_and_expired_ones_are_refused_with_a_line(world):
    Authority(world.suite.folder / "other").issue("gateway")
    Authority(world.suite.tls).issue("late", days=-1)
    for folder, holder, said in (
        ("other", "gateway", "unable to get local issuer certificate"),
        ("tls", "late", "certificate has expired"),
    ):
        channel = opened(world, "tenant", credentials(world, folder, holder))
        with channel, pytest.raises(grpc.RpcError) as raised:
            health_pb2_grpc.HealthStub(channel).Check(HEALTH, timeout=5)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        world.wait(lambda said=said: said in log_of(world, "tenant"), f"{said} in the log of tenant", 5)


def test_audio_cannot_call_methods_of_administration_even_with_a_token_of_the_gateway(world):
    tokens = {
        name: TokenSigner(world.suite.folder / "keys", name).service_token() for name in ("audio", "gateway")
    }
    with opened(world, "tenant", credentials(world, "tls", "audio")) as channel:
        stub = tenant_service_pb2_grpc.TenantServiceStub(channel)
        for token, said in (("audio", "CALLER_NOT_ALLOWED"), ("gateway", "PEER_NOT_CALLER")):
            with pytest.raises(grpc.RpcError) as raised:
                stub.ListTenants(
                    tenant_service_pb2.ListTenantsRequest(),
                    metadata=(("authorization", f"Bearer {tokens[token]}"),),
                    timeout=5,
                )
            assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert said in str(raised.value.trailing_metadata())
    world.wait(lambda: "peer_refused" in log_of(world, "tenant"), "a line of the refusal", 5)


def test_certificates_and_their_authority_change_under_load_without_a_failed_request(world):
    stop, receipts, wrong = threading.Event(), [], []

    def load() -> None:
        while not stop.wait(0.05):
            try:
                receipts.append(post(world))
                answer = world.get(world.tenants[0], "tenants/acme/calls", pageSize="1")
                assert answer.status_code == 200, answer.text
            except Exception as error:  # told by the test's own thread
                wrong.append(error)

    before = len(log_of(world, "worker"))
    loader = threading.Thread(target=load)
    loader.start()
    try:
        command = [sys.executable, "-m", "trunkline_cli", "ca", str(world.suite.tls), "--renew"]
        for turn in (1, 2):
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            for name in (*SERVICES, "worker"):
                world.wait(
                    lambda name=name, turn=turn: log_of(world, name).count("certificate_read") >= turn,
                    f"{name} to read its new certificate",
                    30,
                )
    finally:
        stop.set()
        loader.join()
    assert not wrong, wrong[:3]
    assert len(receipts) > 10
    for receipt in receipts[-3:]:
        assert world.finished(world.tenants[0], receipt)
    since = log_of(world, "worker")[before:]
    assert "UNAVAILABLE" not in since
    assert "refused" not in since


def test_an_expired_certificate_stops_calls_until_it_is_renewed_and_loses_nothing(world):
    authority = Authority(world.suite.tls)
    authority.issue("audio", days=-1)
    receipts: list[str] = []

    def is_refused() -> bool:
        # The connections of before live for a second: what is posted meanwhile still gets through.
        receipts.append(post(world))
        time.sleep(0.5)
        return "peer_certificate_refused" in log_of(world, "worker")

    world.wait(is_refused, "the worker to refuse audio", 60)
    assert "certificate has expired" in log_of(world, "worker")
    world.wait(lambda: "certificate_not_valid" in log_of(world, "audio"), "audio to say why", 30)
    assert authority.renew() == ["audio"]
    for receipt in receipts[-3:]:
        assert world.finished(world.tenants[0], receipt)


def edge_of(world: World, folder: Path, **more: str) -> layout.Edge:
    """An edge with a certificate of the suite's authority; `more` are services at other addresses."""
    own = world.suite.tls / "edge"
    grpc_addresses = {name: (address,) for name, address in {**world.suite.grpc, **more}.items()}
    edge = layout.Edge(
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        certificate=folder / "tls.crt",
        key=folder / "tls.key",
        endpoints={layout.GATEWAY_HTTP: (world.suite.http,), **grpc_addresses},
        policy_seconds=10.0,
        ca=own / "ca.crt",
        client_certificate=own / "tls.crt",
        client_key=own / "tls.key",
        secrets=folder,
    )
    certify(edge)
    for name, text in certificates.files(edge).items():
        (folder / name).write_text(text)
    return edge


def sources_by(envoy: Envoy, world: World) -> int:
    """Ask the tenant service through Envoy over gRPC; how many sources it tells."""
    with grpc.secure_channel(envoy.address, grpc.ssl_channel_credentials(envoy.ca.read_bytes())) as channel:
        stub = source_service_pb2_grpc.SourceServiceStub(channel)
        told = stub.ListSources(
            source_service_pb2.ListSourcesRequest(parent="tenants/acme"),
            metadata=[("authorization", f"Bearer {world.tenants[0].api_key}")],
            timeout=20,
        )
    return len(told.sources)


def limits_hold(envoy: Envoy, world: World) -> None:
    """Check that the tenant service answers Envoy itself: who calls, and whether a limit holds."""
    rates = world.suite.folder / RATES
    with envoy.client(headers={"authorization": f"Bearer {world.tenants[0].api_key}"}) as client:
        answer = client.get("/v1/tenants/acme/sources")
        assert (answer.status_code, answer.headers.get("ratelimit-limit")) == (200, "1000")
        rates.write_text('{"throttle": 0}')
        world.wait(lambda: client.get("/v1/tenants/acme/sources").status_code == 429, "the throttle")
        rates.unlink()
        world.wait(lambda: client.get("/v1/tenants/acme/sources").status_code == 200, "the throttle's end")
    told = envoy.stats(".*(ext_authz|ratelimit)")
    assert sum(count for name, count in told.items() if name.endswith("ext_authz.edge.ok")) >= 3
    assert {n: c for n, c in told.items() if c and n.endswith((".error", ".failure_mode_allowed"))} == {}


def serials(envoy: Envoy) -> set[int]:
    """The certificates that Envoy uses, as it tells."""
    told = envoy.admin("/certs").json()["certificates"]
    return {int(chain["serial_number"], 16) for one in told for chain in one["cert_chain"]}


def serial_of(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


@pytest.mark.timeout(240)
def test_envoy_proves_itself_to_every_service_and_takes_new_certificates_while_it_serves(world, tmp_path):
    needed()
    edge = edge_of(world, tmp_path)
    with Envoy(tmp_path, bootstrap.written(bootstrap.static(edge)), edge.certificate) as envoy:
        envoy.ready()
        for cluster in layout.CLUSTERS:
            envoy.healthy(cluster)
        assert sources_by(envoy, world) == len(world.tenants[0].sources)
        limits_hold(envoy, world)
        issued = Authority(world.suite.tls).issue("edge")
        other = layout.Edge(certificate=tmp_path / "new.crt", key=tmp_path / "new.key")
        certify(other)
        other.key.replace(edge.key)
        other.certificate.replace(edge.certificate)
        new = {serial_of(issued / "tls.crt"), serial_of(edge.certificate)}
        world.wait(lambda: new <= serials(envoy), "the new certificates")
        assert sources_by(envoy, world) == len(world.tenants[0].sources), "callers see the new one"


@pytest.mark.timeout(240)
def test_envoy_takes_no_service_for_another_one(world, tmp_path):
    needed()
    edge = edge_of(world, tmp_path, tenant=world.suite.grpc["audio"])
    with Envoy(tmp_path, bootstrap.written(bootstrap.static(edge)), edge.certificate) as envoy:
        envoy.ready()
        envoy.healthy("audio")
        envoy.healthy("tenant", 0)
        with pytest.raises(grpc.RpcError) as refused:
            sources_by(envoy, world)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert envoy.stats("cluster.tenant.ssl.fail_verify_san")["cluster.tenant.ssl.fail_verify_san"] > 0
