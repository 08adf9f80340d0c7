"""SIGTERM to a real process: health says so first, calls in flight end, new ones are refused, it exits 0 in time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline.tenant.v1 import call_service_pb2, call_service_pb2_grpc
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.testing import KEY_FOLDER

DRAIN_SECONDS = 5.0
PROCESS = """
import asyncio, sys
from pathlib import Path
from trunkline.tenant.v1 import call_pb2, call_service_pb2_grpc as rpc
from trunkline_runtime.observe import logs
from trunkline_runtime.config import CommonConfig, load
from trunkline_runtime.rpc.server import Server, run
from trunkline_runtime.identity.tokens import TokenSigner

class Calls(rpc.CallServiceServicer):
    async def GetCall(self, request, context):
        print("in flight", flush=True)
        gate = Path(sys.argv[1])
        while not gate.exists():
            await asyncio.sleep(0.01)
        return call_pb2.Call(name=request.name)

async def main():
    config = load(CommonConfig, "tenant")
    logs.configure("tenant", config.log_format, config.log_level)
    server = Server(config, service="tenant", signer=TokenSigner(config.keys, "tenant"))
    server.add(rpc.add_CallServiceServicer_to_server, Calls(), "trunkline.tenant.v1.CallService")
    await server.start()
    print(server.address, flush=True)
    await server.serve_until_stopped()

run(main)
"""


@contextlib.asynccontextmanager
async def process(tmp_path: Path, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A service of its own, killed at the end if it is still there."""
    script = tmp_path / "service.py"
    script.write_text(PROCESS)
    env = {
        "PYTHONPATH": ":".join(sys.path),
        "TRUNKLINE_TENANT_KEYS": str(KEY_FOLDER),
        "TRUNKLINE_TENANT_GRPC_ADDRESS": "127.0.0.1:0",
        "TRUNKLINE_TENANT_METRICS_ADDRESS": "",
        "TRUNKLINE_TENANT_DRAIN_SECONDS": str(DRAIN_SECONDS),
        **{f"TRUNKLINE_TENANT_{name}": value for name, value in settings.items()},
    }
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(tmp_path / "gate"), env=env, stdout=pipe, stderr=pipe
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def line(started: asyncio.subprocess.Process) -> str:
    async with asyncio.timeout(20):
        assert started.stdout is not None
        while (text := (await started.stdout.readline()).decode().strip()).startswith("{"):
            pass  # a line of the log
        return text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_call_in_flight_ends_before_the_process_does(tmp_path: Path, number: signal.Signals) -> None:
    async with process(tmp_path, DRAIN_NOTICE_SECONDS="0.3") as started:
        address = await line(started)
        channels = Channels(TokenSigner(KEY_FOLDER, "gateway"))
        channel = channels.get(address)
        stub, health = call_service_pb2_grpc.CallServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        call = asyncio.ensure_future(
            stub.GetCall(call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc"), timeout=20)
        )
        assert await line(started) == "in flight"

        began = time.monotonic()
        started.send_signal(number)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=5)).status == (
            health_pb2.HealthCheckResponse.NOT_SERVING
        )
        assert await watch.read() is grpc.aio.EOF
        assert not call.done()
        await refuses(address)
        assert not call.done()
        (tmp_path / "gate").touch()
        assert (await call).name == "tenants/acme/calls/abc"
        async with asyncio.timeout(DRAIN_SECONDS):
            assert await started.wait() == 0
        assert time.monotonic() - began < DRAIN_SECONDS
        await channels.close()


async def refuses(address: str) -> None:
    """Return once new calls are refused."""
    code = grpc.StatusCode.OK
    async with asyncio.timeout(10):
        while code is not grpc.StatusCode.UNAVAILABLE:
            async with grpc.aio.insecure_channel(address) as channel:
                code = (
                    await health_pb2_grpc.HealthStub(channel)
                    .Check(health_pb2.HealthCheckRequest(), timeout=1)
                    .code()
                )
            await asyncio.sleep(0.02)


async def test_a_call_that_never_ends_does_not_hold_the_process_past_its_time(tmp_path: Path) -> None:
    async with process(tmp_path, DRAIN_SECONDS="0.5") as started:
        address = await line(started)
        channels = Channels(TokenSigner(KEY_FOLDER, "gateway"))
        stub = call_service_pb2_grpc.CallServiceStub(channels.get(address))
        call = asyncio.ensure_future(
            stub.GetCall(call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc"), timeout=20)
        )
        assert await line(started) == "in flight"
        began = time.monotonic()
        started.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await started.wait() == 0
        assert time.monotonic() - began > 0.4
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await channels.close()


async def test_wrong_settings_end_the_process_with_every_problem_and_code_2(tmp_path: Path) -> None:
    async with process(tmp_path, LOG_LEVEL="loud", GRPC_ADRESS="x") as started:
        _, error = await started.communicate()
        assert started.returncode == 2
        assert error.decode().splitlines() == [
            "error: TRUNKLINE_TENANT_LOG_LEVEL must be one of debug, info, warning, error; it is 'loud'",
            "error: TRUNKLINE_TENANT_GRPC_ADRESS is not a setting; did you mean TRUNKLINE_TENANT_GRPC_ADDRESS?",
        ]


async def test_a_folder_without_keys_ends_the_process_with_code_2(tmp_path: Path) -> None:
    async with process(tmp_path, KEYS=str(tmp_path)) as started:
        _, error = await started.communicate()
        assert started.returncode == 2
        assert "TRUNKLINE_TENANT_KEYS must be a folder with trusted.json" in error.decode()


async def test_an_embedded_start_loads_no_exporter_and_no_cloud_library(tmp_path: Path) -> None:
    script = (
        "import sys, asyncio, pathlib\n"
        "from trunkline_runtime.config import CommonConfig\n"
        "from trunkline_runtime.rpc.server import Server\n"
        "from trunkline_runtime.identity.tokens import TokenSigner\n"
        "async def main():\n"
        f"    signer = TokenSigner(pathlib.Path('{KEY_FOLDER}'), 'tenant')\n"
        f"    server = Server(CommonConfig(), service='tenant', signer=signer)\n"
        "    await server.start()\n"
        "    await server.stop(0)\n"
        "asyncio.run(main())\n"
        "late = ('opentelemetry', 'google.cloud.', 'tenacity', 'sqlalchemy')\n"
        "print([m for m in sys.modules if m.startswith(late)])\n"
    )
    pipe = asyncio.subprocess.PIPE
    env = {"PYTHONPATH": ":".join(sys.path)}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=pipe, stderr=pipe, env=env
    )
    output, error = await started.communicate()
    assert started.returncode == 0, error.decode()
    assert output.decode().splitlines()[-1] == "[]"
