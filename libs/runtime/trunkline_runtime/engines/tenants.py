"""What a tenant's own settings say, of those who ask a service without the gateway's word on them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cachetools import LRUCache
from trunkline.tenant.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc

from trunkline_runtime.flights import Flights
from trunkline_runtime.rpc.channels import Channels, acting_for

_SECONDS = 5.0
_KEPT_SECONDS = 60.0
_TENANTS = 10_000

Read = TypeVar("Read")


def asking(
    channels: Channels,
    tenant_address: str,
    read: Callable[[tenant_pb2.Tenant], Read],
    now: Callable[[], float] = time.monotonic,
) -> Callable[[str], Awaitable[Read]]:
    """Return what asks the tenant service about the tenant of a bare id, and keeps what `read` made for a minute.

    What is returned raises grpc.RpcError.
    """
    stub = tenant_service_pb2_grpc.TenantServiceStub(channels.get(tenant_address))
    known: LRUCache[str, tuple[float, Read]] = LRUCache(_TENANTS)
    flights: Flights[str, Read] = Flights()  # the requests of a batch ask together

    async def ask(tenant: str) -> Read:
        kept = known.get(tenant)
        if kept is not None and now() - kept[0] < _KEPT_SECONDS:
            return kept[1]
        return await flights.run(tenant, lambda: fetched(tenant))

    async def fetched(tenant: str) -> Read:
        request = tenant_service_pb2.GetTenantRequest(name=f"tenants/{tenant}")
        with acting_for(tenant):
            found = read(await stub.GetTenant(request, timeout=_SECONDS))
        known[tenant] = (now(), found)
        return found

    return ask
