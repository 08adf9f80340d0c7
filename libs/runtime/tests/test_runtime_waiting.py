"""A service whose store cannot be opened stays up, NOT_SERVING and saying why, and begins by itself later."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline.tenant.v1 import call_service_pb2, call_service_pb2_grpc
from trunkline_runtime.config import CommonConfig, ConfigError
from trunkline_runtime.errors import Unavailable, from_rpc_error
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.process.signals import StoppedWaiting
from trunkline_runtime.rpc.waiting import opened
from trunkline_runtime.testing import KEY_FOLDER


class NotYet(Exception):
    """What passes."""


class Locked(Exception):
    """What does not pass."""


class Opening:
    """Fails so often as it is told, and for as long as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.may_open = asyncio.Event()
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0)
        if not self.may_open.is_set():
            raise NotYet("it is at revision 0001 and 0002 is needed")
        return "opened"


class Held:
    """What the gateway would serve besides."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.left = False
        self.why = lambda: ""

    @asynccontextmanager
    async def __call__(self, why: Any) -> Any:
        self.why = why
        self.entered.set()
        try:
            yield
        finally:
            self.left = True


@pytest.fixture
def config() -> CommonConfig:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return CommonConfig(keys=KEY_FOLDER, grpc_address=f"127.0.0.1:{port}", metrics_address="")


def begin(config: CommonConfig, opening: Any, held: Any = None, **changes: Any) -> asyncio.Task[str]:
    return asyncio.create_task(
        opened(
            opening, (NotYet,), config, service="tenant", signer=TokenSigner(KEY_FOLDER, "tenant"), meanwhile=held,
            **{"retry_seconds": 0.01, **changes},
        )
    )  # fmt: skip


async def test_what_opens_at_once_binds_nothing(config: CommonConfig) -> None:
    opening, held = Opening(), Held()
    opening.may_open.set()
    assert await begin(config, opening, held) == "opened"
    assert not held.entered.is_set()


async def test_it_says_why_until_it_is_opened_and_then_lets_go_of_its_address(config: CommonConfig) -> None:
    opening, held = Opening(), Held()
    waiting = begin(config, opening, held)
    await held.entered.wait()
    assert held.why() == "store: it is at revision 0001 and 0002 is needed"
    async with grpc.aio.insecure_channel(config.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "trunkline.tenant.v1.CallService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call_service_pb2_grpc.CallServiceStub(channel).GetCall(
                call_service_pb2.GetCallRequest(name="tenants/acme/calls/one"), timeout=5
            )
        error = from_rpc_error(refused.value)
        assert isinstance(error, Unavailable)
        assert (error.reason, error.transient) == ("STORE_NOT_READY", True)
        watched = [
            answer.status
            async for answer in _after(health.Watch(health_pb2.HealthCheckRequest()), opening.may_open.set)
        ]
    assert watched == [health_pb2.HealthCheckResponse.NOT_SERVING]  # and the stream ended with the wait
    assert await waiting == "opened"
    assert held.left
    assert opening.attempts > 1
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(config.grpc_address.rpartition(":")[2])))


async def _after(stream: Any, first_seen: Any) -> Any:
    async for answer in stream:
        yield answer
        first_seen()


async def test_an_attempt_that_hangs_is_not_waited_for_in_silence(config: CommonConfig) -> None:
    held, go_on = Held(), asyncio.Event()

    async def slow() -> str:
        await go_on.wait()
        return "opened"

    waiting = begin(config, slow, held, patience_seconds=0.01)
    await held.entered.wait()
    assert held.why() == "store: it is still being opened"
    go_on.set()
    assert await waiting == "opened"


async def test_what_cannot_pass_comes_back_also_after_a_wait(config: CommonConfig) -> None:
    held = Held()
    with pytest.raises(ValueError, match="damaged"):
        await begin(config, Opening(ValueError("damaged")), held)
    assert not held.entered.is_set()
    with pytest.raises(ValueError, match="damaged"):
        await begin(config, Opening(NotYet("first"), ValueError("damaged")), held)
    assert held.left


async def test_what_a_person_must_mend_is_a_wrong_setting_also_after_a_wait(config: CommonConfig) -> None:
    for errors in ([Locked("it is open")], [NotYet("first"), Locked("it is open")]):
        with pytest.raises(ConfigError, match=r"^TRUNKLINE_TENANT_STORE_URL: it is open$"):
            await begin(config, Opening(*errors), refused=(Locked,))


async def test_a_signal_ends_the_wait_cleanly(config: CommonConfig) -> None:
    held = Held()
    waiting = begin(config, Opening(), held)
    await held.entered.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(StoppedWaiting):
        await asyncio.wait_for(waiting, 5)
    assert held.left
