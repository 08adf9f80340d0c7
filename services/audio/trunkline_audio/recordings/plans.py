"""What a tenant's plan and retention say of recordings that come without the gateway's word on them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cachetools import LRUCache
from trunkline.tenant.v1 import tenant_service_pb2, tenant_service_pb2_grpc
from trunkline_runtime.rpc.channels import Channels, acting_for

_SECONDS = 5.0
_KEPT_SECONDS = 60.0
_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """`quota_bytes` is the most that may be kept, `keep_days` how long; 0 is no limit, and the service's setting."""

    quota_bytes: int = 0
    keep_days: int = 0


AskPlan = Callable[[str], Awaitable[RecordingPlan]]
"""Takes the bare id of a tenant. Raises grpc.RpcError."""


def plans(channels: Channels, tenant_address: str, now: Callable[[], float] = time.monotonic) -> AskPlan:
    """Return what asks the tenant service, and keeps its answers for a minute."""
    stub = tenant_service_pb2_grpc.TenantServiceStub(channels.get(tenant_address))
    known: LRUCache[str, tuple[float, RecordingPlan]] = LRUCache(_TENANTS)

    async def ask(tenant: str) -> RecordingPlan:
        kept = known.get(tenant)
        if kept is not None and now() - kept[0] < _KEPT_SECONDS:
            return kept[1]
        request = tenant_service_pb2.GetTenantRequest(name=f"tenants/{tenant}")
        with acting_for(tenant):
            found = await stub.GetTenant(request, timeout=_SECONDS)
        plan = RecordingPlan(found.quotas.recordings_bytes, found.retention.recordings_days)
        known[tenant] = (now(), plan)
        return plan

    return ask
