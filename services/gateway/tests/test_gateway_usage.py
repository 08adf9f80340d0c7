"""Usage is composed of what each service counts, beside what the plan allows."""

from __future__ import annotations

from contextlib import asynccontextmanager

import grpc
import pytest
from gateway_deliveries import callrail
from gateway_world import opened
from trunkline.audio.v1 import admin_service_pb2, admin_service_pb2_grpc
from trunkline.gateway.v1 import usage_service_pb2 as pb
from trunkline.tenant.v1 import tenant_pb2, tenant_service_pb2_grpc
from trunkline_gateway.api.usage import UsageService
from trunkline_gateway.intake.kept import Kept
from trunkline_runtime.errors import Unavailable
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.testing import KEY_FOLDER

NAME = "tenants/acme/usage"
QUOTAS = tenant_pb2.Quotas(
    receipts_bytes=10_000, recordings_bytes=9_000, rejections_bytes=8_000, sources=7, replays=6
)


class Others(
    tenant_service_pb2_grpc.TenantServiceServicer,
    admin_service_pb2_grpc.AdminServiceServicer,
):
    """What the tenant and the audio service say."""

    async def GetTenant(self, request, context):
        return tenant_pb2.Tenant(name=request.name, plan=tenant_pb2.PLAN_TRIAL, quotas=QUOTAS)

    async def CountTenant(self, request, context):
        return admin_service_pb2.CountTenantResponse(recordings_bytes=4_321)


@asynccontextmanager
async def others():
    """Serve both at one address."""
    server = grpc.aio.server()
    tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(Others(), server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(Others(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_usage_shows_what_is_kept_beside_what_may_be(tmp_path):
    async with opened(tmp_path) as world:
        channels, kept = Channels(TokenSigner(KEY_FOLDER, "gateway")), Kept(world.db)

        def usage(address):
            return UsageService(
                world.db, kept, world.sources, channels, tenant_address=address, audio_address=address
            )

        with pytest.raises(Unavailable):
            await usage("127.0.0.1:1").GetUsage(pb.GetUsageRequest(name=NAME), None)
        await world.dead(1)
        await world.keep_rejected(callrail(b"x" * 1_000))
        await world.replay_all(filter="state = dead_letter")
        await kept.refresh()
        async with others() as address:
            told = await usage(address).GetUsage(pb.GetUsageRequest(name=NAME), None)
        await channels.close()
        assert (told.name, told.plan, told.quotas) == (NAME, tenant_pb2.PLAN_TRIAL, QUOTAS)
        used = told.used
        assert (used.recordings_bytes, used.sources, used.replays) == (4_321, 1, 1)
        assert 512 < used.receipts_bytes < 1_000
        assert 1_500 < used.rejections_bytes < 2_000
