"""What Envoy adds to a webhook, how soon it follows its control plane, and how long it waits for a limit.

A webhook is posted over four connections that stay open, directly and through Envoy in turns; the client's own TLS is
part of what Envoy adds. The limit is asked for as Envoy asks, with the three descriptors of a tenant's request.
"""

from __future__ import annotations

import dataclasses
import http.client
import http.server
import json
import shutil
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    RateLimitDescriptor,
    RateLimitDescriptorEntry,
)
from envoy_data_plane.envoy.service.ratelimit.v3 import RateLimitRequest, RateLimitResponse
from trunkline_cli.edge import bootstrap, commands, layout
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.seed import seed_tenant

from tests.envoys import TOKEN, Envoy
from tools.bench import Target, report
from tools.bench.calls import NO_CEILING, QUIET_LOGS

FOLDER = Path("build/bench/edge")
THREADS = 4
TURNS = 3
POSTS = 300
MOVES = 10
ASKED = 1_500
CONTROL_PLANE = "127.0.0.1:18017"
TARGETS = {"xds_follow_ms": Target("<", 1_000), "ratelimit_p95_ms": Target("<", 5)}
SETTINGS = {"TRUNKLINE_TENANT_EDGE_TOKEN": TOKEN, "TRUNKLINE_GATEWAY_API_LIMITS": "edge"}


def main() -> None:
    """Measure, and report."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    suite = Suite(FOLDER / "suite", free_ports=True, env={**QUIET_LOGS, **NO_CEILING, **SETTINGS})
    with ExitStack() as stack:
        suite.start("tenant", "gateway")
        stack.callback(suite.stop)
        figures = {**added(suite), "ratelimit_p95_ms": asked_ms(suite.grpc["tenant"])}
    figures["xds_follow_ms"] = follow_ms()
    report("edge", figures, TARGETS)


def edge_of(folder: Path, **endpoints: tuple[str, ...]) -> layout.Edge:
    """Return an edge on free ports, with a certificate."""
    made = layout.Edge(
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        certificate=folder / "tls.crt",
        key=folder / "tls.key",
        endpoints={**layout.standard_endpoints(), **endpoints},
    )
    commands.certify(made)
    return made


def added(suite: Suite) -> dict[str, float]:
    """Measure a webhook with and without Envoy."""
    tenant = seed_tenant(suite.http_url, suite.operator_token, "acme", "http://127.0.0.1:9")
    source = tenant.source("callrail")
    webhook = webhooks.callrail(source, "post_call", webhooks.callrail_call(source, "1", recorded=False))
    grpc_addresses = {name: (address,) for name, address in suite.grpc.items()}
    edge = edge_of(FOLDER, **{layout.GATEWAY_HTTP: (suite.http,), **grpc_addresses})
    times: dict[str, list[float]] = {"direct": [], "envoy": []}
    with Envoy(FOLDER, bootstrap.written(bootstrap.static(edge)), edge.certificate) as envoy:
        envoy.ready().healthy(layout.GATEWAY_HTTP)
        context = ssl.create_default_context(cafile=str(edge.certificate))
        ways: dict[str, Callable[[], http.client.HTTPConnection]] = {
            "direct": lambda: http.client.HTTPConnection(suite.http, timeout=30),
            "envoy": lambda: http.client.HTTPSConnection(envoy.address, timeout=30, context=context),
        }
        for turn in range(TURNS + 1):
            for way, connect in ways.items():
                took = posted(connect, webhook)
                if turn:  # the first one warms
                    times[way] += took
    p50 = {way: statistics.median(took) for way, took in times.items()}
    p99 = {way: statistics.quantiles(took, n=100)[98] for way, took in times.items()}
    return {
        "direct_p50_ms": p50["direct"],
        "direct_p99_ms": p99["direct"],
        "edge_added_p50_ms": p50["envoy"] - p50["direct"],
        "edge_added_p99_ms": p99["envoy"] - p99["direct"],
    }


def posted(connect: Callable[[], http.client.HTTPConnection], webhook: webhooks.Webhook) -> list[float]:
    """Post a webhook many times over a few connections; the milliseconds that each took."""
    took: list[float] = []

    def post() -> None:
        connection, path = connect(), urlsplit(webhook.url).path
        for _ in range(POSTS):
            began = time.perf_counter()
            connection.request("POST", path, webhook.body, webhook.headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 202, answer.status
            took.append((time.perf_counter() - began) * 1_000)
        connection.close()

    threads = [threading.Thread(target=post) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == THREADS * POSTS
    return took


def asked_ms(address: str) -> float:
    """Measure the 95th percentile of asking for a tenant's limits, one question after another."""
    facts = [
        {"route": "api", "remote_address": "192.0.2.1"},
        {"route": "api", "tenant": "acme", "plan": "standard"},
        {"route": "api", "tenant": "acme", "user": "u1"},
    ]
    request = RateLimitRequest(
        domain="trunkline",
        descriptors=[
            RateLimitDescriptor(entries=[RateLimitDescriptorEntry(key=k, value=v) for k, v in one.items()])
            for one in facts
        ],
    )
    sent = bytes(request)
    took = []
    with grpc.insecure_channel(address) as channel:
        ask: Callable[..., bytes] = channel.unary_unary(
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
        )
        for _ in range(ASKED):
            began = time.perf_counter()
            answer = ask(sent, metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=10)
            took.append((time.perf_counter() - began) * 1_000)
        assert len(RateLimitResponse.parse(answer).statuses) == len(facts)
    return statistics.quantiles(took[ASKED // 10 :], n=20)[18]


class _Named(http.server.BaseHTTPRequestHandler):
    """A gateway that answers with its own port."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = str(self.server.server_port).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def named() -> Iterator[int]:
    """Serve a stand-in of a gateway; yields its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Named)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


def follow_ms() -> float:
    """Measure the longest time from a change of the watched file until requests go to the new endpoint."""
    folder = FOLDER / "xds"
    folder.mkdir()
    file, took = folder / "edge.json", []
    with ExitStack() as stack:
        ports = [stack.enter_context(named()) for _ in range(2)]
        edge = edge_of(folder)

        def move(port: int) -> None:
            told = dataclasses.asdict(edge) | {"certificate": str(edge.certificate), "key": str(edge.key)}
            told["endpoints"] = {**edge.endpoints, layout.GATEWAY_HTTP: [f"127.0.0.1:{port}"]}
            file.write_text(json.dumps({name: value for name, value in told.items() if value is not None}))

        move(ports[0])
        command = [
            sys.executable,
            "-m",
            "trunkline_cli",
            "edge",
            "serve",
            str(file),
            "--address",
            CONTROL_PLANE,
        ]
        serving = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        stack.callback(serving.wait)
        stack.callback(serving.terminate)
        config = bootstrap.written(bootstrap.dynamic(edge, CONTROL_PLANE))
        envoy = stack.enter_context(Envoy(folder, config, edge.certificate)).ready(60)
        client = stack.enter_context(envoy.client())
        for number in range(MOVES + 1):
            port = ports[number % 2]
            began = time.perf_counter()
            move(port)
            while client.post("/hooks/a/b", content=b"{}").text != str(port):
                assert time.perf_counter() - began < 30
                time.sleep(0.002)
            if number:
                took.append((time.perf_counter() - began) * 1_000)
    return max(took)


if __name__ == "__main__":
    main()
