"""The suite behind the real Envoy: webhooks, the API, gRPC over TLS, refusals, and what fails behind it."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from trunkline.tenant.v1 import source_pb2, source_service_pb2
from trunkline_cli.edge import bootstrap, commands, layout
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.seed import SeededTenant, api
from trunkline_cli.suite.up import dev_facts

from tests.e2e.conftest import World, running
from tests.e2e.documented import Shell
from tests.e2e.documented import commands as commands_of
from tests.envoys import TOKEN, Envoy, needed

ROOT = Path(__file__).parent.parent.parent
GRPCURL = ROOT / ".tools" / "grpcurl"
pytestmark = pytest.mark.timeout(300)  # Envoy and five processes start on what may be a busy machine
FREE = {"address": 0, "user": 0, "tenant": 0}
THROTTLED = {**FREE, "throttle": 0}


@dataclass
class Edge:
    """The suite, Envoy before it, and the file of its limits."""

    world: World
    envoy: Envoy
    tenant: SeededTenant
    rates: Path

    def limits(self, told: dict[str, object]) -> None:
        """See that limits hold: one that is changed does after a second."""
        if json.loads(self.rates.read_text()) != told:
            self.rates.write_text(json.dumps(told))
            time.sleep(1.2)

    def webhook(self) -> webhooks.Webhook:
        """A new signed webhook."""
        source = self.tenant.source("callrail")
        payload = webhooks.callrail_call(source, self.world.call_id(), recorded=False)
        return webhooks.callrail(source, "post_call", payload)


def before(world: World, folder: Path, *replicas: str) -> layout.Edge:
    """The edge before a suite, and before further gateways."""
    grpc = {name: (address,) for name, address in world.suite.grpc.items()}
    edge = layout.Edge(
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        certificate=folder / "tls.crt",
        key=folder / "tls.key",
        endpoints={layout.GATEWAY_HTTP: (world.suite.http, *replicas), **grpc},
        head_seconds=2.0,
        quiet_seconds=3.0,
        policy_seconds=10.0,
    )
    commands.certify(edge)
    return edge


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    needed()
    folder = tmp_path_factory.mktemp("edge")
    rates = folder / "rates.json"
    rates.write_text(json.dumps(FREE))
    settings = {
        "TRUNKLINE_TENANT_EDGE_TOKEN": TOKEN,
        "TRUNKLINE_GATEWAY_API_LIMITS": "edge",
        "TRUNKLINE_TENANT_RATES_FILE": str(rates),
        "TRUNKLINE_AUDIO_ENGINE": "tests.standins.held_audio:create",
    }
    with running(folder, settings) as world:
        tenant = world.seed("acme")
        made = before(world, folder)
        with Envoy(folder, bootstrap.written(bootstrap.static(made)), made.certificate) as envoy:
            envoy.ready()
            for cluster in layout.CLUSTERS:
                envoy.healthy(cluster)
            yield Edge(world, envoy, tenant, rates)


@pytest.fixture(autouse=True)
def unlimited(request: pytest.FixtureRequest, edge: Edge) -> None:
    """Each test begins without limits, but for those that begin with the throttle."""
    edge.limits(THROTTLED if "throttled" in request.fixturenames else FREE)


@pytest.fixture
def throttled() -> None:
    """The API is stopped (see `unlimited`). Such tests stand side by side: each change of limits takes a second."""


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("http2", [False, True])
def test_a_webhook_is_acknowledged_over_tls(edge: Edge, http2: bool) -> None:
    webhook = edge.webhook()
    path = webhook.url.removeprefix(edge.world.suite.http_url)
    with edge.envoy.client(http2=http2) as client:
        answer = client.post(path, content=webhook.body, headers=webhook.headers)
        assert answer.status_code == 202
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert answer.json()["receiptId"]


def test_the_api_answers_with_the_callers_limit(edge: Edge) -> None:
    edge.limits({**FREE, "tenant": 1000})
    with edge.envoy.client(headers=bearer(edge.tenant.api_key)) as client:
        answer = client.get("/v1/tenants/acme/sources")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["sources"]) == len(edge.tenant.sources)
    assert answer.headers["ratelimit-limit"] == "1000"
    assert int(answer.headers["ratelimit-remaining"]) < 1000
    assert int(answer.headers["ratelimit-reset"]) >= 1


def test_who_is_not_known_is_401_and_who_may_not_is_403(edge: Edge) -> None:
    with api(edge.world.suite.http_url, edge.world.suite.operator_token) as operator:
        made = operator.post("/v1/tenants/acme/apiKeys", json={"role": "ROLE_VIEWER"}).json()
    with edge.envoy.client() as client:
        for headers in ({}, bearer("tl_nobody_guess")):
            answer = client.get("/v1/tenants/acme/sources", headers=headers)
            assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        answer = client.post("/v1/tenants/acme/sources", json={}, headers=bearer(made["key"]))
        assert (answer.status_code, answer.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
        answer = client.post(
            "/trunkline.gateway.v1.JobService/ClaimJobs", headers=bearer(edge.tenant.api_key)
        )
        assert answer.status_code == 403
        assert client.get("/nowhere").status_code == 404
        assert client.get("/readyz").status_code == 200


def test_a_body_that_is_too_large_is_413(edge: Edge) -> None:
    webhook = edge.webhook()
    path = webhook.url.removeprefix(edge.world.suite.http_url)
    with edge.envoy.client() as client:
        for where, headers in ((path, {}), ("/v1/tenants/acme/sources", bearer(edge.tenant.api_key))):
            assert client.post(where, content=b"x" * 1_200_000, headers=headers).status_code == 413
        assert client.get("/readyz", headers={"x": "y" * 40_000}).status_code == 431


@pytest.mark.parametrize("kind", ["tenant", "address"])
def test_what_is_over_a_limit_is_429_and_a_webhook_never(edge: Edge, kind: str) -> None:
    edge.limits({**FREE, kind: 5 if kind == "tenant" else 6})
    webhook = edge.webhook()
    path = webhook.url.removeprefix(edge.world.suite.http_url)
    with edge.envoy.client() as client:
        headers = bearer(edge.tenant.api_key)
        answers = [client.get("/v1/tenants/acme/sources", headers=headers) for _ in range(8)]
        over = answers[-1]
        assert answers[0].status_code == 200
        assert over.status_code == 429
        assert over.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert int(over.headers["retry-after"]) >= 1
        assert over.headers["ratelimit-remaining"] == "0"
        operator = client.get("/v1/tenants/acme/sources", headers=bearer(edge.world.suite.operator_token))
        assert operator.status_code == 200, "operators have no limit"
        for _ in range(10):
            assert client.post(path, content=webhook.body, headers=webhook.headers).status_code == 202


@pytest.fixture
def grpcurl(edge: Edge) -> Callable[..., str]:
    """grpcurl over TLS, against Envoy."""
    if not GRPCURL.exists():
        if os.environ.get("CI") == "true" and shutil.which("go"):
            pytest.fail("grpcurl is not in .tools/ although Go is on the PATH: make tools")
        pytest.skip("grpcurl is not installed (no Go): make tools")

    def run(*args: str) -> str:
        command = [
            str(GRPCURL),
            "-cacert",
            str(edge.envoy.ca),
            "-H",
            f"authorization: Bearer {edge.tenant.api_key}",
        ]
        done = subprocess.run([*command, *args], capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    return run


def test_grpcurl_reaches_each_service_over_tls(edge: Edge, grpcurl: Callable[..., str]) -> None:
    address, parent = edge.envoy.address, '{"parent": "tenants/acme"}'
    for method in (
        "tenant.v1.SourceService/ListSources", "audio.v1.RecordingService/ListRecordings",
        "ai.v1.AnalysisService/ListAnalyses", "gateway.v1.EventService/ListEvents",
    ):  # fmt: skip
        assert "ERROR" not in grpcurl("-d", parent, address, f"trunkline.{method}"), method
    assert "PermissionDenied" in grpcurl("-d", "{}", address, "trunkline.tenant.v1.TenantService/ListTenants")
    other = '{"parent": "tenants/globex"}'
    assert "NotFound" in grpcurl("-d", other, address, "trunkline.tenant.v1.SourceService/ListSources")


def test_a_browser_speaks_grpc_web(edge: Edge) -> None:
    request = source_service_pb2.ListSourcesRequest(parent="tenants/acme").SerializeToString()
    headers = {**bearer(edge.tenant.api_key), "content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    body = b"\0" + len(request).to_bytes(4, "big") + request
    with edge.envoy.client() as client:
        answer = client.post("/trunkline.tenant.v1.SourceService/ListSources", content=body, headers=headers)
    assert answer.status_code == 200
    size = int.from_bytes(answer.content[1:5], "big")
    listed = source_service_pb2.ListSourcesResponse.FromString(answer.content[5 : 5 + size])
    assert {type(source) for source in listed.sources} == {source_pb2.Source}
    assert b"grpc-status:0" in answer.content[5 + size :]


def test_the_document_of_the_edge(edge: Edge, tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "var/edge").mkdir(parents=True)
    (tmp_path / "var/dev.json").write_text(json.dumps(dev_facts(edge.world.suite, [edge.tenant])))
    shutil.copy(edge.envoy.ca, tmp_path / "var/edge/tls.crt")
    shutil.copy(edge.envoy.ca.with_suffix(".key"), tmp_path / "var/edge/tls.key")
    text = "".join(block.text for block in commands_of(ROOT / "docs/edge.md"))
    said = Shell(tmp_path).run(text.replace("localhost:8443", edge.envoy.address), {})
    assert "build/envoy.json" in said
    assert "HTTP/2 200" in said


def test_old_tls_is_refused(edge: Edge) -> None:
    host, _, port = edge.envoy.address.partition(":")
    context = ssl.create_default_context(cafile=str(edge.envoy.ca))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((host, int(port)), 5) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname=host)


def test_the_access_log_is_json_and_tells_no_secret(edge: Edge) -> None:
    secret = "s3cret-of-a-query"
    with edge.envoy.client(headers=bearer(edge.tenant.api_key)) as client:
        client.get(f"/v1/tenants/acme/sources?pageToken={secret}")

    def logged() -> list[dict[str, object]]:
        lines = [line for line in edge.envoy.log().splitlines() if line.startswith("{")]
        return [
            line
            for line in map(json.loads, lines)
            if line["path"] == "/v1/tenants/acme/sources" and line["method"] == "GET"
        ]

    (*_, last) = edge.world.wait(logged, "a line of the access log")
    assert (last["route"], last["tls"]) == ("api", "TLSv1.3")
    text = edge.envoy.log()
    for hidden in (secret, edge.tenant.api_key, TOKEN, edge.world.suite.operator_token):
        assert hidden not in text


def test_slow_clients_end_and_hurt_nobody(edge: Edge) -> None:
    host, _, port = edge.envoy.address.partition(":")
    context = ssl.create_default_context(cafile=str(edge.envoy.ca))
    slow = []
    for number in range(40):
        one = context.wrap_socket(socket.create_connection((host, int(port)), 5), server_hostname=host)
        # Half of them never end the head, half never end the body.
        one.sendall(b"POST /hooks/x/post_call HTTP/1.1\r\nhost: x\r\n")
        if number % 2:
            one.sendall(b"content-length: 1000\r\n\r\n{")
        slow.append(one)
    webhook = edge.webhook()
    path = webhook.url.removeprefix(edge.world.suite.http_url)
    with edge.envoy.client() as client:
        for _ in range(10):
            assert client.post(path, content=webhook.body, headers=webhook.headers).status_code == 202
    for one in slow:
        one.settimeout(20)
        with one:
            assert one.recv(100)[:12] in (b"HTTP/1.1 408", b"HTTP/1.1 404", b"")


class _Replica(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(202 if self.command == "POST" else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST = _answer

    def log_message(self, *_: object) -> None:
        pass


def _replica(port: int) -> None:
    http.server.ThreadingHTTPServer(("127.0.0.1", port), _Replica).serve_forever()


def test_a_killed_replica_fails_no_webhook(edge: Edge, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = f"from tests.e2e.test_e2e_edge import _replica; _replica({port})"
    replica = subprocess.Popen([sys.executable, "-c", start], cwd=ROOT)
    try:
        made = before(edge.world, tmp_path, f"127.0.0.1:{port}")
        with Envoy(tmp_path, bootstrap.written(bootstrap.static(made)), made.certificate) as envoy:
            envoy.ready().healthy(layout.GATEWAY_HTTP, 2)
            webhook = edge.webhook()
            path = webhook.url.removeprefix(edge.world.suite.http_url)
            codes: list[int] = []

            def post() -> None:
                with envoy.client() as client:
                    for _ in range(40):
                        codes.append(
                            client.post(path, content=webhook.body, headers=webhook.headers).status_code
                        )

            threads = [threading.Thread(target=post) for _ in range(4)]
            for thread in threads:
                thread.start()
            edge.world.wait(lambda: len(codes) > 30, "requests")
            replica.kill()
            for thread in threads:
                thread.join()
            assert set(codes) == {202}
            assert len(codes) == 160
    finally:
        replica.kill()
        replica.wait()


def test_the_emergency_throttle_stops_the_api_and_no_webhook(edge: Edge, throttled: None) -> None:
    webhook = edge.webhook()
    path = webhook.url.removeprefix(edge.world.suite.http_url)
    with edge.envoy.client() as client:
        headers = bearer(edge.tenant.api_key)
        assert client.get("/v1/tenants/acme/sources", headers=headers).status_code == 429
        assert client.post(path, content=webhook.body, headers=webhook.headers).status_code == 202


def test_grpcurl_shows_a_limit_over_tls(edge: Edge, grpcurl: Callable[..., str], throttled: None) -> None:
    parent, method = '{"parent": "tenants/acme"}', "trunkline.tenant.v1.SourceService/ListSources"
    assert "ResourceExhausted" in grpcurl("-d", parent, edge.envoy.address, method)


def test_over_grpc_a_limit_is_told_in_a_sentence(edge: Edge, throttled: None) -> None:
    trusted = grpc.ssl_channel_credentials(edge.envoy.ca.read_bytes())
    with grpc.secure_channel(edge.envoy.address, trusted) as channel:
        ask = channel.unary_unary("/trunkline.tenant.v1.SourceService/ListSources")
        for token in (edge.tenant.api_key, "tl_nobody_guess"):
            with pytest.raises(grpc.RpcError) as raised:
                ask(b"", metadata=[("authorization", f"Bearer {token}")], timeout=20)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert raised.value.details() == "the limit is 0 requests an hour; try again later"


def test_a_webhook_is_taken_while_the_policy_service_is_down(edge: Edge, throttled: None) -> None:
    webhook = edge.webhook()
    path = webhook.url.removeprefix(edge.world.suite.http_url)
    edge.world.suite.kill("tenant")
    try:
        with edge.envoy.client() as client:
            for _ in range(5):
                assert client.post(path, content=webhook.body, headers=webhook.headers).status_code == 202
            answer = client.get("/v1/tenants/acme/sources", headers=bearer("tl_nobody_guess"))
            assert answer.status_code == 503, "nobody is let in unproven"
            assert answer.headers["retry-after"]
    finally:
        edge.world.suite.start("tenant")
    edge.envoy.healthy(layout.POLICY)
    with edge.envoy.client(headers=bearer(edge.tenant.api_key)) as client:
        edge.world.wait(
            lambda: client.get("/v1/tenants/acme/sources").status_code == 429, "the throttle again"
        )
