"""What Envoy itself bounds, whoever is behind it: memory, streams, connections without a request, and floods."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamReset
from trunkline_cli.edge import bootstrap, commands, layout

from tests.envoys import Envoy, needed

pytestmark = pytest.mark.timeout(300)  # Envoy's types take their time on a busy machine
HEAP = 96 << 20
OPEN = "http.edge.downstream_rq_active"
PRESSURE = "overload.envoy.resource_monitors.fixed_heap.pressure"


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """An Envoy with small bounds, and nobody behind it."""
    needed()
    folder = tmp_path_factory.mktemp("bounds")
    edge = layout.Edge(
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        certificate=folder / "tls.crt",
        key=folder / "tls.key",
        endpoints=dict.fromkeys(layout.standard_endpoints(), ("127.0.0.1:9",)),
        quiet_seconds=60.0,  # a busy machine makes pauses
        heap_bytes=HEAP,
        asked_per_second=4,
    )
    commands.certify(edge)
    with Envoy(folder, bootstrap.written(bootstrap.static(edge)), edge.certificate) as made:
        yield made.ready()


def opened(envoy: Envoy, *protocols: str) -> ssl.SSLSocket:
    host, _, port = envoy.address.partition(":")
    context = ssl.create_default_context(cafile=str(envoy.ca))
    context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(socket.create_connection((host, int(port)), 5), server_hostname=host)


def unfinished(envoy: Envoy, held: contextlib.ExitStack, *, streams: int, size: int) -> None:
    """Send bodies that do not end over a connection, which stays open."""
    connection = H2Connection(H2Configuration())
    sock = held.enter_context(opened(envoy, "h2"))
    connection.initiate_connection()
    head = [(":method", "POST"), (":path", "/hooks/a/b"), (":scheme", "https"), (":authority", "localhost")]
    left = {}
    for _ in range(streams):
        stream = connection.get_next_available_stream_id()
        connection.send_headers(stream, head)
        left[stream] = size
    until = time.monotonic() + 60
    while left and time.monotonic() < until:
        moved = False
        for stream in list(left):
            some = min(connection.local_flow_control_window(stream), left[stream], 16_384)
            if some > 0:
                moved = True
                connection.send_data(stream, bytes(some))
                left[stream] -= some
            if not left[stream]:
                del left[stream]
        sock.sendall(connection.data_to_send())
        sock.settimeout(0.001 if moved else 5)
        try:
            data = sock.recv(65_536)
        except TimeoutError:
            continue
        for event in connection.receive_data(data):
            if isinstance(event, (StreamReset, ResponseReceived)):
                left.pop(event.stream_id or 0, None)


def test_bodies_that_do_not_end_take_no_more_memory_than_there_is(envoy: Envoy) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(3):
            unfinished(envoy, held, streams=32, size=1_040_000)
        until = time.monotonic() + 20
        # As many streams as fit, of 96; what was too much for a moment, until Envoy looked again, is given back.
        while envoy.stats(OPEN)[OPEN] >= 88 or envoy.stats(PRESSURE)[PRESSURE] >= 95:
            assert time.monotonic() < until, envoy.stats("(overload|http.edge.downstream_rq)")
            time.sleep(0.1)
    assert '"detail":"overload"' in envoy.log()
    with envoy.client() as client:
        assert client.get("/nowhere").status_code == 404


def test_a_connection_has_few_streams(envoy: Envoy) -> None:
    connection = H2Connection(H2Configuration())
    with opened(envoy, "h2") as sock:
        connection.initiate_connection()
        sock.sendall(connection.data_to_send())
        connection.receive_data(sock.recv(65_536))
    assert connection.remote_settings.max_concurrent_streams == 32


def test_a_flood_is_refused_before_anybody_is_asked_and_webhooks_are_not_of_it(envoy: Envoy) -> None:
    with envoy.client() as client:
        answers = [client.get("/v1/tenants/acme/sources") for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) >= 3
        assert refused[0].json()["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert refused[0].headers["content-type"] == "application/json"
        assert refused[0].headers["retry-after"] == "1"
        told = envoy.stats(".*ext_authz.edge.(error|ok|denied)")
        assert max(told.values()) <= len(answers) - len(refused), told
        hooks = {client.post("/hooks/a/b", content=b"{}").status_code for _ in range(12)}
        assert hooks == {503}, "nobody is there, but nothing refused them"
    with grpc.secure_channel(envoy.address, grpc.ssl_channel_credentials(envoy.ca.read_bytes())) as channel:
        ask = channel.unary_unary("/trunkline.tenant.v1.SourceService/ListSources")
        said = set()
        for _ in range(12):
            with pytest.raises(grpc.RpcError) as raised:
                ask(b"", timeout=20)
            said.add((raised.value.code(), raised.value.details()))
    assert (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "too many requests at once; try again in a second",
    ) in said


def test_strangers_are_shown_nothing_and_watch_nothing(envoy: Envoy) -> None:
    with grpc.secure_channel(envoy.address, grpc.ssl_channel_credentials(envoy.ca.read_bytes())) as channel:
        for method, code in (
            ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", grpc.StatusCode.UNAUTHENTICATED),
            ("grpc.health.v1.Health/Watch", grpc.StatusCode.UNIMPLEMENTED),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(f"/{method}")(b"", timeout=20)
            assert raised.value.code() is code


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/tenants/a/recordings:upload", "media"), ("/v1/tenants/a/recordings%3Aupload", "media"),
        ("/v1/tenants/a/recordings/b%3adownload", "media"), ("/v1/tenants/a/recordings/b", "api"),
    ],
)  # fmt: skip
def test_recordings_are_media_however_their_path_is_written(envoy: Envoy, path: str, route: str) -> None:
    with envoy.client() as client:
        client.post(path)
    time.sleep(0.1)

    def routes() -> list[str]:
        return [line for line in envoy.log().splitlines() if f'"{path}"' in line and f'"{route}"' in line]

    until = time.monotonic() + 20
    while not routes():  # the log is written now and then
        assert time.monotonic() < until, envoy.log()
        time.sleep(0.1)


def test_a_connection_without_a_request_ends(tmp_path: Path) -> None:
    made = bootstrap.written(bootstrap.static(layout.Edge(endpoints=layout.standard_endpoints())))
    assert '"idleTimeout": "10s"' in made
