"""Tenants: created, shown, listed, changed, suspended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc
from trunkline_runtime import resources
from trunkline_runtime.errors import AlreadyExists, InvalidArgument, NotFound
from trunkline_runtime.identity import current_caller
from trunkline_store import Database, insert_if_absent

from trunkline_tenant import changes, ids, masks, requests
from trunkline_tenant.lists import Page
from trunkline_tenant.schema import tenants
from trunkline_tenant.times import timestamp

_CREATE = "CreateTenant"
_CHANGEABLE = ("display_name", "state")


class TenantService(tenant_service_pb2_grpc.TenantServiceServicer):
    """trunkline.tenant.v1.TenantService. `sources_changed` wakes whoever watches sources."""

    def __init__(self, db: Database, sources_changed: Callable[[], None]) -> None:
        self._db = db
        self._sources_changed = sources_changed

    async def CreateTenant(
        self, request: tenant_service_pb2.CreateTenantRequest, context: object
    ) -> tenant_pb2.Tenant:
        """Create a tenant, or show what the same request made before."""
        check_display_name(request.tenant.display_name)
        row = await self._db.write(lambda conn: _create(conn, request, self._db.clock.now()))
        return shown(row)

    async def GetTenant(
        self, request: tenant_service_pb2.GetTenantRequest, context: object
    ) -> tenant_pb2.Tenant:
        """Show a tenant."""
        tenant = resources.tenant_of(request.name)
        return shown(await self._db.read(lambda conn: load(conn, tenant)))

    async def ListTenants(
        self, request: tenant_service_pb2.ListTenantsRequest, context: object
    ) -> tenant_service_pb2.ListTenantsResponse:
        """List every tenant to an operator or a service, its own to an API key."""
        select = sa.select(tenants)
        confined = current_caller().tenant
        if confined is not None:
            select = select.where(tenants.c.tenant_id == confined)
        asked = ("ListTenants", confined or "")
        page = Page(select, [tenants.c.tenant_id], request.page_size, request.page_token, asked)
        rows, token = await self._db.read(page.fetch)
        return tenant_service_pb2.ListTenantsResponse(tenants=map(shown, rows), next_page_token=token)

    async def UpdateTenant(
        self, request: tenant_service_pb2.UpdateTenantRequest, context: object
    ) -> tenant_pb2.Tenant:
        """Change a tenant; suspending it closes its sources and its keys."""
        fields = masks.fields_to_change(request.tenant, request.update_mask, _CHANGEABLE)
        if "display_name" in fields:
            check_display_name(request.tenant.display_name)
        row = await self._db.write(lambda conn: _update(conn, request.tenant, fields, self._db.clock.now()))
        self._sources_changed()
        return shown(row)


def load(conn: Connection, tenant: str) -> Mapping[Any, Any]:
    """Return a tenant's row. Raises NotFound."""
    row = conn.execute(sa.select(tenants).where(tenants.c.tenant_id == tenant)).mappings().first()
    if row is None:
        raise NotFound(f"tenants/{tenant}")
    return row


def shown(row: Mapping[Any, Any]) -> tenant_pb2.Tenant:
    """Return a tenant as its readers see it."""
    return tenant_pb2.Tenant(
        name=f"tenants/{row['tenant_id']}",
        display_name=row["display_name"],
        state=row["state"],
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=_etag(row),
    )


def check_display_name(name: str) -> None:
    """Raise InvalidArgument unless a tenant may be called so."""
    if not name.strip():
        raise InvalidArgument("tenant.display_name", "must have 1 to 120 characters")


def _etag(row: Mapping[Any, Any]) -> str:
    return ids.etag("tenant", row["tenant_id"], str(row["version"]))


def _create(
    conn: Connection, request: tenant_service_pb2.CreateTenantRequest, now: datetime
) -> Mapping[Any, Any]:
    tenant = request.tenant_id
    asked = requests.Asked(tenant, _CREATE, request.request_id, requests.content(request))
    if requests.earlier(conn, asked, now) is not None:
        return load(conn, tenant)
    row = {
        "tenant_id": tenant,
        "display_name": request.tenant.display_name,
        "state": request.tenant.state or tenant_pb2.TENANT_STATE_ACTIVE,
        "version": 1,
        "create_time": now,
        "update_time": now,
    }
    if not insert_if_absent(conn, tenants, row, ["tenant_id"]):
        raise AlreadyExists(f"tenants/{tenant}")
    requests.remember(conn, asked, f"tenants/{tenant}", now)
    return row


def _update(
    conn: Connection, wanted: tenant_pb2.Tenant, fields: Sequence[str], now: datetime
) -> Mapping[Any, Any]:
    tenant = resources.parse("tenants/{tenant}", wanted.name, field="tenant.name")["tenant"]
    row = dict(load(conn, tenant))
    masks.check_etag(wanted.etag, _etag(row), wanted.name)
    values: dict[str, Any] = {}
    if "display_name" in fields:
        values["display_name"] = wanted.display_name
    if "state" in fields:
        values["state"] = wanted.state or tenant_pb2.TENANT_STATE_ACTIVE
    if all(row[name] == value for name, value in values.items()):
        return row
    values |= {"version": row["version"] + 1, "update_time": now}
    conn.execute(sa.update(tenants).where(tenants.c.tenant_id == tenant).values(**values))
    if values.get("state", row["state"]) != row["state"]:
        changes.tenant_changed(conn, tenant, now)
    return row | values
