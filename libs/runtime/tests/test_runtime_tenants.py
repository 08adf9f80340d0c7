"""What the tenant service is asked about tenants, and how long its answer is used."""

import asyncio
import contextlib

import grpc
import pytest
from trunkline.tenant.v1 import tenant_pb2, tenant_service_pb2_grpc
from trunkline_runtime.engines.tenants import asking
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.testing import KEY_FOLDER


class Tenants(tenant_service_pb2_grpc.TenantServiceServicer):
    """Counts what it is asked."""

    def __init__(self):
        self.asked = []
        self.out_of_order = False

    async def GetTenant(self, request, context):
        self.asked.append(request.name)
        if self.out_of_order:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")
        return tenant_pb2.Tenant(name=request.name, display_name=f"{len(self.asked)}")


@contextlib.asynccontextmanager
async def served(now):
    server, tenants = grpc.aio.server(), Tenants()
    tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(tenants, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channels = Channels(TokenSigner(KEY_FOLDER, "audio"))
    try:
        yield asking(channels, f"127.0.0.1:{port}", lambda tenant: tenant.display_name, now), tenants
    finally:
        await channels.close()
        await server.stop(0)


async def test_a_tenant_is_asked_for_once_a_minute():
    seconds = [0.0]
    async with served(lambda: seconds[0]) as (ask, tenants):
        assert await asyncio.gather(*(ask("acme") for _ in range(5))) == ["1"] * 5
        seconds[0] = 59.0
        assert await ask("acme") == "1"
        assert await ask("globex") == "2"
        seconds[0] = 61.0
        assert await ask("acme") == "3"
    assert tenants.asked == ["tenants/acme", "tenants/globex", "tenants/acme"]


async def test_an_answer_that_does_not_come_is_not_kept():
    async with served(lambda: 0.0) as (ask, tenants):
        tenants.out_of_order = True
        with pytest.raises(grpc.RpcError):
            await ask("acme")
        tenants.out_of_order = False
        assert await ask("acme") == str(len(tenants.asked))
