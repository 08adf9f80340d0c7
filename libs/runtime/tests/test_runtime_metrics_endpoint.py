"""The address of the metrics: two paths, and few connections, which must say something."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from trunkline_runtime.config import ConfigError
from trunkline_runtime.observe.endpoint import MOST_ASKED, MetricsEndpoint

QUIET = 0.5


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    endpoint = MetricsEndpoint(
        f"127.0.0.1:{port}", "gateway", "SETTING", lambda: (True, "ok"), quiet_seconds=QUIET
    )
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


def test_a_connection_that_says_a_byte_now_and_then_does_not_keep_its_place() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    endpoint = MetricsEndpoint(
        f"127.0.0.1:{port}", "gateway", "SETTING", lambda: (True, "ok"), quiet_seconds=30.0, most_seconds=0.5
    )
    ended = threading.Event()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    connection.sendall(b"G")

        dripping = threading.Thread(target=drip)
        dripping.start()
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b"", "hung up on"
        ended.set()
        dripping.join()
    endpoint.close()


# The port is in use


def taken() -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_port_in_use_is_said_with_the_address_and_the_setting_and_served_once_it_is_free() -> None:
    listener, address = taken()
    with capture_logs() as lines:
        endpoint = MetricsEndpoint(address, "gateway", "SETTING", lambda: (True, "ok"), retry_seconds=0.02)
        (line,) = lines
        assert (line["log_level"], line["event"]) == ("error", "metrics_not_served")
        assert (line["address"], line["setting"]) == (address, "SETTING")
        assert line["reason"] == "Address already in use"
        assert endpoint.port == 0
        served = threading.Event()
        listener.close()
        while endpoint.port == 0:
            served.wait(0.01)
        host, port = address.split(":")
        assert status((host, int(port)), "/readyz") == 200
        endpoint.close()
    assert [line["event"] for line in lines] == ["metrics_not_served", "metrics_served"]


def test_it_is_closed_while_it_waits() -> None:
    listener, address = taken()
    with listener, capture_logs():
        MetricsEndpoint(address, "gateway", "SETTING", retry_seconds=3600.0).close()
    assert "metrics" not in [thread.name for thread in threading.enumerate()]
    with socket.create_server(("127.0.0.1", int(address.split(":")[1]))):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_what_no_other_program_causes_is_a_wrong_setting(host: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot serve metrics on {host}:9090: .*; set SETTING to move it"):
        MetricsEndpoint(f"{host}:9090", "gateway", "SETTING")


def test_metrics_say_which_process_shows_them(address: tuple[str, int]) -> None:
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/metrics", timeout=10) as answer:
        assert b'trunkline_process_info{name="gateway"} 1.0' in answer.read()
