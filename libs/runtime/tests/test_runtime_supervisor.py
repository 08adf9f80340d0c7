"""A process tells the supervisor that started it when it has started, and that it stops."""

import os
import socket

import pytest
from trunkline_runtime.config import CommonConfig
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.process import supervisor
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.testing import KEY_FOLDER


@pytest.fixture
def told(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield lambda: listener.recv(100).decode()


async def test_a_server_says_that_it_has_started_and_that_it_stops(told):
    config = CommonConfig(
        grpc_address="127.0.0.1:0", keys=KEY_FOLDER, drain_seconds=0.1, drain_notice_seconds=0
    )
    server = Server(config, service="tenant", signer=TokenSigner(KEY_FOLDER, "tenant"))
    await server.start()
    assert told() == "READY=1"
    await server.stop()
    assert told() == "STOPPING=1"


def test_an_abstract_name_is_found(monkeypatch):
    name = f"trunkline-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        supervisor.started()
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/notify"])
def test_nobody_who_listens_is_no_failure(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    supervisor.started()
