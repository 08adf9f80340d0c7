"""The address of the metrics: two paths, and few connections, which must say something."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from trunkline_runtime.observe.metrics import MOST_ASKED, MetricsEndpoint

QUIET = 0.5


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    endpoint = MetricsEndpoint(f"127.0.0.1:{port}", "SETTING", lambda: (True, "ok"), quiet_seconds=QUIET)
    yield "127.0.0.1", port
    endpoint.close()


def status(address: tuple[str, int], path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/metrics", 200), ("/metrics?name=x", 200), ("/readyz", 200), ("/", 404), ("/metrics/../etc", 404)],
)
def test_there_are_two_paths(address: tuple[str, int], path: str, expected: int) -> None:
    assert status(address, path) == expected


def test_there_are_few_connections_at_once_and_one_more_is_hung_up_on(address: tuple[str, int]) -> None:
    idle = [socket.create_connection(address, timeout=30) for _ in range(MOST_ASKED)]
    try:
        with socket.create_connection(address, timeout=30) as one_more:
            assert one_more.recv(1) == b"", "hung up on"
        for connection in idle:
            assert connection.recv(1) == b"", "it said nothing in time"
    finally:
        for connection in idle:
            connection.close()
    assert status(address, "/readyz") == 200
