"""Feeds the source map from the tenant service's ResolveSource and WatchSources, as the gateway's own identity."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from trunkline.tenant.v1 import source_pb2, source_service_pb2, source_service_pb2_grpc
from trunkline_runtime.errors import from_rpc_error
from trunkline_runtime.rpc.channels import Channels, unconfined

# A webhook waits for this answer: better kept unverified than answered late.
_RESOLVE_SECONDS = 0.5
# Watches are renewed now and then, so that none outlives a change of the fleet.
_WATCH_SECONDS = 3600.0


class TenantFeed:
    """The real feed."""

    def __init__(self, channels: Channels, tenant_address: str):
        """Nothing is connected before the first call."""
        self._stub = source_service_pb2_grpc.SourceServiceStub(channels.get(tenant_address))

    async def resolve(self, source_id: str) -> source_pb2.ResolvedSource:
        """Give one source. Raises NotFound only when there is none."""
        request = source_service_pb2.ResolveSourceRequest(source_id=source_id)
        try:
            with unconfined():
                answer: source_pb2.ResolvedSource = await self._stub.ResolveSource(
                    request, timeout=_RESOLVE_SECONDS
                )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return answer

    async def watch(self, after_revision: int) -> AsyncIterator[source_service_pb2.WatchSourcesResponse]:
        """Give every source, then each change."""
        request = source_service_pb2.WatchSourcesRequest(after_revision=after_revision)
        try:
            with unconfined():
                call = self._stub.WatchSources(request, timeout=_WATCH_SECONDS)
            async for message in call:
                yield message
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
