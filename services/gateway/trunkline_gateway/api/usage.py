"""UsageService: what is kept of a tenant beside what its plan allows, composed from the services that keep it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from trunkline.audio.v1 import admin_service_pb2, admin_service_pb2_grpc
from trunkline.gateway.v1 import usage_service_pb2 as pb
from trunkline.gateway.v1 import usage_service_pb2_grpc
from trunkline.tenant.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc
from trunkline_runtime.api.resources import parse
from trunkline_runtime.errors import from_rpc_error
from trunkline_runtime.rpc.channels import Channels, unconfined
from trunkline_store import Database

from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.intake.kept import Kept, rejected_bytes, running_replays

_CALL_SECONDS = 3.0


class UsageService(usage_service_pb2_grpc.UsageServiceServicer):
    """The servicer. The gateway counts receipts, rejections, sources and replays; the audio service its recordings."""

    def __init__(
        self,
        db: Database,
        kept: Kept,
        sources: SourceMap,
        channels: Channels,
        *,
        tenant_address: str,
        audio_address: str,
    ):
        """Nothing is connected before the first call."""
        self._db = db
        self._kept = kept
        self._sources = sources
        self._tenants = tenant_service_pb2_grpc.TenantServiceStub(channels.get(tenant_address))
        self._audio = admin_service_pb2_grpc.AdminServiceStub(channels.get(audio_address))

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.Usage:
        """Show what a tenant uses. Raises NotFound, Unavailable."""
        tenant = parse("tenants/{tenant}/usage", request.name)["tenant"]
        name = f"tenants/{tenant}"
        asked = tenant_service_pb2.GetTenantRequest(name=name)
        counted = admin_service_pb2.CountTenantRequest(name=name)
        with unconfined():
            found, recordings = await asyncio.gather(
                _asked(self._tenants.GetTenant, asked), _asked(self._audio.CountTenant, counted)
            )
        rejected, replaying = await self._db.scan(
            lambda conn: (rejected_bytes(conn, tenant), running_replays(conn, tenant))
        )
        used = tenant_pb2.Quotas(
            receipts_bytes=self._kept.used(tenant),
            recordings_bytes=recordings.recordings_bytes,
            rejections_bytes=rejected,
            sources=self._sources.count_of(tenant),
            replays=replaying,
        )
        return pb.Usage(name=request.name, plan=found.plan, quotas=found.quotas, used=used)


async def _asked(method: Any, request: Any) -> Any:
    try:
        return await method(request, timeout=_CALL_SECONDS)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
