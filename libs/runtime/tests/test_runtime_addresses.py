"""A channel follows a service's name: whoever replaces a replica takes its calls over, and none of them fails."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.identity.authority import Authority
from trunkline_runtime.identity.certificates import CertificateFolder
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.tls import Tls
from trunkline_runtime.testing import KEY_FOLDER

from tools.bench.traffic.names import Names

NAME = "tenant.rolled.test"


@pytest.mark.parametrize("mtls", [False, True], ids=["plaintext", "mtls"])
async def test_the_next_replica_takes_over_at_once(start_suite: Any, tmp_path: Any, mtls: bool) -> None:
    authority = Authority(tmp_path)
    authority.renew(("tenant", "gateway"))
    settings = {"tls_folder": tmp_path / "tenant"} if mtls else {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        port = probe.getsockname()[1]
    with Names() as names:
        target = names.target(NAME, port)
        tls = Tls(CertificateFolder(tmp_path / "gateway", "gateway", "X"), "gateway", {target: "tenant"})
        channels = Channels(TokenSigner(KEY_FOLDER, "gateway"), tls if mtls else None)
        answers: list[str] = []
        stop = asyncio.Event()

        async def replica(host: str) -> Any:
            async def tell(_request: Any, _context: Any) -> Any:
                await asyncio.sleep(0.01)
                return call_pb2.Call(name=host)

            suite = await start_suite(grpc_address=f"{host}:{port}", drain_notice_seconds=0.2, **settings)
            suite.handlers["One"] = tell
            return suite

        async def load() -> None:
            ask = last.method("One", channels.get(target))
            while not stop.is_set():
                request = call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc")
                answers.append((await ask(request, timeout=5)).name)

        hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
        last = await replica(hosts[0])
        names.set(NAME, hosts[:1])
        loads = [asyncio.create_task(load()) for _ in range(3)]
        # Each one lives shorter than the 30 seconds within which gRPC asks for a name once by default.
        for host in hosts[1:]:
            async with asyncio.timeout(10):
                while last.server.address.split(":")[0] not in answers[-3:]:
                    await asyncio.sleep(0.01)
            old, last = last, await replica(host)
            names.set(NAME, [host])
            await old.server.stop(5)
            async with asyncio.timeout(10):
                while answers[-1] != host:
                    await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*loads)
        await channels.close()
    assert set(answers) == set(hosts)
