"""Usage is composed of what each service counts, beside what the plan allows."""

from __future__ import annotations

import pytest
from gateway_deliveries import callrail
from gateway_world import opened
from trunkline.audio.v1 import admin_service_pb2
from trunkline.gateway.v1 import usage_service_pb2 as pb
from trunkline.tenant.v1 import tenant_pb2
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


async def test_usage_shows_what_is_kept_beside_what_may_be(tmp_path):
    async with opened(tmp_path) as world:
        channels, kept = Channels(TokenSigner(KEY_FOLDER, "gateway")), Kept(world.db)
        usage = UsageService(
            world.db, kept, world.sources, channels, tenant_address="127.0.0.1:1", audio_address="127.0.0.1:1"
        )
        with pytest.raises(Unavailable):
            await usage.GetUsage(pb.GetUsageRequest(name=NAME), None)
        await channels.close()

        async def tenant(request, timeout):
            assert request.name == "tenants/acme"
            return tenant_pb2.Tenant(name=request.name, plan=tenant_pb2.PLAN_TRIAL, quotas=QUOTAS)

        async def count(request, timeout):
            return admin_service_pb2.CountTenantResponse(recordings_bytes=4_321)

        class Stub:
            GetTenant, CountTenant = staticmethod(tenant), staticmethod(count)

        usage._tenants = usage._audio = Stub
        await world.dead(1)
        await world.keep_rejected(callrail(b"x" * 1_000))
        await world.replay_all(filter="state = dead_letter")
        await kept.refresh()
        told = await usage.GetUsage(pb.GetUsageRequest(name=NAME), None)
        assert (told.name, told.plan, told.quotas) == (NAME, tenant_pb2.PLAN_TRIAL, QUOTAS)
        used = told.used
        assert (used.recordings_bytes, used.sources, used.replays) == (4_321, 1, 1)
        assert 512 < used.receipts_bytes < 1_000
        assert 1_500 < used.rejections_bytes < 2_000
