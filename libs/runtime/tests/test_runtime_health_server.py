"""A process that serves nothing else serves its health: ready when what it needs is there, alive while it answers."""

from __future__ import annotations

import socket

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline_runtime.config import ConfigError
from trunkline_runtime.rpc.health import LIVE, NOT_SERVING, SERVING, Health, serving_health


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def asked(address: str, service: str = "") -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return int((await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)).status)


async def test_it_is_ready_when_what_it_needs_is_there_and_alive_before() -> None:
    health, address = Health(), free_address()
    there = health.depend("gateway")
    async with serving_health(health, address, "SETTING"):
        assert (await asked(address), await asked(address, LIVE)) == (NOT_SERVING, SERVING)
        there(True)
        assert (await asked(address), await asked(address, LIVE)) == (SERVING, SERVING)
        there(False)
        assert await asked(address) == NOT_SERVING


async def test_an_unknown_service_is_not_found() -> None:
    address = free_address()
    async with serving_health(Health(), address, "SETTING"):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asked(address, "nothing")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("address", ["", "127.0.0.1:0"])
async def test_it_is_served_only_where_an_address_says_so(address: str) -> None:
    async with serving_health(Health(), address, "SETTING") as port:
        assert port == 0


async def test_an_address_in_use_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="TRUNKLINE_WORKER_GRPC_ADDRESS"):
            async with serving_health(Health(), address, "TRUNKLINE_WORKER_GRPC_ADDRESS"):
                pass
